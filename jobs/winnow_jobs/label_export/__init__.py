"""People's answers in other formats."""
