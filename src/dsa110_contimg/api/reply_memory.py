"""Replies of this process that can be sent again: no table that they are made of was written since.

What may be kept, of which tables it is made and how long it lives is said by :func:`~dsa110_contimg.api.cache.cached`.
A kept reply is compared with the numbers of the last writes (``table_generations``) each time that it is asked for, so
that a client sees every write that ended before its question; what is made of a file too is compared with the file
as it is then. The gate has judged the request before; what follows it
(routing, query, encoding, checksum) is what a kept reply saves.
"""

import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.responses import Response

from dsa110_contimg.api.cache import RESULTS, CacheRule
from dsa110_contimg.api.exceptions import DatabaseError
from dsa110_contimg.api.tally import Cell, Tally

Generations = Mapping[str, int]
#: Path and query as they were asked.
Question = tuple[str, bytes]

_OVERHEAD_BYTES = 3000  # of one entry beside its texts, with its headers as they are sent
_LARGEST_SHARE = 16  # a reply takes a 16th of the memory at most


@dataclass(frozen=True, slots=True)
class KeptReply:
    """One reply with 200.

    Attributes
    ----------
    told : mapping
        What the route left in the scope, for whoever counts requests.
    rule : CacheRule
        Its kind and its tables.
    numbers : tuple of int
        Of the last writes of these tables, read before the reply was made.
    until_s : float
        End of its life, on the monotonic clock.
    headers : list
        Of the reply.
    body : bytes
        Of the reply.
    size_bytes : int
        Memory that it takes with its question, about.
    witness : Witness or None
        Of the file that it was made of.
    lines : dict
        Its headers as they were sent, by kind of client.
    """

    told: Mapping[str, Any]
    rule: CacheRule
    numbers: tuple[int, ...]
    until_s: float
    headers: list[tuple[bytes, bytes]]
    body: bytes
    size_bytes: int
    witness: "Witness | None"
    lines: dict[Hashable, bytes] = field(default_factory=dict, compare=False)

    def is_right(self, seen: Generations) -> bool:
        """Tell whether the route would say the same now, by the numbers of the last writes."""
        if not seen or self.numbers != _numbers(self.rule, seen) or time.monotonic() >= self.until_s:
            return False
        return self.witness is None or self.witness.holds()


class Witness(Protocol):
    """Knows the file that a reply was made of."""

    def holds(self) -> bool:
        """Tell whether the file is the same still, to the byte."""


class Reading(Protocol):
    """Tells the numbers of the last writes."""

    async def of(self, scope: MutableMapping[str, Any]) -> Generations:
        """Return them as they were at some moment since a request came."""


class ReplyMemory:
    """The kept replies of one process; who was not asked for longest goes first.

    Parameters
    ----------
    generations : Reading
        The number of the last write of each table; nothing where nobody numbers them.
    most_bytes : int
        Memory for all; 0 keeps nothing.
    default_ttl_s : int
        Life of a reply whose rule has none of its own, s.
    tally : Tally
        Counts the replies that were sent again.
    """

    def __init__(self, generations: Reading, most_bytes: int, default_ttl_s: int, tally: Tally) -> None:
        self._generations = generations
        self._most_bytes = most_bytes
        self._default_ttl_s = default_ttl_s
        self._tally = tally
        self._kept: OrderedDict[Question, KeptReply] = OrderedDict()
        self._size_bytes = 0
        self._counters: dict[str, Cell] = {}

    async def recall(self, scope: MutableMapping[str, Any]) -> KeptReply | None:
        """Return the reply to a request (ASGI) if it is still right; what its route would have left is left.

        A database that cannot be asked has no kept replies: the route will say what is wrong, and the next one who asks
        does not wait for it twice.
        """
        question = (scope["path"], scope["query_string"])
        if question not in self._kept:
            return None
        try:
            seen = await self._generations.of(scope)
        except DatabaseError:
            self.forget()
            return None
        kept = self._kept.get(question)
        if kept is None:
            return None  # it has gone while we asked
        if not kept.is_right(seen):
            self._drop(question)
            return None
        self._kept.move_to_end(question)
        self._count(kept.rule)
        scope.update(kept.told)
        return kept

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self._most_bytes > 0

    def keep(
        self,
        question: Question,
        rule: CacheRule,
        seen: Generations,
        told: Mapping[str, Any],
        reply: Response,
        witness: Witness | None = None,
    ) -> None:
        """Keep a reply.

        Parameters
        ----------
        question : tuple
        rule : CacheRule
            Of its route.
        seen : mapping
            The numbers as they were when the reply was begun, after its question came: a write since then makes it be
            made once more. With older ones it would be right again when a backup of their time is restored, and it is
            not of that time. None of them: it cannot be kept.
        told : mapping
            What the route left in the scope.
        reply : Response
        witness : Witness, optional
            Of the file that it was made of.
        """
        if reply.status_code != 200 or not seen or (rule.witnessed and witness is None):
            return
        headers = [(name, value) for name, value in reply.raw_headers if name != b"x-cache"]
        until_s = time.monotonic() + rule.life_s(self._default_ttl_s)
        body = bytes(reply.body)
        size_bytes = len(body) + len(question[0]) + len(question[1]) + _size(headers) + _OVERHEAD_BYTES
        headers.append((b"x-cache", b"memory"))
        kept = KeptReply(told, rule, _numbers(rule, seen), until_s, headers, body, size_bytes, witness)
        if kept.size_bytes > self._most_bytes // _LARGEST_SHARE:
            return
        self._drop(question)
        self._kept[question] = kept
        self._size_bytes += kept.size_bytes
        while self._size_bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def forget(self) -> None:
        """Forget all replies."""
        self._kept.clear()
        self._size_bytes = 0

    def _drop(self, question: Question) -> None:
        gone = self._kept.pop(question, None)
        if gone is not None:
            self._size_bytes -= gone.size_bytes

    def _count(self, rule: CacheRule) -> None:
        cell = self._counters.get(rule.prefix)
        if cell is None:
            labels = {"prefix": rule.prefix, "result": "memory"}
            cell = self._counters[rule.prefix] = self._tally.cell(RESULTS, labels, "_total")
        cell.add()


def _numbers(rule: CacheRule, seen: Generations) -> tuple[int, ...]:
    return tuple([seen.get(table, 0) for table in rule.tables])


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum([len(name) + len(value) for name, value in headers])
