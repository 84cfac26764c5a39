"""The record of changes as a chain: each entry holds the hash of the one before, so that none can be changed unseen.

An entry is never changed. A change has the entry ``begun``, written before it is made; one ``changed`` for each
transaction of the products database in which it is made, written in that transaction; and ``ended``, with the status
of the reply. ``denied`` is a wrong key. Nothing here does input or output.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import Literal

Kind = Literal["begun", "changed", "ended", "denied"]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One entry: who, what, when, from where, with which outcome.

    ``status`` is the HTTP status of the reply, None while there is none: a process that died in between leaves it so.
    ``change_id`` is the number of the entry ``begun`` that this one belongs to.
    """

    at: float
    actor: str
    key_id: str | None
    client_ip: str | None
    action: str
    path: str
    scope: str
    request_id: str
    status: int | None = None
    id: int | None = None
    kind: Kind = "begun"
    change_id: int | None = None
    prev_hash: str | None = None
    hash: str | None = None

    def chained(self, number: int, prev_hash: str) -> "AuditRecord":
        """Return this entry as the one that follows ``prev_hash`` in the chain."""
        placed = replace(self, id=number, prev_hash=prev_hash, hash=None)
        return replace(placed, hash=placed.fingerprint())

    def fingerprint(self) -> str:
        """Return the SHA-256 of everything in this entry but its own hash."""
        told = [getattr(self, item.name) for item in fields(self) if item.name != "hash"]
        return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()

    def followed(self, kind: Kind, status: int | None = None) -> "AuditRecord":
        """Return a later entry of the change that this one began."""
        return replace(self, at=time.time(), kind=kind, status=status, change_id=self.id, id=None)


class OpenChange:
    """A change that is being made; what it writes to the products database is recorded in the same transaction."""

    def __init__(self, begun: AuditRecord) -> None:
        self.begun = begun
        self.is_open = True


_CHANGE: ContextVar[OpenChange | None] = ContextVar("change", default=None)


@contextmanager
def making(begun: AuditRecord) -> Iterator[None]:
    """Let everything that is written meanwhile, here and in tasks started here, belong to a change."""
    change = OpenChange(begun)
    token = _CHANGE.set(change)
    try:
        yield
    finally:
        change.is_open = False  # also for tasks that live on with this context
        _CHANGE.reset(token)


def open_change() -> AuditRecord | None:
    """Return the entry of the change that is being made; None when there is none."""
    change = _CHANGE.get()
    return change.begun if change is not None and change.is_open else None


@dataclass(slots=True)
class ChainCheck:
    """A walk along the chain, from its first entry.

    Attributes
    ----------
    entries : int
        Entries that were right.
    unchained : int
        Entries that are older than the chain.
    fault : str or None
        The first thing that is wrong.
    """

    entries: int = 0
    unchained: int = 0
    last_id: int = 0
    last_hash: str = ""
    fault: str | None = None

    def walk(self, records: Iterable[AuditRecord]) -> None:
        """Judge the next entries, in the order of their numbers, up to the first that is wrong."""
        for record in records:
            self.fault = self.fault or self._fault_of(record)
            if self.fault:
                return
            self.last_id, self.last_hash = record.id or 0, record.hash or ""

    def _fault_of(self, record: AuditRecord) -> str | None:
        if record.hash is None and not self.entries:
            self.unchained += 1
            return None
        if self.entries and record.id != self.last_id + 1:
            return f"entry {self.last_id + 1} is missing"
        if record.prev_hash != self.last_hash:
            return f"entry {record.id} does not follow the one before it"
        if record.hash != record.fingerprint():
            return f"entry {record.id} was changed"
        self.entries += 1
        return None

    def conclude(self, head_id: int, head_hash: str) -> None:
        """Compare the end of the walk with what the chain says of its end."""
        if self.fault is None and (head_id, head_hash) != (self.last_id, self.last_hash):
            self.fault = f"the chain ends at entry {self.last_id}, but its head is entry {head_id}"
