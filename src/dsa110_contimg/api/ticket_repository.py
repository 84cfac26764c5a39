"""Where tickets are kept."""

from dsa110_contimg.api import database
from dsa110_contimg.api.credentials import TicketRecord
from dsa110_contimg.api.db_adapters.backend import DatabaseAdapter
from dsa110_contimg.api.queries import tickets


class AsyncTicketRepository:
    """Keeps tickets until they are used, for every process of the API."""

    def __init__(self, adapter: DatabaseAdapter) -> None:
        self._adapter = adapter

    async def add(self, ticket: TicketRecord, now_s: float) -> None:
        """Keep a ticket."""
        await database.write(self._adapter, tickets.add(ticket, now_s))

    async def take(self, secret_sha256: str) -> TicketRecord | None:
        """Return a ticket to the first who asks."""
        return await database.write(self._adapter, tickets.take(secret_sha256))
