"""Objects that hold items inside of them: tar archives, Parquet files with a column of images, PDF documents."""
