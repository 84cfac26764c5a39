"""Keys in a real database of each kind, shown to a real application: who may change what, and what is kept of it."""

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from dsa110_contimg.api import schemas
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.async_repositories import AsyncCredentialRepository
from dsa110_contimg.api.audit import AuditRecord
from dsa110_contimg.api.authorization import ScopedRoute, require_scope
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.credentials import Scope, create_key, split_key
from dsa110_contimg.api.database import BlockingDatabase, open_database
from dsa110_contimg.api.exceptions import RecordNotFoundError
from dsa110_contimg.api.repositories import CredentialRepository
from dsa110_contimg.exit_codes import CommandError
from dsa110_contimg.up import keys as commands
from fixtures.api_server import Served, serving
from fixtures.api_world import QUEUE_OFF, World, settings
from fixtures.migrated import migrate

FIXED = "dsa110_" + "k" * 43


@dataclass
class Door:
    """An application with one thing to change, and the keys to it."""

    served: Served
    keys: AsyncCredentialRepository

    async def post(self, key: str | None = None, path: str = "/things/1", **more: Any) -> httpx.Response:
        headers = more.pop("headers", {}) | ({"X-API-Key": key} if key else {})
        return await self.served.client.post(path, headers=headers, **more)

    async def key(self, *scopes: Scope, life_s: float | None = None, made_s: float | None = None) -> str:
        text, record = create_key("observer", scopes, made_s or time.time(), life_s)
        await self.keys.add_key(record)
        return text

    async def record(self) -> list[AuditRecord]:
        return [entry for entry in await self.keys.newest_changes() if entry.kind == "begun"]


def things() -> APIRouter:
    router = APIRouter(route_class=ScopedRoute)

    @router.post("/things/{number}", dependencies=[require_scope("ops")])
    async def change(number: int, body: dict[str, Any] | None = None) -> Any:
        if number == 404:
            raise RecordNotFoundError("Thing", "404")
        if number == 500:
            raise ZeroDivisionError
        return body

    return router


@pytest.fixture(scope="module")
def config(each_database_of_a_module: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> APIConfig:
    """Settings with a migrated database of each kind, which the tests of this module share."""
    made = settings(tmp_path_factory.mktemp("access"), DSA110_API_KEYS=FIXED, **each_database_of_a_module)
    migrate(made.database)
    return made


@pytest.fixture(scope="module")
def app(config: APIConfig) -> FastAPI:
    """The application over it, with one thing to change."""
    made = create_app(config, QUEUE_OFF)
    made.include_router(things())
    return made


@pytest.fixture
async def door(app: FastAPI, config: APIConfig) -> AsyncIterator[Door]:
    """The application at work, without keys and with an empty record."""
    async with app.router.lifespan_context(app), open_database(config.database, config.timeouts) as adapter:
        for table in ("audit_log", "api_keys"):
            await adapter.execute(f"DELETE FROM {table}")
        served = Served(app, World(config, "", "", ""), {})
        async with served.client:
            yield Door(served, AsyncCredentialRepository(adapter))


async def test_without_a_key_nothing_is_changed(door: Door) -> None:
    for key in (None, "nonsense", "dsa110_000000000000." + "x" * 43, "\xe4\xf6".encode("latin-1")):
        reply = await door.served.client.post("/things/1", headers={"X-API-Key": key} if key else {})
        body = schemas.ErrorBody.model_validate_json(reply.content)
        assert (reply.status_code, body.code) == (401, "UNAUTHORIZED")
        assert reply.headers["www-authenticate"] == 'ApiKey realm="DSA-110 API"'
        assert set(body.detail) == {"code", "http_status", "user_message", "action", "ref_id"}
    assert await door.record() == []


async def test_a_key_is_judged_before_the_body_is_read(door: Door) -> None:
    assert (await door.post(None, content=b"{", headers={"content-type": "application/json"})).status_code == 401


async def test_a_key_with_the_scope_lets_in_by_either_header(door: Door) -> None:
    key = await door.key("ops")
    assert (await door.post(key)).status_code == 200
    assert (await door.post(headers={"Authorization": f"Bearer {key}"})).status_code == 200
    assert (await door.post(headers={"Authorization": f"Basic {key}"})).status_code == 401
    right_id_wrong_secret = key[:20] + "x" * 43
    assert (await door.post(right_id_wrong_secret)).status_code == 401


async def test_a_key_without_the_scope_is_forbidden_and_recorded(door: Door) -> None:
    reply = await door.post(await door.key("write:jobs", "worker", "admin"))
    body = schemas.ErrorBody.model_validate_json(reply.content)
    assert (reply.status_code, body.code, body.detail["code"]) == (403, "FORBIDDEN", "FORBIDDEN")
    assert "ops" in body.message
    assert "--scope" in body.action
    assert [entry.status for entry in await door.record()] == [403]


async def test_a_key_ends_by_itself_or_is_taken_back_at_once(door: Door) -> None:
    expired = await door.key("ops", life_s=10.0, made_s=time.time() - 11.0)
    assert "expired" in (await door.post(expired)).json()["message"]
    key = await door.key("ops")
    assert (await door.post(key)).status_code == 200
    assert await door.keys.revoke_key(key[7:19], time.time())
    refused = await door.post(key)
    assert (refused.status_code, "revoked" in refused.json()["message"]) == (401, True)
    assert not await door.keys.revoke_key(key[7:19], time.time())


async def test_a_key_that_has_come_to_its_end_is_told_nothing_by_any_process_not_even_what_it_was_told_before(
    config: APIConfig,
) -> None:
    """The reply is kept, what the head says of the client too; the key is looked at each time."""
    strict = dataclasses.replace(config, auth=dataclasses.replace(config.auth, read_needs_key=True))
    async with serving(strict) as one, serving(strict) as other, open_database(config.database, config.timeouts) as db:
        for end in ("revoked", "expired"):
            text, record = create_key("observer", ["read"], time.time(), 3600.0)
            await AsyncCredentialRepository(db).add_key(record)

            async def asked(text: str = text, **more: str) -> list[tuple[int, str | None]]:
                head = {"X-API-Key": text} | more
                found = [await served.client.get("/api/v1/images", headers=head) for served in (one, other)]
                return [(reply.status_code, reply.headers.get("x-cache")) for reply in found]

            await asked()
            assert await asked() == [(200, "memory")] * 2
            if end == "revoked":
                assert await AsyncCredentialRepository(db).revoke_key(record.id, time.time())
            else:
                await db.execute(f"UPDATE api_keys SET expires_at = {time.time() - 1} WHERE id = '{record.id}'")
            assert await asked() == [(401, None)] * 2
            assert await asked(**{"If-None-Match": "*"}) == [(401, None)] * 2
            assert [(await served.client.head("/api/v1/images")).status_code for served in (one, other)] == [401, 401]


async def test_a_key_of_the_settings_may_change_things(door: Door) -> None:
    assert (await door.post(FIXED)).status_code == 200
    assert (await door.post(FIXED[:-1])).status_code == 401
    (entry,) = await door.record()
    assert entry.key_id is not None and entry.key_id.startswith("fixed-") and FIXED not in repr(entry)


async def test_every_change_leaves_an_entry_with_its_outcome(door: Door) -> None:
    key = await door.key("ops")
    for number in (1, 404, 500):
        await door.post(key, f"/things/{number}", headers={"X-Request-ID": f"r{number}"})
    await door.post(key, "/things/x")
    await door.post(key, content=b'{"a": NaN}', headers={"content-type": "application/json"})
    entries = (await door.record())[::-1]
    assert [entry.status for entry in entries] == [200, 404, 500, 422, 422]
    first = entries[0]
    assert (first.actor, first.key_id, first.scope) == ("observer", key[7:19], "ops")
    assert (first.action, first.path, first.request_id) == ("POST change", "/things/1", "r1")
    assert first.client_ip == "127.0.0.1"
    assert abs(first.at - time.time()) < 60


async def test_the_last_use_of_a_key_is_kept(door: Door) -> None:
    key = await door.key("ops")
    assert [record.last_used_at for record in await door.keys.list_keys()] == [None]
    await door.post(key)
    (record,) = await door.keys.list_keys()
    assert record.last_used_at is not None and abs(record.last_used_at - time.time()) < 60


@pytest.mark.parametrize(
    "body", [b'{"a": NaN}', b'{"a": 1e999}', b"{", b"\xff", b'"\\ud800"', b"[" * 5000 + b"]" * 5000, b"1" * 5000]
)
async def test_a_body_that_is_no_json_is_refused(door: Door, body: bytes) -> None:
    reply = await door.post(FIXED, content=body, headers={"content-type": "application/json"})
    assert reply.status_code in (400, 422), reply.text
    schemas.ErrorBody.model_validate_json(reply.content)


async def test_a_page_of_somebody_else_changes_nothing_even_with_a_key(door: Door) -> None:
    reply = await door.post(FIXED, headers={"Origin": "https://evil.example"})
    assert (reply.status_code, reply.json()["error"]) == (403, "FOREIGN_ORIGIN")


async def test_switched_off_everybody_may_change_things_and_the_record_says_so(tmp_path: Path) -> None:
    config = settings(tmp_path, DSA110_AUTH_DISABLED="true", DSA110_ENV="testing")
    await asyncio.to_thread(migrate, config.database)
    async with serving(config) as served, open_database(config.database, config.timeouts) as adapter:
        served.app.include_router(things())
        assert (await served.client.post("/things/1")).status_code == 200
        (entry,) = await AsyncCredentialRepository(adapter).newest_changes()
        assert "disabled" in entry.actor


async def test_the_header_of_the_key_has_the_name_that_the_settings_give_it(tmp_path: Path) -> None:
    config = settings(tmp_path, DSA110_API_KEYS=FIXED, DSA110_API_KEY_HEADER="X-Telescope-Key")
    await asyncio.to_thread(migrate, config.database)
    async with serving(config) as served:
        served.app.include_router(things())
        assert (await served.client.post("/things/1", headers={"X-Telescope-Key": FIXED})).status_code == 200
        assert (await served.client.post("/things/1", headers={"X-API-Key": FIXED})).status_code == 401


async def test_without_the_database_of_keys_nothing_is_changed(tmp_path: Path) -> None:
    async with serving(settings(tmp_path, DSA110_API_KEYS=FIXED)) as served:
        served.app.include_router(things())
        reply = await served.client.post("/things/1", headers={"X-API-Key": FIXED})
        assert reply.status_code == 503  # a change without its entry in the record is none


def test_the_command_makes_shows_and_takes_back_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DSA110_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(CommandError, match="`dsa110 db upgrade`"):
        commands.show(as_json=False)
    config = settings(tmp_path)
    migrate(config.database)
    capsys.readouterr()
    commands.create("night shift", ["ops", "write:jobs"], 2)
    made = capsys.readouterr()
    key_id, secret = split_key(made.out.strip()) or ("", "")
    assert key_id in made.err and secret not in made.err and " UTC. It is shown" in made.err.replace("\n", " ")
    commands.show(as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["id"], row["name"], row["scopes"], row["state"]) == (
        key_id, "night shift", ["write:jobs", "ops"], "valid",
    )  # fmt: skip
    assert abs(row["expires_at"] - time.time() - 2 * 86400) < 60
    commands.show(as_json=False)
    shown = capsys.readouterr().out
    assert key_id in shown and secret not in shown
    assert all(f"{title} (UTC)" in shown for title in ("made", "until", "last used"))
    commands.revoke(key_id)
    commands.show(as_json=False)
    assert "is revoked" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no valid key"):
        commands.revoke(key_id)
    with pytest.raises(CommandError, match="no scope 'everything'"):
        commands.create("x", ["everything"], 1)  # type: ignore[list-item]
    for name, days in (("x", 9_999_999), ("x", 1e300), ("x", float("nan")), (" ", 1)):
        with pytest.raises(CommandError, match=r"--days|needs a name"):
            commands.create(name, ["ops"], days)
    with BlockingDatabase(config.database, config.timeouts) as database:
        endless = create_key("made before there was a bound", ["ops"], 0.0, 1e300)[1]
        CredentialRepository(database).add_key(endless)
    commands.show(as_json=False)
    assert "9999-12-31" in capsys.readouterr().out


def test_the_command_shows_who_changed_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DSA110_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    config = settings(tmp_path)
    migrate(config.database)
    with BlockingDatabase(config.database, config.timeouts) as database:
        keys = CredentialRepository(database)
        for number in range(3):
            entry = AuditRecord(1e9, "[red]\x1b[31m", "k", "10.0.0.7", "POST change", f"/things/{number}", "ops", "r")
            row = keys.begin_change(entry, mark_key_used=False)
        keys.add_entry(row.followed("ended", 409))
    capsys.readouterr()
    commands.log(2, as_json=False)
    newest, older = capsys.readouterr().out.splitlines()[1:]
    assert " ".join(newest.split()) == "2001-09-09 01:46 [red]\\x1b[31m k 10.0.0.7 POST change /things/2 409"
    assert older.endswith("/things/1  not known")
    commands.log(10, as_json=True)
    assert [row["status"] for row in json.loads(capsys.readouterr().out)] == [409, None, None]
