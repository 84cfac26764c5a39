"""The wings and the floors: the contracts in pyproject.toml hold, and would notice if they did not."""

import configparser
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from architecture.source_tree import ROOT

LINT = Path(sys.executable).with_name("lint-imports")


def test_the_import_contracts_hold() -> None:
    checked = subprocess.run([LINT, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_a_contract_that_is_broken_is_noticed(tmp_path: Path) -> None:
    wrong = configparser.ConfigParser()
    wrong["importlinter"] = {"root_package": "dsa110_contimg"}
    wrong["importlinter:contract:upside-down"] = {
        "name": "upside down",
        "type": "forbidden",
        "source_modules": "dsa110_contimg.cli",
        "forbidden_modules": "dsa110_contimg.api",
    }
    config = tmp_path / "importlinter.ini"
    with config.open("w") as file:
        wrong.write(file)
    checked = subprocess.run([LINT, "--no-cache", "--config", config], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 1
    assert "dsa110_contimg.cli -> dsa110_contimg.api.config" in checked.stdout


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("dsa110_contimg", cache_dir=None)


def test_no_module_imports_itself_in_a_circle(graph: grimp.ImportGraph) -> None:
    circles = [
        module
        for module in graph.modules
        if any(
            graph.find_shortest_chain(imported, module) for imported in graph.find_modules_directly_imported_by(module)
        )
    ]
    assert not circles


@pytest.mark.parametrize("module", ["numpy", "astropy", "sqlalchemy", "asyncpg", "fastapi", "rich.live"])
def test_the_command_line_starts_without_anything_heavy(module: str) -> None:
    code = f"import sys, dsa110_contimg.cli; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
