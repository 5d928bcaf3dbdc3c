"""`winnow evaluate`: predictions beside what is true. Readers, one measure per kind of task, the record, the page."""
