"""The entrance: one command, `dsa110`. It composes and starts; it decides nothing.

What a command needs is imported when the command runs (:func:`_run`, the one place that imports by name), so that
`dsa110 --help` and shell completion answer at once.
"""

import importlib
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup
from typer.main import get_group

from dsa110_contimg.absurd.config import ConfigError as QueueConfigError
from dsa110_contimg.api.config import ConfigError
from dsa110_contimg.exit_codes import CommandError, ExitCode
from dsa110_contimg.version import code_version

EXIT_CODES = "Exit codes:\n\n" + "\n\n".join(f"- {code.value}: {code.meaning}" for code in ExitCode)

app = typer.Typer(
    name="dsa110",
    help="Continuum imaging of the DSA-110 radio telescope: raw UVH5 files in, calibrated and measured images out.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


class QueueCommands(TyperGroup):
    """The commands of the queue, which are imported when one of them is wanted."""

    _loaded: MutableMapping[str, Any] | None = None

    @property
    def commands(self) -> MutableMapping[str, Any]:
        """Return the commands by name."""
        if self._loaded is None:
            room = importlib.import_module("dsa110_contimg.absurd.console.app")
            self._loaded = get_group(room.app).commands
        return self._loaded

    @commands.setter
    def commands(self, _: MutableMapping[str, Any]) -> None:
        """Leave what is set when the group is made; there is nothing in it yet."""


absurd = typer.Typer(
    name="absurd", help="The durable task queue in PostgreSQL.", no_args_is_help=True, cls=QueueCommands
)
app.add_typer(absurd)
keys = typer.Typer(name="keys", help="Keys of those who may change something over the API.", no_args_is_help=True)
app.add_typer(keys)
chaos = typer.Typer(name="chaos", help="Prove the queue by disturbing it.", no_args_is_help=True)
app.add_typer(chaos)


class WrongSettingError(CommandError):
    """A setting cannot be used."""

    exit_code = ExitCode.USAGE


Data = Annotated[
    Path | None,
    typer.Option(
        "--data", exists=True, file_okay=False, readable=True, help="Directory of *_sbNN.hdf5 files; left untouched."
    ),
]
Port = Annotated[int | None, typer.Option("--port", min=0, max=65535, help="Port of the API; 0 takes a free one.")]


@absurd.callback()
def _queue_room(context: typer.Context) -> None:
    """The durable task queue in PostgreSQL."""
    context.obj = _queue_environment


def _queue_environment() -> Mapping[str, str]:
    """Return the environment of a command of the queue: that of the running `dsa110 up`, or this process's own."""
    try:
        found: Mapping[str, str] = importlib.import_module("dsa110_contimg.up.plan").command_environment(
            needs_servers=True
        )
    except ConfigError as error:
        raise WrongSettingError(str(error)) from None
    return found


def _run(target: str, *arguments: Any) -> None:
    """Import ``module:function``, call it and leave with the exit code that it returns."""
    module, _, function = target.partition(":")
    try:
        code = getattr(importlib.import_module(f"dsa110_contimg.{module}"), function)(*arguments)
    except CommandError as error:
        typer.secho(f"dsa110: {error}", err=True, fg="red")
        code = error.exit_code
    except (ConfigError, QueueConfigError) as error:
        typer.secho(f"dsa110: {error}", err=True, fg="red")
        code = ExitCode.USAGE
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    sys.exit(code)


@app.command(epilog="Examples:\n\n`dsa110 up`\n\n`dsa110 up --data /data/incoming --once`\n\n`dsa110 up --port 8080`")
def up(
    data: Data = None,
    once: Annotated[bool, typer.Option("--once", help="End after the summary instead of serving on.")] = False,
    port: Port = None,
) -> None:
    """Start everything: servers, API, workers; process the data (or a simulated observation); serve the result.

    PostgreSQL and Redis come out of wheels unless ABSURD_DATABASE_URL and REDIS_URL name servers. Everything lies in
    the state directory (DSA110_STATE_DIR, by default ./state) and is kept between runs.
    """
    _run("up.start:run", data, once, port)


@app.command(epilog="Example:\n\n`dsa110 simulate /tmp/observation --sources 40 --seed 7`")
def simulate(
    directory: Annotated[Path, typer.Argument(file_okay=False, help="Where the 16 subband files are written.")],
    antennas: Annotated[int | None, typer.Option(min=4, help="Number of antennas.")] = None,
    sources: Annotated[int | None, typer.Option(min=1, help="Number of sources besides the calibrator.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same observation.")] = None,
    stamp: Annotated[str | None, typer.Option(help="Time stamp, YYYY-MM-DDTHH:MM:SS (UTC).")] = None,
) -> None:
    """Write one simulated observation in the telescope's own file layout, with its truth beside it."""
    _run("up.observation:simulate_command", directory, antennas, sources, seed, stamp)


@app.command(epilog="Examples:\n\n`dsa110 ingest /data/incoming`\n\n`dsa110 ingest /data/incoming --wait`")
def ingest(
    directory: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Directory of *_sbNN.hdf5 files.")],
    wait: Annotated[bool, typer.Option("--wait", help="Follow the work until it ends.")] = False,
) -> None:
    """Put the observations in a directory into the queue of the running system; what is done already is left alone."""
    _run("up.observation:ingest_command", directory, wait)


@app.command(epilog="Example:\n\n`DSA110_PORT=8080 dsa110 api`")
def api() -> None:
    """Run the API alone, against the servers of a running `dsa110 up` or those that the environment names."""
    _run("up.plan:become", "api")


@app.command(epilog="Example:\n\n`dsa110 worker --concurrency 2 --tasks imaging,source-finding`")
def worker(
    queues: Annotated[str | None, typer.Option(help="Queues to serve, separated by commas.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Names of the tasks to take, separated by commas.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="How many tasks at once.")] = None,
) -> None:
    """Run one more ABSURD worker: it takes stages of observations from the durable queue."""
    given = {"--queues": queues, "--tasks": tasks, "--concurrency": concurrency}
    words = [str(word) for name, value in given.items() if value is not None for word in (name, value)]
    _run("up.plan:become", "worker", *words)


@app.command(epilog="Example:\n\n`dsa110 scheduler`")
def scheduler() -> None:
    """Run the ABSURD scheduler: it spawns tasks at their times."""
    _run("up.plan:become", "scheduler")


@app.command("rq-worker", epilog="Example:\n\n`dsa110 rq-worker`")
def rq_worker() -> None:
    """Run one more RQ worker: commands of reruns, batches and pictures."""
    _run("up.plan:become", "rq-worker")


@app.command(epilog="Examples:\n\n`dsa110 config`\n\n`dsa110 config --as json`")
def config(
    form: Annotated[
        Literal["table", "json", "markdown"], typer.Option("--as", help="markdown: the defaults.")
    ] = "table",
) -> None:
    """Show every setting in force, with its variable and meaning; secrets are masked."""
    _run("up.settings:show", form)


@app.command(epilog="Examples:\n\n`dsa110 routes`\n\n`dsa110 routes --as json`")
def routes(form: Annotated[Literal["table", "json", "markdown"], typer.Option("--as")] = "table") -> None:
    """Show every call of the API with the scope that it needs."""
    _run("up.routes:show", form)


@app.command(
    context_settings={"ignore_unknown_options": True},
    epilog="Examples:\n\n`dsa110 db status`\n\n`dsa110 db upgrade`\n\n`dsa110 db downgrade -1`",
)
def db(
    words: Annotated[list[str], typer.Argument(help="status, upgrade, downgrade, create, history or heads")],
) -> None:
    """Migrate the products database; the same as `python scripts/ops/migrate.py`."""
    _run("up.plan:migrate", words)


@keys.command("create", epilog="Example:\n\n`dsa110 keys create observer --scope write:jobs --days 30`")
def keys_create(
    name: Annotated[str, typer.Argument(help="Whose key it is, for what.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, write:jobs, write:qa, write:cal, ops, worker or admin; may be repeated [write:jobs]."),
    ] = None,
    days: Annotated[float, typer.Option(min=0, help="Days until it expires; 0: never.")] = 365,
) -> None:
    """Make a key and print it, once; it is sent as `X-API-Key: ...` or `Authorization: Bearer ...`."""
    _run("up.keys:create", name, scope or ["write:jobs"], days)


@keys.command("list", epilog="Example:\n\n`dsa110 keys list --json`")
def keys_list(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Show all keys with their scopes and last use; the secrets are not kept and cannot be shown."""
    _run("up.keys:show", as_json)


@keys.command("log", epilog="Example:\n\n`dsa110 keys log --limit 20`")
def keys_log(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show who changed what over the API, the newest first."""
    _run("up.keys:log", limit, as_json)


@keys.command("verify-audit", epilog="Example:\n\n`dsa110 keys verify-audit`")
def keys_verify_audit() -> None:
    """Tell whether the record of changes is as it was written; exit code 1 when an entry is missing or was changed."""
    _run("up.keys:verify")


@keys.command("revoke", epilog="Example:\n\n`dsa110 keys revoke 0a1b2c3d4e5f`")
def keys_revoke(key_id: Annotated[str, typer.Argument(help="Id of the key, as `keys list` shows it.")]) -> None:
    """Take a key back; it is refused from the next request on."""
    _run("up.keys:revoke", key_id)


@chaos.command(
    "queue",
    epilog="Examples:\n\n`dsa110 chaos queue --tasks 500 --kills 5`\n\n`dsa110 chaos queue --seed 7`",
)
def chaos_queue(
    tasks: Annotated[int, typer.Option(min=1, help="Tasks to spawn.")] = 10_000,
    kills: Annotated[int, typer.Option(min=0, help="Workers to kill; other faults strike in proportion.")] = 50,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same schedule of faults.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.05, help="How long the storm lasts.")] = None,
    faults: Annotated[str, typer.Option(help="Kinds of faults, separated by commas; default: all.")] = "",
    workers: Annotated[int, typer.Option(min=2, help="Worker processes.")] = 3,
    database_url: Annotated[
        str | None, typer.Option(help="An empty database to use instead of an embedded server.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(file_okay=False, help="Keep the evidence in this directory.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Run real workers and clients while everything around them breaks, then judge the whole history.

    Exit code 1: an invariant of the queue was violated; the evidence is kept.
    """
    kinds = [kind for kind in faults.split(",") if kind]
    _run("chaos.command:queue", tasks, kills, seed, minutes, kinds, workers, database_url, keep, json)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(code_version())


def main() -> None:
    """Run the command line."""
    app()
