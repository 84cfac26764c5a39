"""The numbers of the last writes of each table, by which a reply that is kept is known to be right."""

from collections.abc import Hashable, Iterable, Mapping, MutableMapping
from typing import Any

from dsa110_contimg.api.db_adapters.backend import DatabaseAdapter
from dsa110_contimg.api.exceptions import DatabaseError
from dsa110_contimg.api.interfaces import StatsRepositoryProtocol
from dsa110_contimg.api.shared_reading import SharedReading


class Generations:
    """Reads them, and does so again only after a write where the database tells that at once.

    Parameters
    ----------
    adapter : DatabaseAdapter
        The products database.
    rows : repository
        Reads the numbers.
    """

    def __init__(self, adapter: DatabaseAdapter, rows: StatsRepositoryProtocol) -> None:
        self._adapter = adapter
        self._rows = rows
        self._shared = SharedReading(rows.get_generations)
        self._mark: Hashable = None
        self._numbers: Mapping[str, int] = {}

    async def __call__(self) -> Mapping[str, int]:
        """Return the numbers by table, of every write that has ended; none for a database of the earlier pipeline.

        Raises
        ------
        DatabaseError
            They cannot be read, or not in the time that the database has for a statement.
        """
        if self._adapter.read_only:
            return {}
        mark = self._adapter.write_mark()  # before the numbers: a write in between makes them be read once more
        if mark is None:
            found = await self._shared()
            return {} if self._adapter.read_only else found  # the file may have been replaced: now it is known
        if mark != self._mark:
            self._numbers = await self._rows.get_generations()
            self._mark = mark
        return self._numbers

    async def of(self, scope: MutableMapping[str, Any]) -> Mapping[str, int]:
        """Return the numbers as they were at some moment since a request (ASGI) came; read once for each."""
        state = scope["state"]
        if "generations" not in state:
            state["generations"] = await self()
            state["turn"] = self._adapter.turn  # after the numbers: they may be of a file that has just come
        found: Mapping[str, int] = state["generations"]
        return found

    async def still(self, scope: MutableMapping[str, Any], tables: Iterable[str]) -> bool:
        """Tell, when the reply to a request was made, whether tables were not written since :meth:`of`; looked at once.

        They count as written where that cannot be known, and where another file was read meanwhile, although the first
        is in its place again.
        """
        state = scope["state"]
        if "unwritten" not in state:
            are_still = await self._are_still(state.get("generations", {}), tables)
            state["unwritten"] = are_still and self._adapter.turn == state["turn"]
        return bool(state["unwritten"])

    async def _are_still(self, seen: Mapping[str, int], tables: Iterable[str]) -> bool:
        try:
            now = await self() if seen else {}
        except DatabaseError:
            return False
        return bool(now) and all(now.get(table) == seen.get(table) for table in tables)
