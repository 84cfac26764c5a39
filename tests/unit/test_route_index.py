"""The index of routes finds what the framework's own search finds, for every declared route."""

import re
from typing import Any

import orjson
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import Match

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.exceptions import RecordNotFoundError
from dsa110_contimg.api.middleware.bases import BASE
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.route_index import RouteIndex, Shortcut
from dsa110_contimg.api.validation import StrictRoute

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
    for _ in ("found", "known"):
        match, found = INDEX.matches(scope)
        assert (match, found["route_template"]) == (Match.FULL, template)


def test_what_is_known_of_one_kind_and_method_is_not_told_of_another() -> None:
    for kind, method, is_found in (
        ("http", "GET", True), ("http", "BREW", False), ("websocket", "GET", False), ("http", "GET", True),
    ):  # fmt: skip
        assert (INDEX.matches(request(f"{BASE}/health", method, kind))[0] is Match.FULL) == is_found


@pytest.mark.parametrize("slashes", [1, 2, 3, 12])
def test_of_addresses_with_slashes_in_them_it_finds_what_a_search_of_all_routes_finds(slashes: int) -> None:
    value = "/".join("abcdefghijklm"[: slashes + 1])
    found = 0
    for path in {re.sub(r"\{[^}]+\}", value, str(context.path)) for context in DECLARED}:
        scope = request(path, "GET")
        first = next((each for each in DECLARED if each.matches(scope)[0] is Match.FULL), None)
        match, told = INDEX.matches(scope)
        assert (match, told.get("route_template")) == ((Match.FULL, first.path_format) if first else (Match.NONE, None))
        found += first is not None and value in path
    assert found > 5


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


# --- routes that are served before the framework ----------------------------------------------------------------------


async def plain(which: str, request: Request) -> Response:
    if which == "missing":
        raise RecordNotFoundError("thing", which)
    if which == "broken":
        raise ZeroDivisionError
    told = {name: request.scope[name] for name in ("route_template", "path_params")}
    return json_reply(told | {"class": type(request.scope["route"]).__name__})


async def asked_for(path: str, *, kind: str = "http", method: str = "GET") -> tuple[int, Any]:
    """Ask an application whose framework says only that it was asked."""
    app = FastAPI()
    app.router.route_class = StrictRoute
    app.add_api_route(f"{BASE}/things/{{which}}", plain)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def framework(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 299})
        await send({"type": "http.response.body", "body": b'"framework"'})

    scope = request(path, method, kind) | {"app": app, "query_string": b"", "state": {"request_id": "r"}}
    await Shortcut(framework, RouteIndex(app.routes, BASE))(scope, framework, send)
    return sent[0]["status"], orjson.loads(b"".join(message.get("body", b"") for message in sent))


async def test_a_route_that_asks_for_little_is_served_with_what_the_index_found() -> None:
    template = f"{BASE}/things/{{which}}"
    found = {"route_template": template, "path_params": {"which": "some"}, "class": "StrictRoute"}
    assert await asked_for(f"{BASE}/things/some") == (200, found)


async def test_its_errors_have_the_common_body_those_that_are_meant_and_those_that_are_not() -> None:
    for which, status, code in (("missing", 404, "NOT_FOUND"), ("broken", 500, "INTERNAL_ERROR")):
        got, body = await asked_for(f"{BASE}/things/{which}")
        assert (got, body["http_status"], body["ref_id"]) == (status, status, "r")
        assert code in (body["code"], body["error"])


@pytest.mark.parametrize(
    ("path", "kind", "method"),
    [
        ("/things/some", "websocket", "GET"), ("/things/some", "http", "POST"), ("/things", "http", "GET"),
        ("/things/a/b", "http", "GET"),
    ],
)  # fmt: skip
async def test_all_else_is_the_frameworks(path: str, kind: str, method: str) -> None:
    assert await asked_for(f"{BASE}{path}", kind=kind, method=method) == (299, "framework")
