"""One reading for all who wait: never one that was begun before they asked, and nobody is forgotten."""

import asyncio
import random

import pytest

from dsa110_contimg.api.shared_reading import SharedReading


class Source:
    """What is written and read here; a reading sees what was written when it began, and ends when it is let go."""

    def __init__(self) -> None:
        self.written = 0
        self.begun = 0
        self.under_way = 0
        self.fails = False
        self.may_end = asyncio.Event()
        self.shared = SharedReading(self.read)

    async def read(self) -> int:
        assert self.under_way == 0, "one at a time"
        self.begun += 1
        self.under_way += 1
        seen, fails = self.written, self.fails
        try:
            await self.may_end.wait()
        finally:
            self.under_way -= 1
        if fails:
            raise LookupError(f"of {seen}")
        return seen

    def ask(self) -> asyncio.Task[int]:
        return asyncio.create_task(self.shared())

    async def let_go(self) -> None:
        """Let the reading that is under way end, and no other."""
        self.may_end.set()
        self.may_end = asyncio.Event()
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def source() -> Source:
    return Source()


async def test_who_comes_while_a_reading_is_under_way_gets_what_was_written_before_they_came(source: Source) -> None:
    early = [source.ask() for _ in range(3)]
    await settled()
    source.written = 1
    late = [source.ask() for _ in range(3)]
    await settled()
    await source.let_go()
    assert [task.result() for task in early] == [0, 0, 0]
    assert not any(task.done() for task in late)
    source.written = 2
    await source.let_go()
    assert [task.result() for task in late] == [1, 1, 1]
    assert source.begun == 2, "one for all who waited"


async def test_who_goes_away_takes_neither_the_reading_nor_the_others_along(source: Source) -> None:
    first, second = source.ask(), source.ask()
    await settled()
    third, fourth = source.ask(), source.ask()
    await settled()
    for task in (first, third):
        task.cancel()
    await settled()
    assert first.cancelled() and third.cancelled() and source.under_way == 1
    await source.let_go()
    assert second.result() == 0
    await source.let_go()
    assert fourth.result() == 0


async def test_an_error_is_told_to_all_who_waited_for_that_reading_and_to_nobody_else(source: Source) -> None:
    source.fails = True
    early = [source.ask() for _ in range(3)]
    await settled()
    source.fails = False
    late = source.ask()
    await settled()
    await source.let_go()
    assert [str(task.exception()) for task in early] == ["of 0"] * 3
    await source.let_go()
    assert late.result() == 0
    after = source.ask()
    await settled()
    await source.let_go()
    assert after.result() == 0


async def test_an_error_that_nobody_hears_any_more_is_none(source: Source) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    source.fails = True
    gone = source.ask()
    await settled()
    gone.cancel()
    await settled()
    await source.let_go()
    assert source.shared._readings is None and told == []


async def test_nobody_waits_for_a_reading_that_was_given_up(source: Source) -> None:
    first = source.ask()
    await settled()
    behind = source.ask()
    await settled()
    assert source.shared._readings is not None
    source.shared._readings.cancel()  # as a loop does at its end
    await settled()
    assert first.cancelled()
    await source.let_go()
    assert behind.result() == 0


def test_a_loop_that_ends_leaves_nothing_behind() -> None:
    async def leave() -> Source:
        source = Source()
        for _ in range(2):
            source.ask()
            await settled()
        return source

    source = asyncio.run(leave())
    assert source.under_way == 0 and source.begun == 1


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_nobody_gets_what_is_older_than_their_question(source: Source, seed: int) -> None:
    chance = random.Random(seed)
    asked: list[tuple[int, asyncio.Task[int]]] = []
    for _ in range(300):
        what = chance.choice(("ask", "ask", "ask", "write", "cancel", "end", "end", "fail", "turn"))
        if what == "ask":
            asked.append((source.written, source.ask()))
            await asyncio.sleep(0)
        elif what == "write":
            source.written += 1
        elif what == "cancel" and asked:
            chance.choice(asked)[1].cancel()
        elif what == "end":
            await source.let_go()
        elif what == "fail":
            source.fails = chance.random() < 0.5
        await asyncio.sleep(0)
    source.fails = False
    while source.under_way:
        await source.let_go()
    for written, task in asked:
        assert task.done()
        assert task.cancelled() or task.exception() is not None or task.result() >= written
    assert source.begun < len(asked)
