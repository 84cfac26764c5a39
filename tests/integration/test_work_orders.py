"""Accepted work on both databases: every change says whether it was still allowed."""

import asyncio
import dataclasses
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dsa110_contimg.absurd.processes import Warden
from dsa110_contimg.api.async_repositories import AsyncJobRepository, AsyncProductRecorder
from dsa110_contimg.api.batch.orders import Attempt, Bench, WorkFailedError
from dsa110_contimg.api.config import DatabaseConfig, get_config
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters import DatabaseAdapter
from dsa110_contimg.api.exceptions import DatabaseConnectionError, RecordAlreadyExistsError
from dsa110_contimg.api.interfaces import JobRecord, Recording
from dsa110_contimg.api.job_queue import JobQueue
from dsa110_contimg.api.queries.idempotency import KeptReply
from dsa110_contimg.api.run_logs import RunLogs
from dsa110_contimg.api.services.absurd.gateway import QueueGateway
from dsa110_contimg.api.services.rq_service import order_view
from dsa110_contimg.api.services.work_service import Means, WorkService
from dsa110_contimg.api.work_orders import BATCH, RERUN_CHAIN, RERUN_COMMAND, WorkOrder, new_seed, order_id
from dsa110_contimg.api.work_repository import AsyncWorkRepository

NOW = 1_800_000_000.0
ORDER = WorkOrder("job_0123456789ab", "pipeline-command", "rq", {"ra": 0.0}, "run", {"by": "me"}, created_at=NOW)
RUN = JobRecord("run", "2026-02-11T03:04:05", "pending", "/p/x.ms", created_at=NOW)


@pytest.fixture
async def adapter(empty_products: DatabaseConfig) -> AsyncIterator[DatabaseAdapter]:
    async with open_database(empty_products) as opened:
        yield opened


@pytest.fixture
def orders(adapter: DatabaseAdapter) -> AsyncWorkRepository:
    return AsyncWorkRepository(adapter)


async def test_an_order_is_kept_once_with_its_run(orders: AsyncWorkRepository, adapter: DatabaseAdapter) -> None:
    assert await orders.accept(ORDER, RUN)
    assert not await orders.accept(ORDER, dataclasses.replace(RUN, ms_path="/p/other.ms"))
    assert await orders.find(ORDER.id) == ORDER
    job = await AsyncJobRepository(adapter).get_by_run_id("run")
    assert job is not None
    assert job.ms_path == "/p/x.ms"
    assert [order.id for order in await orders.of_run("run")] == [ORDER.id]
    assert await orders.find("job_none") is None


async def test_one_of_two_workers_gets_an_order(orders: AsyncWorkRepository) -> None:
    await orders.accept(ORDER)
    assert await orders.send(ORDER.id, NOW)
    claims = await asyncio.gather(*(orders.claim(ORDER.id, f"w{n}", NOW) for n in range(4)))
    [begun] = [claim for claim in claims if claim]
    assert (begun.status, begun.attempts, begun.started_at) == ("running", 1, NOW)
    assert await orders.send(ORDER.id, NOW) is None, "who works on it is not disturbed"
    assert await orders.put_back(ORDER.id) is None


@pytest.mark.parametrize("ahead_s", [-3600.0, 3600.0])
async def test_the_clock_of_a_workers_host_tells_nobody_that_it_is_silent_or_alive(
    orders: AsyncWorkRepository, ahead_s: float
) -> None:
    await orders.accept(ORDER)
    assert await orders.claim(ORDER.id, "of another host", NOW + ahead_s)
    assert await orders.claim(ORDER.id, "second", NOW) is None, "it has just begun"
    assert await orders.due() == []
    orders.silent_s = -1.0
    assert [order.id for order in await orders.due()] == [ORDER.id]
    assert await orders.claim(ORDER.id, "second", NOW)


async def test_an_order_whose_worker_is_silent_goes_to_another_and_the_first_may_not_end_it(
    orders: AsyncWorkRepository, adapter: DatabaseAdapter
) -> None:
    await orders.accept(ORDER, RUN)
    first = await orders.claim(ORDER.id, "first", NOW)
    assert first is not None
    await adapter.execute("UPDATE work_orders SET beat_at = beat_at - 20")
    assert await orders.due() == []
    assert await orders.claim(ORDER.id, "second", NOW + 31) is None
    await adapter.execute("UPDATE work_orders SET beat_at = beat_at - 11")
    assert [order.id for order in await orders.due()] == [ORDER.id]
    second = await orders.claim(ORDER.id, "second", NOW + 31)
    assert second is not None
    assert (second.attempts, second.started_at) == (2, NOW)
    assert not await orders.beat(ORDER.id, "first")
    assert await orders.beat(ORDER.id, "second")
    late = dataclasses.replace(first, status="finished", ended_at=NOW + 33)
    assert not await orders.end(late, dataclasses.replace(RUN, status="completed"))
    assert [run.status for run in await orders.lively_runs(NOW)] == ["running"]
    ended = dataclasses.replace(second, status="finished", ended_at=NOW + 33, result={"exit_code": 0})
    assert await orders.end(ended, dataclasses.replace(RUN, status="completed", finished_at=NOW + 33))
    found = await orders.find(ORDER.id)
    assert found is not None
    assert (found.status, found.result, found.ended_at) == ("finished", {"exit_code": 0}, NOW + 33)
    assert await orders.claim(ORDER.id, "third", NOW + 1000) is None
    assert await orders.lively_runs(NOW + 34) == []


async def test_what_is_canceled_is_nobodys_work_any_more(orders: AsyncWorkRepository) -> None:
    await orders.accept(ORDER, RUN)
    begun = await orders.claim(ORDER.id, "w", NOW)
    assert begun is not None
    canceled = await orders.settle(ORDER.id, "canceled", NOW + 1, error="no longer wanted")
    assert canceled is not None
    assert canceled.status == "canceled"
    assert not await orders.beat(ORDER.id, "w")
    assert not await orders.end(dataclasses.replace(begun, status="finished", ended_at=NOW + 2))
    assert await orders.settle(ORDER.id, "canceled", NOW + 3) is None
    assert await orders.due() == []
    assert await orders.end_run("run", NOW + 1, "canceled")
    assert not await orders.end_run("run", NOW + 2, "again")


async def test_a_batch_and_its_order_are_kept_together_and_once(
    orders: AsyncWorkRepository, adapter: DatabaseAdapter
) -> None:
    order = WorkOrder("job_ba0123456789", BATCH, "rq", {}, created_at=NOW)
    asked = (orders.accept_batch(order, "thumbnail", ["a", "b"]) for _ in range(4))
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    [number] = [outcome for outcome in outcomes if not isinstance(outcome, RecordAlreadyExistsError)]
    kept = await orders.find(order.id)
    assert kept is not None
    assert kept.arguments == {"batch_id": number}
    assert await adapter.fetch_val("SELECT count(*) FROM batch_jobs") == 1
    assert await adapter.fetch_val("SELECT count(*) FROM batch_job_items") == 2


class Surprising(AsyncWorkRepository):
    """Fails the first time in a way that nobody foresaw."""

    def __init__(self, adapter: DatabaseAdapter) -> None:
        super().__init__(adapter)
        self.failed, self.asked_again = False, asyncio.Event()

    async def due(self, limit: int = 1000) -> list[WorkOrder]:
        if not self.failed:
            self.failed = True
            raise KeyError("nobody foresaw this")
        self.asked_again.set()
        return await super().due(limit)


async def test_what_nobody_foresaw_ends_one_round_of_looking_after_work_and_not_all(
    adapter: DatabaseAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    orders = Surprising(adapter)
    means = Means(orders, AsyncJobRepository(adapter), JobQueue.from_config(get_config()), QueueGateway(None, "q"))
    looking = asyncio.create_task(WorkService(means, get_config()).run(every_s=0.01))
    async with asyncio.timeout(10):
        await orders.asked_again.wait()
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert [record.message for record in caplog.records if record.exc_info] == ["accepted work was not looked after"]


async def test_looking_after_work_ends_at_any_moment_and_leaves_nothing_begun(adapter: DatabaseAdapter) -> None:
    orders = AsyncWorkRepository(adapter)
    means = Means(orders, AsyncJobRepository(adapter), JobQueue.from_config(get_config()), QueueGateway(None, "q"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for steps in range(5):
            looking = asyncio.create_task(WorkService(means, get_config()).run())
            for _ in range(steps):
                await asyncio.sleep(0)
            looking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await looking
    assert [str(warning.message) for warning in said] == []


async def test_the_end_of_a_run_is_seen_however_many_runs_wait(
    orders: AsyncWorkRepository, adapter: DatabaseAdapter
) -> None:
    recorder = AsyncProductRecorder(adapter)
    for n in range(4):
        await recorder.save_job(dataclasses.replace(RUN, run_id=f"run-{n}", created_at=NOW + n))
    await orders.end_run("run-0", NOW + 10, "no")
    assert [run.run_id for run in await orders.lively_runs(NOW + 9, limit=2)] == ["run-3", "run-2", "run-0"]


async def test_lists_are_newest_first_and_know_the_states_of_rq(orders: AsyncWorkRepository) -> None:
    ids = [order_id("seed", str(n)) for n in range(4)]
    for n, name in enumerate(ids):
        await orders.accept(dataclasses.replace(ORDER, id=name, run_id=None, created_at=NOW + n))
    await orders.send(ids[1], NOW)
    await orders.claim(ids[2], "w", NOW)
    await orders.settle(ids[3], "failed", NOW, error="no")
    assert [order.id for order in await orders.newest(None, 3)] == [ids[3], ids[2], ids[1]]
    assert [order.id for order in await orders.newest("queued", 10)] == [ids[1], ids[0]]
    assert [order.id for order in await orders.newest("started", 10)] == [ids[2]]
    assert [order.id for order in await orders.newest("failed", 10)] == [ids[3]]
    assert await orders.newest("deferred", 10) == []
    assert [order.id for order in await orders.due()] == ids[:2]
    assert [order.id for order in await orders.due(1)] == [ids[0], ids[1]], "what waits hides behind nothing that runs"
    assert await orders.counts() == {"accepted": 1, "sent": 1, "running": 1}
    assert (await orders.put_back(ids[1])).status == "accepted"  # type: ignore[union-attr]


async def test_the_order_of_a_run_that_the_durable_queue_does_is_under_way_while_its_run_is(
    orders: AsyncWorkRepository, adapter: DatabaseAdapter
) -> None:
    """Nobody claims such an order: it was said to be queued until its run had ended."""
    chain = dataclasses.replace(ORDER, kind=RERUN_CHAIN, target="absurd")
    await orders.accept(chain, RUN)
    await orders.send(chain.id, NOW)
    assert [order.id for order in await orders.newest("queued", 10)] == [chain.id]
    assert await orders.counts() == {"sent": 1}
    recorder = AsyncProductRecorder(adapter)
    for status, finished_at in (("running", None), ("completed", NOW + 9)):  # its end is noticed a moment later
        run = dataclasses.replace(RUN, status=status, started_at=NOW + 1, finished_at=finished_at)
        await recorder.record(Recording(job=run))
        found = await orders.find(chain.id)
        assert found is not None
        assert (order_view(found)["status"], found.started_at) == ("started", NOW + 1)
        assert order_view(found)["attempts"] is None, "not 0 of what has begun"
        assert [order.id for order in await orders.newest("started", 10)] == [chain.id]
        assert await orders.newest("queued", 10) == []
        assert await orders.counts() == {"running": 1}
    assert [order.id for order in await orders.due()] == [chain.id], "it is looked after as before"
    await orders.settle(chain.id, "finished", NOW + 9)
    [ended] = await orders.newest("finished", 10)
    assert (ended.started_at, ended.ended_at) == (NOW + 1, NOW + 9)


async def test_a_reply_is_kept_under_the_key_of_one_caller(orders: AsyncWorkRepository) -> None:
    request = KeptReply("anna", "k", "f1", NOW)
    assert await orders.reserve(request) == (True, request)
    assert await orders.reserve(dataclasses.replace(request, actor="bert")) != (False, request)
    assert await orders.reserve(dataclasses.replace(request, fingerprint="f2")) == (False, request)
    await orders.keep("anna", "k", 200, '{"a":1}')
    kept = dataclasses.replace(request, status=200, reply='{"a":1}')
    assert await orders.reserve(request) == (False, kept)
    await orders.release("anna", "k")  # it has its reply
    assert await orders.reserve(request) == (False, kept)
    await orders.forget_replies(NOW + 1)
    assert await orders.reserve(request) == (True, request)


async def test_a_key_that_is_free_again_knows_when_its_request_was_first_sent(orders: AsyncWorkRepository) -> None:
    request = KeptReply("anna", "k", "f1", NOW)
    await orders.reserve(request)
    await orders.release("anna", "k")
    later = dataclasses.replace(request, created_at=NOW + 9)
    assert await orders.reserve(later) == (True, request)
    assert await orders.reserve(later) == (False, request)
    await orders.release("anna", "k")
    other = dataclasses.replace(later, fingerprint="f2")
    assert await orders.reserve(other) == (True, other)


def test_the_same_seed_gives_the_same_ids() -> None:
    seed = new_seed()
    assert order_id(seed, "a") == order_id(seed, "a") != order_id(seed, "b")
    assert len(order_id(seed, "a")) == 16
    assert new_seed() != seed


async def test_a_run_that_is_canceled_in_the_moment_in_which_its_work_begins_stays_canceled(
    orders: AsyncWorkRepository, adapter: DatabaseAdapter, tmp_path: Path
) -> None:
    class SlowRecorder(AsyncProductRecorder):
        """Cancels the run after the worker has looked at it."""

        async def get_job(self, run_id: str) -> JobRecord | None:
            found = await super().get_job(run_id)
            await orders.settle(ORDER.id, "canceled", NOW + 1, error="canceled")
            await orders.end_run(run_id, NOW + 1, "canceled")
            return found

    await orders.accept(dataclasses.replace(ORDER, kind=RERUN_COMMAND), RUN)
    begun = await orders.claim(ORDER.id, "w", NOW)
    assert begun is not None
    bench = Bench(get_config(), RunLogs(tmp_path), Warden())
    assert "skipped" in await Attempt(begun, orders, SlowRecorder(adapter), bench).run()
    job = await AsyncJobRepository(adapter).get_by_run_id("run")
    assert job is not None
    assert (job.status, job.error) == ("failed", "canceled")


async def test_the_order_of_a_run_that_goes_on_again_is_open_again(
    orders: AsyncWorkRepository, adapter: DatabaseAdapter
) -> None:
    chain = dataclasses.replace(ORDER, kind=RERUN_CHAIN, target="absurd")
    for order in (chain, dataclasses.replace(ORDER, id="job_00000000000a", run_id="another")):
        await orders.accept(order, dataclasses.replace(RUN, run_id=str(order.run_id)))
        await orders.send(order.id, NOW)
        await orders.settle(order.id, "failed", NOW + 1, {"run_id": order.run_id}, "its worker died")
        going = dataclasses.replace(RUN, run_id=str(order.run_id), status="running")
        await AsyncProductRecorder(adapter).record(Recording(job=going))
    found, command = await orders.find(chain.id), await orders.find("job_00000000000a")
    assert found is not None
    assert command is not None
    assert (found.status, found.ended_at, found.result, found.error) == ("sent", None, None, None)
    assert command.status == "failed", "nobody works on a command that has failed"
    assert await orders.settle(chain.id, "finished", NOW + 9, {"run_id": "run"}) is not None


async def test_an_end_is_written_when_the_database_is_back(
    orders: AsyncWorkRepository, adapter: DatabaseAdapter, tmp_path: Path
) -> None:
    class Restarted(AsyncWorkRepository):
        """Its database is away for a moment at the end of the work."""

        was_away = False

        async def end(self, order: WorkOrder, job: JobRecord | None) -> bool:
            if not self.was_away:
                self.was_away = True
                raise DatabaseConnectionError("It is restarted", "products")
            return await super().end(order, job)

    await orders.accept(dataclasses.replace(ORDER, kind="not known"), RUN)
    begun = await orders.claim(ORDER.id, "w", NOW)
    assert begun is not None
    bench = Bench(get_config(), RunLogs(tmp_path), Warden())
    with pytest.raises(WorkFailedError, match="does not know work of the kind"):
        await Attempt(begun, Restarted(adapter), AsyncProductRecorder(adapter), bench).run()
    found = await orders.find(ORDER.id)
    assert found is not None
    assert found.status == "failed"
    job = await AsyncJobRepository(adapter).get_by_run_id("run")
    assert job is not None
    assert job.status == "failed"
