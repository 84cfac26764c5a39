"""Where Alembic starts: it works on the connection that the migrator gives it, in the transaction it has begun."""

from alembic import context

from dsa110_contimg.api.migrations.comparison import CONTEXT_OPTIONS
from dsa110_contimg.api.migrations.counters import number_step

context.configure(connection=context.config.attributes["connection"], on_version_apply=number_step, **CONTEXT_OPTIONS)
context.run_migrations()
