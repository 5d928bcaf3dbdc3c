"""Is what stands in the bucket what it should be? `winnow verify`, a file for each kind of object."""
