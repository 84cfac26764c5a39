"""What every part of the client stands on: settings, the database, the event log."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import Database
from dsa110_contimg.absurd.events import EventLog
from dsa110_contimg.absurd.specs import Registry


class Caller:
    """Opens and closes what the calls of the client need."""

    def __init__(
        self, config: AbsurdConfig, database: Database | None = None, registry: Registry | None = None
    ) -> None:
        self.config = config
        self._database = database or Database(config.database_url, "absurd client")
        self._registry = registry
        self.events = EventLog(config.database_url)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Make a client from the ``ABSURD_*`` variables of ``environ`` (default: the process's environment)."""
        return cls(AbsurdConfig.from_env(environ))

    async def connect(self) -> None:
        """Open the connections.

        Raises
        ------
        QueueUnavailableError
            The server does not answer.
        SchemaError
            The queue is not set up, or by another version.
        """
        await self._database.connect()

    async def close(self) -> None:
        """Close the connections."""
        await self.events.stop()
        await self._database.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
