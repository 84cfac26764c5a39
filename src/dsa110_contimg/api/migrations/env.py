"""Where Alembic starts: it works on the connection that the migrator gives it, in the transaction it has begun."""

from alembic import context

from dsa110_contimg.api.migrations.comparison import CONTEXT_OPTIONS

context.configure(connection=context.config.attributes["connection"], **CONTEXT_OPTIONS)
context.run_migrations()
