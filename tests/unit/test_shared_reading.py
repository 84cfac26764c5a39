"""One reading for all who wait: never one that was begun before they asked, and nobody is forgotten."""

import asyncio
import gc
import random

import pytest

from dsa110_contimg.api.exceptions import DatabaseBusyError
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
            raise DatabaseBusyError(f"of {seen}")
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


async def test_who_comes_with_others_waits_with_them_for_one_reading(source: Source) -> None:
    asked = [source.ask()]
    for _ in range(20):  # one in each round of the loop, as requests begin
        await asyncio.sleep(0)
        asked.append(source.ask())
    await settled()
    await source.let_go()
    assert [task.result() for task in asked] == [0] * 21 and source.begun == 1


async def test_who_goes_away_does_not_take_the_others_along(source: Source) -> None:
    """Nor when they were to read for the others, who have a reading of their own then."""
    first, second = source.ask(), source.ask()
    await settled()
    third, fourth = source.ask(), source.ask()
    await settled()
    for task in (first, third):
        task.cancel()
    await settled()
    assert first.cancelled() and third.cancelled() and source.under_way == 1 and source.begun == 2
    await source.let_go()
    assert second.result() == 0 and fourth.result() == 0 and source.begun == 2


async def test_who_goes_away_when_it_is_on_them_to_read_leaves_that_to_the_next(source: Source) -> None:
    first, second = source.ask(), source.ask()
    await asyncio.sleep(0)
    third = source.ask()
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)  # now it is on the second
    second.cancel()
    await settled()
    assert first.cancelled() and second.cancelled() and source.begun == 1
    await source.let_go()
    assert third.result() == 0


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


async def test_what_is_no_error_of_ours_is_that_of_who_reads_and_the_others_read_anew() -> None:
    begun = 0

    async def read() -> int:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0)
        return 1 // (begun - 1)

    shared = SharedReading(read)
    first, *others = await asyncio.gather(*[shared() for _ in range(3)], return_exceptions=True)
    assert isinstance(first, ZeroDivisionError)
    assert others == [1, 1]
    assert begun == 2


async def test_an_error_that_nobody_hears_any_more_is_none(source: Source) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    source.fails = True
    stays, leaves, is_told = source.ask(), source.ask(), source.ask()
    await settled()
    leaves.cancel()
    await settled()
    source.may_end.set()
    await asyncio.sleep(0)
    assert not source.under_way and not is_told.done()
    is_told.cancel()  # its error has come, and it has not looked yet
    await settled()
    assert isinstance(stays.exception(), DatabaseBusyError) and leaves.cancelled() and is_told.cancelled()
    del stays, leaves, is_told
    gc.collect()
    assert told == []


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
