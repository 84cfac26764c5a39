"""Accepted work: one row for each piece, from before the caller is told until it has ended.

::

    accepted → sent → running → finished | failed          canceled: from any state before the end
        ↑_______|________|                                 lost by the queue, or its worker died: accepted again
"""

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_OID, uuid5

#: Kinds of work: the command of the installation does a run again; the stages of the task queue do.
RERUN_COMMAND = "rerun-command"
RERUN_CHAIN = "rerun-chain"
#: Another version of an image, made by a stage of the task queue.
REIMAGE_CHAIN = "reimage-chain"
#: Work on many things, item by item.
BATCH = "batch"
#: States in which work has not ended.
OPEN = ("accepted", "sent", "running")
WAITING = ("accepted", "sent")
#: States in which a run has not ended.
UNENDED = ("pending", "running")
#: How often work is begun before it counts as what kills its workers.
MOST_ATTEMPTS = 3
#: Seconds without a sign of life after which whoever works on it counts as dead.
SILENT_S = 30.0


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """One piece of work; the times are Unix seconds (UTC)."""

    id: str  # job_ and 12 hexadecimal digits
    kind: str
    target: str  # rq | absurd
    arguments: Mapping[str, Any]
    run_id: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    status: str = "accepted"
    attempts: int = 0
    claim: str | None = None
    created_at: float = 0.0
    sent_at: float | None = None
    started_at: float | None = None
    beat_at: float | None = None
    ended_at: float | None = None
    result: Any = None
    error: str | None = None


def new_seed() -> str:
    """Return what the ids of one request's orders are made of: the same seed gives the same ids."""
    return secrets.token_hex(16)


def run_name(first: str, mark: str, order: str, now_s: float) -> str:
    """Return the id of a run that follows another: its first name, the time (UTC), a part of the order's."""
    stamp = time.strftime("%Y%m%d_%H%M%S", time.gmtime(now_s))
    return f"{first.partition(mark)[0]}{mark}{stamp}_{order[-6:]}"


def order_id(seed: str, what: str) -> str:
    """Return the id of the order of one thing within a request."""
    return f"job_{hashlib.sha256(f'{seed}|{what}'.encode()).hexdigest()[:12]}"


def workflow_of(order: str) -> str:
    """Return the id of the workflow in the task queue that carries out an order: sent twice, it is there once."""
    return str(uuid5(NAMESPACE_OID, order))
