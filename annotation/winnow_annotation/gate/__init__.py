"""May a newly learned model take the place of the current one? Decided on gold, with bounds on what that may cost."""
