"""The reply to those who come while too much is asked.

Refusing takes from those who are served: of four times what can be served three quarters are refused, and where each of
them goes through parser and gate, a third of what could be served is not. So the connection itself refuses plain reads
that came whole, with the reply of the gate. Nobody is judged before that: who may not ask at all hears it when there is
time again. A reply that leaves a proxy by TLS has no ``Strict-Transport-Security``. The log has one line for all that
were refused in a second, with the address from which most of them came, which may be a proxy's.
"""

import asyncio
import logging
import os
import re
from collections import Counter

import orjson

from dsa110_contimg.api.middleware.admission import too_many_at_once
from dsa110_contimg.api.middleware.cross_origin import CrossOriginRule
from dsa110_contimg.api.middleware.error_body import error_body, trace_id
from dsa110_contimg.api.middleware.exchange import Scope
from dsa110_contimg.api.middleware.gate import OPEN_PATHS
from dsa110_contimg.api.middleware.headers import finished_headers, is_documentation, lines_of
from dsa110_contimg.api.middleware.meter import RequestMeter

log = logging.getLogger(__name__)

_SOME_ID = "0" * 32
_SOME_TRACE = trace_id(_SOME_ID).encode()
_SOME_READ: Scope = {"path": "/api"}  # as it is counted: no route has answered it
_SUMMARY_S = 1.0
# A path with an escape may be one of those that are open; the headers are those that change the reply or what follows.
_PLAIN_READ = re.compile(
    rb"GET (/api/[\w./~-]+)(?:\?[!-~]*)? HTTP/1\.1\r\n"
    rb"(?:(?!(?i:origin:|x-request-id:|connection:(?! ?keep-alive\r)|upgrade:|expect:))"
    rb"(?!(?i:content-length:|transfer-encoding:))"
    rb"[\w!#$%&'*+.^`|~-]+:[\t -~\x80-\xff]*\r\n)+\r\n"
)


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
        headers = finished_headers(own, "GET", "/api", 503, _SOME_ID, secure=False)
        self._reply = b"%b\r\n%b" % (lines_of(headers), body)
        self._size = len(body)
        self._meter = meter
        self._refused: Counter[str] = Counter()

    def __call__(self, data: bytes, peer: str) -> bytes | None:
        """Return what follows the status line of the reply to a plain read; None where more must be looked at.

        Parameters
        ----------
        data : bytes
            All that came, of which nothing was read yet.
        peer : str
            Address of the connection.
        """
        found = _PLAIN_READ.fullmatch(data)
        if found is None or not _is_shut(found[1].decode()):
            return None
        self._meter.count(_SOME_READ, "GET", 503, self._size, 0.0)
        self._remember(peer)
        request_id = os.urandom(len(_SOME_ID) // 2).hex()
        own = self._reply.replace(_SOME_TRACE, trace_id(request_id).encode())
        return own.replace(_SOME_ID.encode(), request_id.encode())

    def _remember(self, peer: str) -> None:
        if not self._refused:
            asyncio.get_running_loop().call_later(_SUMMARY_S, self._tell)
        self._refused[peer] += 1

    def _tell(self) -> None:
        (peer, most), *_ = self._refused.most_common(1)
        facts = {"refused": self._refused.total(), "client": peer, "refused_client": most}
        log.warning("too much is asked: %d reads were refused within %g s", facts["refused"], _SUMMARY_S, extra=facts)
        self._refused.clear()


def _is_shut(path: str) -> bool:
    """Tell whether a path is not answered however busy the rest is."""
    return path not in OPEN_PATHS and not is_documentation(path)
