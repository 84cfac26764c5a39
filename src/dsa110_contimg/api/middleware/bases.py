"""The bases at which the API answers are one: what is asked at an alias is served as if it was asked at ``/api/v1``.

``/api/...`` is for clients that have no version in their addresses, ``/absurd`` and ``/ws`` alone for clients of the
durable queue, ``/qa``, ``/logs`` and ``/cal`` alone for links of the earlier web client for which it has no page. So
each route is declared once, which also is what starting costs. The path that was really asked stays in
``scope["state"]["asked_path"]``.
"""

from dsa110_contimg.api.middleware.exchange import ASGIApp, Receive, Scope, Send

BASE = "/api/v1"
_BARE = frozenset({"absurd", "ws", "qa", "logs", "cal"})
_UNVERSIONED = frozenset({"v1", "docs", "redoc", "openapi.json"})


def canonical(path: str) -> str:
    """Return the path below ``/api/v1`` that a path means; one that is no alias is returned as it is."""
    first, _, rest = path.removeprefix("/").partition("/")
    if first in _BARE:
        return BASE + path
    if first == "api" and rest.partition("/")[0] not in _UNVERSIONED:
        return f"{BASE}/{rest}"
    return path


class Bases:
    """Pure ASGI middleware; see the module's text."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a connection on with the path that it means."""
        if scope["type"] in ("http", "websocket"):
            asked = scope["path"]
            scope.setdefault("state", {})["asked_path"] = asked
            scope["path"] = canonical(asked)
        await self.app(scope, receive, send)
