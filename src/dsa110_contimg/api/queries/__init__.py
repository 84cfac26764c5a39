"""Every statement of the products database, one module per kind of record.

The functions return ``Steps``: they yield :class:`~dsa110_contimg.api.db_adapters.statement.Query` values and return
records. Repositories execute them; nothing here touches a connection.
"""
