"""The reply to those who come while too much is asked.

Refusing takes from those who are served: of four times what can be served three quarters are refused, and where each of
them goes through the gate, only half of what could be served is. So the connection itself refuses plain reads, with the
reply of the gate. Nobody is judged before that: who may not ask at all hears it when there is time again. The log has
the address of the connection, which may be a proxy's, and a reply that leaves that proxy by TLS has no
``Strict-Transport-Security``.
"""

import logging
import os

import orjson

from dsa110_contimg.api.middleware.admission import too_many_at_once
from dsa110_contimg.api.middleware.cross_origin import CrossOriginRule
from dsa110_contimg.api.middleware.error_body import error_body, trace_id
from dsa110_contimg.api.middleware.exchange import Scope
from dsa110_contimg.api.middleware.gate import OPEN_PATHS, access_log
from dsa110_contimg.api.middleware.headers import Header, finished_headers, is_documentation
from dsa110_contimg.api.middleware.meter import RequestMeter

#: Status, headers and body.
Reply = tuple[int, list[Header], bytes]

_SOME_ID = "0" * 32
_SOME_TRACE = trace_id(_SOME_ID).encode()
_CHANGING = frozenset({b"origin", b"x-request-id"})  # the reply


class BusyReply:
    """Makes the reply.

    Parameters
    ----------
    max_in_flight : int
        Requests that are worked at.
    cross_origin : CrossOriginRule
        Gives the headers of those who come from no page.
    meter : RequestMeter
        Counts who is refused.
    """

    def __init__(self, max_in_flight: int, cross_origin: CrossOriginRule, meter: RequestMeter) -> None:
        refusal = too_many_at_once(max_in_flight)
        body = orjson.dumps(error_body(refusal, _SOME_ID))
        given = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
        own = [*[(name.lower().encode(), value.encode()) for name, value in given.items()], *cross_origin.headers([])]
        self._headers = finished_headers(own, "GET", "/api", 503, _SOME_ID, secure=False)
        self._headers.remove((b"x-request-id", _SOME_ID.encode()))
        self._body = body
        self._meter = meter

    def __call__(self, scope: Scope) -> Reply | None:
        """Return the reply to a request (ASGI), None where the gate must look at it."""
        if not _is_simple(scope):
            return None
        self._meter.count(scope, "GET", 503, len(self._body), 0.0)
        request_id = os.urandom(len(_SOME_ID) // 2).hex()
        if access_log.isEnabledFor(logging.INFO):
            peer = scope["client"][0] if scope["client"] else None
            facts = {"request_id": request_id, "client": peer, "elapsed_ms": 0.0}
            access_log.info("%s %r %d", "GET", scope["path"], 503, extra=facts)
        own_id = request_id.encode()
        body = self._body.replace(_SOME_TRACE, trace_id(request_id).encode()).replace(_SOME_ID.encode(), own_id)
        return 503, [*self._headers, (b"x-request-id", own_id)], body


def _is_simple(scope: Scope) -> bool:
    """Tell whether a request is one of those that all get the same reply."""
    path = scope["path"]
    return (
        scope["method"] == "GET"
        and scope["scheme"] == "http"
        and path.startswith("/api/")
        and path not in OPEN_PATHS
        and not is_documentation(path)
        and _CHANGING.isdisjoint([name for name, _ in scope["headers"]])
    )
