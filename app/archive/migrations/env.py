"""Alembic's entry: it runs the steps on the connection, and in the transaction, that `upgrading.py` gives it."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    transactional_ddl=True,  # also on SQLite: we begin its transactions ourselves
)
with context.begin_transaction():
    context.run_migrations()
