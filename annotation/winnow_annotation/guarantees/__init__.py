"""The statistics of promises: pure, over arrays of ranks and losses, one method a file."""
