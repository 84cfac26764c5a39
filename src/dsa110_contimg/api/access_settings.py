"""Settings about who may ask, what, how often and how long; and what is unsafe about them together."""
# ruff: noqa: RUF009 - setting is dataclasses.field, with our metadata

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dsa110_contimg.api import readings
from dsa110_contimg.api.readings import Network, Rate, setting
from dsa110_contimg.api.security import NetworkSet

PRIVATE_NETWORKS = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
_LARGEST_NETWORK = {4: 8, 6: 7}  # length of the prefix, by version: 10.0.0.0/8, fc00::/7
SHORTEST_KEY = 32
FEWEST_CHARACTERS = 6  # different ones, of a key
#: What stands in examples, or where one began to replace it.
_EXAMPLES = re.compile(
    r"change.?me|example|placeholder|insert.?|your.?(?:secret|password|key)|secret.?key|(?:dev|test|demo).?(?:key|secret)"
    r"|0123456789|deadbeef",
    re.IGNORECASE,
)
_COMMON = frozenset(
    {"postgres", "password", "secret", "admin", "root", "redis", "dsa110", "test", "changeme", "12345678"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessConfig:
    """Who may ask, and how much at once."""

    allowed_ips: tuple[Network, ...] = setting(
        "DSA110_ALLOWED_IPS", tuple(ipaddress.ip_network(net) for net in PRIVATE_NETWORKS), readings.networks,
        "networks whose clients may read",
    )  # fmt: skip
    allow_public: bool = setting(
        "DSA110_ALLOW_PUBLIC",
        False,
        readings.yes_or_no,
        "needed beside an allowed network larger than a /8 (IPv6: a /7)",
    )
    trusted_proxies: tuple[Network, ...] = setting(
        "DSA110_TRUSTED_PROXIES", (), readings.networks, "proxies whose X-Forwarded-For header is believed"
    )
    allowed_hosts: tuple[str, ...] = setting(
        "DSA110_ALLOWED_HOSTS", (), readings.words, "names of this server beside localhost and IP addresses"
    )
    allowed_origins: tuple[str, ...] = setting(
        "DSA110_CORS_ORIGINS", (), readings.origins, "origins of other web pages that may call the API"
    )
    max_body_bytes: int = setting(
        "DSA110_MAX_BODY_BYTES", 1 << 20, readings.whole(1, 1 << 40), "largest request body, bytes"
    )
    max_header_bytes: int = setting(
        "DSA110_MAX_HEADER_BYTES", 16384, readings.whole(256, 1 << 24), "all request headers together, bytes"
    )
    max_headers: int = setting("DSA110_MAX_HEADERS", 100, readings.whole(1, 10000), "most request headers")
    max_in_flight: int = setting(
        "DSA110_MAX_IN_FLIGHT", 100, readings.whole(1, 100000),
        "most requests that one process works at; what comes on top gets 503, but for plain health and metrics",
    )  # fmt: skip
    max_websockets: int = setting(
        "DSA110_MAX_WEBSOCKETS", 10000, readings.whole(1, 100000), "most WebSockets that one process keeps open"
    )
    max_websockets_per_address: int = setting(
        "DSA110_MAX_WEBSOCKETS_PER_ADDRESS", 20, readings.whole(1, 100000), "most of them of one address"
    )
    header_timeout_s: float = setting(
        "DSA110_TIMEOUT_HEADERS", 10.0, readings.number(0.1, 3600), "wait for all headers of a request, s"
    )
    idle_timeout_s: float = setting(
        "DSA110_TIMEOUT_IDLE", 30.0, readings.number(0.1, 3600),
        "wait for the next part of a body, and for a client to take the next part of a reply, s",
    )  # fmt: skip
    request_timeout_s: float = setting(
        "DSA110_TIMEOUT_REQUEST", 30.0, readings.number(0.1, 3600), "longest time until a reply begins, s"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """Who may change something."""

    environment: str = setting(
        "DSA110_ENV", "production", readings.one_of("development", "testing", "staging", "production"),
        "what this installation is for; what is not said is production",
    )  # fmt: skip
    api_key_header: str = setting(
        "DSA110_API_KEY_HEADER", "X-API-Key", readings.header_name, "header that carries an API key"
    )
    api_keys: tuple[str, ...] = setting(
        "DSA110_API_KEYS", (), readings.words,
        "further keys with every scope but admin, a comma between; `dsa110 keys create` makes better ones", secret=True,
    )  # fmt: skip
    read_needs_key: bool = setting(
        "DSA110_READ_NEEDS_KEY", False, readings.yes_or_no,
        "let nobody read without a key that has the scope read; plain health, metrics and the pages stay open",
    )  # fmt: skip
    disabled: bool = setting(
        "DSA110_AUTH_DISABLED", False, readings.yes_or_no,
        "let everybody change everything; only outside production and on a loopback address",
    )  # fmt: skip
    jwt_public_key: Path | None = setting(
        "DSA110_JWT_PUBLIC_KEY", None, readings.path,
        "PEM file of the public key of an identity provider, whose tokens are accepted then",
    )  # fmt: skip
    jwt_issuer: str = setting("DSA110_JWT_ISSUER", "", readings.text, "claim iss of its tokens")
    jwt_audience: str = setting("DSA110_JWT_AUDIENCE", "", readings.text, "claim aud of its tokens: this installation")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitConfig:
    """How often one client may ask: a number, or a rate such as 100 per minute; 0 is no limit."""

    disabled: bool = setting("DSA110_RATE_LIMIT_DISABLED", False, readings.yes_or_no, "limit nobody")
    store: str = setting(
        "DSA110_RATE_LIMIT_STORE", "redis", readings.one_of("redis", "memory"),
        "where requests are counted: redis counts for all processes together (each for itself while Redis is away), "
        "memory always for each process by itself",
    )  # fmt: skip
    minute: Rate = setting(
        "DSA110_RATE_LIMIT_MINUTE", Rate(100), readings.rate("minute"), "requests of one client, unless named below"
    )
    hour: Rate = setting(
        "DSA110_RATE_LIMIT_HOUR", Rate(0), readings.rate("hour"), "the same requests over a longer time"
    )
    high: Rate = setting(
        "DSA110_RATE_LIMIT_HIGH", Rate(1000), readings.rate("minute"),
        "what a page asks often: health, queue, jobs, services, statistics, logs, thumbnails; also heartbeats",
    )  # fmt: skip
    write: Rate = setting("DSA110_RATE_LIMIT_WRITE", Rate(30), readings.rate("minute"), "changes")
    heavy: Rate = setting(
        "DSA110_RATE_LIMIT_HEAVY", Rate(10), readings.rate("minute"), "exports, cutouts, animations, whole data sets"
    )
    batch: Rate = setting("DSA110_RATE_LIMIT_BATCH", Rate(5), readings.rate("minute"), "changes of many things at once")
    failed_keys: Rate = setting(
        "DSA110_RATE_LIMIT_AUTH", Rate(10), readings.rate("minute"), "requests of one address with a wrong key"
    )


def access_faults(access: AccessConfig, auth: AuthConfig, host: str) -> list[str]:
    """Return what would let in more people than anybody means to."""
    return [
        *_faults_of_networks(access), *_faults_of_origins(access, auth), *_faults_of_keys(auth),
        *_faults_of_tokens(auth), *_faults_of_disabled(auth, host),
    ]  # fmt: skip


def weak_secrets(environment: str, secrets: Iterable[str]) -> list[str]:
    """Return a complaint when a secret of a production system is one that everybody knows."""
    if environment != "production" or not any(_is_known(secret) for secret in secrets):
        return []
    return [
        "A password or key (not shown) cannot be used in production: it stands in examples, is a common word, or "
        f"repeats a few characters; make a random one of at least {SHORTEST_KEY} characters, or set DSA110_ENV"
    ]


def _is_known(secret: str) -> bool:
    few = len(secret) >= SHORTEST_KEY and len(set(secret)) < FEWEST_CHARACTERS
    return few or secret.lower() in _COMMON or _EXAMPLES.search(secret) is not None


def _faults_of_origins(access: AccessConfig, auth: AuthConfig) -> list[str]:
    plain = [
        origin
        for origin in access.allowed_origins
        if origin.startswith("http://") and not is_loopback(urlsplit(origin).hostname or "")
    ]
    if auth.environment != "production" or not plain:
        return []
    return [
        f"DSA110_CORS_ORIGINS={plain[0]!r} cannot be used in production: who stands on the line could change the page; "
        "it must be an origin with https"
    ]


def _faults_of_networks(access: AccessConfig) -> list[str]:
    problems = [
        f"DSA110_TRUSTED_PROXIES='{network}' cannot be used: everybody in it could say to be somebody else; "
        "it must be the proxies alone"
        for network in _widest(access.trusted_proxies)
    ]
    if not access.allow_public:
        problems += [
            f"DSA110_ALLOWED_IPS='{network}' cannot be used: it lets the Internet in; it must be at most a /8 (IPv6: a "
            "/7), or DSA110_ALLOW_PUBLIC=true must say that this is meant"
            for network in _widest(access.allowed_ips)
        ]
    return problems


def _widest(networks: Iterable[Network]) -> list[Network]:
    """Return the first network that is larger than anybody's own; an IPv4 network may be mapped into IPv6."""
    judged = zip(networks, NetworkSet.of(networks).networks, strict=True)
    return [network for network, plain in judged if plain.prefixlen < _LARGEST_NETWORK[plain.version]][:1]


def _faults_of_keys(auth: AuthConfig) -> list[str]:
    if all(len(key) >= SHORTEST_KEY for key in auth.api_keys):
        return []
    return [
        f"DSA110_API_KEYS=(not shown) cannot be used: each key must have at least {SHORTEST_KEY} characters; "
        "make one with `dsa110 keys create`"
    ]


def _faults_of_tokens(auth: AuthConfig) -> list[str]:
    if auth.jwt_public_key is None or (auth.jwt_issuer and auth.jwt_audience):
        return []
    return [
        f"DSA110_JWT_PUBLIC_KEY='{auth.jwt_public_key}' cannot be used alone: DSA110_JWT_ISSUER and "
        "DSA110_JWT_AUDIENCE must say whose tokens are accepted, and meant for whom"
    ]


def _faults_of_disabled(auth: AuthConfig, host: str) -> list[str]:
    problems = []
    if auth.disabled and auth.environment == "production":
        problems.append(
            "DSA110_AUTH_DISABLED='true' cannot be used in production: it must be false, or DSA110_ENV must say "
            "development, testing or staging"
        )
    if auth.disabled and not is_loopback(host):
        problems.append(
            f"DSA110_AUTH_DISABLED='true' cannot be used with DSA110_HOST={host!r}: everybody who reaches this address "
            "could change everything; it must be false, or the host 127.0.0.1"
        )
    return problems


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
