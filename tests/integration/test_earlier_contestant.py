"""The benchmark runs a checkout of the earlier backend with its own interpreter, over databases of its own kind."""

import json
import shlex
import sqlite3
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

from benchmarks.api import contestants, earlier, routes
from benchmarks.api.world import World

APPLICATION = """
import json, os


async def app(scope, receive, send):
    if scope["type"] == "http":
        told = {name: os.environ[name] for name in ("PIPELINE_PRODUCTS_DB", "DSA110_CAL_REGISTRY_DB_PATH", "CHECKOUT")}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})
"""


def _checkout(folder: Path) -> Path:
    package = folder / "backend/src/dsa110_contimg/api"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "app.py").write_text(APPLICATION)
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nCHECKOUT={shlex.quote(str(folder))} exec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return folder


def test_a_checkout_serves_with_its_own_interpreter_and_code_the_databases_of_its_kind(tmp_path: Path) -> None:
    checkout = _checkout(tmp_path / "checkout")
    databases = tmp_path / "databases"
    world = World(200, 50, 1_000, crowded=200)
    earlier.write(databases, world)
    with (
        contestants.earlier(checkout, databases) as child,
        urllib.request.urlopen(f"http://127.0.0.1:{child.port}/") as reply,
    ):
        told = json.load(reply)
    assert told["CHECKOUT"] == str(checkout)
    with closing(sqlite3.connect(told["PIPELINE_PRODUCTS_DB"])) as products:
        assert products.execute("SELECT COUNT(*), COUNT(DISTINCT source_id) FROM photometry").fetchone() == (1_200, 51)
    with closing(sqlite3.connect(told["DSA110_CAL_REGISTRY_DB_PATH"])) as registry:
        assert registry.execute("SELECT COUNT(*) FROM caltables").fetchone() == (2,)


def test_most_sources_are_in_few_images_and_light_curves_are_asked_of_the_others() -> None:
    world = World(20_000, 50_000, 1_000_000, curve=200)
    assert {world.points(source) for source in world.curved()} == {200}
    assert {world.points(source) for source in range(50_000) if source % 50} == {16}
    asked = {route.name: route.paths for route in routes.hot(world)}
    curved = {world.source_id(source) for source in world.curved()}
    assert {path.split("/")[4] for path in asked["light curve"] + asked["variability"]} <= curved
    assert not {path.split("/")[4] for path in asked["source detail"]} & curved
