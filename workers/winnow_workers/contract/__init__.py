"""Does an operator keep what the pipeline counts on? The checks of `winnow operators check`, and of our own tests."""
