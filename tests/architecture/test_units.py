"""The units of systemd start what there is, with settings that are read."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from architecture.source_tree import ROOT
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.config import declared_settings

UNITS = sorted((ROOT / "ops" / "systemd").glob("*.service"))
SOCKETS = sorted((ROOT / "ops" / "systemd").glob("*.socket"))
EXAMPLE = ROOT / "ops" / "systemd" / "contimg.env.example"


def name_of(unit: Path) -> str:
    return unit.name


def setting(unit: Path, name: str) -> list[str]:
    """Return the values that a unit gives a setting."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS + SOCKETS, ids=name_of)
def test_systemd_accepts_the_unit(unit: Path) -> None:
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_a_unit_starts_a_module_that_is_there(unit: Path) -> None:
    [command] = setting(unit, "ExecStart")
    module = command.removeprefix("/usr/bin/env python -m ")
    assert module in {"dsa110_contimg.absurd", "dsa110_contimg.absurd.scheduler_main", "dsa110_contimg.api"}
    assert importlib.util.find_spec(module)


def test_every_variable_of_the_units_and_of_their_example_is_read() -> None:
    known = {name for _, item in declared_settings() for name in item.metadata["variables"]}
    known |= {variable for variable, *_ in AbsurdConfig().describe()}
    text = EXAMPLE.read_text() + "".join(" ".join(setting(unit, "Environment")) for unit in UNITS)
    named = set(re.findall(r"\b((?:ABSURD|DSA110|REDIS|PRODUCTS)_[A-Z_]+)=", text))
    assert {"ABSURD_DATABASE_URL", "ABSURD_ENABLED", "DSA110_STATE_DIR"} <= named
    assert named <= known


def test_the_example_of_the_settings_can_be_used() -> None:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in lines)
    config = AbsurdConfig.from_env(settings)
    assert config.database_url == settings["ABSURD_DATABASE_URL"]
    [unit] = [unit for unit in UNITS if unit.name == "absurd-worker@.service"]
    [limit] = setting(unit, "TimeoutStopSec")
    assert float(limit) > config.stop_grace_sec + config.kill_grace_sec + 5.0, "systemd would kill it too early"


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_a_unit_gives_its_process_no_more_than_it_needs(unit: Path) -> None:
    wanted = {
        "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
        "PrivateDevices": "yes", "CapabilityBoundingSet": "", "SystemCallFilter": "@system-service", "User": "dsa110",
    }  # fmt: skip
    assert {name: setting(unit, name) for name in wanted} == {name: [value] for name, value in wanted.items()}
