"""Defects of the earlier backend that no other file tests; docs/reference/earlier-defects.md says where each is."""

import asyncio
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from architecture.source_tree import ROOT
from dsa110_contimg import __version__
from dsa110_contimg.api.config import RedisConfig
from dsa110_contimg.api.db_adapters.adapters.sqlite_errors import translate
from dsa110_contimg.api.exceptions import (
    DatabaseBusyError,
    DatabaseConnectionError,
    DatabaseFullError,
    DatabaseQueryError,
    DatabaseSchemaError,
    DSA110APIError,
    InvalidRecordError,
    RecordAlreadyExistsError,
)
from dsa110_contimg.api.migrations import migrator
from fixtures.api_server import Served, serving
from fixtures.api_world import settings


async def test_the_service_has_one_version_wherever_it_says_it(small: Served) -> None:
    """Defect 20."""
    health = await small.json("/api/v1/health")
    metrics = (await small.get("/metrics")).text
    info = re.search(r'dsa110_pipeline_info\{[^}]*version="([^"]+)"', metrics)
    assert info is not None
    assert {health["version"], small.app.version, info[1]} == {__version__}


def test_no_rule_of_git_swallows_a_file_of_the_source() -> None:
    """Defect 35."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    asked = ["git", "-C", str(ROOT), "ls-files", "--others", "--ignored", "--exclude-standard", "src", "tests", "ops"]
    ignored = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    made = re.compile(r"(^|/)(__pycache__|\.hypothesis|[^/]+\.egg-info)/|\.nb[ic]$")
    assert [name for name in ignored if not made.search(name)] == []


async def test_no_reply_tells_the_password_of_redis(tmp_path: Path) -> None:
    """Defects 39 and 50."""
    config = settings(tmp_path / "state", REDIS_URL="redis://:correct-horse-battery@127.0.0.1:9/0")
    await asyncio.to_thread(migrator.upgrade, config.database)
    async with serving(config) as served:
        for address in ("/queue", "/queue/jobs", "/health?detailed=true", "/cache", "/services/status"):
            reply = await served.get(f"/api/v1{address}")
            assert (reply.status_code, "correct-horse" in reply.text) == (200, False)


FAULTS: list[tuple[str, str, type[DSA110APIError]]] = [
    ("SQLITE_BUSY_SNAPSHOT", "database is locked", DatabaseBusyError),
    ("SQLITE_LOCKED", "database table is locked", DatabaseBusyError),
    ("SQLITE_FULL", "database or disk is full", DatabaseFullError),
    ("SQLITE_CONSTRAINT_UNIQUE", "UNIQUE constraint failed: images.path", RecordAlreadyExistsError),
    ("SQLITE_CONSTRAINT_PRIMARYKEY", "UNIQUE constraint failed: sources.id", RecordAlreadyExistsError),
    ("SQLITE_CONSTRAINT_NOTNULL", "NOT NULL constraint failed: images.path", InvalidRecordError),
    ("SQLITE_CANTOPEN", "unable to open database file", DatabaseConnectionError),
    ("SQLITE_NOTADB", "file is not a database", DatabaseConnectionError),
    ("SQLITE_CORRUPT_INDEX", "database disk image is malformed", DatabaseConnectionError),
    ("SQLITE_READONLY_DIRECTORY", "attempt to write a readonly database", DatabaseConnectionError),
    ("SQLITE_IOERR_READ", "disk I/O error", DatabaseConnectionError),
    ("SQLITE_PERM", "access permission denied", DatabaseConnectionError),
    ("SQLITE_ERROR", "no such table: images", DatabaseSchemaError),
    ("SQLITE_ERROR", "no such column: snr", DatabaseSchemaError),
    ("SQLITE_ERROR", "table images has no column named snr", DatabaseSchemaError),
    ("SQLITE_ERROR", 'near "SELEC": syntax error', DatabaseQueryError),
    ("", "Cannot operate on a closed database.", DatabaseQueryError),
]


@pytest.mark.parametrize(("name", "text", "kind"), FAULTS)
def test_each_fault_of_a_database_is_told_as_what_it_is_and_not_where_it_lies(
    name: str, text: str, kind: type[DSA110APIError]
) -> None:
    """Defect 54."""
    error = sqlite3.OperationalError(text)
    if name:
        error.sqlite_errorname = name
    told = translate(error, "/srv/secret-place/products.sqlite3")
    assert type(told) is kind
    assert "secret-place" not in str(told.to_body())


async def test_a_missing_column_is_no_lost_connection(own: Served) -> None:
    """Defects 3 and 54."""
    with sqlite3.connect(own.world.config.database.products_path) as connection:
        connection.execute("ALTER TABLE photometry RENAME COLUMN snr TO another")
    reply = await own.get("/api/v1/sources/{source}/lightcurve")
    assert (reply.status_code, reply.json()["error"]) == (503, "DATABASE_SCHEMA_ERROR")
    assert "dsa110 db upgrade" in reply.json()["message"]


async def test_errors_are_never_kept_and_what_may_be_kept_is_asked_for_again(small: Served) -> None:
    """Defect 62."""
    for address in ("/api/v1/images/77", "/api/v1/images/77/fits", "/api/v1/sources?limit=-1", "/api/v1/none"):
        reply = await small.get(address)
        assert (reply.status_code >= 400, reply.headers["cache-control"]) == (True, "no-store")
    for address in ("/api/v1/images", "/api/v1/images/{image}", "/api/v1/images/{image}/fits"):
        assert (await small.get(address)).headers["cache-control"] == "private, no-cache"


def test_redis_has_one_address(tmp_path: Path) -> None:
    """Defect 68."""
    config = settings(tmp_path, REDIS_URL="redis://127.0.0.1:7/3", DSA110_REDIS_URL="redis://127.0.0.1:8/4")
    addresses = {value for value in vars_of(config.redis) if str(value).startswith("redis://")}
    assert addresses == {"redis://127.0.0.1:7/3"}


def vars_of(config: RedisConfig) -> list[Any]:
    return [getattr(config, name) for name in config.__slots__]
