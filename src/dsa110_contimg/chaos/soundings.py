"""Measurements on a quiet queue: what a claim costs, also while another session holds an old snapshot."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from dsa110_contimg.absurd.connection import open_connection
from dsa110_contimg.chaos import statements
from dsa110_contimg.chaos.history import History
from dsa110_contimg.chaos.settings import QUEUE

_CLAIMS = 3
_ROUNDS = 100
_BATCH = 10


async def sound_claim(session: Any, history: History) -> None:
    """Measure the pages that a claim of one task reads; nothing of it stays."""
    transaction = session.transaction()
    await transaction.start()
    for _ in range(_CLAIMS):
        await session.execute(statements.SPAWN_PROBE, QUEUE)
    costs = [_pages(await session.fetchval(statements.CLAIM_COST)) for _ in range(_CLAIMS)]
    await transaction.rollback()
    history.write("probe", what="claim", value=costs[-1])  # the first ones read the catalogue, too


async def sound_snapshot(url: str, history: History) -> None:
    """Let tasks pass by the thousand while a snapshot is held; compare the pages of the first and the last rounds."""
    async with _session(url) as holder, _session(url) as session:
        await session.fetch(statements.REGISTER_PROBE)
        await session.fetch(statements.SPAWN_PROBES, _ROUNDS * _BATCH)
        await holder.execute("begin isolation level repeatable read")
        await holder.fetch(statements.MISPLACED)
        held: list[tuple[UUID, int]] = []
        costs = []
        for _ in range(_ROUNDS):
            costs.append(_pages(await session.fetchval(statements.FLUSH_COST, *_columns(held), _BATCH)))
            held = [(row["task_id"], row["claim"]) for row in await session.fetch(statements.PROBE_CLAIMS)]
        await session.fetch(statements.FLUSH_PROBE, *_columns(held))
    tenth = _ROUNDS // 10
    for costs_of in (costs[tenth : 2 * tenth], costs[-tenth:]):  # the very first plan and warm up
        history.write("probe", what="claim under a snapshot", value=sum(costs_of) / tenth)


def _columns(held: list[tuple[UUID, int]]) -> tuple[list[UUID], list[int]]:
    return [task for task, _ in held], [claim for _, claim in held]


def _pages(explained: str) -> int:
    plan = json.loads(explained)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@contextlib.asynccontextmanager
async def _session(url: str) -> AsyncIterator[Any]:
    connection = await open_connection(url, "chaos sounding")
    try:
        yield connection
    finally:
        connection.terminate()
