"""Object store, schemas, shard commits, ledger and model registry: everything that a run leaves behind."""
