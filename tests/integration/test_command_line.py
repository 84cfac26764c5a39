"""The command `dsa110`: what it says, and with which exit code."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsa110_contimg.exit_codes import ExitCode
from dsa110_contimg.up.plan import make_plan
from dsa110_contimg.up.state import Servers, StateDirectory

DSA110 = Path(sys.executable).with_name("dsa110")


def environment(state: Path, **more: str) -> dict[str, str]:
    """Return the environment of a command that knows nothing but its state directory."""
    ours = ("DSA110_", "ABSURD_", "REDIS_URL", "PRODUCTS_DB", "PIPELINE_", "API_PORT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "DSA110_STATE_DIR": str(state), "COLUMNS": "200", **more}


def run(state: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DSA110, *words], env=environment(state, **more), capture_output=True, text=True, timeout=120, cwd=state.parent
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_help_loads_no_library_that_takes_long() -> None:
    program = (
        "import sys\n"
        "from dsa110_contimg import cli\n"
        "try:\n"
        "    cli.app(['--help'])\n"
        "except SystemExit:\n"
        "    print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(ended.stdout.splitlines()[-1].split())
    assert "typer" in loaded
    assert loaded.isdisjoint({"numpy", "astropy", "numba", "casacore", "fastapi", "sqlalchemy", "asyncpg", "pydantic"})


def test_the_exit_codes_are_told_by_help(state: Path) -> None:
    told = run(state, "--help").stdout
    for code in ExitCode:
        assert f"{code.value}: {code.meaning.replace('`', '')[:30]}" in told


@pytest.mark.parametrize("words", [("ingest",), ("absurd", "spawn"), ("absurd", "dlq", "list"), ("keys", "create")])
def test_examples_in_help_are_what_is_typed(state: Path, words: tuple[str, ...]) -> None:
    told = run(state, *words, "--help").stdout
    assert f"dsa110 {' '.join(words)} " in told.partition("Example")[2]
    assert "`" not in told


def test_completion_knows_the_commands(state: Path) -> None:
    asked = run(state, _DSA110_COMPLETE="complete_bash", COMP_WORDS="dsa110 rq", COMP_CWORD="1")
    assert "rq-worker" in asked.stdout


def test_an_unknown_option_is_a_wrong_usage(state: Path) -> None:
    assert run(state, "up", "--nonsense").returncode == ExitCode.USAGE


def test_a_wrong_setting_is_named_with_its_value_and_the_remedy(state: Path) -> None:
    told = run(state, "up", DSA110_PORT="eighty")
    assert told.returncode == ExitCode.USAGE
    assert (
        told.stderr.strip() == "dsa110: DSA110_PORT='eighty' cannot be used: it must be a whole number from 0 to 65535"
    )


def test_a_wrong_setting_of_the_queue_is_named_too(state: Path) -> None:
    told = run(state, "up", ABSURD_LEASE="long")
    assert told.returncode == ExitCode.USAGE
    assert "ABSURD_LEASE is 'long'" in told.stderr


def test_a_directory_without_subband_files_is_refused_before_anything_starts(state: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").touch()
    told = run(state, "up", "--data", str(tmp_path / "data"))
    assert told.returncode == ExitCode.USAGE
    assert "holds no file called YYYY-MM-DDTHH:MM:SS_sbNN.hdf5 (1 other entries)" in told.stderr
    assert not state.exists()


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_told_with_its_user_and_the_remedy(state: Path, busy_port: int) -> None:
    told = run(state, "up", "--port", str(busy_port))
    assert told.returncode == ExitCode.SERVER
    assert f"cannot listen on 127.0.0.1:{busy_port}: Address already in use" in told.stderr
    assert f"used by process {os.getpid()}" in told.stderr
    assert "make run PORT=" in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_a_second_up_on_the_same_state_directory_is_refused(state: Path) -> None:
    StateDirectory(state).create()
    with StateDirectory(state).hold():
        told = run(state, "up", "--port", "0")
    assert told.returncode == ExitCode.STATE_IN_USE
    assert f"already runs on {state} (process {os.getpid()})" in told.stderr


def test_a_lock_that_a_killed_process_left_is_no_hindrance(state: Path) -> None:
    directory = StateDirectory(state)
    directory.create()
    (directory.run / "up.lock").write_text("999999\n")
    with directory.hold():
        assert (directory.run / "up.lock").read_text() == f"{os.getpid()}\n"


def test_a_wrong_dsn_is_told_in_one_line_without_its_password(state: Path) -> None:
    told = run(state, "up", "--port", "0", "--once", ABSURD_DATABASE_URL="postgresql://u:secret@127.0.0.1:1/none")
    assert told.returncode == ExitCode.SERVER
    assert "postgresql://u:***@127.0.0.1:1/none does not answer" in told.stderr
    assert "secret" not in told.stdout + told.stderr
    assert "Traceback" not in told.stdout + told.stderr


@pytest.mark.parametrize("words", [("ingest", "."), ("worker",), ("absurd", "status")])
def test_commands_that_need_the_servers_say_when_nothing_runs(state: Path, words: tuple[str, ...]) -> None:
    told = run(state, *words)
    assert told.returncode == ExitCode.NOTHING_RUNS
    assert f"nothing runs on {state}" in told.stderr


def test_addresses_of_a_killed_up_are_not_believed(state: Path) -> None:
    directory = StateDirectory(state)
    directory.create()
    with directory.hold():
        directory.announce(Servers(os.getpid(), "postgresql://x@127.0.0.1:1/x", "redis://127.0.0.1:1/0", "http://x"))
        assert directory.servers().pid == os.getpid()
        assert (directory.run / "servers.json").stat().st_mode & 0o077 == 0
    assert run(state, "absurd", "status").returncode == ExitCode.NOTHING_RUNS


def test_commands_beside_a_running_up_use_its_products_database_unless_they_are_told_another(state: Path) -> None:
    """A key that was made beside an `up` on PostgreSQL was a key of an SQLite file, and unknown to the API."""
    environ = {"DSA110_STATE_DIR": str(state), "DSA110_DB_BACKEND": "postgresql"}
    with_parts = {"DSA110_DB_PG_HOST": "db.example", "DSA110_DB_PG_SSL": "true"}
    plan = make_plan(environ | with_parts | {"ABSURD_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}, port=1)

    def shown(**more: str) -> dict[str, str]:
        told = run(state, "config", "--as", "json", **more)
        assert told.returncode == 0, told.stderr
        return {row["variable"]: row["value"] for row in json.loads(told.stdout)}

    with plan.state.hold():
        plan.state.announce(plan.addresses)
        beside, other = shown(), shown(DSA110_DB_BACKEND="sqlite")
    assert (beside["DSA110_DB_BACKEND"], beside["DSA110_DB_PG_SSL"]) == ("postgresql", "true")
    assert "@db.example:5432/dsa110" in beside["DSA110_DB_PG_URL"]
    assert other["DSA110_DB_BACKEND"] == "sqlite"
    sqlite = make_plan({"DSA110_STATE_DIR": str(state), "PRODUCTS_DB_PATH": str(state / "mine.sqlite3")}, port=1)
    with sqlite.state.hold():
        sqlite.state.announce(sqlite.addresses)
        assert shown()["PRODUCTS_DB_PATH"] == str(state / "mine.sqlite3")


def test_the_api_of_an_up_keeps_memory_as_its_unit_of_systemd_does(state: Path) -> None:
    unit = (Path(__file__).parents[2] / "ops" / "systemd" / "dsa110-api.service").read_text()
    environ = {"DSA110_STATE_DIR": str(state), "ABSURD_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
    told = make_plan(environ, port=1).spec("api").environment
    assert f"Environment=MALLOC_ARENA_MAX={told['MALLOC_ARENA_MAX']}\n" in unit
    assert make_plan(environ | {"MALLOC_ARENA_MAX": "8"}, port=1).spec("api").environment["MALLOC_ARENA_MAX"] == "8"
    assert "MALLOC_ARENA_MAX" not in make_plan(environ, port=1).spec("worker").environment


def test_the_log_of_redis_is_in_utc_as_all_others_are(state: Path) -> None:
    """It names no zone: with that of the host its lines stood hours beside those of the other processes."""
    plan = make_plan({"DSA110_STATE_DIR": str(state), "TZ": "Asia/Kolkata"}, port=1)
    assert {plan.server_spec(server).environment["TZ"] for server in plan.servers} == {"UTC"}
    assert plan.spec("worker").environment["TZ"] == "Asia/Kolkata"


def test_config_shows_every_setting_and_no_secret(state: Path) -> None:
    secret = "kX3v9Qm2Lr8TzW5bYc7NfH1sDgJ4pAeU"  # a weak one would be refused
    told = run(
        state, "config", "--as", "json", ABSURD_DATABASE_URL=f"postgresql://u:{secret}@h/d",
        REDIS_URL=f"redis://:{secret}@h/0",
    )  # fmt: skip
    assert told.returncode == 0
    assert '"postgresql://u:***@h/d"' in told.stdout
    assert secret not in told.stdout
    for variable in ("DSA110_DB_BACKEND", "PRODUCTS_DB_PATH", "REDIS_URL", "DSA110_QUEUE_NAME", "ABSURD_QUEUE_NAME"):
        assert f'"{variable}"' in told.stdout


def test_simulate_writes_sixteen_files_and_their_truth(state: Path, tmp_path: Path) -> None:
    told = run(state, "simulate", str(tmp_path / "sim"), "--antennas", "8", "--sources", "2", "--seed", "3")
    assert told.returncode == 0, told.stderr
    names = sorted(path.name for path in (tmp_path / "sim").iterdir())
    assert len([name for name in names if name.endswith(".hdf5")]) == 16
    assert len([name for name in names if name.endswith("_truth.json")]) == 1
    assert not state.exists()


def test_simulate_into_a_full_disk_says_how_much_is_needed(state: Path) -> None:
    told = run(state, "simulate", "/proc/nowhere")
    assert told.returncode == ExitCode.WORK_FAILED
    assert re.search(r"/proc/nowhere: \d+ MB will be written but only 0 MB are free", told.stderr)
