"""What Alembic runs to migrate: on the connection, and in the transaction, that it is handed."""

from alembic import context

if __name__ == "env_py":  # as Alembic calls this file; to import it does nothing
    context.configure(connection=context.config.attributes["connection"])
    context.run_migrations()
