"""What can be asked: every route with the scope that it needs, as people read it."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts

from dsa110_contimg.api.authorization import declared_scope


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One method of one path; ``scope`` is empty where clients of the allowed networks need none."""

    method: str
    path: str
    scope: str
    meaning: str


def route_rows(app: FastAPI) -> list[RouteRow]:
    """Return all documented routes and WebSockets, by path."""
    contexts = iter_route_contexts(app.routes)
    return sorted((row for context in contexts for row in _rows(context)), key=lambda row: (row.path, row.method))


def _rows(context: RouteContext) -> Iterator[RouteRow]:
    if context.endpoint is None or not getattr(context, "include_in_schema", True):
        return
    methods = sorted((context.methods or {"WebSocket"}) - {"HEAD"})
    meaning = (inspect.getdoc(context.endpoint) or "").partition("\n")[0]
    for method in methods:
        yield RouteRow(method, str(context.path_format), declared_scope(context) or "", meaning)


def markdown(app: FastAPI) -> str:
    """Return the table as it stands in ``docs/reference/rest-api.md``."""
    lines = ["| call | scope | what it does |", "|---|---|---|"]
    lines += [
        f"| {row.method} `{row.path}` | {f'`{row.scope}`' if row.scope else ''} | {row.meaning.replace('|', '/')} |"
        for row in route_rows(app)
    ]
    return "\n".join(lines) + "\n"
