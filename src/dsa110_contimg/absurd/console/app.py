"""All commands of `dsa110 absurd`. What they get from the entrance is a call that returns the environment to use."""

import typer

from dsa110_contimg.absurd.console import (
    installation,
    letters,
    queues,
    schedules,
    tasks,
    templates,
    top,
    watch,
    workers,
    workflows,
)

app = typer.Typer(
    name="absurd", help="The durable task queue in PostgreSQL.", no_args_is_help=True, rich_markup_mode="markdown"
)

for part in (installation, tasks, workers, queues, watch, top):
    app.add_typer(part.app)
for part in (letters, workflows, schedules, templates):
    app.add_typer(part.app)
