"""The reply of the connection to those who come while too much is asked: the gate's, wherever it is given at all."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import orjson
import pytest

from dsa110_contimg.api.access_settings import RateLimitConfig
from dsa110_contimg.api.middleware.admission import Admission, AdmissionRules
from dsa110_contimg.api.middleware.busy import BusyReply
from dsa110_contimg.api.middleware.cross_origin import CrossOriginRule
from dsa110_contimg.api.middleware.gate import OPEN_PATHS, Gate
from dsa110_contimg.api.middleware.judge import GateRules
from dsa110_contimg.api.middleware.meter import REQUESTS, RESPONSE_SIZE, RequestMeter
from dsa110_contimg.api.security import ClientAddressRule, HostRule, NetworkSet, OriginRule
from dsa110_contimg.api.services.rate_limiter import RateLimiter
from dsa110_contimg.api.tally import Tally

CROSSING = CrossOriginRule(frozenset({"https://pages.example.org"}))
LOOPBACK = NetworkSet.of([ip_network("127.0.0.0/8")])


def scope(path: str = "/api/v1/images", method: str = "GET", scheme: str = "http", **headers: str) -> dict[str, Any]:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http", "method": method, "path": path, "query_string": b"limit=1", "scheme": scheme,
        "headers": [(b"host", b"localhost"), *given], "client": ("127.0.0.1", 5000), "state": {"ahead": 3},
    }  # fmt: skip


def text_of(asked: dict[str, Any]) -> bytes:
    """Return a request as it comes on a connection."""
    lines = b"".join(b"%b: %b\r\n" % pair for pair in asked["headers"])
    target = b"%b?%b" % (asked["path"].encode(), asked["query_string"])
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (asked["method"].encode(), target, lines)


def told_by(reply: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """Return headers and body of what follows the status line."""
    head, _, body = reply.partition(b"\r\n\r\n")
    return dict(line.split(b": ", 1) for line in head.split(b"\r\n")), body


def counted(directory: Path) -> tuple[float, float]:
    """Return how many refusals were counted, and their bytes."""
    found = {
        (sample.name, sample.labels.get("status")): sample.value
        for family in Tally(directory).families()
        for sample in family.samples
        if sample.labels.get("handler") == "none"
    }
    return found[f"{REQUESTS.name}_total", "5xx"], found[f"{RESPONSE_SIZE.name}_sum", None]


@pytest.fixture
def tally(tmp_path: Path) -> Any:
    opened = Tally(tmp_path)
    opened.open()
    yield opened
    opened.close()


def busy_reply(tally: Tally) -> BusyReply:
    return BusyReply(3, CROSSING, RequestMeter(tally))


async def by_gate(asked: dict[str, Any], tally: Tally) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return what the gate says to a request that has so many before it as may be."""
    rules = GateRules(
        ClientAddressRule(LOOPBACK, NetworkSet.of([])), HostRule(frozenset(), LOOPBACK), OriginRule(CROSSING.origins),
        CROSSING,
    )  # fmt: skip
    limiter = RateLimiter(RateLimitConfig(store="memory"), "")
    gate = Gate(_nobody, rules, Admission(AdmissionRules(max_in_flight=3), limiter), RequestMeter(tally))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await gate(asked, _nobody, send)
    return sent[0]["status"], sent[0]["headers"], sent[1]["body"]


async def _nobody(*_: Any) -> Any:
    raise AssertionError("nothing is read, and no application asked")


@pytest.mark.parametrize("path", ["/api/v1/images", "/api/images/7", "/api/v1/jobs", "/api/v1/stats"])
async def test_it_is_the_gates_byte_for_byte_but_for_its_id_and_counted_alike(
    path: str, tally: Tally, tmp_path: Path
) -> None:
    reply = busy_reply(tally)(text_of(scope(path)), "127.0.0.1")
    assert reply is not None
    ours, body = told_by(reply)
    first = counted(tmp_path)
    theirs = await by_gate(scope(path), tally)
    assert counted(tmp_path) == (2 * first[0], 2 * first[1]) == (2.0, 2.0 * len(body))
    gates = dict(theirs[1])
    ids = ours.pop(b"x-request-id").decode(), gates.pop(b"x-request-id").decode()
    assert (503, ours) == (theirs[0], gates)
    told = [orjson.loads(text) for text in (body, theirs[2])]
    for said, its_id in zip(told, ids, strict=True):
        assert re.fullmatch("[0-9a-f]{32}", its_id) and said.pop("ref_id") == its_id
    assert told[0].pop("trace_id") != told[1].pop("trace_id")
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "asked",
    [
        *(scope(path) for path in sorted(OPEN_PATHS)), scope("/"), scope("/web/index.html"), scope("/absurd/tasks"),
        scope("/api/docs"), scope("/api/docs/x.css"), scope("/api/redoc"),
        *(scope(method=method) for method in ("HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")),
        scope(origin="https://pages.example.org"), scope(x_request_id="mine"),
    ],
    ids=lambda asked: f"{asked['method']} {asked['scheme']} {asked['path']} {dict(asked['headers'][1:])}",
)  # fmt: skip
def test_what_the_gate_may_answer_otherwise_is_left_to_it(asked: dict[str, Any], tally: Tally) -> None:
    assert busy_reply(tally)(text_of(asked), "127.0.0.1") is None


async def test_no_two_have_one_id(tally: Tally) -> None:
    busy = busy_reply(tally)
    replies = [told_by(reply) for _ in range(20) if (reply := busy(text_of(scope()), "127.0.0.1"))]
    assert len({headers[b"x-request-id"] for headers, _ in replies}) == 20
    assert len({orjson.loads(body)["trace_id"] for _, body in replies}) == 20
