"""The benchmarks of the API run, and what they find that does not depend on speed is right."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figures of a tiny run."""
    path = tmp_path_factory.mktemp("figures") / "figures.json"
    command = [sys.executable, "-m", "benchmarks.api", "--tiny", "--json", str(path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.slow
def test_every_route_is_measured_on_both_databases_beside_the_plain_implementation(figures: dict[str, Any]) -> None:
    rows = figures["routes"]["rows"]
    routes = {row[0] for row in rows}
    servers = {"plain", "ours, sqlite", "ours, postgresql", "bare asgi", "bare fastapi"}
    servers |= {"ours, sqlite, asked again", "ours, postgresql, asked again"}
    assert {(row[0], row[1]) for row in rows} == {(route, server) for route in routes for server in servers}
    assert len(routes) == 8


@pytest.mark.slow
def test_an_overloaded_server_answers_or_refuses_and_drops_nobody(figures: dict[str, Any]) -> None:
    assert {row[0] for row in figures["overload"]["rows"]} <= {"200", "429", "503"}


@pytest.mark.slow
def test_every_watcher_gets_in_and_is_answered(figures: dict[str, Any]) -> None:
    [(clients, refused, *_)] = figures["watchers"]["rows"]
    assert (clients, refused) == (20, 0)
