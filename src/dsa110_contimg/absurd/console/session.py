"""What every command needs: the queue's client, the console, and errors turned into exit codes."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, NoReturn, TypeVar
from uuid import UUID

import typer

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.config import AbsurdConfig, ConfigError
from dsa110_contimg.absurd.connection import AbsurdError, QueueUnavailableError, SchemaError
from dsa110_contimg.absurd.console.layout import Column, print_table
from dsa110_contimg.absurd.cron import ScheduleError
from dsa110_contimg.absurd.rows import Row
from dsa110_contimg.absurd.specs import SpecError, UnknownTaskError
from dsa110_contimg.absurd.templates import UnknownTemplateError
from dsa110_contimg.exit_codes import CommandError, ExitCode
from dsa110_contimg.terminal import open_console

Answer = TypeVar("Answer")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Queue = Annotated[str | None, typer.Option("--queue", "-q", help="Queue; default: all, or that of ABSURD_QUEUE_NAME.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (QueueUnavailableError, ExitCode.SERVER),
    (SchemaError, ExitCode.SERVER),
    (ScheduleError, ExitCode.USAGE),
    (SpecError, ExitCode.USAGE),
    (UnknownTaskError, ExitCode.NOT_FOUND),
    (UnknownTemplateError, ExitCode.NOT_FOUND),
    (ConfigError, ExitCode.USAGE),
    (AbsurdError, ExitCode.WORK_FAILED),
)


class NotFoundError(CommandError):
    """There is nothing of that id or name."""

    exit_code = ExitCode.NOT_FOUND


class RefusedError(CommandError):
    """The queue did not do it: the thing is not in a state for that."""

    exit_code = ExitCode.WORK_FAILED


class WrongUsageError(CommandError):
    """An argument cannot be used."""

    exit_code = ExitCode.USAGE


def configuration(context: typer.Context) -> AbsurdConfig:
    """Return the queue's settings from the environment that the entrance found."""
    environment: Callable[[], Mapping[str, str]] = context.obj
    return AbsurdConfig.from_env(environment())


def run(context: typer.Context, work: Callable[[AbsurdClient], Awaitable[Answer]]) -> Answer:
    """Open a client, do the work and return what came of it; leave with an exit code when it failed."""

    async def whole() -> Answer:
        async with AbsurdClient(configuration(context)) as client:
            return await work(client)

    return guarded(lambda: asyncio.run(whole()))


def guarded(work: Callable[[], Answer]) -> Answer:
    """Return what ``work`` does; say what went wrong on standard error and leave with the exit code of its kind."""
    try:
        return work()
    except CommandError as error:
        code, message = error.exit_code, str(error)
    except (AbsurdError, ConfigError) as error:
        code, message = next(code for kind, code in _CODES if isinstance(error, kind)), str(error)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    raise _said(message, code)


def stop(error: CommandError) -> NoReturn:
    """Say what is wrong and leave."""
    raise _said(str(error), error.exit_code)


def _said(message: str, code: int) -> typer.Exit:
    typer.secho(f"dsa110: {message}", err=True, fg="red")
    return typer.Exit(code)


def write_json(value: Any, indent: int | None = 2) -> None:
    """Write a value as JSON: indented, or (``indent=None``) on one line."""
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def answer(value: Any, words: str, as_json: bool) -> None:
    """Tell what came of a command: as JSON, or in words."""
    if as_json:
        write_json(value)
    else:
        open_console().print(words, markup=False, highlight=False, soft_wrap=True)


def list_rows(columns: Sequence[Column], rows: Sequence[Row], empty: str, as_json: bool) -> None:
    """Tell rows: as JSON, or as a table."""
    if as_json:
        write_json(rows)
    else:
        print_table(open_console(), columns, rows, empty)


def confirm(question: str, yes: bool) -> None:
    """Ask, unless the answer was given with the command; leave when the answer is no."""
    if not yes and not typer.confirm(question):
        raise typer.Exit(ExitCode.WORK_FAILED)


def tell(rows: Sequence[Row], key: str, done: str, refused: str, as_json: bool) -> None:
    """Say of each thing whether it was done, under the name of what was done; exit code 1 when one was not."""
    if as_json:
        write_json(rows)
    else:
        console = open_console()
        for row in rows:
            console.print(f"{row[key]} {done if row[done] else refused}", markup=False, highlight=False, soft_wrap=True)
    if not all(row[done] for row in rows):
        raise typer.Exit(ExitCode.WORK_FAILED)


async def task_of(client: AbsurdClient, text: str) -> UUID:
    """Return the id of the task that ``text`` abbreviates."""
    return only(await client.monitor.find_tasks(text), "task", text, "dsa110 absurd tasks")


async def workflow_of(client: AbsurdClient, text: str) -> UUID:
    """Return the id of the workflow that ``text`` abbreviates."""
    return only(await client.monitor.find_workflows(text), "workflow", text, "dsa110 absurd workflows list")


def only(found: Sequence[UUID], noun: str, text: str, command: str) -> UUID:
    """Return the one that was found, or say why there is not one."""
    if not found:
        raise NotFoundError(f"the queue has no {noun} {text!r}; `{command}` lists what there is")
    if len(found) > 1:
        raise WrongUsageError(f"{noun} {text!r} may be {found[0]} or {found[1]}; give more of its id")
    return found[0]


def load_json(text: str, what: str) -> Any:
    """Return the value of a JSON text."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise WrongUsageError(f"{what} {text!r} is no JSON: {error}") from None
