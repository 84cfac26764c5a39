"""`dsa110 routes`: everything that the API can be asked."""

import json
from dataclasses import asdict

from rich.table import Table

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.route_table import markdown, route_rows
from dsa110_contimg.exit_codes import ExitCode
from dsa110_contimg.terminal import open_console


def show(form: str) -> ExitCode:
    """Print the routes as a ``table``, as ``json``, or as the table of the documentation in ``markdown``."""
    console = open_console()
    app = create_app(APIConfig.from_env({}), AbsurdConfig(enabled=False))
    if form == "markdown":
        console.file.write(markdown(app))
    elif form == "json":
        console.file.write(json.dumps([asdict(row) for row in route_rows(app)], indent=2) + "\n")
    else:
        table = Table(box=None, pad_edge=False)
        for title in ("call", "path", "scope", "what it does"):
            table.add_column(title, overflow="fold")
        for row in route_rows(app):
            table.add_row(row.method, row.path, row.scope, row.meaning)
        console.print(table)
    return ExitCode.OK
