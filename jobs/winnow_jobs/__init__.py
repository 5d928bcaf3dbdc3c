"""Jobs: the spec, the plan, the run that drives it on Ray, and the command line."""
