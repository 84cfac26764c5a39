"""Servers that are measured in turn are asked evenly, and compared within a round."""

import asyncio

import psutil
import pytest
from benchmarks.api.load import Answers
from benchmarks.api.servers import Child
from benchmarks.api.turns import Costs, Turns


def _costs(*turns: tuple[float, float]) -> Costs:
    costs = Costs()
    costs.turns = [(cpu_us, Answers([ms / 1e3], {200: 1}, 10, 1.0)) for cpu_us, ms in turns]
    return costs


def test_a_machine_that_is_slow_for_some_turns_changes_no_ratio() -> None:
    first = _costs(*((300.0 * by, 6.0 * by) for by in (1, 1, 2, 2, 2)))
    second = _costs(*((100.0 * by, 2.0 * by) for by in (1, 1, 2, 1, 1)))
    assert second.times_less_cpu(first) == pytest.approx(3.0)
    assert first.times_later(second, 0.99) == pytest.approx(3.0)


async def _asked_in_turn() -> list[tuple[str, str]]:
    asked: list[tuple[str, str]] = []

    async def listen(name: str) -> tuple[asyncio.Server, Child]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append((name, head.split(b" ")[1].decode()))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        return server, Child(psutil.Process(), server.sockets[0].getsockname()[1])

    listening = {name: await listen(name) for name in ("a", "b")}
    found = await Turns(rounds=2, turn_s=0.0, connections=1).take(
        {name: (child, ["/1", "/2"]) for name, (_, child) in listening.items()}
    )
    for server, _ in listening.values():
        server.close()
    assert [len(costs.turns) for costs in found.values()] == [2, 2]
    return asked


def test_who_was_asked_first_is_asked_last_in_the_next_round_and_each_goes_on_where_it_was() -> None:
    assert asyncio.run(_asked_in_turn()) == [
        ("b", "/1"), ("a", "/1"), ("a", "/2"), ("b", "/2"), ("b", "/1"), ("a", "/1"),
    ]  # fmt: skip
