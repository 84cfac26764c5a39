"""Settings of the API and of the products database: the only reader of the environment in this wing.

Every setting is one field of a frozen dataclass; the field carries its variable, its reading and its meaning, so that
``dsa110 config``, the documentation and the error messages all come from one place. Nothing is read at import:
:func:`get_config` reads the environment once, when it is first asked.
"""
# ruff: noqa: RUF009 - _setting is dataclasses.field, with our metadata

import dataclasses
import ipaddress
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from dsa110_contimg.api import readings
from dsa110_contimg.api.readings import Network

PRIVATE_NETWORKS = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
SHORTEST_KEY = 32
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class ConfigError(ValueError):
    """Settings that cannot be used; the message has one line per wrong variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _setting(
    variables: str,
    default: Any,
    read: Callable[[str], Any],
    meaning: str,
    *,
    secret: bool = False,
    below_state: str | None = None,
) -> Any:
    """Declare a setting: variable (older names after it), default, reading, meaning.

    ``secret`` values are masked wherever settings are shown. With ``below_state`` the default is that path below the
    state directory.
    """
    metadata = {
        "variables": tuple(variables.split()),
        "read": read,
        "meaning": meaning,
        "secret": secret,
        "below_state": below_state,
    }
    return field(default=default, metadata=metadata)


# --- sections -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutConfig:
    """How long we wait, in seconds."""

    db_connection: float = _setting(
        "DSA110_TIMEOUT_DB_CONNECTION DSA110_DB_TIMEOUT",
        30.0,
        readings.number(0.1, 3600),
        "wait for a database connection, s",
    )
    db_statement: float = _setting(
        "DSA110_TIMEOUT_DB_STATEMENT", 5.0, readings.number(0.1, 3600), "longest statement on PostgreSQL, s"
    )
    db_lock: float = _setting(
        "DSA110_TIMEOUT_DB_LOCK",
        5.0,
        readings.number(0.1, 3600),
        "wait for a row (PostgreSQL) or for the writer (SQLite), s",
    )
    websocket_ping: float = _setting(
        "DSA110_TIMEOUT_WEBSOCKET_PING DSA110_TIMEOUT_WS_PING", 30.0, readings.number(0.1, 3600),
        "time between pings of a WebSocket, s",
    )  # fmt: skip
    websocket_pong: float = _setting(
        "DSA110_TIMEOUT_WEBSOCKET_PONG DSA110_TIMEOUT_WS_PONG", 10.0, readings.number(0.1, 3600),
        "wait for the answer to a ping of a WebSocket, s",
    )  # fmt: skip
    health_check: float = _setting(
        "DSA110_TIMEOUT_HEALTH_CHECK", 2.0, readings.number(0.1, 60), "longest check of one service, s"
    )
    redis_socket: float = _setting("DSA110_TIMEOUT_REDIS_SOCKET", 2.0, readings.number(0.1, 60), "wait for Redis, s")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathsConfig:
    """Directories."""

    state_dir: Path = _setting(
        "DSA110_STATE_DIR", Path("state"), readings.path, "databases, logs and embedded servers lie below it"
    )
    products_dir: Path = _setting(
        "DSA110_PRODUCTS_DIR", Path("state/products"), readings.path, "MS, images and tables are written below it",
        below_state="products",
    )  # fmt: skip
    incoming_dir: Path = _setting(
        "DSA110_INCOMING_DIR", Path("state/incoming"), readings.path, "subband files (*_sbNN.hdf5) are looked for here",
        below_state="incoming",
    )  # fmt: skip
    data_roots: tuple[Path, ...] = _setting(
        "DSA110_DATA_ROOTS", (), readings.paths, "further directories whose files may be served, a colon between"
    )

    @property
    def served_roots(self) -> tuple[Path, ...]:
        """Directories below which a file may be served."""
        return (self.products_dir, *self.data_roots)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseConfig:
    """The products database."""

    backend: str = _setting(
        "DSA110_DB_BACKEND",
        "sqlite",
        readings.one_of("sqlite", "postgresql"),
        "kind of products database: sqlite or postgresql",
    )
    products_path: Path = _setting(
        "PRODUCTS_DB_PATH PIPELINE_PRODUCTS_DB DSA110_DB_SQLITE_PATH", Path("state/products.sqlite3"), readings.path,
        "file of the products database (sqlite)", below_state="products.sqlite3",
    )  # fmt: skip
    sqlite_readers: int = _setting(
        "DSA110_DB_SQLITE_READERS", 4, readings.whole(1, 64), "reading connections of one process (sqlite)"
    )
    pg_url: str = _setting(
        "DSA110_DB_PG_URL", "", readings.url("postgresql", "postgres"), "whole address; wins over the parts below",
        secret=True,
    )  # fmt: skip
    pg_host: str = _setting("DSA110_DB_PG_HOST", "localhost", readings.text, "host name or address of PostgreSQL")
    pg_port: int = _setting("DSA110_DB_PG_PORT", 5432, readings.whole(1, 65535), "port of PostgreSQL")
    pg_database: str = _setting("DSA110_DB_PG_DATABASE", "dsa110", readings.text, "name of the database")
    pg_user: str = _setting("DSA110_DB_PG_USER", "dsa110", readings.text, "role that connects")
    pg_password: str = _setting("DSA110_DB_PG_PASSWORD", "", readings.text, "its password", secret=True)
    pg_ssl: bool = _setting("DSA110_DB_PG_SSL", False, readings.yes_or_no, "insist on TLS")
    pg_pool_min: int = _setting("DSA110_DB_PG_POOL_MIN", 1, readings.whole(0, 1000), "connections kept open")
    pg_pool_max: int = _setting("DSA110_DB_PG_POOL_MAX", 10, readings.whole(1, 1000), "most connections of one process")

    @property
    def postgresql_url(self) -> str:
        """Address of the PostgreSQL database, with its password."""
        if self.pg_url:
            return self.pg_url
        password = f":{quote(self.pg_password, safe='')}" if self.pg_password else ""
        host = f"[{self.pg_host}]" if ":" in self.pg_host else self.pg_host
        user = quote(self.pg_user, safe="")
        return f"postgresql://{user}{password}@{host}:{self.pg_port}/{quote(self.pg_database, safe='')}"

    @property
    def display_name(self) -> str:
        """File or address of the database, fit to be shown: without password."""
        return str(self.products_path) if self.backend == "sqlite" else without_password(self.postgresql_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisConfig:
    """Redis: cache, rate limits and the RQ job queue."""

    url: str = _setting(
        "REDIS_URL DSA110_REDIS_URL", "redis://localhost:6379/0", readings.url("redis", "rediss", "unix"), "address",
        secret=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """The RQ job queue (not the durable ABSURD queue, which lives in PostgreSQL)."""

    name: str = _setting("DSA110_QUEUE_NAME", "dsa110-pipeline", readings.text, "name of the RQ queue in Redis")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """Logs."""

    level: str = _setting("DSA110_LOG_LEVEL", "INFO", readings.one_of(*LOG_LEVELS), "least severity that is logged")
    directory: Path = _setting(
        "DSA110_LOG_DIR", Path("state/logs"), readings.path, "log files, one JSON object per line", below_state="logs"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where the API listens."""

    host: str = _setting("DSA110_HOST", "127.0.0.1", readings.text, "address to listen on; 0.0.0.0 serves the network")
    port: int = _setting(
        "DSA110_PORT API_PORT", 8000, readings.whole(0, 65535), "port to listen on; 0 takes a free one"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessConfig:
    """Who may ask, and how much at once."""

    allowed_ips: tuple[Network, ...] = _setting(
        "DSA110_ALLOWED_IPS", tuple(ipaddress.ip_network(net) for net in PRIVATE_NETWORKS), readings.networks,
        "networks whose clients may read",
    )  # fmt: skip
    allow_public: bool = _setting(
        "DSA110_ALLOW_PUBLIC", False, readings.yes_or_no, "needed beside an allowed network of the whole Internet"
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        "DSA110_TRUSTED_PROXIES", (), readings.networks, "proxies whose X-Forwarded-For header is believed"
    )
    allowed_hosts: tuple[str, ...] = _setting(
        "DSA110_ALLOWED_HOSTS", (), readings.words, "names of this server beside localhost and IP addresses"
    )
    allowed_origins: tuple[str, ...] = _setting(
        "DSA110_CORS_ORIGINS", (), readings.words, "origins of other web pages that may call the API"
    )
    max_body_bytes: int = _setting(
        "DSA110_MAX_BODY_BYTES", 1 << 20, readings.whole(1, 1 << 40), "largest request body, bytes"
    )
    max_header_bytes: int = _setting(
        "DSA110_MAX_HEADER_BYTES", 16384, readings.whole(256, 1 << 24), "all request headers together, bytes"
    )
    max_headers: int = _setting("DSA110_MAX_HEADERS", 100, readings.whole(1, 10000), "most request headers")
    max_websockets: int = _setting(
        "DSA110_MAX_WEBSOCKETS", 10000, readings.whole(1, 100000), "most WebSockets that one process keeps open"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """Who may change something."""

    environment: str = _setting(
        "DSA110_ENV", "production", readings.one_of("development", "testing", "staging", "production"),
        "what this installation is for; what is not said is production",
    )  # fmt: skip
    api_key_header: str = _setting(
        "DSA110_API_KEY_HEADER", "X-API-Key", readings.header_name, "header that carries an API key"
    )
    api_keys: tuple[str, ...] = _setting(
        "DSA110_API_KEYS", (), readings.words,
        "further keys with every scope but admin, a comma between; `dsa110 keys create` makes better ones", secret=True,
    )  # fmt: skip
    disabled: bool = _setting(
        "DSA110_AUTH_DISABLED", False, readings.yes_or_no,
        "let everybody change everything; only outside production and on a loopback address",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as it is in force, for people."""

    section: str
    variable: str
    value: str  # secrets are masked
    is_default: bool
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class APIConfig:
    """All settings of this wing."""

    timeouts: TimeoutConfig = field(default_factory=TimeoutConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    redis: RedisConfig = field(default_factory=RedisConfig)
    queue: QueueConfig = field(default_factory=QueueConfig)
    log: LogConfig = field(default_factory=LogConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "APIConfig":
        """Read all settings.

        Raises
        ------
        ConfigError
            With one line per wrong variable: its name, its value (masked if secret) and what would be right.
        """
        reader = _Reader(environ)
        config = cls(**{name: reader.section(section) for name, section in SECTIONS.items()})
        reader.problems += _contradictions(config)
        if reader.problems:
            raise ConfigError(reader.problems)
        return config

    def describe(self) -> list[SettingRow]:
        """Return every setting in force, secrets masked."""
        defaults = APIConfig.from_env({"DSA110_STATE_DIR": str(self.paths.state_dir)})
        usual_state = APIConfig.from_env({}).paths.state_dir
        rows = []
        for name, item in declared_settings():
            value = getattr(getattr(self, name), item.name)
            usual = usual_state if item.name == "state_dir" else getattr(getattr(defaults, name), item.name)
            rows.append(
                SettingRow(
                    name, item.metadata["variables"][0], _shown(value, item), value == usual, item.metadata["meaning"]
                )
            )
        return rows


SECTIONS: dict[str, type[Any]] = {
    "timeouts": TimeoutConfig,
    "paths": PathsConfig,
    "database": DatabaseConfig,
    "redis": RedisConfig,
    "queue": QueueConfig,
    "log": LogConfig,
    "server": ServerConfig,
    "access": AccessConfig,
    "auth": AuthConfig,
}


def declared_settings() -> Iterator[tuple[str, "dataclasses.Field[Any]"]]:
    """Give every declared setting as (section name, dataclass field); its metadata says all about it."""
    for name, section in SECTIONS.items():
        for item in dataclasses.fields(section):
            yield name, item


class _Reader:
    """Reads sections from one environment and gathers what is wrong."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []
        self.state_dir = readings.path(environ.get("DSA110_STATE_DIR") or "state")

    def section(self, section: type[Any]) -> Any:
        return section(**{item.name: self.value(item) for item in dataclasses.fields(section)})

    def value(self, item: "dataclasses.Field[Any]") -> Any:
        told = item.metadata
        variable = next((name for name in told["variables"] if self.environ.get(name, "").strip()), None)
        if variable is None:
            return self.default(item)
        text = self.environ[variable].strip()
        try:
            return told["read"](text)
        except ValueError as right:
            shown = "(not shown)" if told["secret"] else repr(text)
            self.problems.append(f"{variable}={shown} cannot be used: it must be {right}")
            return self.default(item)

    def default(self, item: "dataclasses.Field[Any]") -> Any:
        below = item.metadata["below_state"]
        if below is not None:
            return self.state_dir / below
        return self.state_dir if item.name == "state_dir" else item.default


def _contradictions(config: APIConfig) -> list[str]:
    """Return what is wrong about settings that are right one by one."""
    problems = []
    database, access = config.database, config.access
    if database.pg_pool_min > database.pg_pool_max:
        problems.append(
            f"DSA110_DB_PG_POOL_MIN={database.pg_pool_min} cannot be used: "
            f"it must be at most DSA110_DB_PG_POOL_MAX={database.pg_pool_max}"
        )
    everywhere = [str(net) for net in access.allowed_ips if net.prefixlen == 0]
    if everywhere and not access.allow_public:
        problems.append(
            f"DSA110_ALLOWED_IPS={everywhere[0]!r} cannot be used: it lets the whole Internet in; "
            "it must be a smaller network, or DSA110_ALLOW_PUBLIC=true must say that this is meant"
        )
    return problems + _faults_of_auth(config.auth, config.server.host)


def _faults_of_auth(auth: AuthConfig, host: str) -> list[str]:
    """Return what would let in more people than anybody means to."""
    problems = []
    if any(len(key) < SHORTEST_KEY for key in auth.api_keys):
        problems.append(
            f"DSA110_API_KEYS=(not shown) cannot be used: each key must have at least {SHORTEST_KEY} characters; "
            "make one with `dsa110 keys create`"
        )
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


def without_password(url: str) -> str:
    """Return a URL with ``***`` in place of its password."""
    parts = urlsplit(url)
    if parts.password is None and "password=" not in parts.query:
        return url
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}:***@{host}" if parts.password is not None else parts.netloc
    query = re.sub(r"(password=)[^&]*", r"\1***", parts.query)
    return urlunsplit((parts.scheme, netloc, parts.path, query, parts.fragment))


def _shown(value: Any, item: "dataclasses.Field[Any]") -> str:
    if item.metadata["secret"]:
        return without_password(value) if "://" in value else "***" if value else ""
    if isinstance(value, tuple):
        return (os.pathsep if value and isinstance(value[0], Path) else ",").join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


@lru_cache(maxsize=1)
def get_config() -> APIConfig:
    """Return the settings of this process, read from the environment when first asked."""
    return APIConfig.from_env(os.environ)


def reset_config() -> None:
    """Forget the settings, so that the next :func:`get_config` reads the environment again."""
    get_config.cache_clear()


def process_environment() -> dict[str, str]:
    """Return a copy of the environment, for those that start other processes; nobody else asks."""
    return dict(os.environ)
