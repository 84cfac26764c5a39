"""The short way from a request to an endpoint that asks for little.

The framework resolves every parameter of every request by rules that allow for bodies, forms, headers, generators and
overrides; for a route that takes path and query parameters and our own services that is most of what the request costs.
Here such a route is recognised once, when it is declared, and its parameters are then read directly, by the same
validators. Whatever is not valid goes the framework's way, which says what is wrong as it always does.
"""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel, ValidationError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Endpoint = Callable[..., Coroutine[Any, Any, Response]]

_UNUSUAL = (
    "header_params", "cookie_params", "body_params", "websocket_param_name", "http_connection_param_name",
    "response_param_name", "background_tasks_param_name", "security_scopes_param_name",
)  # fmt: skip


class _NotValidError(Exception):
    """A parameter is not valid: the framework will say how."""


class _Field(Protocol):
    """A parameter as the framework describes it."""

    name: str
    alias: str

    def validate(self, value: Any, values: dict[str, Any], *, loc: tuple[int | str, ...]) -> tuple[Any, list[Any]]:
        """Return the value and what is wrong with it."""


Reader = Callable[[Request], Any]


def shortened(dependant: Dependant, handler: Handler) -> Handler:
    """Return the short way to an endpoint, or the framework's ``handler`` where there is none."""
    endpoint = dependant.call
    if endpoint is None or not _is_simple(dependant) or not _returns_response(endpoint):
        return handler
    usual = _within_stacks(handler)
    readers = _readers(dependant)
    services = {needed.name or "": needed.call for needed in dependant.dependencies}
    request_name = dependant.request_param_name

    async def lean(request: Request) -> Response:
        if request.app.dependency_overrides:
            return await usual(request)
        try:
            given = {name: read(request) for name, read in readers.items()}
        except (_NotValidError, ValidationError):
            return await usual(request)
        for name, call in services.items():
            given[name] = await call(request)  # type: ignore[misc]
        if request_name is not None:
            given[request_name] = request
        response: Response = await endpoint(**given)
        return response

    return lean


def _within_stacks(handler: Handler) -> Handler:
    """Return the framework's way with what it expects around itself: where resources of dependencies are closed."""

    async def usual(request: Request) -> Response:
        async with AsyncExitStack() as of_files, AsyncExitStack() as of_request, AsyncExitStack() as of_function:
            request.scope.update(
                fastapi_middleware_astack=of_files,
                fastapi_inner_astack=of_request,
                fastapi_function_astack=of_function,
            )
            return await handler(request)

    return usual


def _is_simple(dependant: Dependant) -> bool:
    if any(getattr(dependant, name, None) for name in _UNUSUAL):
        return False
    return all(_is_service(needed) for needed in dependant.dependencies)


def _is_service(needed: Dependant) -> bool:
    """Tell whether a dependency is a coroutine of the request alone."""
    others = any(getattr(needed, name, None) for name in (*_UNUSUAL, "path_params", "query_params", "dependencies"))
    alone = needed.request_param_name is not None and needed.name is not None and not others
    return alone and inspect.iscoroutinefunction(needed.call)


def _returns_response(endpoint: Callable[..., Any]) -> bool:
    returned = inspect.signature(endpoint, eval_str=True).return_annotation
    return inspect.iscoroutinefunction(endpoint) and isinstance(returned, type) and issubclass(returned, Response)


def _readers(dependant: Dependant) -> dict[str, Reader]:
    """Return what reads each path and query parameter."""
    readers: dict[str, Reader] = {field.name: _path_reader(field) for field in dependant.path_params}
    for field in dependant.query_params:
        model = field.field_info.annotation
        is_model = isinstance(model, type) and issubclass(model, BaseModel)
        readers[field.name] = _model_reader(model) if is_model else _query_reader(field)  # type: ignore[arg-type]
    return readers


def _path_reader(field: Any) -> Reader:
    name = field.alias
    if field.field_info.annotation is str and not field.field_info.metadata:
        return lambda request: request.scope["path_params"][name]
    return lambda request: _validated(field, request.path_params[name], "path")


def _query_reader(field: Any) -> Reader:
    name, required = field.alias, field.field_info.is_required()
    default = None if required else field.get_default()

    def read(request: Request) -> Any:
        if not request.scope["query_string"] or name not in request.query_params:
            if required:
                raise _NotValidError
            return default
        return _validated(field, request.query_params[name], "query")

    return read


def _model_reader(model: type[BaseModel]) -> Reader:
    usual = model() if not any(field.is_required() for field in model.model_fields.values()) else None

    def read(request: Request) -> BaseModel:
        if usual is not None and not request.scope["query_string"]:
            return usual
        given: Mapping[str, str] = request.query_params
        return model.model_validate(dict(given))

    return read


def _validated(field: _Field, value: Any, place: str) -> Any:
    found, faults = field.validate(value, {}, loc=(place, field.alias))
    if faults:
        raise _NotValidError
    return found
