"""`dsa110 config`: every setting in force."""

import json
from dataclasses import asdict

from rich.table import Table

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.config import APIConfig, SettingRow, declared_settings
from dsa110_contimg.exit_codes import ExitCode
from dsa110_contimg.terminal import open_console
from dsa110_contimg.up.plan import command_environment

_STATE = "/the-state-directory"


def rows() -> list[SettingRow]:
    """Return all settings of both wings; secrets are masked."""
    environment = command_environment(needs_servers=False)
    queue = AbsurdConfig.from_env(environment).describe()
    return [*APIConfig.from_env(environment).describe(), *(SettingRow("absurd", *row) for row in queue)]


def markdown() -> str:
    """Return the table of all variables with their defaults and meanings, as it stands in ``docs/settings.md``."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    usual = APIConfig.from_env({"DSA110_STATE_DIR": _STATE}).describe()
    for row, (_, item) in zip(usual, declared_settings(), strict=True):
        older = item.metadata["variables"][1:]
        also = f" (older names: {', '.join(f'`{name}`' for name in older)})" if older else ""
        lines.append(f"| `{row.variable}` | {_cell(row.value)} | {row.meaning}{also} |")
    lines += [
        f"| `{variable}` | {_cell(value)} | {meaning} |" for variable, value, _, meaning in AbsurdConfig().describe()
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return f"`{text.replace(_STATE, 'state')}`" if text else ""


def show(form: str) -> ExitCode:
    """Print the settings as a ``table``, as ``json``, or the page of defaults as ``markdown``."""
    console = open_console()
    if form == "markdown":
        console.file.write(markdown())
    elif form == "json":
        console.file.write(json.dumps([asdict(row) for row in rows()], indent=2) + "\n")
    else:
        console.print(_table())
    return ExitCode.OK


def _table() -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("variable", "value", "meaning"):
        table.add_column(title, overflow="fold", no_wrap=title == "variable")
    for row in rows():
        table.add_row(row.variable, row.value or "(empty)", row.meaning, style="" if row.is_default else "bold")
    return table
