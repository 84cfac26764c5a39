"""A process that runs on while a later version upgrades the products database."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.migrations import migrator
from dsa110_contimg.api.migrations.migrator import Migrator
from dsa110_contimg.api.tables import SCHEMA_REVISION
from fixtures.api_server import Served, serving
from fixtures.api_world import build, settings
from fixtures.live_api import add_keys

OURS = SCHEMA_REVISION.partition("_")[0]
NEXT = f"{int(OURS) + 1:04d}"


class Earlier:
    """A process of this version over a database that others upgrade."""

    def __init__(self, served: Served, config: APIConfig, key: str) -> None:
        self.served = served
        self.config = config
        self.key = key

    async def rate(self, stars: int) -> httpx.Response:
        body, key = {"rating": stars}, {"X-API-Key": self.key}
        return await self.served.client.post("/api/v1/images/1/rating", json=body, headers=key)

    async def stars(self) -> list[float]:
        return [rating["rating"] for rating in (await self.served.json("/api/v1/images/1/ratings"))["ratings"]]

    async def ready(self) -> int:
        return (await self.served.get("/api/v1/health/ready")).status_code

    async def upgrade(self, directory: Path, revision: str) -> None:
        """Upgrade the database to a revision of a later version."""
        shutil.copytree(Path(migrator.__file__).parent, directory)
        later = Migrator(self.config.database, directory=directory)
        made = later.create("Later")
        made.write_text(made.read_text().replace(f"'{NEXT}'", f"'{revision}'"))
        await asyncio.to_thread(later.upgrade)


@pytest.fixture
async def earlier(each_database: dict[str, str], tmp_path: Path) -> AsyncIterator[Earlier]:
    world = await build(settings(tmp_path / "state", **each_database))
    keys = await add_keys(world.config)
    async with serving(world.config, world=world) as served:
        yield Earlier(served, world.config, keys["write:qa"])


async def test_a_process_that_a_later_version_has_overtaken_writes_nothing_more_and_says_why(
    earlier: Earlier, tmp_path: Path
) -> None:
    assert (await earlier.rate(2)).status_code == 200
    await earlier.upgrade(tmp_path / "later", NEXT)
    refused = await earlier.rate(5)
    assert (refused.status_code, refused.json()["error"]) == (503, "DATABASE_SCHEMA_ERROR")
    assert f"has revision {NEXT} of the tables, this version needs revision {SCHEMA_REVISION}" in refused.text
    assert refused.headers["retry-after"]
    assert await earlier.stars() == [2]
    assert await earlier.ready() == 503


async def test_a_process_goes_on_beside_a_later_version_that_serves_it(earlier: Earlier, tmp_path: Path) -> None:
    await earlier.upgrade(tmp_path / "later", f"{NEXT}_serves_{OURS}")
    assert (await earlier.rate(5)).status_code == 200
    assert await earlier.stars() == [5]
    assert await earlier.ready() == 200
