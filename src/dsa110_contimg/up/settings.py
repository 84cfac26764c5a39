"""`dsa110 config`: every setting in force."""

import json
import sys
from dataclasses import asdict

from rich.table import Table

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.config import APIConfig, SettingRow
from dsa110_contimg.exit_codes import ExitCode
from dsa110_contimg.up.console import open_console
from dsa110_contimg.up.plan import command_environment


def rows() -> list[SettingRow]:
    """Return all settings of both wings; secrets are masked."""
    environment = command_environment(needs_servers=False)
    queue = AbsurdConfig.from_env(environment).describe()
    return [*APIConfig.from_env(environment).describe(), *(SettingRow("absurd", *row) for row in queue)]


def show(as_json: bool) -> ExitCode:
    """Print the settings as a table, or as JSON."""
    if as_json:
        json.dump([asdict(row) for row in rows()], sys.stdout, indent=2)
        sys.stdout.write("\n")
        return ExitCode.OK
    table = Table(box=None, pad_edge=False)
    for title in ("variable", "value", "meaning"):
        table.add_column(title, overflow="fold", no_wrap=title == "variable")
    for row in rows():
        table.add_row(row.variable, row.value or "(empty)", row.meaning, style="" if row.is_default else "bold")
    open_console().print(table)
    return ExitCode.OK
