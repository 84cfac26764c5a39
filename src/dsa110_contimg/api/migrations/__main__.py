"""Command line of the migrations: `dsa110 db ...`, `python scripts/ops/migrate.py ...`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dsa110_contimg.api.config import ConfigError, get_config
from dsa110_contimg.api.exceptions import DSA110APIError
from dsa110_contimg.api.migrations.migrator import Migrator
from dsa110_contimg.exit_codes import ExitCode

app = typer.Typer(
    help="Make, change and show the tables of the products database (SQLite or PostgreSQL, as configured).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _migrator() -> Migrator:
    config = get_config()
    return Migrator(config.database, config.timeouts)


@app.command()
def status() -> None:
    """Show the revision of the database and whether it is the newest; exit code 1 when it is not."""
    migrator = _migrator()
    current, newest = migrator.status(), ", ".join(migrator.heads())
    typer.echo(f"database  {get_config().database.display_name}")
    typer.echo(f"revision  {current or 'none (never migrated)'}")
    typer.echo(f"newest    {newest}")
    if current != newest:
        typer.echo("not up to date: run `dsa110 db upgrade`")
        raise typer.Exit(ExitCode.WORK_FAILED)


@app.command()
def upgrade(revision: Annotated[str, typer.Argument(help="Where to go.")] = "head") -> None:
    """Go forward to a revision, the newest unless one is named; makes an SQLite database that is not there yet."""
    migrator = _migrator()
    migrator.upgrade(revision)
    typer.echo(f"{get_config().database.display_name} is at revision {migrator.status()}")


@app.command(context_settings={"ignore_unknown_options": True})  # "-1" is an argument here, not an option
def downgrade(
    revision: Annotated[str, typer.Argument(help="Where to go: a revision, `base`, or a number of steps.")] = "-1",
    force: Annotated[bool, typer.Option("--force", "-f", help="Do not ask.")] = False,
) -> None:
    """Go back to a revision, one step unless told otherwise; tables that it does not know are lost with their rows."""
    name = get_config().database.display_name
    if not force:
        typer.confirm(f"Go back to {revision} in {name}? Tables made since then are lost with their rows.", abort=True)
    migrator = _migrator()
    migrator.downgrade(revision)
    typer.echo(f"{name} is at revision {migrator.status() or 'none'}")


@app.command()
def create(
    title: Annotated[str, typer.Argument(help="What the migration does, in a few words.")],
    autogenerate: Annotated[
        bool, typer.Option("--autogenerate", "-a", help="Fill it with what differs between database and tables.py.")
    ] = False,
) -> None:
    """Write a new migration."""
    typer.echo(_migrator().create(title, autogenerate=autogenerate))


@app.command()
def history(verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Give the files too.")] = False) -> None:
    """Show all revisions, the newest first."""
    for script in _migrator().revisions():
        typer.echo(f"{script.revision}  {script.doc}" + (f"  {script.path}" if verbose else ""))


@app.command()
def heads() -> None:
    """Show the newest revision."""
    for revision in _migrator().heads():
        typer.echo(revision)


def main() -> None:
    """Run the command; refusals end in one clear message and an exit code."""
    try:
        app(prog_name=Path(sys.argv[0]).name)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(ExitCode.USAGE) from error
    except DSA110APIError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(ExitCode.WORK_FAILED) from error


if __name__ == "__main__":
    main()
