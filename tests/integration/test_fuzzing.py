"""What the API says of itself against what it does: schemathesis asks a running server, with a key and without.

The slow suite asks a little. ``make fuzz`` asks much in all phases; ``EXAMPLES`` says how much of each call.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dsa110_contimg.api.app import server_settings
from dsa110_contimg.api.async_repositories import AsyncCredentialRepository
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.credentials import SCOPES, create_key
from dsa110_contimg.api.database import open_database
from dsa110_contimg.up.servers import EmbeddedPostgres, EmbeddedRedis
from fixtures.api_server import fill_queue
from fixtures.api_world import build, settings
from fixtures.databases import new_database
from fixtures.live_api import running

EXAMPLES = os.environ.get("EXAMPLES")
# Routes that read a file in a process of its own take a second of a processor each time: asked beside the others.
IN_A_CHILD = (
    r"/images/\{image_id\}/(animation|cutout|header|png|slice|statistics|thumbnail|validation)$"
    r"|/ms/\{ms_id\}/(antennas|raster)$"
)
TELLS_IDS = r"/(images|ms)$|/ms/\{ms_id\}(/metadata)?$"  # of what there is a file
PARTS = {
    "files": ("--include-path-regex", f"{IN_A_CHILD}|{TELLS_IDS}"),
    "the rest": ("--exclude-path-regex", IN_A_CHILD),
}
# A reply that a route cannot give to a request that the description allows is what is looked for. What a request that
# it forbids is answered with (400, 404, 409 or 422) depends on what is wrong first.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth"


@dataclass(frozen=True)
class Target:
    """A running server and a key that may do everything."""

    url: str
    key: str


async def _key_to_everything(config: APIConfig) -> str:
    text, record = create_key("fuzzing", sorted(SCOPES), time.time(), None)
    async with open_database(config.database, config.timeouts) as adapter:
        await AsyncCredentialRepository(adapter).add_key(record)
    return text


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def target(
    request: pytest.FixtureRequest,
    postgres: EmbeddedPostgres,
    redis_server: EmbeddedRedis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Target]:
    """A server over a world of each kind of database, with a queue."""
    with new_database(postgres) as url:
        kind = {"DSA110_DB_BACKEND": "postgresql", "DSA110_DB_PG_URL": url} if request.param == "postgresql" else {}
        environ = {"DSA110_ENV": "testing", "REDIS_URL": redis_server.url, "DSA110_PORT": "0", **kind}
        config = settings(tmp_path_factory.mktemp(f"fuzzing_{request.param}"), **environ)
        asyncio.run(build(config))
        queue = asyncio.run(fill_queue(url))
        key = asyncio.run(_key_to_everything(config))
        with running(server_settings(config, queue.config)) as port:
            yield Target(f"http://127.0.0.1:{port}", key)


def ask(target: Target, directory: Path, *options: str, key: bool) -> None:
    """Let schemathesis ask, in one thread (with more, its generators trip over each other); a report is the message."""
    header = ["--header", f"X-API-Key: {target.key}"] if key else []
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{target.url}/api/openapi.json",
        "--checks", CHECKS, "--workers", "1", "--no-color", "--suppress-health-check", "all",
        "--warnings", "off", "--no-shrink",
        "--continue-on-failure", "--request-timeout", "90", "--generation-database", "none", *header, *options,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    report = "\n".join(line[:400] for line in (done.stdout + done.stderr).splitlines())
    assert done.returncode == 0, report
    print(report)


@pytest.mark.slow
def test_a_little_asking_finds_no_reply_that_is_not_documented(target: Target, tmp_path: Path) -> None:
    phases = ("--phases", "examples,fuzzing", "--max-examples", "2", "--seed", "1")
    ask(target, tmp_path, *phases, key=True)


@pytest.mark.slow
@pytest.mark.skipif(EXAMPLES is None, reason="takes minutes: make fuzz")
@pytest.mark.parametrize("part", list(PARTS))
@pytest.mark.parametrize("key", [True, False], ids=["with a key", "without"])
def test_asking_in_all_phases_finds_no_reply_that_is_not_documented(
    target: Target, tmp_path: Path, key: bool, part: str
) -> None:
    ask(target, tmp_path, "--max-examples", str(EXAMPLES), *PARTS[part], key=key)
