"""Who waits for a server that hangs is told so, and nobody else."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from dsa110_contimg.server_watch import ServerHangsError, ServerWatch

WITHIN_S = 0.14


class Server:
    """Answers a knock, refuses it, or says nothing."""

    def __init__(self) -> None:
        self.answer: Callable[[], Awaitable[object]] = self.lives
        self.knocks = 0

    async def knock(self) -> None:
        self.knocks += 1
        await self.answer()

    async def lives(self) -> None:
        """Answer."""

    async def is_gone(self) -> None:
        raise ConnectionRefusedError

    async def hangs(self) -> None:
        await asyncio.sleep(3600)

    async def is_looked_at_by_nobody(self) -> None:
        """Say nothing, while this process does nothing either."""
        time.sleep(WITHIN_S)  # noqa: ASYNC251 - a process that was stopped
        await asyncio.sleep(3600)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def watch(server: Server) -> AsyncIterator[ServerWatch]:
    made = ServerWatch("it", server.knock, WITHIN_S)
    yield made
    made.close()


async def until(question: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not question():  # noqa: ASYNC110 - nobody tells when
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("how", ["hangs", "is_gone"])
async def test_all_waits_for_a_server_that_says_nothing_end_and_no_other_begins_until_it_answers(
    watch: ServerWatch, server: Server, how: str
) -> None:
    server.answer = getattr(server, how)
    ended: list[int] = []
    with watch.over(lambda: ended.append(1)):
        pass  # answered in time
    with watch.over(lambda: ended.append(2)), watch.over(lambda: ended.append(3)):
        await until(lambda: watch.hangs)
        assert ended == [2, 3]
    knocks = server.knocks
    await until(lambda: server.knocks > knocks)  # though nobody waits
    server.answer = server.lives
    await until(lambda: not watch.hangs)


async def test_a_wait_for_a_server_that_answers_goes_on_however_long(watch: ServerWatch, server: Server) -> None:
    ended: list[int] = []
    with watch.over(lambda: ended.append(1)):
        await until(lambda: server.knocks >= 3)
    assert not ended and not watch.hangs
    await until(lambda: watch._timer is None)
    assert server.knocks < 10, "nobody knocks where nobody waits"


async def test_what_the_driver_says_of_a_connection_that_was_cut_between_two_steps_is_that_the_server_hangs(
    watch: ServerWatch, server: Server
) -> None:
    server.answer = server.hangs
    with pytest.raises(ServerHangsError), watch.over(lambda: None):
        await until(lambda: watch.hangs)
        raise AttributeError("'NoneType' object has no attribute 'bind_execute'")
    with pytest.raises(AttributeError), watch.over(lambda: None):
        raise AttributeError("a mistake of ours")


async def test_a_knock_that_is_not_answered_proves_nothing_while_others_have_answers(
    watch: ServerWatch, server: Server
) -> None:
    server.answer = server.hangs
    ended: list[int] = []
    with watch.over(lambda: ended.append(1)):
        for knocks in (1, 2, 3):  # a machine that is too busy to open a connection
            await until(lambda knocks=knocks: server.knocks == knocks)  # type: ignore[misc]
            with watch.over(lambda: ended.append(2)):
                pass
    assert not ended and not watch.hangs


async def test_a_process_that_did_nothing_meanwhile_knocks_again(watch: ServerWatch, server: Server) -> None:
    server.answer = server.is_looked_at_by_nobody
    ended: list[int] = []
    with watch.over(lambda: ended.append(1)):
        await until(lambda: server.knocks == 2)
        assert not ended and not watch.hangs


async def test_a_watch_that_is_closed_does_nothing_more(watch: ServerWatch, server: Server) -> None:
    server.answer = server.hangs
    ended: list[int] = []
    watch.begin(lambda: ended.append(1))
    await until(lambda: server.knocks == 1)
    watch.close()
    await asyncio.sleep(0)
    assert (ended, watch.hangs, watch._timer) == ([], False, None)
