"""The one gate in front of HTTP and WebSocket alike, as plain ASGI.

A request passes, in this order: size of its headers, form of its path, host name, client address, origin, kind and
announced length of its body, number of requests in flight, key, rate. A GET whose reply is known already is answered
here (``reply_memory.py``), everything else that passed by its route. What is refused gets the common error body with
the same headers as every other reply; a WebSocket is refused before it is accepted. What passes carries in
``scope["state"]``:

``request_id``
    Given by the client when it is sane, made otherwise; sent back on every reply.
``client_ip``
    The client's address, behind trusted proxies too. ``scope["client"]`` is set to it; nobody else rewrites it, so
    the server must run with its own proxy headers off.
``head``
    The request was HEAD: it is routed as GET and its body is left out.
``principal`` or ``denied``
    Who shows the key of the request, or why it is of no use; neither without a key.
"""

import logging
import os
import re
import time
from collections.abc import Callable
from typing import Protocol

from dsa110_contimg.api.middleware.admission import Admission
from dsa110_contimg.api.middleware.exchange import ASGIApp, Exchange, Receive, Scope, Send
from dsa110_contimg.api.middleware.head import Head
from dsa110_contimg.api.middleware.judge import Client, GateRules, Judge
from dsa110_contimg.api.middleware.meter import RequestMeter
from dsa110_contimg.api.reply_memory import KeptReply
from dsa110_contimg.api.security import RefusedError

access_log = logging.getLogger("dsa110_contimg.api.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_HEALTH = ("/health", "/health/live", "/health/ready")
OPEN_PATHS = frozenset({f"{base}{path}" for base in ("/api", "/api/v1") for path in _HEALTH} | {"/metrics"})


class Memory(Protocol):
    """What is asked of the replies that are known already."""

    async def recall(self, scope: Scope) -> KeptReply | None:
        """Return the reply to a request if it is right, within a few seconds."""


class Gate:
    """Pure ASGI middleware; see the module's text.

    Parameters
    ----------
    app
        What is behind the gate.
    rules : GateRules
        What passes.
    admission : Admission
        How many pass, and as whom.
    meter : RequestMeter
        Counts what has ended.
    memory_of : callable
        Gives the replies that are known already, for the scope of a request.
    """

    def __init__(
        self,
        app: ASGIApp,
        rules: GateRules,
        admission: Admission,
        meter: RequestMeter,
        memory_of: Callable[[Scope], Memory] = lambda scope: scope["app"].state.services.memory,
    ) -> None:
        self.app = app
        self.judge = Judge(rules)
        self.admission = admission
        self.meter = meter
        self.memory_of = memory_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge one connection and hand it on, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        passage = _Passage(scope, send, self)
        try:
            await passage.run(receive)
        except RefusedError as refusal:
            await passage.exchange.refuse(refusal)
        finally:
            passage.end()


class _Passage:
    """One request on its way through the gate."""

    def __init__(self, scope: Scope, send: Send, gate: Gate) -> None:
        self.scope = scope
        self.send = send
        self.gate = gate
        self.started_s = time.perf_counter()
        self.head = head = gate.judge.read(scope["headers"])
        crossing = gate.judge.rules.cross_origin.headers(head.values(b"origin"))
        self.exchange = Exchange(scope, send, gate.judge.rules.limits, head, crossing)
        self.websocket = self.exchange.websocket
        self.forwarded = bool(head.values(b"x-forwarded-for"))
        state = scope.setdefault("state", {})
        state["request_id"] = self.request_id = _request_id(head)
        state["head"] = self.exchange.method == "HEAD"
        #: Plain health and metrics: open to everybody, and answered however busy the rest is.
        self.is_open = self.exchange.path in OPEN_PATHS and not self.websocket and not self.scope.get("query_string")

    async def run(self, receive: Receive) -> None:
        """Judge the request and hand it on.

        Raises
        ------
        RefusedError
            It may not pass.
        """
        client = self.check()
        if client is None or self.is_open:
            await self.exchange.serve(self.gate.app, receive)
        elif self.websocket:
            await self._open_socket(client, receive)
        else:
            with self.gate.admission.in_flight(self.scope["state"].get("ahead", 0)):
                await self._admit(client)
                await self._serve(receive)

    async def _serve(self, receive: Receive) -> None:
        if self.exchange.method == "OPTIONS" and self.head.asks_before_asking:
            await self.exchange.answer(204, self.gate.judge.rules.cross_origin.preflight(), b"")
        elif self.exchange.method not in ("GET", "HEAD"):
            await self.exchange.serve(self.gate.app, receive)
        elif (kept := await self.gate.memory_of(self.scope).recall(self.scope)) is not None:
            await self.exchange.answer_again(kept)
        else:
            await self.exchange.serve(self.gate.app, receive)

    async def _admit(self, client: Client) -> None:
        allowance = await self.gate.admission.admit(self.scope, client, forwarded=self.forwarded)
        if allowance is not None:
            self.exchange.add(allowance.headers)

    async def _open_socket(self, client: Client, receive: Receive) -> None:
        with self.gate.admission.open_socket(client, forwarded=self.forwarded):
            await self._admit(client)
            self.exchange.status = 101
            await self.gate.app(self.scope, receive, self.send)

    # --- judging -----------------------------------------------------------------------------------------------------

    def check(self) -> Client | None:
        """Refuse what may not pass; return who asks, None where nobody asks for that."""
        self._check_size_of_head()
        exchange = self.exchange
        if not exchange.path.startswith("/") or "\0" in exchange.path:
            raise RefusedError(400, "BAD_PATH", "The request target must be a path that begins with a slash.")
        peer = self.scope["client"][0] if self.scope.get("client") else None
        client = self.gate.judge.let_pass(self.head, peer, exchange.method, self.websocket, self.is_open)
        if client is not None:
            self.scope["state"]["client_ip"] = client.text
            if client.text != peer:
                self._believe_proxy(client.text)
        return client

    def _check_size_of_head(self) -> None:
        count, size_bytes = self.head.count, self.head.size_bytes + len(self.scope.get("query_string", b""))
        most, most_bytes = self.gate.judge.rules.max_headers, self.gate.judge.rules.max_header_bytes
        if count > most or size_bytes > most_bytes:
            raise RefusedError(
                431, "HEADERS_TOO_LARGE",
                f"{count} headers of {size_bytes} bytes; at most {most} headers of {most_bytes} bytes are read.",
            )  # fmt: skip

    def _believe_proxy(self, address: str) -> None:
        """Take over what a trusted proxy says: the client's address and whether it came by TLS."""
        self.scope["client"] = (address, 0)
        scheme = self.head.values(b"x-forwarded-proto")
        if scheme in (("https",), ("http",)) and not self.websocket:
            self.scope["scheme"] = scheme[0]
            self.exchange.secure = scheme[0] == "https"

    def end(self) -> None:
        """Count the request, and write one line of it if that is asked."""
        elapsed_s = time.perf_counter() - self.started_s
        if not self.websocket:
            # Without a reply the server sends 500.
            status = self.exchange.status or 500
            self.gate.meter.count(self.scope, self.exchange.method, status, self.exchange.size_bytes, elapsed_s)
        if access_log.isEnabledFor(logging.INFO):
            self._log(elapsed_s)

    def _log(self, elapsed_s: float) -> None:
        """Write one line; the path is quoted so that no line break in it makes a second one."""
        facts = {
            "request_id": self.request_id,
            "client": self.scope["state"].get("client_ip"),
            "elapsed_ms": round(elapsed_s * 1e3, 1),
        }
        access_log.info("%s %r %d", self.exchange.method, self.exchange.path, self.exchange.status, extra=facts)


def _request_id(head: Head) -> str:
    given = head.values(b"x-request-id")
    return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else os.urandom(16).hex()
