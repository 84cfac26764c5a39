"""Readers of what strangers send, by chance: whatever comes, they return what they promise or refuse in their words.

``EXAMPLES=100`` in the environment asks a hundred times as much.
"""

import json
import math
import os
import string
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_contimg.absurd.cron import Cron, ScheduleError
from dsa110_contimg.api.access_settings import AuthConfig
from dsa110_contimg.api.credentials import presented_key, split_key
from dsa110_contimg.api.exceptions import AuthenticationError, ValidationError
from dsa110_contimg.api.file_reply import UnsatisfiableRangeError, parse_range
from dsa110_contimg.api.middleware.bases import BASE, canonical
from dsa110_contimg.api.middleware.judge import Client, GateRules, Judge
from dsa110_contimg.api.pages import read_cursor, write_cursor
from dsa110_contimg.api.security import ClientAddressRule, HostRule, NetworkSet, OriginRule, RefusedError
from dsa110_contimg.api.services.tokens import TokenVerifier
from dsa110_contimg.api.strict_json import strict_json
from dsa110_contimg.api.validation import parse_time

ask = settings(max_examples=100 * int(os.environ.get("EXAMPLES", "1")), deadline=None)


def near(*parts: str) -> st.SearchStrategy[str]:
    """Return texts of pieces that mean something, and of anything else."""
    return st.lists(st.one_of(st.sampled_from(parts), st.text(max_size=4)), max_size=12).map("".join)


def sent(texts: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Return texts as a header can have them."""
    return texts.map(lambda text: text.encode("latin-1", "replace"))


def networks(*names: str) -> NetworkSet:
    return NetworkSet.of(ip_network(name) for name in names)


CLIENTS = ClientAddressRule(networks("127.0.0.0/8", "10.0.0.0/8", "::1/128", "fc00::/7"), networks("10.0.0.0/24"))
HOSTS = HostRule(frozenset({"dsa.example.org", "*.array.example.org"}), CLIENTS.allowed)
JUDGE = Judge(GateRules(CLIENTS, HOSTS, OriginRule(frozenset({"https://pages.example.org"}))))
HOPS = near(
    "10.0.0.1", "10.9.9.9", "8.8.8.8", "::ffff:10.0.0.1", "[::1]:80", "fe80::1%eth0", "unknown", ",", " ", ":", "[",
    "]", "0x7f", "127.1", "::", "9" * 5000, "\u0661", "\xa0",
)  # fmt: skip
NAMES = near(
    "localhost", "dsa.example.org", "x.array.example.org", "10.0.0.1", "[::1]", ".", ":", "80", "@", "#", "/", ":65536",
    "9" * 5000,
)  # fmt: skip
TEXTS = near(",", ";", "=", "identity", "gzip", "0", "application/json", "same-origin", "https://", "localhost", "null")
PEERS = ["127.0.0.1", "10.0.0.7", "10.9.9.9", "::1", "8.8.8.8", "x", None]
HEADS = st.lists(
    st.one_of(
        st.tuples(st.just(b"x-forwarded-for"), sent(HOPS)),
        st.tuples(st.just(b"content-length"), sent(st.text("09\xb2-", max_size=3))),
        st.tuples(
            st.sampled_from(
                [b"host", b"origin", b"sec-fetch-site", b"content-length", b"content-type", b"content-encoding",
                 b"Origin", b"transfer-encoding", b"access-control-request-method", b"x-other"]
            ),
            sent(st.one_of(TEXTS, NAMES)),
        ),
    ),
    max_size=8,
)  # fmt: skip


@ask
@given(HEADS, st.sampled_from(["localhost", "localhost", "10.0.0.1:80", None]), st.sampled_from(PEERS),
       st.sampled_from(["GET", "POST", "OPTIONS", "ODD"]), st.booleans(), st.booleans())  # fmt: skip
def test_a_head_passes_or_is_refused_and_no_stranger_passes(
    head: list[tuple[bytes, bytes]], host: str | None, peer: str | None, method: str, socket: bool, is_open: bool
) -> None:
    asked = JUDGE.read([(b"host", host.encode()), *head] if host else head)
    try:
        client = JUDGE.let_pass(asked, peer, method, socket, is_open)
    except RefusedError as refused:
        assert 400 <= refused.status_code < 500
        return
    assert is_open or (isinstance(client, Client) and peer in PEERS[:4])


@ask
@given(st.lists(HOPS, min_size=1, max_size=3), st.sampled_from(["8.8.8.8", "2001:db8::1", "10.9.9.9"]))
def test_whatever_a_client_says_the_proxy_behind_it_says_who_it_is(said: list[str], seen: str) -> None:
    assert str(CLIENTS.client("10.0.0.7", [*said, seen])) == seen
    assert str(CLIENTS.client("10.0.0.7", [f"{','.join(said)}, {seen}"])) == seen
    assert str(CLIENTS.client("10.1.0.7", said)) == "10.1.0.7"
    try:
        CLIENTS.client("10.0.0.7", said)
    except RefusedError as refused:
        assert refused.status_code in (400, 403)


@ask
@given(st.one_of(NAMES, st.integers(65_500, 65_600).map("localhost:{}".format)))
def test_a_name_of_a_server_is_one_of_ours_or_refused(name: str) -> None:
    try:
        found, port = HOSTS.require_allowed([name])
    except RefusedError as refused:
        assert refused.status_code in (400, 421)
        return
    assert (
        found in ("localhost", "dsa.example.org", "::1") or found.endswith(".array.example.org") or found[0].isdigit()
    )
    assert found in name.lower() and (port is None or port < 65536)


@ask
@given(
    st.one_of(near("=", "-", "_", "W", "eyJ"), st.binary(max_size=30).map(lambda raw: urlsafe_b64encode(raw).decode())),
    st.sampled_from([(float, int), (str, str), (int, str)]),
)
def test_a_cursor_is_read_as_it_was_written_or_refused(text: str, kinds: tuple[type, type]) -> None:
    try:
        value, key = read_cursor(text, "-created_at", kinds)
    except ValidationError:
        return
    assert read_cursor(write_cursor("-created_at", value, key), "-created_at", kinds) == (value, key)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(-(2**70), 2**70), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
)


@ask
@given(JSON, JSON, st.sampled_from([(float, int), (str, str), (int, str)]))
def test_no_cursor_gives_a_value_of_another_type(value: object, key: object, kinds: tuple[type, type]) -> None:
    text = urlsafe_b64encode(json.dumps(["-created_at", value, key]).encode()).decode().rstrip("=")
    try:
        read = read_cursor(text, "-created_at", kinds)
    except ValidationError:
        return
    assert read == (value, key)
    for found, kind in zip(read, kinds, strict=True):
        assert isinstance(found, (int, float) if kind is float else kind) and not isinstance(found, bool)


@ask
@given(st.one_of(st.none(), near("bytes", "=", "-", ",", "0", "7", "99", "9" * 19, " ")), st.integers(0, 200))
def test_a_range_lies_in_its_file_or_is_refused(header: str | None, size_bytes: int) -> None:
    try:
        part = parse_range(header, size_bytes)
    except UnsatisfiableRangeError:
        return
    assert part is None or 0 <= part[0] <= part[1] < size_bytes


@ask
@given(
    near(
        "2026",
        "-",
        "02",
        "11",
        "T",
        "03:04:05",
        "Z",
        "+23:59",
        "-00:00:01",
        "W07",
        "0001-01-01",
        "9999-12-31",
        "24:00",
        ".1",
    )
)
def test_a_time_is_finite_or_refused(text: str) -> None:
    try:
        assert math.isfinite(parse_time(text, "since"))
    except ValidationError as error:
        assert "is no date" in str(error)


CRON = st.one_of(
    st.sampled_from(["*", "0", "31", "30", "29", "2", "feb", "7", "fri-mon", "*/7", "1,15"]),
    near("*", "/", "-", ",", "0", "31", "7", "2", "feb", "mon", "@daily", "l", "#", "9" * 5000),
)
DAYS = st.builds("0 0 {} {} *".format, st.integers(28, 32), st.integers(0, 13))  # some of them never come
ZONES = st.one_of(
    st.sampled_from(["America", "localtime", "America/Los_Angeles", "a" * 300]),
    near("UTC", "America", "/", "Los_Angeles", "..", "\0", "posixrules"),
)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@ask
@given(st.lists(CRON, min_size=4, max_size=6).map(" ".join), DAYS, ZONES, MOMENTS)
def test_a_schedule_comes_again_within_decades_or_is_refused(
    expression: str, days: str, zone: str, after: datetime
) -> None:
    for asked in ((expression, "America/Los_Angeles"), (days, "UTC"), ("0 0 29 2 *", zone)):
        try:
            tick = Cron(*asked).next(after)
        except ScheduleError:
            continue
        assert after < tick < after + timedelta(days=366 * 40)


PIECES = ("{", "}", "[", "]", ":", ",", '"', "\\ud800", "NaN", "1e999", "-0", "9" * 5000, "\ufeff", "[" * 70)
TEXTS_OF_JSON = st.one_of(
    st.binary(max_size=40),
    near(*PIECES).map(lambda text: text.encode("utf-8", "surrogatepass")),
    JSON.map(lambda value: json.dumps(value).encode()),
)


@ask
@given(TEXTS_OF_JSON)
def test_json_that_is_let_in_can_be_written_again(text: bytes) -> None:
    try:
        value = strict_json(text)
    except json.JSONDecodeError:
        return
    assert orjson.loads(orjson.dumps(value)) == value  # what was let in can be written


@ask
@given(st.lists(st.tuples(
    st.sampled_from([b"X-Telescope", b"x-telescope", b"Authorization", b"other"]),
    sent(near("Bearer", "bearer", " ", "\t", "dsa110_", "0123456789ab", ".", "A" * 43, "Basic", ",")),
), max_size=4))  # fmt: skip
def test_the_key_of_a_head_is_a_word_of_it(head: list[tuple[bytes, bytes]]) -> None:
    shown = presented_key(head, b"x-telescope")
    assert shown is None or shown.strip() == shown != ""
    parts = split_key(shown or "")
    assert parts is None or shown == f"dsa110_{parts[0]}.{parts[1]}"


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> TokenVerifier:
    path: Path = tmp_path_factory.mktemp("provider") / "key.pem"
    public = Ed25519PrivateKey.generate().public_key()
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return TokenVerifier(AuthConfig(jwt_public_key=path, jwt_issuer="https://id.example", jwt_audience="dsa110"))


def part(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


TOKEN_PARTS = st.one_of(
    JSON.map(part), near("=", "-", "eyJ", string.ascii_letters, "\xff"),
    st.fixed_dictionaries(
        {"alg": st.one_of(st.sampled_from(["EdDSA", "none", "HS256", "RS256"]), JSON)},
        optional={"typ": JSON, "kid": JSON, "crit": JSON, "b64": JSON, "jwk": JSON, "zip": JSON},
    ).map(part),
)  # fmt: skip


@ask
@given(st.lists(TOKEN_PARTS, min_size=3, max_size=3))
def test_a_token_that_nobody_signed_is_refused_in_our_words(verifier: TokenVerifier, parts: list[str]) -> None:
    with pytest.raises(AuthenticationError):
        verifier.verify(".".join(parts))


@ask
@given(near("/", "api", "v1", "absurd", "ws", "qa", "..", "%2e", "\\", "openapi.json", "//"))
def test_what_an_alias_means_is_no_alias(path: str) -> None:
    meant = canonical(f"/{path}")
    assert canonical(meant) == meant
    assert meant == f"/{path}" or (meant.startswith(f"{BASE}/") and meant.removeprefix(BASE)[1:] in path)
