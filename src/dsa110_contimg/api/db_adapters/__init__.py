"""One interface to both products databases.

>>> adapter = create_adapter()  # doctest: +SKIP
>>> await adapter.connect()  # doctest: +SKIP
>>> rows = await adapter.fetch_all("SELECT * FROM images")  # doctest: +SKIP
"""

from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig, get_config
from dsa110_contimg.api.db_adapters.adapters.postgresql_adapter import PostgreSQLAdapter
from dsa110_contimg.api.db_adapters.adapters.sqlite_adapter import SQLiteAdapter
from dsa110_contimg.api.db_adapters.backend import AsyncConnection, DatabaseAdapter, DatabaseBackend
from dsa110_contimg.api.db_adapters.query_builder import QueryBuilder

__all__ = [
    "AsyncConnection",
    "DatabaseAdapter",
    "DatabaseBackend",
    "PostgreSQLAdapter",
    "QueryBuilder",
    "SQLiteAdapter",
    "create_adapter",
]


def create_adapter(config: DatabaseConfig | None = None, timeouts: TimeoutConfig | None = None) -> DatabaseAdapter:
    """Return the adapter of the configured database, not yet connected.

    Parameters
    ----------
    config, timeouts : optional
        Settings; those of the environment (``DSA110_DB_BACKEND`` and so on) unless given.
    """
    config = config or get_config().database
    timeouts = timeouts or get_config().timeouts
    if config.backend == DatabaseBackend.SQLITE:
        return SQLiteAdapter(config.products_path, config.sqlite_readers, timeouts.db_connection, timeouts.db_lock)
    return PostgreSQLAdapter(
        config.postgresql_url,
        config.pg_pool_min,
        config.pg_pool_max,
        timeouts.db_connection,
        timeouts.db_statement,
        timeouts.db_lock,
        config.pg_ssl,
    )
