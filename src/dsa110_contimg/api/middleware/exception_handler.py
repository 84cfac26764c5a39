"""Every error of a route becomes the one error body; this is one of the three places that may catch everything."""

import logging
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, get_args

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from dsa110_contimg.api.exceptions import AccessDeniedError, AuthenticationError, DSA110APIError
from dsa110_contimg.api.middleware.bases import BASE
from dsa110_contimg.api.middleware.error_body import error_body
from dsa110_contimg.api.request_error import RequestError
from dsa110_contimg.api.validation import unknown

log = logging.getLogger(__name__)

_RETRY_AFTER_S = "5"
_LONGEST_TOLD = 200
_WITH_AN_OBJECT = (f"{BASE}/queue/", f"{BASE}/services/")
_MOST_PROBLEMS = 20  # that are told: a small body may have a hundred thousand


def _request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


def _reply(
    request: Request, error: DSA110APIError, detail: Any = None, headers: dict[str, str] | None = None
) -> Response:
    body = error_body(error, _request_id(request), detail)
    given = dict(headers or {})
    if error.status_code == 503:
        given.setdefault("Retry-After", _RETRY_AFTER_S)
    content = orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(content, error.status_code, given, media_type="application/json")


async def on_api_error(request: Request, error: Exception) -> Response:
    """Answer an error that a service raised on purpose."""
    assert isinstance(error, DSA110APIError)
    known = {"request_id": _request_id(request)}
    if error.status_code >= 500:
        cause = error if error.__cause__ else None  # without one, where it was raised says no more than its words
        log.warning("%s %r: %s", request.method, request.scope["path"], error, exc_info=cause, extra=known)
    elif str(error) != error.message:  # operators need the whole path
        log.info("%s %r: %s", request.method, request.scope["path"], error, extra=known)
    return _reply(request, error, _detail(request, error), dict(error.headers))


def _detail(request: Request, error: DSA110APIError) -> dict[str, Any] | None:
    """Return what clients of the earlier backend read: about a credential, a job of the queue, a service."""
    if not isinstance(error, AuthenticationError | AccessDeniedError):
        return {"error": error.message} if request.scope["path"].startswith(_WITH_AN_OBJECT) else None
    body = error.to_body(_request_id(request))
    return {key: body[key] for key in ("code", "http_status", "user_message", "action", "ref_id")}


async def on_framework_error(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: an unknown path, a method that a path does not know."""
    assert isinstance(error, HTTPException)
    status, headers = HTTPStatus(error.status_code), dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _methods_of(request)
    asked = request.scope.get("state", {}).get("asked_path", request.scope["path"])[:_LONGEST_TOLD]
    message = {
        HTTPStatus.NOT_FOUND: f"There is nothing at {asked}",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} cannot be asked of {asked}, only {headers.get('Allow')}",
    }.get(status, str(error.detail))
    known = RequestError(status, status.name, message)
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        known.action = "Look at /api/docs, which shows every call."
    return _reply(request, known, error.detail, headers)


def _methods_of(request: Request) -> str:
    """Return all methods that the path of a request knows; the framework names those of one of its routes."""
    routes = [each for each in iter_route_contexts(request.app.routes) if each.matches(request.scope)[0] != Match.NONE]
    known = {method for route in routes for method in route.methods or ()}
    return ", ".join(sorted(known | ({"HEAD"} if "GET" in known else set())))


async def on_invalid_parameters(request: Request, error: Exception) -> Response:
    """Answer parameters of a wrong type or out of bounds: 422, with the first of the framework's list as ``detail``."""
    assert isinstance(error, RequestValidationError)
    items = error.errors()
    problems = [_problem(item) for item in items[:_MOST_PROBLEMS]]
    more = [f"and {len(items) - _MOST_PROBLEMS} problems more"] if len(items) > _MOST_PROBLEMS else []
    message = "; ".join([*map(_in_words, problems), *more, *_known_fields(request, problems)])
    found = RequestError(422, "VALIDATION_ERROR", message or "The request is not valid.")
    found.details = {"errors": problems}
    return _reply(request, found, problems)


def _problem(item: dict[str, Any]) -> dict[str, Any]:
    """Keep what clients read of one problem; long names and inputs are cut.

    Of what has no place here, and of whole bodies, nothing is told again: it could be a secret that went astray.
    """
    loc = [place[:_LONGEST_TOLD] if isinstance(place, str) else place for place in item.get("loc", ())]
    kept = {"type": str(item["type"]), "loc": loc, "msg": str(item["msg"])[:_LONGEST_TOLD], "input": _told(item)}
    limits = {key: str(value)[:_LONGEST_TOLD] for key, value in (item.get("ctx") or {}).items()}
    return kept | ({"ctx": limits} if limits else {})


def _known_fields(request: Request, problems: list[dict[str, Any]]) -> Iterator[str]:
    """Say what is near the first field that a body has too many, or which fields there are."""
    body = getattr(request.scope.get("route"), "body_field", None)
    kind = body.field_info.annotation if body is not None else None
    models = [one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, BaseModel)]
    known = (known for model in models for known in model.model_fields.items())
    fields = sorted(each.validation_alias if isinstance(each.validation_alias, str) else name for name, each in known)
    names = [one["loc"][1] for one in problems if one["type"] == "extra_forbidden" and len(one["loc"]) == 2]
    if names and fields:
        yield unknown(str(names[0]), fields, "field")


def _in_words(problem: Mapping[str, Any]) -> str:
    """Return thing, value and remedy of one problem; a value that is not there or not told again is left out."""
    given = "" if problem["input"] is None else f"={problem['input']!r}"
    return f"{'.'.join(map(str, problem['loc']))}{given}: {problem['msg'].removeprefix('Value error, ')}"


def _told(item: Mapping[str, Any]) -> Any:
    value = item.get("input")
    if item["type"] == "extra_forbidden" or isinstance(value, dict | list):
        return None
    return value[:_LONGEST_TOLD] if isinstance(value, str) else value


_HANDLERS = {
    DSA110APIError: on_api_error,
    HTTPException: on_framework_error,
    RequestValidationError: on_invalid_parameters,
}
#: What a route may raise.
KNOWN_ERRORS: tuple[type[Exception], ...] = tuple(_HANDLERS)


async def reply_to(request: Request, error: Exception) -> Response:
    """Return the reply to one of the known errors."""
    return await next(handler for kind, handler in _HANDLERS.items() if isinstance(error, kind))(request, error)


class CatchAll:
    """Plain ASGI: whatever nobody else caught becomes a 500 with the common body, and a traceback in the log."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application; answer its failure unless its reply has begun."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def watched(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            request = Request(scope)
            known = {"request_id": _request_id(request)}
            log.exception("%s %r failed", request.method, scope["path"], extra=known)
            if begun:  # half a reply cannot be taken back; the server breaks the connection
                raise
            failure = RequestError(500, "INTERNAL_ERROR", f"An unexpected error occurred ({type(error).__name__}).")
            failure.action = "Tell the operator the reference id; it is in the log."
            await _reply(request, failure)(scope, receive, watched)


def install(app: FastAPI) -> None:
    """Give the handlers to an application."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(CatchAll)
