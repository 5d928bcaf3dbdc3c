"""What people say of a job's items, taken together: formed from labels, kept beside them, and asked about further."""
