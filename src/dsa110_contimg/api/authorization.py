"""Which scope each route needs, and the passage of a request that changes something.

A route that changes something declares its scope with :func:`require_scope` and is a :class:`ScopedRoute`; an
application with one that does not cannot be started (:func:`require_scopes`). Such a request is judged before its
body is read, and the record of the change is written before the change is made.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from dsa110_contimg.api.audit import AuditRecord, making
from dsa110_contimg.api.credentials import Principal, Scope
from dsa110_contimg.api.exceptions import AuthenticationError, DSA110APIError
from dsa110_contimg.api.security import SAFE_METHODS
from dsa110_contimg.api.services.access_service import AccessService, Change
from dsa110_contimg.api.strict_json import strict_json
from dsa110_contimg.api.validation import StrictRoute

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

Key = Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))]


@dataclass(frozen=True, slots=True)
class ScopeRequirement:
    """Dependency of a route: gives who asks, when that one may do what needs ``scope``."""

    scope: Scope

    async def __call__(self, request: Request, key: Key = None, bearer: Bearer = None) -> Principal:
        """Return who asks; ``key`` and ``bearer`` are there for the description of the route, which has read both."""
        principal = getattr(request.state, "principal", None)
        if principal is None:
            raise AuthenticationError("This route has let nobody in; it must be a ScopedRoute.")
        AccessService.require_scope(principal, self.scope)
        found: Principal = principal
        return found


def require_scope(scope: Scope) -> Any:
    """Declare what a route needs: ``dependencies=[require_scope("ops")]``."""
    return Depends(ScopeRequirement(scope))


def declared_scope(route: BaseRoute | RouteContext) -> Scope | None:
    """Return the scope that a route declares."""
    for dependency in getattr(route, "dependencies", ()):
        if isinstance(dependency.dependency, ScopeRequirement):
            return dependency.dependency.scope
    return None


class StrictJsonRequest(Request):
    """A request whose JSON body is read strictly."""

    async def json(self) -> Any:
        """Return the body's value."""
        return strict_json(await self.body())


class ScopedRoute(StrictRoute):
    """A route that lets those pass who show a key with its scope, and records what they change."""

    def get_route_handler(self) -> Handler:
        """Return the framework's handler behind the judgement."""
        handler = super().get_route_handler()
        scope = declared_scope(self)
        if scope is None:
            return handler

        async def guarded(request: Request) -> Response:
            access: AccessService = request.app.state.services.access
            principal = access.admitted(request.scope["state"])
            request.state.principal = principal
            begun = await access.begin(principal, scope, _change(request))
            return await _recorded(handler, StrictJsonRequest(request.scope, request.receive), access, begun)

        return guarded


async def _recorded(handler: Handler, request: Request, access: AccessService, begun: AuditRecord) -> Response:
    """Run a handler and record how it ended."""
    status = 500
    try:
        with making(begun):
            reply = await handler(request)
        status = reply.status_code
        return reply
    except (DSA110APIError, HTTPException) as error:
        status = error.status_code
        raise
    except RequestValidationError:
        status = 422
        raise
    finally:
        await asyncio.shield(access.conclude(begun, status))


def _change(request: Request) -> Change:
    state, route = request.scope["state"], request.scope["route"]
    return Change(f"{request.method} {route.name}", request.scope["path"], state.get("client_ip"), state["request_id"])


def writing_routes(app: FastAPI) -> Iterator[tuple[str, RouteContext]]:
    """Give (method, route) of everything that may change something."""
    for route in iter_route_contexts(app.routes):
        yield from ((method, route) for method in sorted(route.methods or ()) if method not in SAFE_METHODS)


def require_scopes(app: FastAPI) -> None:
    """Refuse an application in which somebody could change something without a scope.

    Raises
    ------
    RuntimeError
        The message names the routes.
    """
    bare = [
        f"{method} {route.path}"
        for method, route in writing_routes(app)
        if declared_scope(route) is None or not isinstance(route.original_route, ScopedRoute)
    ]
    if bare:
        raise RuntimeError(f"these routes change something and declare no scope: {', '.join(bare)}")
