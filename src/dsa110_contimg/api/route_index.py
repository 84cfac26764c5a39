"""Finds the route of a request among those of its noun, instead of trying one after the other."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi.routing import RouteContext, iter_route_contexts
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Match, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from dsa110_contimg.api.middleware.exception_handler import KNOWN_ERRORS, CatchAll, reply_to

_CHOSEN = "dsa110.chosen_route"
_DIRECT = "dsa110.direct"
_PATHS = (":path}", ":last_path}")  # in the address of a parameter that may have any number of slashes


def _holds_a_path(address: str) -> bool:
    return any(parameter in address for parameter in _PATHS)


class RouteIndex(BaseRoute):
    """Stands before all routes of an application; knows them by noun and number of slashes: ``/api/v1/images/{id}``.

    What it does not find (unknown paths, wrong methods, slashes too many) goes the usual way through all routes. The
    path of the declaration, without what a client put in, is left in ``scope["route_template"]``.
    """

    def __init__(self, routes: Sequence[BaseRoute], base: str) -> None:
        self._base = f"{base}/"
        by_noun: dict[str, list[tuple[str, RouteContext]]] = defaultdict(list)
        for context in iter_route_contexts(routes):
            if context.path and context.path.startswith(self._base):
                by_noun[self._noun(context.path)].append((context.path, context))
        self._of_any_length: dict[str, list[RouteContext]] = {}
        self._of_length: dict[tuple[str, int], list[RouteContext]] = {}
        for noun, known in by_noun.items():
            self._of_any_length[noun] = [each for path, each in known if _holds_a_path(path)]
            for slashes in {path.count("/") for path, _ in known}:
                self._of_length[noun, slashes] = [
                    each for path, each in known if _holds_a_path(path) or path.count("/") == slashes
                ]
        self._of_fixed_path: dict[tuple[str, str | None, str], Scope] = {}

    def _noun(self, path: str) -> str:
        return path[len(self._base) :].partition("/")[0]

    def _candidates(self, path: str) -> Sequence[RouteContext]:
        """Return the routes that a path may mean, as they were declared."""
        noun = self._noun(path)
        found = self._of_length.get((noun, path.count("/")))
        return self._of_any_length.get(noun, ()) if found is None else found

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Choose the first route that matches path and method; what was found at a path without parameters is known."""
        path = scope["path"]
        asked = (scope["type"], scope.get("method"), path)
        known = self._of_fixed_path.get(asked)
        if known is not None:
            return Match.FULL, known
        if not path.startswith(self._base):
            return Match.NONE, {}
        for context in self._candidates(path):
            match, found = context.matches(scope)
            if match is Match.FULL:
                told = {"route": context.original_route, "route_template": context.path_format, _CHOSEN: context}
                found |= told
                if "{" not in str(context.path_format):
                    self._of_fixed_path[asked] = found
                return match, found
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve by the chosen route."""
        chosen: Any = scope[_CHOSEN]
        await chosen.app(scope, receive, send)


def without_last_slash(router: Router) -> ASGIApp:
    """Return what answers where no route does: 307 to the address without its last slash where that has a route.

    The framework would name a host, which it has from the client. ``Location`` is a path here (RFC 9110, 10.2.2).
    """

    async def lead(scope: Scope, receive: Receive, send: Send) -> None:
        fewer = {**scope, "path": scope["path"].rstrip("/")}
        has_slash = scope["type"] == "http" and fewer["path"] not in ("", scope["path"])
        if not has_slash or all(route.matches(fewer)[0] is Match.NONE for route in router.routes):
            await router.not_found(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        address = quote(fewer["path"]) + (f"?{query}" if query else "")
        await RedirectResponse(address)(scope, receive, send)

    return lead


class Shortcut:
    """Plain ASGI before the framework: serves the routes that need nothing of it.

    Parameters
    ----------
    app
        The framework's application, which serves all others.
    index : RouteIndex
        Of its routes.
    """

    def __init__(self, app: ASGIApp, index: RouteIndex) -> None:
        self.app = app
        self._index = index
        self._direct = CatchAll(_serve)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        match, found = self._index.matches(scope) if scope["type"] == "http" else (Match.NONE, {})
        direct = getattr(found["route"], "direct", None) if match is Match.FULL else None
        if direct is None:
            await self.app(scope, receive, send)
        else:
            scope.update(found)
            scope[_DIRECT] = direct
            await self._direct(scope, receive, send)


async def _serve(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive, send)
    try:
        response = await scope[_DIRECT](request)
    except KNOWN_ERRORS as error:
        response = await reply_to(request, error)
    await response(scope, receive, send)
