"""The demo: its corpus, its models and the job that runs over them."""
