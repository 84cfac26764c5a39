"""The record of changes in a real database of each kind: what is in it, and that nobody changes it unseen."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Request

from dsa110_contimg.api.async_repositories import AsyncCredentialRepository
from dsa110_contimg.api.audit import AuditRecord, ChainCheck, making, open_change
from dsa110_contimg.api.authorization import ScopedRoute, require_scope
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.credentials import create_key
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters.backend import DatabaseAdapter
from dsa110_contimg.api.exceptions import RecordAlreadyExistsError
from dsa110_contimg.exit_codes import CommandError
from dsa110_contimg.up import keys as commands
from fixtures.api_server import serving
from fixtures.api_world import settings
from fixtures.migrated import migrate

KEY = "Kq3" + "".join(random.Random(5).choices("abcdefghkmnpqrstuvwxyz23456789", k=40))
ENTRY = AuditRecord(1.5e9, "observer", "0a1b2c3d4e5f", "10.0.0.7", "POST change", "/things/é", "ops", "r-1")


@pytest.fixture(scope="module")
def config(each_database_of_a_module: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> APIConfig:
    """Settings with a migrated database of each kind."""
    made = settings(tmp_path_factory.mktemp("audit"), DSA110_API_KEYS=KEY, **each_database_of_a_module)
    migrate(made.database)
    return made


@pytest.fixture
async def adapter(config: APIConfig) -> AsyncIterator[DatabaseAdapter]:
    """The database, with an empty record."""
    async with open_database(config.database, config.timeouts) as opened:
        for statement in ("DELETE FROM audit_log", "DELETE FROM api_keys", "UPDATE audit_head SET seq = 0, hash = ''"):
            await opened.execute(statement)
        yield opened


async def rows(adapter: DatabaseAdapter) -> list[dict[str, Any]]:
    found = await adapter.fetch_all("SELECT * FROM audit_log ORDER BY id")
    return [dict(zip(row.keys(), row, strict=True)) for row in found]


async def test_entries_form_a_chain(adapter: DatabaseAdapter) -> None:
    keys = AsyncCredentialRepository(adapter)
    first = await keys.begin_change(ENTRY, mark_key_used=False)
    second = await keys.add_entry(first.followed("ended", 200))
    assert (first.id, first.prev_hash, second.id, second.prev_hash) == (1, "", 2, first.hash)
    assert (second.change_id, second.kind, second.status) == (1, "ended", 200)
    check = await keys.check_chain()
    assert (check.entries, check.fault) == (2, None)
    (told,) = await keys.newest_changes()
    assert (told.id, told.status, told.path) == (1, 200, "/things/é")


async def test_entries_of_many_writers_follow_each_other(config: APIConfig, adapter: DatabaseAdapter) -> None:
    async def write(number: int) -> None:
        async with open_database(config.database, config.timeouts) as own:
            keys = AsyncCredentialRepository(own)
            for turn in range(10):
                await keys.add_entry(replace(ENTRY, request_id=f"{number}-{turn}"))

    await asyncio.gather(*(write(number) for number in range(4)))
    check = await AsyncCredentialRepository(adapter).check_chain()
    assert (check.entries, check.fault) == (40, None)


TAMPERINGS = (
    "UPDATE audit_log SET actor = 'somebody else' WHERE id = {id}",
    "UPDATE audit_log SET at = at + 1 WHERE id = {id}",
    "UPDATE audit_log SET status = 200 WHERE id = {id}",
    "UPDATE audit_log SET key_id = NULL WHERE id = {id}",
    "UPDATE audit_log SET hash = '{other}' WHERE id = {id}",
    "UPDATE audit_log SET prev_hash = '{other}' WHERE id = {id}",
    "UPDATE audit_log SET hash = NULL WHERE id = {id}",
    "DELETE FROM audit_log WHERE id = {id}",
    "UPDATE audit_log SET id = 1000 WHERE id = {id}",
    "UPDATE audit_log SET path = '/elsewhere', kind = 'denied' WHERE id = {id}",
)


@pytest.mark.parametrize("statement", TAMPERINGS)
async def test_a_changed_missing_or_moved_entry_is_found(adapter: DatabaseAdapter, statement: str) -> None:
    keys = AsyncCredentialRepository(adapter)
    for number in range(6):
        await keys.add_entry(replace(ENTRY, request_id=str(number)))
    kept = await rows(adapter)
    for number in (1, 3, 6):
        await adapter.execute(statement.format(id=number, other="0" * 64))
        assert (await keys.check_chain()).fault is not None
        await adapter.execute("DELETE FROM audit_log")
        marks = ", ".join("?" if adapter.placeholder == "?" else f"${place + 1}" for place in range(len(kept[0])))
        for row in kept:
            await adapter.execute(f"INSERT INTO audit_log ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
        assert (await keys.check_chain()).fault is None


def test_of_a_thousand_tamperings_of_one_entry_a_thousand_are_found() -> None:
    chance = random.Random(20261122)
    chain: list[AuditRecord] = []
    for number in range(1, 41):
        chain.append(replace(ENTRY, request_id=str(number)).chained(number, chain[-1].hash or "" if chain else ""))
    head = (chain[-1].id or 0, chain[-1].hash or "")

    def fault(entries: list[AuditRecord]) -> str | None:
        check = ChainCheck()
        check.walk(entries)
        check.conclude(*head)
        return check.fault

    assert fault(chain) is None
    found = 0
    for _ in range(1000):
        at, tampered = chance.randrange(40), list(chain)
        kind = chance.choice(("edit", "delete", "move", "repeat", "rehash"))
        if kind == "edit":
            name = chance.choice(("actor", "path", "client_ip", "scope", "action", "request_id"))
            tampered[at] = replace(chain[at], **{name: chance.choice(("", "x", "root"))})
        elif kind == "delete":
            del tampered[at]
        elif kind == "move":
            other = (at + chance.randrange(1, 40)) % 40
            tampered[at], tampered[other] = tampered[other], tampered[at]
        elif kind == "repeat":
            tampered.insert(at, chain[at])
        else:  # with the right hash of its own, but nobody's predecessor any more
            edited = replace(chain[at], actor="root")
            tampered[at] = replace(edited, hash=edited.fingerprint())
        found += fault(tampered) is not None
    assert found == 1000


async def test_what_a_change_writes_is_recorded_in_its_transaction(config: APIConfig, adapter: DatabaseAdapter) -> None:
    router = APIRouter(route_class=ScopedRoute)
    keys = AsyncCredentialRepository(adapter)
    late: list[asyncio.Task[None]] = []

    @router.post("/keys/{name}", dependencies=[require_scope("ops")])
    async def change(name: str, request: Request) -> None:
        async def later() -> None:
            await asyncio.sleep(0.3)
            await keys.add_key(replace(record, id="later"))

        record = create_key(name, ["ops"], time.time(), None)[1]
        await keys.add_key(replace(record, id=name))
        late.append(asyncio.create_task(later()))

    async with serving(config) as served:
        served.app.include_router(router)
        headers = {"X-API-Key": KEY, "X-Request-ID": "one"}
        assert (await served.client.post("/keys/one", headers=headers)).status_code == 200
        assert (await served.client.post("/keys/one", headers=headers | {"X-Request-ID": "two"})).status_code == 409
        await asyncio.gather(*late)
    seen = [(row["kind"], row["request_id"], row["change_id"], row["status"]) for row in await rows(adapter)]
    assert seen == [
        ("begun", "one", None, None),
        ("changed", "one", 1, None),
        ("ended", "one", 1, 200),
        ("begun", "two", None, None),
        ("ended", "two", 4, 409),
    ]  # fmt: skip - the second wrote nothing; the task that outlived the first belongs to no change
    assert (await keys.check_chain()).fault is None


async def test_a_change_that_fails_leaves_no_entry_of_having_been_made(adapter: DatabaseAdapter) -> None:
    keys = AsyncCredentialRepository(adapter)
    record = create_key("x", ["ops"], 0.0, None)[1]
    begun = await keys.begin_change(ENTRY, mark_key_used=False)
    with making(begun):
        await keys.add_key(record)
        with pytest.raises(RecordAlreadyExistsError):
            await keys.add_key(record)
    assert open_change() is None
    assert [row["kind"] for row in await rows(adapter)] == ["begun", "changed"]


async def test_wrong_keys_are_in_the_record_but_no_more_than_an_address_may_show(
    config: APIConfig, adapter: DatabaseAdapter
) -> None:
    async with serving(replace(config, auth=replace(config.auth, environment="production"))) as served:
        for number in range(15):
            await served.client.get("/api/v1/stats", headers={"X-API-Key": f"wrong {number}"})
    told = await AsyncCredentialRepository(adapter).newest_changes()
    assert [(entry.kind, entry.status, entry.client_ip) for entry in told] == [("denied", 401, "127.0.0.1")] * 10
    assert "wrong 1" not in repr(told)


def test_the_command_tells_whether_the_record_is_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DSA110_STATE_DIR", str(tmp_path))
    config = settings(tmp_path)
    migrate(config.database)
    commands.create("night shift", ["ops"], 2)
    commands.verify()
    assert "3 entries are as they were written" in capsys.readouterr().out.replace("\n", " ")

    async def tamper() -> None:
        async with open_database(config.database, config.timeouts) as adapter:
            assert [row["kind"] for row in await rows(adapter)] == ["begun", "changed", "ended"]
            await adapter.execute("UPDATE audit_log SET actor = 'nobody' WHERE id = 2")

    asyncio.run(tamper())
    with pytest.raises(CommandError, match="entry 2 was changed"):
        commands.verify()
