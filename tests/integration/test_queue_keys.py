"""Idempotency keys, concurrency keys, fairness, rates, ageing, pauses: one by one, and from many sessions at once."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from dsa110_contimg.absurd.ids import new_id
from dsa110_contimg.up.servers import EmbeddedPostgres
from fixtures.queue_bench import QUEUE, TAKE_OVER, Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]

START = "2026-01-01T00:00:00Z"


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


def node(**more: Any) -> dict[str, Any]:
    """Describe a task without back-off."""
    return {
        "task_id": str(new_id()), "queue": QUEUE, "name": "small", "max_attempts": 3, "retry": {"base_s": 1e-6}, **more
    }  # fmt: skip


async def spawn(queue: Bench, *nodes: dict[str, Any], session: Any = None) -> list[tuple[UUID, bool]]:
    """Spawn tasks; return id and whether it is new, of each."""
    rows = await (session or queue.connection).fetch("select * from absurd.spawn_tasks($1)", list(nodes))
    return [(row["task_id"], row["created"]) for row in rows]


async def spawn_ids(queue: Bench, *nodes: dict[str, Any]) -> list[UUID]:
    """Spawn tasks and return their ids."""
    return [task for task, _ in await spawn(queue, *nodes)]


async def set_clock(queue: Bench, seconds: float) -> None:
    """Let the queue's clock stand so long after the start."""
    await queue.sql(
        "select set_config('absurd.fake_now', ($1::timestamptz + make_interval(secs => $2))::text, false)",
        *(await queue.sql(f"select timestamptz '{START}'"), seconds),
    )


async def flush(queue: Bench, queues: list[str], limit: int) -> list[Any]:
    """Claim from several queues as a worker does."""
    return await queue.connection.fetch("select * from absurd.flush('w', '{}', '{}', '{}', $1, $2)", queues, limit)


async def permits(queue: Bench) -> dict[str, tuple[int, int]]:
    """Return, of each key, the permits that are counted and the tasks that hold one."""
    rows = await queue.connection.fetch(
        """select key, running, (select count(*) from absurd.ready r where r.conc_key = key)
                              + (select count(*) from absurd.lease l where l.conc_key = key) as held
           from absurd.conc"""
    )
    return {row["key"]: (row["running"], row["held"]) for row in rows}


# -------------------------------------------------------------------------------------------------------- idempotency


async def test_a_key_that_exists_gives_the_task_that_has_it_also_when_it_has_ended(queue: Bench) -> None:
    [(first, created)] = await spawn(queue, node(idempotency_key="obs-1"))
    assert created
    assert await spawn(queue, node(idempotency_key="obs-1")) == [(first, False)]
    await queue.complete((await queue.claim())[0])
    assert await spawn(queue, node(idempotency_key="obs-1")) == [(first, False)]
    assert await queue.claim() == []
    [(elsewhere, created)] = await spawn(queue, node(idempotency_key="obs-1", queue="other"))
    assert created and elsewhere != first


async def test_the_answers_come_in_the_order_of_the_nodes_and_a_key_given_twice_makes_one_task(queue: Bench) -> None:
    [old] = await spawn_ids(queue, node(idempotency_key="b"))
    nodes = [node(), node(idempotency_key="b"), node(idempotency_key="a"), node(idempotency_key="a"), node()]
    plain, _, new, _, last = (UUID(n["task_id"]) for n in nodes)
    assert await spawn(queue, *nodes) == [(plain, True), (old, False), (new, True), (new, False), (last, True)]
    assert len(await queue.claim(limit=9)) == 4


async def test_a_call_with_keys_may_be_repeated_after_a_lost_answer(queue: Bench) -> None:
    nodes = [node(idempotency_key="a"), node()]
    ids = [UUID(n["task_id"]) for n in nodes]
    assert await spawn(queue, *nodes) == [(task, True) for task in ids]
    assert await spawn(queue, *nodes) == [(task, False) for task in ids]


async def test_a_child_of_a_task_that_exists_already_depends_on_the_existing_one(queue: Bench) -> None:
    [old] = await spawn_ids(queue, node(idempotency_key="calibration"))
    parent = node(idempotency_key="calibration")
    child = node(depends_on=[{"task_id": parent["task_id"]}])
    [_, (child_id, _)] = await spawn(queue, parent, child)
    assert await queue.states(old, child_id) == ["pending", "blocked"]
    await queue.complete((await queue.claim())[0])
    assert await queue.states(child_id) == ["pending"]


async def test_a_key_is_free_again_when_it_has_expired_or_its_task_is_gone(queue: Bench) -> None:
    await set_clock(queue, 0)
    expiring = {"idempotency_key": "a", "idempotency_ttl_s": 60.0}
    [first] = await spawn_ids(queue, node(**expiring))
    await set_clock(queue, 59)
    assert await spawn(queue, node(**expiring)) == [(first, False)]
    await set_clock(queue, 61)
    [(second, created)] = await spawn(queue, node(**expiring))
    assert created and second != first
    [pruned] = await spawn_ids(queue, node(idempotency_key="b"))
    await queue.connection.execute("delete from absurd.ready where task_id = $1", pruned)
    await queue.connection.execute("delete from absurd.task where task_id = $1", pruned)
    assert [created for _, created in await spawn(queue, node(idempotency_key="b"))] == [True]
    await queue.connection.execute("reset absurd.fake_now")


async def test_of_fifty_clients_with_one_key_one_makes_the_task_and_all_learn_its_id(queue: Bench) -> None:
    async def client(number: int) -> tuple[UUID, bool]:
        async with queue.session() as session:
            extra = [node(idempotency_key=f"k{number % 3}"), node(idempotency_key="one")]
            return (await spawn(queue, *(extra if number % 2 else extra[::-1]), session=session))[
                1 if number % 2 else 0
            ]

    found = await asyncio.gather(*(client(number) for number in range(50)))
    assert len({task for task, _ in found}) == 1
    assert sum(created for _, created in found) == 1
    assert await queue.sql("select count(*) from absurd.task") == 4


# -------------------------------------------------------------------------------------------------------- concurrency


async def test_of_a_key_as_many_run_as_it_has_permits_and_the_next_comes_when_one_ends(queue: Bench) -> None:
    tasks = await spawn_ids(queue, *(node(concurrency_key="dish", priority=n) for n in range(3)))
    assert await queue.states(*tasks) == ["parked", "parked", "pending"], "the largest priority comes first"
    [first] = await queue.claim(limit=5)
    assert await queue.claim(limit=5) == []
    await queue.complete(first)
    assert await queue.states(*tasks) == ["parked", "pending", "completed"]
    await queue.sql("select absurd.set_concurrency($1, 'dish', 2)", QUEUE)
    assert len(await queue.claim(limit=5)) == 2
    assert await permits(queue) == {"dish": (2, 2)}


async def test_other_keys_other_queues_and_tasks_without_a_key_do_not_wait(queue: Bench) -> None:
    await spawn(
        queue, *(node(concurrency_key=key, queue=name) for key in ("a", "b") for name in (QUEUE, "other")), node()
    )
    assert len(await queue.claim(limit=9)) == 3


@pytest.mark.parametrize(
    ("call", "first", "second"),
    [
        ("select absurd.complete_task($1, $2, null)", "completed", "pending"),
        ("select absurd.fail_task($1, $2, '{}', false)", "failed", "pending"),
        ("select absurd.fail_task($1, $2, '{}', true, 100)", "retrying", "pending"),
        ("select absurd.snooze_task($1, $2, 100)", "scheduled", "pending"),
        ("select absurd.release_task($1, $2)", "pending", "parked"),
        (TAKE_OVER.replace("$3", "5"), "pending", "parked"),
        (TAKE_OVER.replace("$3", "1"), "failed", "pending"),
    ],
)
async def test_a_permit_is_kept_or_handed_on_at_each_end_of_an_attempt(
    queue: Bench, call: str, first: str, second: str
) -> None:
    tasks = await spawn_ids(queue, node(concurrency_key="k"), node(concurrency_key="k"))
    [claimed] = await queue.claim()
    await queue.sql(call, claimed["task_id"], claimed["claim"])
    assert await queue.states(*tasks) == [first, second]
    assert await permits(queue) == {"k": (1, 1)}


async def test_a_task_that_is_tried_again_needs_a_permit_again(queue: Bench) -> None:
    tasks = await spawn_ids(queue, node(concurrency_key="k"), node(concurrency_key="k"))
    await queue.fail((await queue.claim())[0])
    await queue.sql("select absurd.reap(10, 2)")
    assert await queue.states(*tasks) == ["parked", "pending"]
    await queue.complete((await queue.claim())[0])
    [again] = await queue.claim()
    assert (again["task_id"], again["attempt"]) == (tasks[0], 2)


@pytest.mark.parametrize("which", ["pending", "parked", "claimed"])
async def test_a_cancelled_task_keeps_no_permit(queue: Bench, which: str) -> None:
    tasks = await spawn_ids(queue, *(node(concurrency_key="k") for _ in range(3)))
    victim = tasks[1] if which == "parked" else tasks[0]
    claimed = await queue.claim() if which == "claimed" else []
    assert await queue.client.cancel_task(victim)
    for row in claimed:
        assert await queue.fail(row) == "cancelled"
    states = await queue.states(*tasks)
    assert states[tasks.index(victim)] == "cancelled"
    assert states.count("pending") == 1
    assert await permits(queue) == {"k": (1, 1)}
    assert await queue.client.retry_task(victim)
    assert (await queue.states(victim), await permits(queue)) == (["parked"], {"k": (1, 1)})


async def waits_for_lock(queue: Bench, call: str) -> None:
    """Wait until a session waits for a lock in this call."""
    question = "select count(*) > 0 from pg_stat_activity where wait_event_type = 'Lock' and query like $1"
    await queue.until(lambda: queue.sql(question, f"%{call}%"))


async def test_the_last_permit_goes_to_one_of_two_tasks_that_are_spawned_at_the_same_moment(queue: Bench) -> None:
    await queue.sql("select absurd.set_concurrency($1, 'k', 1)", QUEUE)
    async with queue.session() as left, queue.session() as right:
        await left.execute("begin")
        [(first, _)] = await spawn(queue, node(concurrency_key="k"), session=left)
        other = asyncio.create_task(spawn(queue, node(concurrency_key="k"), session=right))
        await waits_for_lock(queue, "spawn_tasks")
        await left.execute("commit")
        [(second, _)] = await other
    assert await queue.states(first, second) == ["pending", "parked"]
    assert await permits(queue) == {"k": (1, 1)}


async def test_a_permit_that_comes_back_while_a_task_is_spawned_is_not_overlooked(queue: Bench) -> None:
    await spawn(queue, node(concurrency_key="k"))
    [claimed] = await queue.claim()
    async with queue.session() as completing, queue.session() as spawning:
        await completing.execute("begin")
        await completing.fetchval(
            "select absurd.complete_task($1, $2, null)", claimed["task_id"], claimed["claim"]
        )  # fmt: skip
        other = asyncio.create_task(spawn(queue, node(concurrency_key="k"), session=spawning))
        await waits_for_lock(queue, "spawn_tasks")
        await completing.execute("commit")
        [(second, _)] = await other
    assert await queue.states(second) == ["pending"]


async def test_a_task_that_is_spawned_while_a_permit_comes_back_is_not_overlooked(queue: Bench) -> None:
    await spawn(queue, node(concurrency_key="k"))
    [claimed] = await queue.claim()
    async with queue.session() as completing, queue.session() as spawning:
        await spawning.execute("begin")
        [(second, _)] = await spawn(queue, node(concurrency_key="k"), session=spawning)
        call = completing.fetchval("select absurd.complete_task($1, $2, null)", claimed["task_id"], claimed["claim"])
        other = asyncio.create_task(call)
        await waits_for_lock(queue, "complete_task")
        await spawning.execute("commit")
        assert await other
    assert await queue.states(second) == ["pending"]


async def test_a_skipped_task_takes_and_gives_no_permit(queue: Bench) -> None:
    parent = node(max_attempts=1, concurrency_key="k")
    child = node(concurrency_key="k", depends_on=[{"task_id": parent["task_id"]}])
    [_, child_id] = await spawn_ids(queue, parent, child)
    await queue.fail((await queue.claim())[0])
    assert await queue.states(child_id) == ["skipped"]
    assert await permits(queue) == {"k": (0, 0)}


async def test_the_sweep_puts_a_wrong_count_of_permits_right_and_counts_that(queue: Bench) -> None:
    tasks = await spawn_ids(queue, node(concurrency_key="k"), node(concurrency_key="k"))
    await queue.complete((await queue.claim())[0])
    await queue.claim()
    await queue.connection.execute("update absurd.conc set running = 2, max_running = 3")
    [third] = await spawn_ids(queue, node(concurrency_key="k"))
    await queue.connection.execute("update absurd.conc set running = 3")  # two permits that nobody holds
    assert await queue.sql("select absurd.repair()") == 1
    assert await permits(queue) == {"k": (2, 2)}
    await queue.connection.execute("update absurd.conc set running = 0")  # permits handed out twice
    assert await queue.sql("select absurd.repair()") == 1
    assert await permits(queue) == {"k": (2, 2)}
    assert await queue.sql("select value from absurd.counter where name = 'permits'") == 2
    assert await queue.states(*tasks, third) == ["completed", "claimed", "pending"]


async def test_the_sweep_lets_in_a_task_that_was_left_parked_and_forgets_keys_that_nobody_needs(queue: Bench) -> None:
    [task] = await spawn_ids(queue, node(concurrency_key="k"))
    await queue.connection.execute(
        "with r as (delete from absurd.ready returning *) "
        "insert into absurd.parked select queue, 'k', rank, run_at, task_id, name, attempt, crashes from r"
    )
    await queue.connection.execute("update absurd.conc set running = 0")
    await queue.sql("select absurd.repair()")
    assert await queue.states(task) == ["pending"]
    await queue.complete((await queue.claim())[0])
    assert await queue.sql("select absurd.repair()") == 0
    assert await permits(queue) == {}


ENDS = (
    "select absurd.complete_task($1, $2, null)", "select absurd.fail_task($1, $2, '{}')",
    "select absurd.fail_task($1, $2, '{}', false)", "select absurd.release_task($1, $2)",
    "select absurd.snooze_task($1, $2, 0)", TAKE_OVER.replace("$3", "2"),
)  # fmt: skip
LIMITS = {"a": 1, "b": 2, "c": 3}


async def disturb(queue: Bench, tasks: list[UUID], chance: random.Random) -> None:
    """Claim tasks and end them in all ways, cancel and retry others, in a session of its own."""
    async with queue.session() as session:
        for _ in range(25):
            for row in await session.fetch("select * from absurd.claim_task($1, 'w', 2)", QUEUE):
                await session.fetchval(chance.choice(ENDS), row["task_id"], row["claim"])
            call = chance.choice(["cancel_task($1)", "retry_task($1)", "retry_task($1)"])
            await session.fetchval(f"select absurd.{call}", chance.choice(tasks))
            await session.fetchval("select absurd.promote(absurd.clock())")


async def watch_permits(queue: Bench, done: asyncio.Event) -> int:
    """Look again and again that permits are counted right and kept to, and no task is lost; return how often."""
    looks = 0
    while not done.is_set():
        for key, (running, held) in (await permits(queue)).items():
            assert running == held <= LIMITS[key], (key, running, held)
        assert await queue.connection.fetch("select * from absurd.misplaced") == []
        looks += 1
    return looks


async def work_off(queue: Bench) -> None:
    """Complete everything that is not over."""
    for _ in range(500):
        await queue.sql("select absurd.promote(absurd.clock())")
        for row in await queue.claim(limit=20):
            await queue.complete(row)
        if not await queue.sql("select count(*) from absurd.task where outcome is null"):
            return
    raise AssertionError("tasks are left that nobody can claim")


@pytest.mark.parametrize("seed", range(3))
async def test_permits_are_never_exceeded_and_never_leak_whatever_six_sessions_do_at_once(
    queue: Bench, postgres: EmbeddedPostgres, seed: int
) -> None:
    """Random claims, ends of every kind, take-overs, cancels and retries, over a random graph; then all end."""
    chance = random.Random(seed)
    for key, limit in LIMITS.items():
        await queue.sql("select absurd.set_concurrency($1, $2, $3)", QUEUE, key, limit)
    nodes = [node(concurrency_key=chance.choice([*LIMITS, None]), max_attempts=2) for _ in range(90)]
    for n in range(10, 90, 7):
        nodes[n]["depends_on"] = [{"task_id": p["task_id"], "policy": "done"} for p in chance.sample(nodes[:n], 2)]
    tasks = await spawn_ids(queue, *nodes)
    logged, done = server_log(postgres), asyncio.Event()
    watching = asyncio.create_task(watch_permits(queue, done))
    await asyncio.gather(*(disturb(queue, tasks, random.Random(seed * 100 + n)) for n in range(6)))
    done.set()
    assert await watching > 0
    await work_off(queue)
    assert set(await queue.states(*tasks)) <= {"completed", "failed", "cancelled"}
    assert {key: running for key, (running, _) in (await permits(queue)).items()} == dict.fromkeys(LIMITS, 0)
    assert "deadlock detected" not in server_log(postgres)[len(logged) :]


def server_log(postgres: EmbeddedPostgres) -> str:
    """Return what the server has written."""
    return (postgres.home / "server.log").read_text(errors="replace")


# ----------------------------------------------------------------------------------------------------------- fairness


async def test_keys_take_turns_whoever_spawned_how_many_first(queue: Bench) -> None:
    await spawn(queue, *(node(name=f"a{n}", fair_key="reprocessing") for n in range(20)))
    await spawn(queue, *(node(name=f"b{n}", fair_key="tonight") for n in range(4)))
    names = [row["name"] for row in await queue.claim(limit=24)]
    assert names[0] == "a0"
    for turn in range(3):
        assert {name[0] for name in names[1 + 2 * turn : 3 + 2 * turn]} == {"a", "b"}, names
    assert [name for name in names if name[0] == "a"] == [f"a{n}" for n in range(20)]
    assert [name for name in names if name[0] == "b"] == [f"b{n}" for n in range(4)]


async def test_a_key_that_was_served_much_is_not_punished_when_others_begin_later(queue: Bench) -> None:
    await spawn(queue, *(node(fair_key="a") for _ in range(50)))
    assert len(await queue.claim(limit=50)) == 50
    await spawn(queue, *(node(name=f"b{n}", fair_key="b") for n in range(4)))
    await spawn(queue, *(node(name=f"a{n}", fair_key="a") for n in range(4)))
    first_four = {row["name"][0] for row in await queue.claim(limit=4)}
    assert first_four == {"a", "b"}


async def test_a_task_without_a_fair_key_goes_before_the_long_line_of_a_key_and_priority_before_all(
    queue: Bench,
) -> None:
    await spawn(queue, *(node(name=f"a{n}", fair_key="a") for n in range(5)))
    await spawn(queue, node(name="plain"), node(name="urgent", fair_key="a", priority=9))
    assert [row["name"] for row in await queue.claim(limit=4)] == ["urgent", "a0", "plain", "a1"]


# ------------------------------------------------------------------------------------------------ rates, pauses, ageing


async def test_a_rate_hands_out_what_its_bucket_holds_and_fills_with_time(queue: Bench) -> None:
    await set_clock(queue, 0)
    await queue.sql("select absurd.set_queue_limits($1, 2, 5, null)", QUEUE)
    await spawn(queue, *(node() for _ in range(40)))
    taken = []
    for at_s in (0, 0, 0.4, 0.5, 1, 2, 60, 60):
        await set_clock(queue, at_s)
        taken.append(len(await queue.claim(limit=10)))
    assert taken == [5, 0, 0, 1, 1, 2, 5, 0]
    await queue.sql("select absurd.set_queue_limits($1, null, null, null)", QUEUE)
    assert len(await queue.claim(limit=30)) == 26
    await queue.connection.execute("reset absurd.fake_now")


async def test_two_sessions_together_get_no_more_than_the_rate(queue: Bench) -> None:
    await queue.sql("select absurd.set_queue_limits($1, 0.001, 7, null)", QUEUE)
    await spawn(queue, *(node() for _ in range(60)))

    async def claim_some() -> int:
        async with queue.session() as session:
            return sum(
                [len(await session.fetch("select * from absurd.claim_task($1, 'w', 2)", QUEUE)) for _ in range(5)]
            )

    assert sum(await asyncio.gather(*(claim_some() for _ in range(5)))) == 7


async def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(queue: Bench) -> None:
    await spawn(queue, node(), node(queue="other"))
    await queue.sql("select absurd.pause_queue($1, true)", QUEUE)
    assert [row["queue"] for row in await flush(queue, [QUEUE, "other"], 5)] == ["other"]
    await queue.sql("select absurd.pause_queue($1, false)", QUEUE)
    assert len(await queue.claim()) == 1


async def test_queues_share_the_slots_evenly_and_one_takes_what_the_others_leave(queue: Bench) -> None:
    for name, count in (("a", 30), ("b", 30), ("c", 1)):
        await spawn(queue, *(node(queue=name) for _ in range(count)))
    queues = [row["queue"] for row in await flush(queue, ["a", "b", "c"], 12)]
    assert queues.count("c") == 1
    assert {queues.count("a"), queues.count("b")} <= {4, 5, 6, 7}
    assert len(queues) == 12
    firsts = [(await flush(queue, ["a", "b", "c"], 1))[0]["queue"] for _ in range(30)]
    assert {"a", "b"} <= set(firsts)


async def test_waiting_raises_the_priority_by_one_for_each_interval(queue: Bench) -> None:
    await set_clock(queue, 0)
    await queue.sql("select absurd.set_queue_limits($1, null, null, 60)", QUEUE)
    await spawn(queue, node(name="old"))
    await set_clock(queue, 170)
    await spawn(queue, node(name="two", priority=2), node(name="three", priority=3))
    for at_s, raised in ((170, 1), (171, 0), (200, 0), (231, 3)):
        await set_clock(queue, at_s)
        assert await queue.sql("select absurd.age(absurd.clock())") == raised, at_s
    assert [row["name"] for row in await queue.claim(limit=3)] == ["three", "old", "two"]
    await queue.connection.execute("reset absurd.fake_now")
