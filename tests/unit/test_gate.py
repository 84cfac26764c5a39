"""The gate, asked through raw ASGI scopes: what passes, as whom, and what the refused get."""

import asyncio
import hashlib
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import orjson
import pytest

from dsa110_contimg.api.access_settings import PRIVATE_NETWORKS, RateLimitConfig
from dsa110_contimg.api.cache import CacheRule
from dsa110_contimg.api.credentials import Principal, create_key
from dsa110_contimg.api.exceptions import AuthenticationError, DatabaseBusyError
from dsa110_contimg.api.middleware.admission import Admission, AdmissionRules
from dsa110_contimg.api.middleware.cross_origin import CrossOriginRule
from dsa110_contimg.api.middleware.exchange import ExchangeLimits
from dsa110_contimg.api.middleware.gate import Gate, Memory
from dsa110_contimg.api.middleware.headers import cache_control
from dsa110_contimg.api.middleware.judge import Client, GateRules, Judge
from dsa110_contimg.api.middleware.meter import RequestMeter
from dsa110_contimg.api.readings import Rate
from dsa110_contimg.api.reply_memory import KeptReply
from dsa110_contimg.api.security import ClientAddressRule, HostRule, NetworkSet, OriginRule, RefusedError, split_host
from dsa110_contimg.api.services.access_service import Change
from dsa110_contimg.api.services.rate_limiter import RateLimiter
from dsa110_contimg.api.tally import Tally

PROXY = "192.0.2.10"  # TEST-NET addresses (RFC 5737) stand for the outside world
PROXY_2 = "192.0.2.11"
OUTSIDE = "198.51.100.7"
ERROR_KEYS = {
    "error", "message", "details", "code", "http_status", "user_message", "action", "ref_id", "trace_id", "doc_anchor",
}  # fmt: skip


def networks(*names: str) -> NetworkSet:
    return NetworkSet.of(ip_network(name) for name in names)


def rules(*, proxies: tuple[str, ...] = (), allowed: tuple[str, ...] = PRIVATE_NETWORKS, **limits: int) -> GateRules:
    hosts = HostRule(frozenset({"dsa.example.org", "*.array.example.org"}), networks(*allowed))
    origins = OriginRule(frozenset({"https://pages.example.org"}))
    cross_origin = CrossOriginRule(origins.origins)
    sizes = ExchangeLimits(**{name: limits.pop(name) for name in list(limits) if name != "max_headers"})
    return GateRules(
        ClientAddressRule(networks(*allowed), networks(*proxies)), hosts, origins, cross_origin, sizes, **limits
    )


def doorkeeper(**limits: Any) -> Admission:
    """Return an admission that counts in this process; nobody has a key."""
    return Admission(AdmissionRules(**limits), RateLimiter(RateLimitConfig(store="memory"), ""))


def meter() -> RequestMeter:
    return RequestMeter(Tally(Path("nowhere")))


@dataclass
class FakeMemory:
    """Knows one reply."""

    known: KeptReply | None = None

    async def recall(self, scope: Any) -> KeptReply | None:
        return self.known


Headers = list[tuple[str, str]]


class Reply:
    def __init__(self, messages: list[Any], scope: dict[str, Any]) -> None:
        self.messages = messages
        self.scope = scope
        start = messages[0] if messages else {}
        self.status = start.get("status", 0)
        self.headers = {name.decode(): value.decode() for name, value in start.get("headers", [])}
        self.body = b"".join(message.get("body", b"") for message in messages)

    @property
    def client(self) -> Any:
        return self.scope["state"].get("client_ip")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Read the whole body and answer with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"etag", b'"x"')]})
    await send({"type": "http.response.body", "body": b"%d" % length})


async def ask(
    gate_rules: GateRules, *, peer: str | None = "10.1.2.3", method: str = "GET", path: str = "/api/v1/images",
    headers: Headers | None = None, query: bytes = b"", body: list[bytes] | None = None, host: str | None = "localhost",
    app: Callable[..., Awaitable[None]] = echo, kind: str = "http", extensions: dict[str, Any] | None = None,
    scheme: str = "http", admission: Admission | None = None, protocols: tuple[str, ...] = (),
    memory: Memory | None = None, judge: Judge | None = None, state: dict[str, Any] | None = None,
) -> Reply:  # fmt: skip
    given = ([("host", host)] if host is not None else []) + (headers or [])
    scope = {
        "type": kind, "method": method, "path": path, "query_string": query, "scheme": scheme,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given],
        "client": (peer, 5000) if peer is not None else None, "extensions": extensions or {},
        "subprotocols": protocols, "state": dict(state or {}),
    }  # fmt: skip
    parts = list(body or [b""])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    gate = Gate(app, gate_rules, admission or doorkeeper(), meter(), lambda _: memory or FakeMemory())
    gate.judge = judge or gate.judge
    await gate(scope, receive, send)
    return Reply(sent, scope)


def forwarded(*values: str) -> Headers:
    return [("x-forwarded-for", value) for value in values]


# fmt: off
FORGERIES: list[tuple[str, str | None, Headers, int, str | None]] = [
    # name, peer of the connection, headers, status, address taken for the client
    ("private 10/8 passes", "10.9.9.9", [], 200, "10.9.9.9"),
    ("private 172.16/12 passes", "172.31.255.254", [], 200, "172.31.255.254"),
    ("private 192.168/16 passes", "192.168.0.1", [], 200, "192.168.0.1"),
    ("loopback passes", "127.0.0.1", [], 200, "127.0.0.1"),
    ("IPv6 loopback passes", "::1", [], 200, "::1"),
    ("unique local IPv6 passes", "fd12:3456::1", [], 200, "fd12:3456::1"),
    ("mapped private IPv4 passes as IPv4", "::ffff:10.0.0.1", [], 200, "10.0.0.1"),
    ("mapped outside IPv4 is refused", f"::ffff:{OUTSIDE}", [], 403, None),
    ("outside address is refused", OUTSIDE, [], 403, None),
    ("just outside 172.16/12 is refused", "172.32.0.1", [], 403, None),
    ("just outside 10/8 is refused", "11.0.0.1", [], 403, None),
    ("global IPv6 is refused", "2001:db8::1", [], 403, None),
    ("link-local IPv6 is refused", "fe80::1%eth0", [], 403, None),
    ("link-local IPv4 is refused", "169.254.1.1", [], 403, None),
    ("shared address space is refused", "100.64.0.1", [], 403, None),
    ("peer without address is refused", None, [], 403, None),
    ("peer of a Unix socket is refused", "/run/socket", [], 403, None),
    ("forwarded header of an outside peer is ignored", OUTSIDE, forwarded("10.0.0.1"), 403, None),
    ("forwarded header of an inside peer is ignored", "10.0.0.5", forwarded(OUTSIDE), 200, "10.0.0.5"),
    ("X-Real-IP of an outside peer is ignored", OUTSIDE, [("x-real-ip", "10.0.0.1")], 403, None),
    ("Forwarded of an outside peer is ignored", OUTSIDE, [("forwarded", "for=10.0.0.1")], 403, None),
    ("Client-IP of an outside peer is ignored", OUTSIDE, [("client-ip", "10.0.0.1")], 403, None),
    ("broken header of an inside peer is ignored", "10.0.0.5", forwarded("unknown"), 200, "10.0.0.5"),
    ("proxy names an inside client", PROXY, forwarded("10.0.0.1"), 200, "10.0.0.1"),
    ("proxy names an outside client", PROXY, forwarded(OUTSIDE), 403, None),
    ("leftmost hop is the attacker's word", PROXY, forwarded(f"10.0.0.1, {OUTSIDE}"), 403, None),
    ("rightmost untrusted hop counts", PROXY, forwarded(f"{OUTSIDE}, 10.0.0.1"), 200, "10.0.0.1"),
    ("second trusted proxy is skipped", PROXY, forwarded(f"10.0.0.1, {PROXY_2}"), 200, "10.0.0.1"),
    ("forged hop left of a trusted proxy", PROXY, forwarded(f"10.0.0.1, {OUTSIDE}, {PROXY_2}"), 403, None),
    ("several headers are one list", PROXY, forwarded("10.0.0.1", OUTSIDE), 403, None),
    ("several headers keep their order", PROXY, forwarded(OUTSIDE, "10.0.0.1"), 200, "10.0.0.1"),
    ("proxy without header is refused", PROXY, [], 403, None),
    ("proxy with another header only is refused", PROXY, [("x-real-ip", "10.0.0.1")], 403, None),
    ("empty header is refused", PROXY, forwarded(""), 400, None),
    ("empty last hop is refused", PROXY, forwarded("10.0.0.1, "), 400, None),
    ("'unknown' is refused", PROXY, forwarded("unknown"), 400, None),
    ("a name is refused", PROXY, forwarded("localhost"), 400, None),
    ("an obfuscated hop is refused", PROXY, forwarded("_hidden"), 400, None),
    ("octal digits are refused", PROXY, forwarded("010.0.0.1"), 400, None),
    ("a decimal number is refused", PROXY, forwarded("167772161"), 400, None),
    ("hexadecimal is refused", PROXY, forwarded("0x0a.0.0.1"), 400, None),
    ("a short form is refused", PROXY, forwarded("10.1"), 400, None),
    ("a network is refused", PROXY, forwarded("10.0.0.0/8"), 400, None),
    ("a zone is refused", PROXY, forwarded("fd00::1%eth0"), 400, None),
    ("wide digits are refused", PROXY, forwarded("\xb9\xb2.0.0.1"), 400, None),
    ("an address with port passes", PROXY, forwarded("10.0.0.1:5050"), 200, "10.0.0.1"),
    ("a port that is none is refused", PROXY, forwarded("10.0.0.1:99999"), 400, None),
    ("the highest port passes", PROXY, forwarded("10.0.0.1:65535"), 200, "10.0.0.1"),
    ("one beyond is refused", PROXY, forwarded("10.0.0.1:65536"), 400, None),
    ("a port with a sign is refused", PROXY, forwarded("10.0.0.1:+80"), 400, None),
    ("a port with a line between its digits is refused", PROXY, forwarded("10.0.0.1:8_0"), 400, None),
    ("a port of other digits is refused", PROXY, forwarded("10.0.0.1:\xb2"), 400, None),
    ("IPv6 in brackets passes", PROXY, forwarded("[fd00::1]"), 200, "fd00::1"),
    ("IPv6 in brackets with more is refused", PROXY, forwarded("[fd00::1]x"), 400, None),
    ("an IPv6 peer with a zone is known without it", "fd00::1%eth0", [], 200, "fd00::1"),
    ("IPv6 in brackets with port passes", PROXY, forwarded("[fd00::1]:443"), 200, "fd00::1"),
    ("mapped IPv4 of a proxy is normalised", PROXY, forwarded("::ffff:10.0.0.1"), 200, "10.0.0.1"),
    ("mapped outside IPv4 of a proxy is refused", PROXY, forwarded(f"::ffff:{OUTSIDE}"), 403, None),
    ("a proxy that comes mapped is known", f"::ffff:{PROXY}", forwarded("10.0.0.1"), 200, "10.0.0.1"),
    ("trusted proxies only: the outermost asks", PROXY, forwarded(f"{PROXY_2}, {PROXY}"), 403, None),
    ("garbage left of the client is not read", PROXY, forwarded("<script>, 10.0.0.1"), 200, "10.0.0.1"),
    ("a thousand forged hops", PROXY, forwarded(",".join(["10.0.0.1"] * 999 + [OUTSIDE])), 403, None),
    ("upper-case header name", PROXY, [("X-Forwarded-For", "10.0.0.1")], 200, "10.0.0.1"),
]
# fmt: on


@pytest.mark.parametrize(
    ("peer", "headers", "status", "client"), [case[1:] for case in FORGERIES], ids=[case[0] for case in FORGERIES]
)
async def test_the_client_is_who_it_is(peer: str | None, headers: Headers, status: int, client: str | None) -> None:
    reply = await ask(rules(proxies=(PROXY, PROXY_2)), peer=peer, headers=headers)
    assert (reply.status, reply.client) == (status, client)
    told = orjson.loads(reply.body)
    assert told == 0 if status == 200 else told["error"] == {403: "FORBIDDEN", 400: "BAD_FORWARDED_FOR"}[status]


@pytest.mark.parametrize(
    ("peer", "headers", "status"), [case[1:4] for case in FORGERIES], ids=[case[0] for case in FORGERIES]
)
async def test_a_websocket_is_judged_like_a_request(peer: str | None, headers: Headers, status: int) -> None:
    reply = await ask(rules(proxies=(PROXY, PROXY_2)), peer=peer, headers=headers, kind="websocket")
    if status == 200:
        assert reply.status == 200  # the application was asked
    else:
        assert [message["type"] for message in reply.messages] == ["websocket.close"]


async def test_only_configured_networks_pass_when_they_are_configured() -> None:
    narrow = rules(allowed=("203.0.113.0/24",))
    assert (await ask(narrow, peer="203.0.113.9", host="dsa.example.org")).status == 200
    assert (await ask(narrow, peer="10.0.0.1", host="dsa.example.org")).status == 403


def test_an_ipv4_network_written_as_ipv6_holds_ipv4_addresses() -> None:
    assert NetworkSet.of([ip_network("::ffff:10.0.0.0/104")]) == networks("10.0.0.0/8")


@pytest.mark.parametrize("path", ["/api/health", "/api/v1/health", "/api/v1/health/live", "/metrics"])
async def test_plain_health_and_metrics_are_open_to_everybody(path: str) -> None:
    reply = await ask(rules(), peer=OUTSIDE, path=path)
    assert (reply.status, reply.client) == (200, OUTSIDE), "who asked is written down"


@pytest.mark.parametrize(
    ("path", "query"), [("/api/health", b"detailed=true"), ("/api/health/", b""), ("/api/healthy", b""), ("/api", b"")]
)
async def test_nothing_beside_plain_health_is_open(path: str, query: bytes) -> None:
    assert (await ask(rules(), peer=OUTSIDE, path=path, query=query)).status == 403


async def test_health_behind_a_proxy_that_says_nothing_is_open() -> None:
    assert (await ask(rules(proxies=(PROXY,)), peer=PROXY, path="/api/health")).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("10.0.0.7", 200),
        ("192.168.7.7:80", 200),
        ("dsa.example.org", 200),
        ("dsa.example.org.", 200),
        ("a.array.example.org", 200),
        ("array.example.org", 421),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("dsa.example.org.evil.example", 421),
        ("xdsa.example.org", 421),
        ("198.51.100.7", 421),
        ("10.0.0.7.evil.example", 421),
        ("0x7f.0.0.1", 421),
        ("2130706433", 421),
        ("[2001:db8::1]", 421),
        ("[::ffff:198.51.100.7]:80", 421),
        ("127.1", 421),
        ("0177.0.0.1", 421),
        ("localhost.localdomain", 421),
        ("*.array.example.org", 400),
        (".array.example.org", 400),
        ("dsa.example.org..", 400),
        ("localhost:65535", 200),
        ("localhost:65536", 400),
        ("localhost:80:80", 400),
        ("localhost#evil.example", 400),
        ("localhost?evil.example", 400),
        ("localhost\\evil.example", 400),
        ("localhost\x00evil.example", 400),
        ("[::1]evil.example", 400),
        ("evil.example[::1]", 400),
        ("evil.example[::1]:8000", 400),
        ("%6cocalhost", 400),
        ("", 400),
        ("localhost:", 400),
        ("localhost:x", 400),
        ("localhost:99999", 400),
        ("user@localhost", 400),
        ("localhost/evil", 400),
        ("localhost, evil", 400),
        ("[::1", 400),
        ("l\xf6calhost", 400),
    ],
)
async def test_only_names_of_this_server_are_answered(host: str, status: int) -> None:
    reply = await ask(rules(), host=host)
    code = {421: "UNKNOWN_HOST", 400: "BAD_HOST"}.get(reply.status)
    assert (reply.status, orjson.loads(reply.body) if code is None else orjson.loads(reply.body)["error"]) == (
        status, code or 0,
    )  # fmt: skip


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000"])
def test_this_machine_knows_its_own_names_whatever_networks_and_names_are_configured(host: str) -> None:
    rule = HostRule(frozenset(), networks("11.0.0.0/8"))
    assert rule.require_allowed([host])[0] == split_host(host)[0]
    with pytest.raises(RefusedError):
        rule.require_allowed(["10.0.0.7"])


async def test_a_request_without_host_or_with_two_is_refused() -> None:
    assert (await ask(rules(), host=None)).status == 400
    assert (await ask(rules(), headers=[("host", "localhost")])).status == 400


@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        ("http://localhost:8000", True),
        ("https://pages.example.org", True),
        ("http://localhost", False),
        ("http://localhost:8001", False),
        ("http://evil.example:8000", False),
        ("https://pages.example.org.evil.example", False),
        ("null", False),
        ("file://", False),
        ("localhost:8000", False),
        ("http://localhost:8000/x", False),
        ("ftp://localhost:8000", False),
        ("http", False),
        ("http://", False),
        ("://localhost:8000", False),
    ],
)
@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_pages_of_others_open_no_websocket_and_change_nothing(origin: str, passes: bool, kind: str) -> None:
    reply = await ask(
        rules(), kind=kind, method="POST", host="localhost:8000", headers=[("origin", origin)]
    )  # fmt: skip
    refused = "websocket.close" if kind == "websocket" else 403
    got = reply.messages[0]["type"] if kind == "websocket" else reply.status
    assert (got != refused) == passes
    assert passes or kind == "websocket" or orjson.loads(reply.body)["error"] == "FOREIGN_ORIGIN"


@pytest.mark.parametrize(
    ("origin", "host", "passes"),
    [
        ("http://localhost", "localhost", True),
        ("http://localhost", "localhost:80", True),
        ("http://localhost:80", "localhost", True),
        ("https://localhost", "localhost:443", True),
        ("https://localhost:443", "localhost", True),
        ("https://localhost", "localhost:80", False),
        ("http://localhost:443", "localhost:80", False),
        ("ws://localhost", "localhost:80", True),
        ("wss://localhost", "localhost:443", True),
        ("ftp://localhost", "localhost", False),
    ],
)
async def test_an_origin_without_a_port_has_that_of_its_scheme(origin: str, host: str, passes: bool) -> None:
    reply = await ask(rules(), method="POST", host=host, headers=[("origin", origin)])
    assert reply.status == (200 if passes else 403)


async def test_two_origins_are_none_of_ours() -> None:
    for origin in ("http://localhost", "https://pages.example.org"):
        assert (await ask(rules(), method="POST", headers=[("origin", origin)])).status == 200
        assert (await ask(rules(), method="POST", headers=[("origin", origin)] * 2)).status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
async def test_whatever_is_no_reading_is_no_affair_of_other_pages(method: str) -> None:
    assert (await ask(rules(), method=method, headers=[("origin", "https://evil.example")])).status == 403


async def test_a_page_behind_tls_of_a_proxy_is_of_this_server() -> None:
    headers = [("origin", "https://dsa.example.org")]
    reply = await ask(rules(), kind="websocket", host="dsa.example.org", headers=headers)
    assert reply.messages[0]["type"] == "http.response.start"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_reading_from_a_foreign_page_passes_but_gets_no_cors_header(method: str) -> None:
    asking = [("access-control-request-method", "POST")] if method == "GET" else []
    reply = await ask(rules(), method=method, headers=[("origin", "https://evil.example"), *asking])
    assert reply.status == 200
    assert not any(name.startswith("access-control") for name in reply.headers)


async def test_a_refused_websocket_gets_the_error_body_where_the_server_can_send_one() -> None:
    reply = await ask(rules(), kind="websocket", peer=OUTSIDE, extensions={"websocket.http.response": {}})
    assert [message["type"] for message in reply.messages] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert reply.status == 403
    assert orjson.loads(reply.body)["error"] == "FORBIDDEN"


async def test_a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    small = rules(max_body_bytes=1000)
    assert (await ask(small, method="POST", body=[b"x" * 600, b"x" * 400])).body == b"1000"
    assert (await ask(small, method="POST", body=[b"x" * 600, b"x" * 401])).status == 413
    large = rules(max_body_bytes=10**9)
    for judging, length, status in (
        (small, 1000, 200),
        (small, 1001, 413),
        (large, 10**9, 200),
        (large, 10**9 + 1, 413),
    ):
        announced = [("content-type", "application/json"), ("content-length", str(length))]
        assert (await ask(judging, method="POST", headers=announced)).status == status


async def test_an_announced_body_over_the_limit_is_refused_before_it_is_read() -> None:
    async def unread(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application was asked")

    for length in ("1048577", "9" * 30, "9" * 5000):
        reply = await ask(rules(), method="POST", headers=[("content-length", length)], app=unread)
        assert reply.status == 413


@pytest.mark.parametrize("length", ["-1", "+5", "1e3", "", "0x10", "5 5", "\xb2"])
async def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    reply = await ask(rules(), method="POST", headers=[("content-length", length)])
    assert (reply.status, orjson.loads(reply.body)["error"]) == (400, "BAD_CONTENT_LENGTH")


@pytest.mark.parametrize(
    ("encoding", "status"),
    [
        ("gzip", 415),
        ("br", 415),
        ("identity", 200),
        ("Identity", 200),
        ("", 200),
        ("GZIP", 415),
        ("identity, gzip", 415),
    ],
)
async def test_encoded_bodies_are_refused(encoding: str, status: int) -> None:
    reply = await ask(rules(), method="POST", headers=[("content-encoding", encoding)])
    assert reply.status == status
    if status != 200:
        body = orjson.loads(reply.body)
        assert body["error"] == "UNSUPPORTED_ENCODING"
        assert body["action"] == "Correct the request and send it again."  # no other network would help


async def test_too_many_or_too_large_headers_are_refused() -> None:
    assert (await ask(rules(), headers=[(f"x-{n}", "1") for n in range(98)])).status == 200
    assert (await ask(rules(), headers=[(f"x-{n}", "1") for n in range(101)])).status == 431
    assert (await ask(rules(), headers=[("x-same", "1")] * 99)).status == 200
    assert (await ask(rules(), headers=[("x-same", "1")] * 100)).status == 431
    small = replace(rules(), max_header_bytes=1000)
    for name, query in (("x", b""), ("x" * 300, b""), ("x", b"q" * 300)):
        left = 1000 - len("host: localhost\r\n") - len(name) - len(": \r\n") - len(query)
        asked = [await ask(small, headers=[(name, "y" * (left + more))], query=query) for more in (0, 1)]
        assert [reply.status for reply in asked] == [200, 431]


@pytest.mark.parametrize("path", ["http://evil.example/api", "*", "", "/api\0x"])
async def test_a_target_that_is_no_path_is_refused(path: str) -> None:
    assert (await ask(rules(), path=path)).status == 400


@pytest.mark.parametrize("sane", ["abc-123", "0190b4c2-7f0e-7cc0-8a3e-000000000001", "a" * 64])
async def test_a_sane_request_id_is_kept(sane: str) -> None:
    assert (await ask(rules(), headers=[("x-request-id", sane)])).headers["x-request-id"] == sane


@pytest.mark.parametrize("bad", ["", "a b", "a" * 65, "x\r\ny: z", "<b>", "é"])
async def test_an_odd_request_id_is_replaced(bad: str) -> None:
    given = (await ask(rules(), headers=[("x-request-id", bad)])).headers["x-request-id"]
    assert given != bad
    assert len(given) == 32


async def test_what_a_route_says_of_itself_stays_and_is_not_said_twice() -> None:
    own = [(b"x-request-id", b"own"), (b"cache-control", b"private"), (b"x-frame-options", b"SAMEORIGIN")]

    async def telling(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": b""})

    said = (await ask(rules(), app=telling)).messages[0]["headers"]
    names = {name for name, _ in own}
    assert [header for header in said if header[0] in names] == own


async def test_two_request_ids_are_replaced() -> None:
    reply = await ask(rules(), headers=[("x-request-id", "a"), ("x-request-id", "b")])
    assert len(reply.headers["x-request-id"]) == 32


async def test_a_refusal_has_the_common_body_and_the_common_headers() -> None:
    reply = await ask(rules(), peer=OUTSIDE, headers=[("x-request-id", "me-1")])
    body = orjson.loads(reply.body)
    assert set(body) == ERROR_KEYS | {"detail"}
    assert body["ref_id"] == reply.headers["x-request-id"] == "me-1"
    assert body["message"] == f"Access denied from {OUTSIDE}"
    assert "allowed network" in body["action"]
    assert (body["http_status"], body["code"], body["error"]) == (403, "FORBIDDEN", "FORBIDDEN")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-type"] == "application/json"


async def test_every_reply_has_the_security_headers() -> None:
    headers = (await ask(rules())).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["content-security-policy"].startswith("default-src 'none'; frame-ancestors 'none'")
    assert "strict-transport-security" not in headers
    assert "x-xss-protection" not in headers
    assert "server" not in headers


async def test_tls_is_made_strict_also_when_a_trusted_proxy_ends_it() -> None:
    assert "strict-transport-security" in (await ask(rules(), scheme="https")).headers
    proto = [("x-forwarded-proto", "https")]
    behind = await ask(rules(proxies=(PROXY,)), peer=PROXY, headers=forwarded("10.0.0.1") + proto)
    assert "strict-transport-security" in behind.headers
    assert "strict-transport-security" not in (await ask(rules(), headers=proto)).headers


async def test_vary_is_appended_to_what_a_route_said() -> None:
    async def varying(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Vary", b"Origin")]})
        await send({"type": "http.response.body", "body": b""})

    vary = (await ask(rules(), app=varying)).headers["vary"]
    assert vary == "Origin, Accept, Accept-Encoding, Authorization"


async def test_pages_for_people_may_load_their_own_scripts_only() -> None:
    policy = (await ask(rules(), path="/")).headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    ("method", "path", "status", "rule"),
    [
        ("GET", "/api/v1/images", 200, b"private, no-cache"),
        ("GET", "/api/v1/images/7", 404, b"no-store"),
        ("POST", "/api/v1/images", 200, b"no-store"),
        ("GET", "/api/v1/jobs", 200, b"no-cache, no-store, must-revalidate"),
        ("GET", "/absurd/tasks", 200, b"no-cache, no-store, must-revalidate"),
        ("GET", "/api/v1/stats", 200, b"no-cache, no-store, must-revalidate"),
    ],
)
def test_errors_and_live_replies_are_not_kept(method: str, path: str, status: int, rule: bytes) -> None:
    assert cache_control(method, path, status) == rule


async def test_head_is_get_without_its_body() -> None:
    reply = await ask(rules(), method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["etag"] == '"x"'


@pytest.mark.parametrize(("host", "status"), [("localhost", 200), ("evil.example", 421)])
async def test_the_server_sees_head_when_the_reply_begins(host: str, status: int) -> None:
    routed: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed.append(scope["method"])
        await echo(scope, receive, send)

    reply = await ask(rules(), method="HEAD", host=host, app=app)
    assert (reply.status, reply.scope["method"], routed) == (status, "HEAD", ["GET"] * (status == 200))


async def test_head_that_takes_too_long_is_answered_as_head() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    gate_rules = replace(rules(), limits=ExchangeLimits(request_s=0.01))
    reply = await ask(gate_rules, method="HEAD", app=app)
    assert (reply.status, reply.body, reply.scope["method"]) == (503, b"", "HEAD")


@pytest.mark.parametrize(
    ("asked", "status"), [('"x"', 304), ('W/"x"', 304), ('"y", "x"', 304), ("*", 304), ('"y"', 200), ("x", 200)]
)
async def test_what_the_client_already_has_is_not_sent_again(asked: str, status: int) -> None:
    reply = await ask(rules(), headers=[("if-none-match", asked)])
    assert reply.status == status
    assert (reply.body == b"") == (status == 304)


async def test_a_known_reply_is_sent_like_one_that_is_made() -> None:
    headers_of_it = [(b"etag", b'"x"'), (b"content-length", b"5")]
    known = FakeMemory(KeptReply({}, CacheRule("tests", ()), (), 0.0, headers_of_it, b"known", 0, None))
    for method, headers, status, body in (
        ("GET", [], 200, b"known"),
        ("HEAD", [], 200, b""),
        ("GET", [("if-none-match", '"x"')], 304, b""),
        ("POST", [], 200, b"0"),
    ):
        reply = await ask(rules(), method=method, headers=headers, memory=known)
        assert (reply.status, reply.body) == (status, body)
        assert reply.headers["etag"] == '"x"'
        assert reply.headers["x-frame-options"] == "DENY"


async def test_a_reply_that_is_sent_again_in_one_piece_is_the_one_that_was_made() -> None:
    """Three times: when its headers are put together, when they are remembered, and with a header that cannot be."""
    sent: list[bytes] = []

    def in_one_piece(status: int, headers: Any, body: bytes, common: bytes = b"") -> bool:
        own = [b"%b: %b" % header for header in headers if header[0] != b"x-ratelimit-reset"]  # it is a time
        sent.append(b"\n".join([b"%d" % status, *sorted([*common.split(b"\r\n"), *own]), body]))
        return bool(common)

    headers_of_it = [(b"etag", b'"x"'), (b"content-length", b"5"), (b"vary", b"Range")]
    for extra, is_remembered in (([], True), ([(b"x-name", b"a\r\nset-cookie: b")], False)):
        known = FakeMemory(KeptReply({}, CacheRule("tests", ()), (), 0.0, [*headers_of_it, *extra], b"known", 0, None))
        for origin in ("https://pages.example.org", "https://evil.example", None):
            for scheme in ("http", "https", "http"):
                asked: dict[str, Any] = {
                    "headers": [("origin", origin), ("x-request-id", "r")] if origin else [("x-request-id", "r")],
                    "scheme": scheme, "memory": known, "admission": doorkeeper(),
                }  # fmt: skip
                made = await ask(rules(), **asked)
                asked["admission"] = doorkeeper()
                again = await ask(rules(), **asked, state={"in_one_piece": in_one_piece})
                lines = [
                    f"{name}: {text}".encode() for name, text in made.headers.items() if name != "x-ratelimit-reset"
                ]
                assert any(line.startswith(b"x-ratelimit-remaining: ") for line in lines)
                if is_remembered:
                    assert again.messages == []
                    assert sent.pop() == b"\n".join([b"200", *sorted([b"", *lines]), b"known"])
                else:
                    assert again.headers.keys() == made.headers.keys()  # the server's own way, which judges them


async def test_who_was_let_in_before_changes_nothing_for_who_says_the_same() -> None:
    """A judge that remembers answers as one that judges the first time, whatever it let pass before."""
    head = [("origin", "https://evil.example"), ("x-forwarded-for", "10.0.0.9")]
    requests: list[dict[str, Any]] = [
        {"peer": peer, "method": method, "kind": kind, "path": path, "headers": headers}
        for peer in ("10.1.2.3", OUTSIDE, PROXY, None)
        for method, kind in (("GET", "http"), ("POST", "http"), ("GET", "websocket"))
        for path in ("/api/v1/images", "/api/v1/health")
        for headers in (head, head[1:])
    ]
    of_all, remembering = rules(proxies=(PROXY,)), Judge(rules(proxies=(PROXY,)))
    for request in (*requests, *reversed(requests)):
        first, again = await ask(of_all, **request), await ask(of_all, **request, judge=remembering)
        assert (again.messages[0].get("code"), again.status, again.client) == (
            first.messages[0].get("code"), first.status, first.client,
        ), request  # fmt: skip


def test_a_judge_remembers_some_heads_and_no_more() -> None:
    judge = Judge(rules())
    for number in range(300):
        head = judge.read([(b"host", b"localhost"), (b"x-number", b"%d" % number)])
        judge.let_pass(head, "10.1.2.3", "GET", websocket=False, is_open=False)
    assert [kept.cache_info().currsize for kept in (judge._read, judge._let_pass)] == [256, 256]


async def test_what_was_done_is_told_whatever_the_client_already_has() -> None:
    reply = await ask(rules(), method="POST", headers=[("if-none-match", "*")])
    assert (reply.status, reply.body == b"") == (200, False)


async def test_lifespan_messages_pass_the_gate() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await Gate(app, rules(), doorkeeper(), meter())({"type": "lifespan"}, _nothing, _nothing)
    assert seen == ["lifespan"]


async def _nothing(*_: Any) -> Any:
    return None


async def test_a_path_with_line_breaks_makes_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dsa110_contimg.api.access")
    await ask(rules(), path="/api/\nforged line")
    (record,) = caplog.records
    assert "\n" not in record.getMessage()


# --- who is let in ----------------------------------------------------------------------------------------------------

GOOD, GOOD_RECORD = create_key("observer", ["ops"], 0.0, None)
WRONG = f"{GOOD[:20]}{'x' * 43}"


class FakeAccess:
    """Knows one key until it is ``taken_back``; with ``broken`` its database is away."""

    def __init__(self) -> None:
        self.asked = 0
        self.broken = self.taken_back = False
        self.denied: list[Change] = []

    async def authenticate(self, presented: str) -> Principal:
        self.asked += 1
        if self.broken:
            raise DatabaseBusyError("busy")
        if presented != GOOD or self.taken_back:
            raise AuthenticationError("not known")
        return Principal("observer", GOOD_RECORD.id, frozenset({"ops"}))

    async def redeem(self, ticket: str) -> Principal:
        return await self.authenticate(ticket)

    async def deny(self, presented: str, change: Change) -> None:
        self.denied.append(change)


def with_keys(access: FakeAccess, **rates: Rate) -> Admission:
    counted = RateLimiter(RateLimitConfig(store="memory", **rates), "")
    return Admission(AdmissionRules(key_header="X-Telescope"), counted, lambda scope: access)


async def test_the_gate_says_who_shows_a_key_or_why_it_is_of_no_use() -> None:
    access = FakeAccess()
    admission = with_keys(access)
    for headers in ([("X-Telescope", GOOD)], [("authorization", f"Bearer {GOOD}")]):
        assert (await ask(rules(), headers=headers, admission=admission)).scope["state"][
            "principal"
        ].actor == "observer"
    state = (await ask(rules(), headers=[("x-telescope", WRONG)], admission=admission)).scope["state"]
    assert isinstance(state["denied"], AuthenticationError) and "principal" not in state
    assert [(change.action, change.path) for change in access.denied] == [("GET with a wrong key", "/api/v1/images")]
    access.broken = True
    state = (await ask(rules(), headers=[("x-telescope", GOOD)], admission=admission)).scope["state"]
    assert isinstance(state["denied"], DatabaseBusyError)
    asked = access.asked
    for odd in ([], [("x-telescope", " ")], [("authorization", "Basic x")], [("authorization", "Bearer")]):
        state = (await ask(rules(), headers=odd, admission=admission)).scope["state"]
        assert not {"denied", "principal"} & set(state)
    assert access.asked == asked


async def test_one_key_is_not_guessed_for_ever_from_many_addresses() -> None:
    access = FakeAccess()
    admission = with_keys(access)

    async def guess(key: str, number: int) -> int:
        peer = f"10.0.{number // 200}.{number % 200}"
        return (await ask(rules(), peer=peer, headers=[("x-telescope", key)], admission=admission)).status

    assert [await guess(WRONG, number) for number in range(102)] == [200] * 100 + [429] * 2
    assert access.asked == 100
    assert await guess(GOOD, 1) == 429  # nor who has the key, until the hour is over ...
    told = await ask(rules(), peer="10.0.9.9", headers=[("x-telescope", WRONG)], admission=admission)
    assert 3500 < int(told.headers["retry-after"]) <= 3600
    assert await guess(create_key("another", [], 0.0, None)[0], 400) == 200  # others are not to suffer for it
    admission = with_keys(access)
    assert await guess(GOOD, 1) == 200
    assert [await guess(WRONG, number) for number in range(2, 102)] == [200] * 100
    assert await guess(GOOD, 1) == 200  # ... unless it was shown here before
    assert await guess(WRONG, 300) == 200  # and then the count begins anew


async def test_nonsense_for_keys_from_many_addresses_keeps_out_nobody_whose_token_or_key_has_another_form() -> None:
    class Signed(FakeAccess):
        async def authenticate(self, presented: str) -> Principal:
            return await super().authenticate(GOOD if presented == "head.claims.signature" else presented)

    admission = with_keys(Signed())

    async def shown(key: str, number: int) -> dict[str, Any]:
        state: dict[str, Any] = (
            await ask(rules(), peer=f"10.0.{number}.1", headers=[("x-telescope", key)], admission=admission)
        ).scope["state"]
        return state

    for number in range(101):
        assert "denied" in await shown(f"nonsense {number}", number)
    assert "principal" in await shown("head.claims.signature", 200)


async def test_a_thousand_keys_are_remembered_and_no_more() -> None:
    class Generous(FakeAccess):
        async def authenticate(self, presented: str) -> Principal:
            return Principal(presented, presented)

    admission = with_keys(Generous())
    for number in [*range(1024), 0, *range(1024, 1100)]:
        await ask(rules(), headers=[("x-telescope", f"key {number}")], admission=admission)
    last = [*range(77, 1024), 0, *range(1024, 1100)]
    kept = [hashlib.blake2b(f"key {number}".encode(), digest_size=16).digest() for number in last]
    assert list(admission._known) == kept, "those that were shown last"
    assert len(kept) == 1024


async def test_random_keys_do_not_make_more_of_one_address() -> None:
    admission = with_keys(FakeAccess(), minute=Rate(50), failed_keys=Rate(0))
    replies = [
        (await ask(rules(), headers=[("x-telescope", f"{number}")], admission=admission)).status
        for number in range(200)
    ]
    assert replies == [200] * 50 + [429] * 150
    admission = with_keys(FakeAccess(), minute=Rate(50), failed_keys=Rate(7))
    replies = [
        (await ask(rules(), headers=[("x-telescope", f"{number}")], admission=admission)).status for number in range(9)
    ]
    assert replies == [200] * 7 + [429] * 2


async def test_where_too_many_keys_were_wrong_no_other_is_looked_at_unless_it_was_right_before() -> None:
    access = FakeAccess()
    admission = with_keys(access, failed_keys=Rate(2))
    known, unknown = [("x-telescope", GOOD)], [("authorization", f"Bearer {WRONG}")]

    async def statuses(peer: str, *shown: Headers) -> list[int]:
        return [(await ask(rules(), peer=peer, headers=key, admission=admission)).status for key in shown]

    assert await statuses("10.1.2.3", unknown, unknown, unknown, known) == [200, 200, 429, 429]
    assert access.asked == 2
    assert await statuses("10.1.2.4", known, unknown, unknown, unknown, known) == [200, 200, 200, 429, 200]
    assert await statuses("10.1.2.3", known) == [200], "it has been right meanwhile"


async def test_a_key_that_was_taken_back_is_looked_at_no_more_often_than_a_wrong_one() -> None:
    access = FakeAccess()
    admission = with_keys(access, failed_keys=Rate(2))
    statuses = []
    for _ in range(6):
        statuses.append((await ask(rules(), headers=[("x-telescope", GOOD)], admission=admission)).status)
        access.taken_back = True
    assert statuses == [200, 200, 200, 429, 429, 429]
    assert access.asked == 3


async def test_this_machine_is_not_counted_where_that_is_set_and_no_proxy_stands_before_it() -> None:
    rates = RateLimitConfig(store="memory", minute=Rate(2), failed_keys=Rate(2))
    wrong, proxied = [("x-api-key", WRONG)], forwarded("127.0.0.1")
    for spare, headers, last in (
        (True, [], 200), (True, wrong, 200), (True, proxied, 429), (True, [*wrong, *proxied], 429),
        (False, [], 429), (False, wrong, 429),
    ):  # fmt: skip
        access = FakeAccess()
        admission = Admission(AdmissionRules(spare_loopback=spare), RateLimiter(rates, ""), lambda _, to=access: to)
        replies = [await ask(rules(), peer="127.0.0.1", headers=headers, admission=admission) for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 200, last, last], (spare, headers)
        assert ("x-ratelimit-limit" in replies[0].headers) is (last == 429)
    assert not AdmissionRules().spare_loopback
    unlimited = Admission(AdmissionRules(), RateLimiter(RateLimitConfig(disabled=True), ""), lambda _: FakeAccess())
    assert (await ask(rules(), headers=wrong, admission=unlimited)).status == 200


async def test_each_key_is_counted_by_itself_and_who_needs_none_by_the_address() -> None:
    class Open(FakeAccess):
        async def authenticate(self, presented: str) -> Principal:
            return Principal("anybody", None if presented == "none" else presented)

    admission = with_keys(Open(), minute=Rate(1), write=Rate(1))

    async def status(peer: str, key: str, method: str = "GET") -> int:
        return (
            await ask(rules(), peer=peer, method=method, headers=[("x-telescope", key)], admission=admission)
        ).status

    assert [await status("10.0.0.1", key) for key in ("a", "a", "b", "none", "none")] == [200, 429, 200, 200, 429]
    assert [await status("10.0.0.2", key) for key in ("a", "none")] == [429, 200]
    assert [await status("10.0.0.3", "a", "POST") for _ in range(2)] == [200, 429], "changes are another count"


async def test_where_reading_needs_a_key_it_has_the_scope_for_it() -> None:
    class Reader(FakeAccess):
        async def authenticate(self, presented: str) -> Principal:
            if presented == "old":
                raise AuthenticationError("It has expired.")
            may_read = presented in ("reader", RIGHT_TICKET)
            return Principal(presented, presented, frozenset({"read"} if may_read else {"ops"}))

    limiter = RateLimiter(RateLimitConfig(store="memory"), "")
    admission = Admission(AdmissionRules(read_needs_key=True), limiter, lambda _: Reader())

    async def told(key: str | None, **asked: Any) -> int:
        headers = [("x-api-key", key)] if key else []
        reply = await ask(rules(), headers=headers, admission=admission, **asked)
        return int(reply.messages[0].get("code") or reply.status)

    for method in ("GET", "HEAD"):
        assert [await told(key, method=method) for key in (None, "operator", "reader")] == [401, 403, 200]
    assert [await told(key, kind="websocket") for key in (None, "operator", "reader")] == [1008, 1008, 200]
    shown = [("dsa110", ticket) for ticket in (RIGHT_TICKET, WRONG_TICKET)]  # the second is of one who may not read
    assert [await told(None, kind="websocket", protocols=offered) for offered in shown] == [200, 1008]
    for method in ("POST", "OPTIONS"):
        assert [await told(key, method=method) for key in (None, "operator")] == [200, 200], "the route judges"
    for headers, why in (([], "Reading needs an API key here."), ([("x-api-key", "old")], "It has expired.")):
        assert orjson.loads((await ask(rules(), headers=headers, admission=admission)).body)["message"] == why
    for path in ("/", "/web/page.js", "/api/docs", "/api/openapi.json"):
        assert await told(None, path=path) == 200, path


@pytest.mark.slow
async def test_ten_thousand_random_keys_of_one_address_are_one_client_in_little_memory() -> None:
    admission = with_keys(FakeAccess(), minute=Rate(50), failed_keys=Rate(10))
    tracemalloc.start()
    try:
        passed = 0
        for number in range(10_000):
            key = f"dsa110_{number:012x}.{'x' * 43}"
            reply = await ask(rules(), headers=[("x-telescope", key)], admission=admission)
            passed += reply.status == 200
        del reply
        held_bytes = sum(
            found.size
            for found in tracemalloc.take_snapshot().statistics("filename")
            if found.traceback[0].filename.endswith(("admission.py", "rate_limiter.py", "rate_windows.py", "rates.py"))
        )
    finally:
        tracemalloc.stop()
    assert passed == 10
    assert len(admission.limiter._memory._windows) <= 2
    print(f"{held_bytes} bytes")
    assert held_bytes < 1 << 20


async def test_what_is_in_flight_and_open_is_counted_down_again_whatever_happens() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    admission = doorkeeper(max_in_flight=1, max_websockets_per_address=1)
    for kind in ("http", "websocket") * 2:
        with pytest.raises(ZeroDivisionError):
            await ask(rules(), kind=kind, app=broken, admission=admission)
    assert (await ask(rules(), admission=admission)).status == 200


async def test_too_many_websockets_of_an_address_are_refused_with_a_close_code_for_later() -> None:
    admission = doorkeeper(max_websockets_per_address=1)
    refused: list[Reply] = []

    async def nested(scope: Any, receive: Any, send: Any) -> None:
        refused.append(await ask(rules(), kind="websocket", admission=admission))

    await ask(rules(), kind="websocket", app=nested, admission=admission)
    assert refused[0].messages == [{"type": "websocket.close", "code": 1013, "reason": "TOO_MANY_WEBSOCKETS"}]


def test_who_leaves_makes_room_for_one_websocket_and_not_for_more() -> None:
    admission = doorkeeper(max_websockets_per_address=2, spare_loopback=True)
    client, loopback = Client.at(ip_address("10.1.2.3")), Client.at(ip_address("127.0.0.1"))
    with admission.open_socket(client, forwarded=False):
        with admission.open_socket(client, forwarded=False):
            pass
        with admission.open_socket(client, forwarded=False):
            with pytest.raises(RefusedError) as refused, admission.open_socket(client, forwarded=False):
                pass
            assert (refused.value.status_code, refused.value.headers) == (429, {"Retry-After": "1"})
            with admission.open_socket(Client.at(ip_address("10.1.2.4")), forwarded=False):
                pass  # another address
    assert not admission._sockets, "nobody is remembered who has left"
    with ExitStack() as many:
        for _ in range(3):
            many.enter_context(admission.open_socket(loopback, forwarded=False))  # it is not counted ...
        with pytest.raises(RefusedError):
            many.enter_context(admission.open_socket(loopback, forwarded=True))  # ... unless a proxy stands before it


# --- pages of other origins, kinds of bodies --------------------------------------------------------------------------

PAGE = "https://pages.example.org"


async def test_a_configured_page_may_read_replies_and_errors_and_nobody_else_may() -> None:
    for path, status in (("/api/v1/images", 200), ("*", 400)):
        reply = await ask(rules(), path=path, headers=[("origin", PAGE)])
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (status, PAGE)
        assert "X-RateLimit-Remaining" in reply.headers["access-control-expose-headers"]
        assert reply.headers["cross-origin-resource-policy"] == "cross-origin"
        assert reply.headers["vary"] == "Origin, Accept, Accept-Encoding, Authorization"
    for other in (f"{PAGE}.evil.example", "http://pages.example.org", f"{PAGE}:444", "null", PAGE.upper()):
        reply = await ask(rules(), headers=[("origin", other)])
        assert not [name for name in reply.headers if name.startswith("access-control")]
        assert reply.headers["vary"].startswith("Origin")
    twice = await ask(rules(), headers=[("origin", PAGE), ("origin", PAGE)])
    assert "access-control-allow-origin" not in twice.headers
    assert "access-control-allow-credentials" not in (await ask(rules(), headers=[("origin", PAGE)])).headers


async def test_a_browser_that_asks_before_it_asks_is_told_what_it_may() -> None:
    asking = [("access-control-request-method", "POST"), ("access-control-request-headers", "x-api-key")]
    reply = await ask(rules(), method="OPTIONS", headers=[("origin", PAGE), *asking])
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert "X-API-Key" in reply.headers["access-control-allow-headers"]
    assert reply.headers["access-control-max-age"] == "600"
    foreign = await ask(rules(), method="OPTIONS", headers=[("origin", "https://evil.example"), *asking])
    assert (foreign.status, foreign.headers.get("access-control-allow-origin")) == (403, None)
    outside = await ask(rules(), method="OPTIONS", peer=OUTSIDE, headers=[("origin", PAGE), *asking])
    assert outside.status == 403
    assert (await ask(rules(), method="OPTIONS", headers=[("origin", PAGE)])).body == b"0"  # the application's affair


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "nonsense"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_browser_that_names_no_origin_but_another_site_changes_nothing(site: str, kind: str) -> None:
    reply = await ask(rules(), kind=kind, method="POST", headers=[("sec-fetch-site", site)])
    assert reply.status == 403 or reply.messages[0]["type"] == "websocket.close"
    assert (await ask(rules(), headers=[("sec-fetch-site", site)])).status == 200  # reading is another matter


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_a_page_of_this_server_and_a_person_change_things(site: str) -> None:
    assert (await ask(rules(), method="POST", headers=[("sec-fetch-site", site)])).status == 200


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/json ; charset=utf-8", 200),
        ("APPLICATION/JSON", 200),
        ("application/merge-patch+json", 200),
        ("text/plain", 415),
        ("text/plain; application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=application/json", 415),
        ("application/jsonx", 415),
        ("application/json, text/plain", 415),
        ("", 415),
    ],
)
async def test_a_body_is_json_under_its_own_name(kind: str, status: int) -> None:
    """A form or a script of another page can send the three simple kinds without asking first."""
    for size in (("content-length", "2"), ("transfer-encoding", "chunked")):
        reply = await ask(rules(), method="POST", body=[b"{}"], headers=[("content-type", kind), size])
        assert reply.status == status
        assert status == 200 or orjson.loads(reply.body)["error"] == "UNSUPPORTED_MEDIA_TYPE"
    none = await ask(rules(), method="POST", headers=[("content-type", kind), ("content-length", "0")])
    assert none.status == 200


async def test_of_a_handshake_no_body_is_read_whatever_it_says_of_one() -> None:
    for said in (("content-length", "2"), ("content-encoding", "gzip")):
        assert (await ask(rules(), kind="websocket", headers=[said])).body == b"0", "the application was asked"


async def test_a_body_of_no_kind_or_of_two_is_refused() -> None:
    assert (await ask(rules(), method="POST", headers=[("content-length", "2")])).status == 415
    two = [("content-type", "application/json")] * 2 + [("content-length", "2")]
    assert (await ask(rules(), method="POST", headers=two)).status == 415


def test_who_comes_when_too_many_are_ahead_is_refused_though_nobody_is_worked_at() -> None:
    admission = doorkeeper(max_in_flight=3, max_websockets_per_address=1)
    with admission.in_flight(ahead=2):
        pass
    with pytest.raises(RefusedError) as refused, admission.in_flight(ahead=3):
        pass
    assert (refused.value.status_code, refused.value.error_code) == (503, "OVERLOADED")
    assert refused.value.headers["Retry-After"] == "1"


async def test_a_websocket_that_shows_what_is_no_key_is_refused_where_reading_needs_none() -> None:
    for headers, status in (([("x-telescope", WRONG)], 1008), ([("x-telescope", GOOD)], 200), ([], 200)):
        reply = await ask(rules(), kind="websocket", headers=headers, admission=with_keys(FakeAccess()))
        assert (reply.messages[0].get("code") or reply.status) == status, headers


async def test_tickets_are_judged_like_keys_and_wrong_ones_counted_for_their_address() -> None:
    class Clerk(FakeAccess):
        async def redeem(self, ticket: str) -> Principal:
            return await self.authenticate(GOOD if ticket == RIGHT_TICKET else ticket)

    access, found = Clerk(), []
    admission = with_keys(access, failed_keys=Rate(2))
    spared = Admission(
        AdmissionRules(spare_loopback=True), RateLimiter(RateLimitConfig(store="memory"), ""), lambda _: access
    )
    for ticket, peer, keeper in (
        (RIGHT_TICKET, "10.1.2.3", admission), (WRONG_TICKET, "10.1.2.3", admission),
        (WRONG_TICKET, "10.1.2.3", admission), (RIGHT_TICKET, "10.1.2.3", admission),
        *[(WRONG_TICKET, "127.0.0.1", spared)] * 12,
    ):  # fmt: skip
        offered = ("dsa110", ticket)
        reply = await ask(rules(), kind="websocket", peer=peer, protocols=offered, admission=keeper)
        found.append(reply.messages[0].get("code") or reply.status)
    assert found == [200, 1008, 1008, 1013, *[1008] * 12]
    admission = with_keys(access, failed_keys=Rate(1))
    for broken, code in ((True, 1013), (True, 1013), (False, None)):
        access.broken = broken
        reply = await ask(rules(), kind="websocket", protocols=("dsa110", RIGHT_TICKET), admission=admission)
        assert reply.messages[0].get("code") == code, "the database of keys is away, and the ticket not to blame"
    assert reply.scope["state"]["principal"].actor == "observer"


RIGHT_TICKET, WRONG_TICKET = "ticket_" + "r" * 43, "ticket_" + "w" * 43
