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
    asked: dict[str, set[str]] = {}
    for route, server, *_ in figures["routes"]["rows"]:
        asked.setdefault(route, set()).add(server)
    ours = {"ours, sqlite", "ours, postgresql"}
    assert asked.pop("image detail, each once") == {"plain"} | ours | {f"{name}, asked the first time" for name in ours}
    everywhere = {"plain", "bare asgi", "bare fastapi"} | ours | {f"{name}, asked again" for name in ours}
    assert list(asked.values()) == [everywhere] * 8


@pytest.mark.slow
def test_growth_asks_every_size_for_as_much(figures: dict[str, Any]) -> None:
    rows = figures["growth"]["rows"]
    assert [row[2] for row in rows] == ["400", "800"] * 12
    assert {row[6] for row in rows if row[2] == "400"} == {1.0}


@pytest.mark.slow
def test_an_overloaded_server_answers_or_refuses_and_drops_nobody(figures: dict[str, Any]) -> None:
    assert {row[0] for row in figures["overload"]["rows"]} <= {"200", "429", "503"}


@pytest.mark.slow
def test_every_watcher_gets_in_and_is_answered(figures: dict[str, Any]) -> None:
    [(clients, refused, *_)] = figures["watchers"]["rows"]
    assert (clients, refused) == (20, 0)
