"""The commands of `winnow`, a file for each group."""
