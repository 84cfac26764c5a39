"""Finds the route of a request among those of its noun, instead of trying one after the other."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

_CHOSEN = "dsa110.chosen_route"


class RouteIndex(BaseRoute):
    """Stands before all routes of an application and knows them by base and noun: ``/api/v1/images``.

    What it does not find (unknown paths, wrong methods, slashes too many) goes the usual way through all routes. The
    path of the declaration, without what a client put in, is left in ``scope["route_template"]``.
    """

    def __init__(self, routes: Sequence[BaseRoute], base: str) -> None:
        self._base = f"{base}/"
        self._by_noun: dict[str, list[RouteContext]] = defaultdict(list)
        for context in iter_route_contexts(routes):
            if context.path and context.path.startswith(self._base):
                self._by_noun[self._noun(context.path)].append(context)

    def _noun(self, path: str) -> str:
        return path[len(self._base) :].partition("/")[0]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Choose the first route that matches path and method."""
        path = scope["path"]
        if path.startswith(self._base):
            for context in self._by_noun.get(self._noun(path), ()):
                match, found = context.matches(scope)
                if match is Match.FULL:
                    told = {"route": context.original_route, "route_template": context.path_format}
                    return match, found | told | {_CHOSEN: context}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve by the chosen route."""
        chosen: Any = scope[_CHOSEN]
        await chosen.app(scope, receive, send)
