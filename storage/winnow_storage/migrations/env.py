"""How does Alembic reach the ledger? On the connection that `ledger_engine` opened, inside its transaction."""

from alembic import context

from winnow_storage.ledger_tables import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
context.run_migrations()
