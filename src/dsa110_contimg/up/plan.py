"""Which processes there are, with which settings; and how one of them is run alone."""

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

import psutil

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.access_settings import is_loopback
from dsa110_contimg.api.config import APIConfig, DatabaseConfig, process_environment
from dsa110_contimg.exit_codes import CommandError, ExitCode
from dsa110_contimg.secret_files import SUFFIX, secret_text
from dsa110_contimg.up.servers import EmbeddedPostgres, EmbeddedRedis, EmbeddedServer, free_port
from dsa110_contimg.up.state import NothingRunsError, Servers, StateDirectory
from dsa110_contimg.up.supervisor import ProcessSpec

#: Arguments of the Python interpreter for each process.
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "api": ("-m", "dsa110_contimg.api"),
    "worker": ("-m", "dsa110_contimg.absurd"),
    "scheduler": ("-m", "dsa110_contimg.absurd.scheduler_main"),
    "rq-worker": ("-m", "dsa110_contimg.api", "jobs"),
    "migrate": ("-m", "dsa110_contimg.api.migrations"),
    "absurd-init": ("-m", "dsa110_contimg.absurd.setup", "init"),
}

#: What a process is told unless the environment says otherwise: here as in the unit of the API, which keeps its memory.
_TOLD: Mapping[str, Mapping[str, str]] = {"api": {"MALLOC_ARENA_MAX": "2"}}

_NAMES_PRODUCTS = ("DSA110_DB_BACKEND", "DSA110_DB_PG_URL", "DSA110_DB_PG_HOST", "PRODUCTS_DB_PATH")


class PortInUseError(CommandError):
    """The API's port is taken."""

    exit_code = ExitCode.SERVER


@dataclass(frozen=True)
class Plan:
    """Everything `dsa110 up` is going to start.

    Attributes
    ----------
    config : APIConfig
        Settings that the processes will have.
    state : StateDirectory
        Where everything lies.
    servers : tuple of EmbeddedServer
        Those that the environment does not name; they start first.
    addresses : Servers
        Where everything listens.
    environment : Mapping
        Environment of the processes.
    """

    config: APIConfig
    state: StateDirectory
    servers: tuple[EmbeddedServer, ...]
    addresses: Servers
    environment: Mapping[str, str]

    def server_spec(self, server: EmbeddedServer) -> ProcessSpec:
        """Return how an embedded server is run."""
        return ProcessSpec(
            server.name.lower(),
            tuple(server.command()),
            {**self.environment, "TZ": "UTC"},  # Redis writes its log in the time of its zone, and does not name it
            ready=server.ready,
            stop_signal=server.stop_signal,
            orphan_signal=server.stop_signal,  # a database stops by itself, and cleanly
            grace_s=15.0,
            shown=False,
        )

    def spec(self, name: str, *words: str) -> ProcessSpec:
        """Return how one of ``PROGRAMS`` is run."""
        command = (sys.executable, *PROGRAMS[name], *words)
        queue = AbsurdConfig.from_env(self.environment)
        grace_s = queue.stop_grace_sec + queue.kill_grace_sec + 5.0 if name == "worker" else 15.0
        ready = self.api_answers if name == "api" else None
        environment = {**_TOLD.get(name, {}), **self.environment}
        return ProcessSpec(name, command, environment, ready=ready, grace_s=grace_s)

    def api_answers(self) -> bool:
        """Tell whether the API answers a request, whatever it says."""
        server = self.config.server
        link = HTTPConnection(reachable(server.host), server.port, timeout=2.0)
        try:
            link.request("GET", "/api/health")
            return link.getresponse().status < 500
        except (OSError, HTTPException):
            return False
        finally:
            link.close()


def make_plan(environment: Mapping[str, str], port: int | None = None) -> Plan:
    """Decide what to start.

    Parameters
    ----------
    environment : Mapping
        Variables of this process.
    port : int, optional
        Port of the API instead of the configured one; 0 takes a free one.

    Raises
    ------
    ConfigError
        A setting cannot be used.
    """
    known = dict(environment)
    wanted = APIConfig.from_env(known)
    AbsurdConfig.from_env(known)
    state = StateDirectory(wanted.paths.state_dir)
    for variable in ("ABSURD_DATABASE_URL", "REDIS_URL"):
        known[variable] = secret_text(known, variable)
        known.pop(variable + SUFFIX, None)
    postgres = None if known.get("ABSURD_DATABASE_URL") else EmbeddedPostgres(state.postgres)
    redis = None if known.get("REDIS_URL") else EmbeddedRedis(state.redis)
    state.create()
    if postgres:
        known["ABSURD_DATABASE_URL"] = postgres.url
        if wanted.database.backend == "postgresql" and not names_products_server(known):
            known["DSA110_DB_PG_URL"] = postgres.url
    if redis:
        known["REDIS_URL"] = redis.url
    known |= {
        "ABSURD_ENABLED": "true",
        "DSA110_STATE_DIR": str(state.root),
        "DSA110_PORT": str((wanted.server.port if port is None else port) or free_port()),
        "PYTHONUNBUFFERED": "1",
    }
    if is_loopback(wanted.server.host):
        known.setdefault("DSA110_ENV", "development")  # only this machine can ask
    known.setdefault("ABSURD_WORKER_CONCURRENCY", str(max(1, (os.cpu_count() or 1) // 2)))
    known.setdefault("ABSURD_STOP_GRACE", "2")  # a person waits; the stage goes back to the queue and loses no attempt
    config = APIConfig.from_env(known)
    api_url = f"http://{reachable(config.server.host)}:{config.server.port}"
    products = _products(config.database)
    addresses = Servers(os.getpid(), known["ABSURD_DATABASE_URL"], known["REDIS_URL"], api_url, products)
    return Plan(config, state, tuple(server for server in (postgres, redis) if server), addresses, known)


def _products(database: DatabaseConfig) -> dict[str, str]:
    """Return the variables that name the products database."""
    if database.backend == "postgresql":
        tls = str(database.pg_ssl).lower()
        url = database.postgresql_url
        return {"DSA110_DB_BACKEND": "postgresql", "DSA110_DB_PG_URL": url, "DSA110_DB_PG_SSL": tls}
    return {"DSA110_DB_BACKEND": "sqlite", "PRODUCTS_DB_PATH": str(database.products_path)}


def names_products_server(environment: Mapping[str, str]) -> bool:
    """Tell whether the environment names a PostgreSQL server for the products database."""
    return bool(environment.get("DSA110_DB_PG_URL") or environment.get("DSA110_DB_PG_HOST"))


def reachable(host: str) -> str:
    """Return an address at which a server that listens on ``host`` can be reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104


def check_port(host: str, port: int) -> None:
    """Make sure that the API will be able to listen.

    Raises
    ------
    PortInUseError
        Another process listens there, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUseError(
                f"the API cannot listen on {host}:{port}: {error.strerror}{_user_of(port)}; "
                "choose another with `make run PORT=...`, `dsa110 up --port ...` or DSA110_PORT (0 takes a free one)"
            ) from None


def _user_of(port: int) -> str:
    """Say which process listens on a port, as far as this user may know."""
    for process in psutil.process_iter(["pid", "name"]):
        try:
            links = process.net_connections("inet")
        except psutil.Error:
            continue
        if any(link.status == psutil.CONN_LISTEN and link.laddr.port == port for link in links):
            return f" (used by process {process.pid}, {process.name()})"
    return ""


def command_environment(*, needs_servers: bool) -> dict[str, str]:
    """Return the environment for a command beside a running `dsa110 up`: its servers' addresses filled in.

    Raises
    ------
    NothingRunsError
        Addresses are needed, the environment does not name them, and nothing runs.
    """
    known = process_environment()
    config = APIConfig.from_env(known)
    if known.get("ABSURD_DATABASE_URL") and known.get("REDIS_URL"):
        return known
    try:
        servers = StateDirectory(config.paths.state_dir).servers()
    except NothingRunsError:
        if needs_servers and not known.get("ABSURD_DATABASE_URL"):
            raise
        return known
    defaults = {
        "ABSURD_DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "ABSURD_ENABLED": "true",
    }
    if not any(known.get(variable) for variable in _NAMES_PRODUCTS):
        defaults |= servers.products
    elif config.database.backend == "postgresql" and not names_products_server(known):
        defaults["DSA110_DB_PG_URL"] = servers.database_url
    return defaults | {name: value for name, value in known.items() if value}


def become(name: str, *words: str) -> None:
    """Replace this process by one of ``PROGRAMS``, beside a running `dsa110 up`; ``words`` are added to its command."""
    _replace((*PROGRAMS[name], *words), command_environment(needs_servers=True))


def migrate(words: Sequence[str]) -> None:
    """Replace this process by the migration command with the given words."""
    environment = command_environment(needs_servers=False)
    APIConfig.from_env(environment).paths.state_dir.mkdir(parents=True, exist_ok=True)
    _replace((*PROGRAMS["migrate"], *words), environment)


def _replace(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    os.execve(sys.executable, (sys.executable, *arguments), environment)  # noqa: S606 - a fixed program, no shell
