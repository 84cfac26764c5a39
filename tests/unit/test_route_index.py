"""The index of routes finds what the framework's own search finds, for every declared route."""

import re
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import Match

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.middleware.bases import BASE
from dsa110_contimg.api.route_index import RouteIndex

APP = create_app(APIConfig.from_env({}), AbsurdConfig(enabled=False))
[INDEX, *OTHERS] = APP.routes
DECLARED = [context for context in iter_route_contexts(OTHERS) if (context.path or "").startswith(f"{BASE}/")]


def request(path: str, method: str, kind: str = "http") -> dict[str, Any]:
    return {"type": kind, "path": path, "method": method, "root_path": "", "headers": []}


def asked(context: RouteContext) -> tuple[dict[str, Any], str]:
    """Return a request for a route, with a value that no fixed path has in the place of each parameter."""
    path = re.sub(r"\{[^}]+\}", "17", str(context.path))
    if context.methods is None:
        return request(path, "GET", "websocket"), str(context.path_format)
    return request(path, sorted(context.methods)[0]), str(context.path_format)


@pytest.mark.parametrize("context", DECLARED, ids=lambda context: f"{sorted(context.methods or ())} {context.path}")
def test_each_declared_route_is_found_by_the_index(context: RouteContext) -> None:
    scope, template = asked(context)
    match, found = INDEX.matches(scope)
    assert (match, found["route_template"]) == (Match.FULL, template)


@pytest.mark.parametrize(
    ("path", "method"),
    [("/api/v1/nothing", "GET"), ("/api/v1", "GET"), ("/web/index.html", "GET"), ("/api/v1/images", "BREW")],
)
def test_what_the_index_does_not_know_goes_the_usual_way(path: str, method: str) -> None:
    assert INDEX.matches(request(path, method)) == (Match.NONE, {})


def test_the_first_of_two_routes_that_match_is_taken_as_without_the_index() -> None:
    app = FastAPI()

    async def answer(which: str) -> str:
        return which

    app.add_api_route(f"{BASE}/things/export", lambda: "fixed")
    app.add_api_route(f"{BASE}/things/{{which}}", answer)
    index = RouteIndex(app.routes, BASE)
    _, found = index.matches(request(f"{BASE}/things/export", "GET"))
    assert found["route_template"] == f"{BASE}/things/export"
    _, found = index.matches(request(f"{BASE}/things/other", "GET"))
    assert found["path_params"] == {"which": "other"}
