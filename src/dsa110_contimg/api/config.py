"""Settings of the API and of the products database: the only reader of the environment in this wing.

Every setting is one field of a frozen dataclass; the field carries its variable, its reading and its meaning, so that
``dsa110 config``, the documentation and the error messages all come from one place. Nothing is read at import:
:func:`get_config` reads the environment once, when it is first asked.
"""
# ruff: noqa: RUF009 - setting is dataclasses.field, with our metadata

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dsa110_contimg.api import readings
from dsa110_contimg.api.access_settings import AccessConfig, AuthConfig, RateLimitConfig, access_faults, weak_secrets
from dsa110_contimg.api.command_template import CommandTemplate
from dsa110_contimg.api.readings import setting
from dsa110_contimg.secret_files import SUFFIX, masked, password_of, secret_text

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class ConfigError(ValueError):
    """Settings that cannot be used; the message has one line per wrong variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


# --- sections -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutConfig:
    """How long we wait, in seconds."""

    db_connection: float = setting(
        "DSA110_TIMEOUT_DB_CONNECTION DSA110_DB_TIMEOUT",
        30.0,
        readings.number(0.1, 3600),
        "wait for a database connection, s",
    )
    db_statement: float = setting(
        "DSA110_TIMEOUT_DB_STATEMENT", 5.0, readings.number(0.1, 3600), "longest statement on PostgreSQL, s"
    )
    db_lock: float = setting(
        "DSA110_TIMEOUT_DB_LOCK",
        5.0,
        readings.number(0.1, 3600),
        "wait for a row (PostgreSQL) or for the writer (SQLite), s",
    )
    websocket_ping: float = setting(
        "DSA110_TIMEOUT_WEBSOCKET_PING DSA110_TIMEOUT_WS_PING", 30.0, readings.number(0.1, 3600),
        "time between pings of a WebSocket, s",
    )  # fmt: skip
    websocket_pong: float = setting(
        "DSA110_TIMEOUT_WEBSOCKET_PONG DSA110_TIMEOUT_WS_PONG", 10.0, readings.number(0.1, 3600),
        "wait for the answer to a ping of a WebSocket, s",
    )  # fmt: skip
    health_check: float = setting(
        "DSA110_TIMEOUT_HEALTH_CHECK", 2.0, readings.number(0.1, 60), "longest check of one service, s"
    )
    redis_socket: float = setting("DSA110_TIMEOUT_REDIS_SOCKET", 2.0, readings.number(0.1, 60), "wait for Redis, s")
    cache: float = setting(
        "DSA110_TIMEOUT_CACHE", 0.05, readings.number(0.001, 60), "wait for a kept reply, s; then it is made anew"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PathsConfig:
    """Directories."""

    state_dir: Path = setting(
        "DSA110_STATE_DIR", Path("state"), readings.path, "databases, logs and embedded servers lie below it"
    )
    products_dir: Path = setting(
        "DSA110_PRODUCTS_DIR", Path("state/products"), readings.path, "MS, images and tables are written below it",
        below_state="products",
    )  # fmt: skip
    incoming_dir: Path = setting(
        "DSA110_INCOMING_DIR", Path("state/incoming"), readings.path, "subband files (*_sbNN.hdf5) are looked for here",
        below_state="incoming",
    )  # fmt: skip
    data_roots: tuple[Path, ...] = setting(
        "DSA110_DATA_ROOTS", (), readings.paths, "further directories whose files may be served, a colon between"
    )

    @property
    def served_roots(self) -> tuple[Path, ...]:
        """Directories below which a file may be served."""
        return (self.products_dir, *self.data_roots)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseConfig:
    """The products database."""

    backend: str = setting(
        "DSA110_DB_BACKEND",
        "sqlite",
        readings.one_of("sqlite", "postgresql"),
        "kind of products database: sqlite or postgresql",
    )
    products_path: Path = setting(
        "PRODUCTS_DB_PATH PIPELINE_PRODUCTS_DB DSA110_DB_SQLITE_PATH", Path("state/products.sqlite3"), readings.path,
        "file of the products database (sqlite)", below_state="products.sqlite3",
    )  # fmt: skip
    sqlite_readers: int = setting(
        "DSA110_DB_SQLITE_READERS", 4, readings.whole(1, 64), "reading connections of one process (sqlite)"
    )
    pg_url: str = setting(
        "DSA110_DB_PG_URL", "", readings.url("postgresql", "postgres"), "whole address; wins over the parts below",
        secret=True, address=True,
    )  # fmt: skip
    pg_host: str = setting("DSA110_DB_PG_HOST", "localhost", readings.text, "host name or address of PostgreSQL")
    pg_port: int = setting("DSA110_DB_PG_PORT", 5432, readings.whole(1, 65535), "port of PostgreSQL")
    pg_database: str = setting("DSA110_DB_PG_DATABASE", "dsa110", readings.text, "name of the database")
    pg_user: str = setting("DSA110_DB_PG_USER", "dsa110", readings.text, "role that connects")
    pg_password: str = setting("DSA110_DB_PG_PASSWORD", "", readings.text, "its password", secret=True)
    pg_ssl: bool = setting("DSA110_DB_PG_SSL", False, readings.yes_or_no, "insist on TLS")
    pg_pool_min: int = setting("DSA110_DB_PG_POOL_MIN", 1, readings.whole(0, 1000), "connections kept open")
    pg_pool_max: int = setting(
        "DSA110_DB_PG_POOL_MAX",
        10,
        readings.whole(1, 1000),
        "most connections of one process, beside four for short reads",
    )

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
        return str(self.products_path) if self.backend == "sqlite" else masked(self.postgresql_url)


#: Not among them are ``stats`` and ``images:detail``: a hit, which reads the numbers of the last writes and asks Redis,
#: takes longer than the one or two statements that answer anew.
CACHED = (
    "images:list", "sources:list", "sources:detail", "jobs:list", "ms:metadata", "cal:tables", "cal:matches",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisConfig:
    """Redis: cache, rate limits and the RQ job queue."""

    url: str = setting(
        "REDIS_URL DSA110_REDIS_URL", "redis://localhost:6379/0", readings.url("redis", "rediss", "unix"), "address",
        secret=True, address=True,
    )  # fmt: skip
    cache_enabled: bool = setting(
        "REDIS_CACHE_ENABLED", True, readings.yes_or_no, "keep replies in Redis until their tables are written"
    )
    cached: tuple[str, ...] = setting(
        "DSA110_CACHED_REPLIES", CACHED, readings.words, "prefixes whose replies are kept, with commas between"
    )
    default_ttl: int = setting(
        "REDIS_DEFAULT_TTL", 300, readings.whole(1, 86400), "longest life of a kept reply that has none of its own, s"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """The RQ job queue (not the durable ABSURD queue, which lives in PostgreSQL)."""

    name: str = setting("DSA110_QUEUE_NAME", "dsa110-pipeline", readings.text, "name of the RQ queue in Redis")
    rerun_command: CommandTemplate = setting(
        "PIPELINE_CMD_TEMPLATE DSA110_PIPELINE_RUN_CMD", CommandTemplate(), CommandTemplate.parse,
        "program and arguments that carry out a rerun, no shell; empty: the stages of the task queue",
    )  # fmt: skip
    command_variables: tuple[str, ...] = setting(
        "DSA110_PIPELINE_ENV", (), readings.words, "variables that this command gets beside PATH, HOME, LANG and TZ"
    )
    command_limit_sec: float = setting(
        "DSA110_PIPELINE_TIMEOUT", 3600.0, readings.number(1, 604800), "longest run of this command, s"
    )


#: The services that the earlier backend watched, and what this one stands on.
MONITORED = (
    "Vite Dev Server=http://127.0.0.1:3000/",
    "Grafana=http://127.0.0.1:3030/api/health",
    "Redis=redis:",
    "FastAPI Backend=self:",
    "MkDocs=http://127.0.0.1:8001/",
    "Prometheus=http://127.0.0.1:9090/-/healthy",
    "PostgreSQL=postgresql:",
    "ABSURD workers=absurd:",
    "Disk=disk:",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorConfig:
    """Services around the API that are watched."""

    targets: tuple[str, ...] = setting(
        "DSA110_MONITORED_SERVICES", MONITORED, readings.named_addresses,
        "services whose state is told, as name=address with commas between: http://, https://, tcp:// or one of the "
        "words redis:, postgresql:, absurd:, disk:, self:",
    )  # fmt: skip

    @property
    def named(self) -> list[tuple[str, str]]:
        """Name and address of each."""
        return [(name, address) for name, _, address in (target.partition("=") for target in self.targets)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """Logs."""

    level: str = setting("DSA110_LOG_LEVEL", "INFO", readings.one_of(*LOG_LEVELS), "least severity that is logged")
    directory: Path = setting(
        "DSA110_LOG_DIR", Path("state/logs"), readings.path, "log files; those of runs lie in runs/ below it",
        below_state="logs",
    )  # fmt: skip

    @property
    def run_directory(self) -> Path:
        """Where each run has its log."""
        return self.directory / "runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where the API listens."""

    host: str = setting("DSA110_HOST", "127.0.0.1", readings.text, "address to listen on; 0.0.0.0 serves the network")
    port: int = setting("DSA110_PORT API_PORT", 8000, readings.whole(0, 65535), "port to listen on; 0 takes a free one")
    inherited_sockets: int = setting(
        "LISTEN_FDS", 0, readings.whole(0, 1),
        "1: listen on the socket that is open as file 3 instead, as systemd's socket units hand it over",
    )  # fmt: skip
    reply_memory_mb: int = setting(
        "DSA110_REPLY_MEMORY_MB", 16, readings.whole(0, 4096),
        "memory of one process for replies that are sent again until their tables are written, MiB; 0 keeps none",
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
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    log: LogConfig = field(default_factory=LogConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    rates: RateLimitConfig = field(default_factory=RateLimitConfig)

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
        reader.problems += _contradictions(config) + _faults_of_roots(config, environ)
        if reader.problems:
            raise ConfigError(reader.problems)
        return config

    def secrets(self) -> list[str]:
        """Return every secret that is set, as it must never be shown: keys, passwords, addresses with a password."""
        found: list[str] = []
        for name, item in declared_settings():
            value = getattr(getattr(self, name), item.name) if item.metadata["secret"] else ""
            for text in (value,) if isinstance(value, str) else value:
                found.append(password_of(text) if item.metadata["address"] else text)
        return [text for text in found if text]

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


SECTIONS: dict[str, Any] = {item.name: item.default_factory for item in dataclasses.fields(APIConfig)}


def declared_settings() -> Iterator[tuple[str, "dataclasses.Field[Any]"]]:
    """Give every declared setting as (section name, dataclass field); its metadata says all about it."""
    for name, section in SECTIONS.items():
        for item in dataclasses.fields(section):
            yield name, item


_OWN = re.compile("DSA110_|ABSURD_|REDIS_")


class _Reader:
    """Reads sections from one environment and gathers what is wrong."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []
        try:
            self.state_dir = readings.path(self.text("DSA110_STATE_DIR", secret=False) or "state")
        except ValueError:
            self.state_dir = readings.path("state")  # what is wrong is told as the setting itself is read

    def section(self, section: type[Any]) -> Any:
        return section(**{item.name: self.value(item) for item in dataclasses.fields(section)})

    def value(self, item: "dataclasses.Field[Any]") -> Any:
        told = item.metadata
        for variable in told["variables"]:
            try:
                text = self.text(variable, told["secret"])
                if text:
                    return told["read"](text)
            except ValueError as right:
                self.problems.append(f"{self.named(variable, told['secret'])} cannot be used: it must be {right}")
                break
        return self.default(item)

    def text(self, variable: str, secret: bool) -> str:
        """Return the text of a variable; that of a secret may stand in a file."""
        return secret_text(self.environ, variable) if secret else self.environ.get(variable, "").strip()

    def named(self, variable: str, secret: bool) -> str:
        """Return a variable with its value, fit to be shown."""
        if not secret:
            return f"{variable}={self.environ[variable].strip()!r}"
        path = self.environ.get(variable + SUFFIX, "").strip()
        return f"{variable}{SUFFIX}={path!r}" if path else f"{variable}=(not shown)"

    def default(self, item: "dataclasses.Field[Any]") -> Any:
        below = item.metadata["below_state"]
        if below is not None:
            return self.state_dir / below
        return self.state_dir if item.name == "state_dir" else item.default


def _contradictions(config: APIConfig) -> list[str]:
    """Return what is wrong about settings that are right one by one."""
    problems = []
    database = config.database
    if database.pg_pool_min > database.pg_pool_max:
        problems.append(
            f"DSA110_DB_PG_POOL_MIN={database.pg_pool_min} cannot be used: "
            f"it must be at most DSA110_DB_PG_POOL_MAX={database.pg_pool_max}"
        )
    problems += access_faults(config.access, config.auth, config.server.host)
    return problems + weak_secrets(config.auth.environment, config.secrets())


def _faults_of_roots(config: APIConfig, environ: Mapping[str, str]) -> list[str]:
    """Return which directory would serve what nobody may read: a row whose path is the database would send it."""
    paths, database = config.paths, config.database
    secret = [Path(text.strip()) for name, text in environ.items() if name.endswith(SUFFIX) and _OWN.match(name)]
    kept = [paths.state_dir, *([database.products_path] if database.backend == "sqlite" else []), *secret]
    return [
        f"{variable}='{root}' cannot be used: {lies} lies in it, and whatever lies in it may be served; "
        "name the directories of data sets, images and tables alone"
        for variable, roots in (("DSA110_PRODUCTS_DIR", [paths.products_dir]), ("DSA110_DATA_ROOTS", paths.data_roots))
        for root in roots
        for lies in [path for path in kept if path.resolve().is_relative_to(root.resolve())][:1]
    ]


def _shown(value: Any, item: "dataclasses.Field[Any]") -> str:
    if item.metadata["secret"]:
        return masked(value) if item.metadata["address"] else "***" if value else ""
    if isinstance(value, tuple):
        return (os.pathsep if value and isinstance(value[0], Path) else ",").join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


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
