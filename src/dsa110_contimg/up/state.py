"""The state directory: where everything lies that `dsa110 up` makes, who holds it, and how others find its servers."""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from dsa110_contimg.exit_codes import CommandError, ExitCode


class StateInUseError(CommandError):
    """Another `dsa110 up` runs on the state directory."""

    exit_code = ExitCode.STATE_IN_USE


class NothingRunsError(CommandError):
    """No `dsa110 up` runs on the state directory, so that its servers cannot be asked."""

    exit_code = ExitCode.NOTHING_RUNS


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers listen while `dsa110 up` runs; the addresses hold passwords.

    ``products`` are the variables that name its products database.
    """

    pid: int
    database_url: str
    redis_url: str
    api_url: str
    products: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """Paths below the state directory.

    Attributes
    ----------
    root : Path
        The directory, absolute.
    """

    root: Path

    @property
    def postgres(self) -> Path:
        """Embedded PostgreSQL."""
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        """Embedded Redis."""
        return self.root / "redis"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What is true only while `dsa110 up` runs."""
        return self.root / "run"

    def create(self) -> None:
        """Create the directories; only the owner may look into those that hold secrets."""
        self.root.mkdir(parents=True, exist_ok=True)
        for directory in (self.postgres, self.redis, self.logs, self.run):
            directory.mkdir(exist_ok=True, mode=0o700)

    def hold(self) -> TextIO:
        """Lock the directory for this process; closing the returned file, or dying, lets it go.

        Raises
        ------
        StateInUseError
            Another process holds it; the message gives its process id.
        """
        path = self.run / "up.lock"
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip() or "unknown"
            file.close()
            raise StateInUseError(
                f"`dsa110 up` already runs on {self.root} (process {holder}); stop it with Ctrl-C or `kill {holder}`, "
                "or choose another directory with DSA110_STATE_DIR"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        return file

    def announce(self, servers: Servers) -> None:
        """Tell other commands where the servers listen (mode 0600: the addresses hold passwords)."""
        path = self.run / "servers.json"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(servers), file)

    def withdraw(self) -> None:
        """Take the announcement back."""
        (self.run / "servers.json").unlink(missing_ok=True)

    def servers(self) -> Servers:
        """Return where the servers of the running `dsa110 up` listen.

        Raises
        ------
        NothingRunsError
            None runs.
        """
        lock = self.run / "up.lock"
        path = self.run / "servers.json"
        if not path.exists() or not _held(lock):
            raise NothingRunsError(
                f"nothing runs on {self.root}; start it with `make run` or `dsa110 up`, "
                "or name servers of your own with ABSURD_DATABASE_URL and REDIS_URL"
            )
        return Servers(**json.loads(path.read_text()))


def _held(lock: Path) -> bool:
    """Tell whether a process holds the lock."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
