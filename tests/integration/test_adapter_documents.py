"""What docs/database-adapters.md shows is run here, block by block."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dsa110_contimg.api import database
from dsa110_contimg.api.config import APIConfig, DatabaseConfig
from dsa110_contimg.api.database import open_database
from fixtures.writers import write_earlier_database
from integration.conftest import Built

PAGE = (Path(__file__).parents[2] / "docs" / "database-adapters.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def shown(name: str) -> Any:
    """Run the block that defines a function and return the function."""
    [text] = [block for block in BLOCKS if f"def {name}(" in block]
    defined: dict[str, Any] = {"__name__": "page"}
    exec(compile(text, "database-adapters.md", "exec"), defined)
    return defined[name]


@pytest.fixture
def configured(built: Built, monkeypatch: pytest.MonkeyPatch) -> Iterator[APIConfig]:
    """The settings of a world, as those that the environment gives."""
    monkeypatch.setattr(database, "get_config", lambda: built.world.config)
    monkeypatch.setattr("dsa110_contimg.api.db_adapters.get_config", lambda: built.world.config)
    yield built.world.config


def test_every_block_is_run_here() -> None:
    names = {name for block in BLOCKS for name in re.findall(r"^(?:async )?def (\w+)", block, re.MULTILINE)}
    assert names == {"newest_images", "noise_of", "keep_source", "retire_awaited", "retire_blocking", "runs_in"}
    assert len(BLOCKS) == 5


async def test_the_first_reads_of_the_page(configured: APIConfig, built: Built) -> None:
    assert await shown("newest_images")(1) == [built.world.image_path]


def test_the_blocking_read_of_the_page(configured: APIConfig) -> None:
    assert shown("noise_of")("1") == 0.001
    assert shown("noise_of")("999") is None


async def test_the_upsert_of_the_page(empty_products: DatabaseConfig) -> None:
    async with open_database(empty_products) as adapter:
        await shown("keep_source")(adapter, "s", 1.0, 2.0)
        await shown("keep_source")(adapter, "s", 3.0, 2.0)
        assert await adapter.fetch_val("SELECT ra_deg FROM sources") == 3.0


async def test_the_four_transactions_of_the_page(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sqlite3")
    for name in ("retire_awaited", "retire_blocking"):
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(
                "DROP TABLE IF EXISTS caltables; CREATE TABLE caltables (set_name TEXT, status TEXT);"
                "INSERT INTO caltables VALUES ('s', 'active')"
            )
        made = shown(name)(path, "s")
        if made is not None:
            await made
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT status FROM caltables").fetchall() == [("retired",)]


async def test_the_earlier_database_of_the_page(tmp_path: Path) -> None:
    rows = {"ms_index": [{"path": "/ms/2025-11-30T01:02:03.ms", "processed_at": 1.0}]}
    path = write_earlier_database(tmp_path, "C", rows)
    assert await shown("runs_in")(path) == ["job-2025-11-30-010203"]
