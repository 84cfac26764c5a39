"""The server of a campaign: an embedded one that can be crashed, or one that somebody else runs."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from dsa110_contimg.up.servers import EmbeddedPostgres

#: Lines of the server's log that tell of an error.
_ERRORS = ("ERROR:", "FATAL:", "PANIC:", "deadlock")


class CrashingPostgres(EmbeddedPostgres):
    """PostgreSQL that can be ended as a crash would end it."""

    def crash(self) -> None:
        """End at once, without a checkpoint: the next start recovers from the write-ahead log."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def errors(self) -> list[str]:
        """Return the lines of its log that tell of errors."""
        text = (self.home / "server.log").read_text(errors="replace")
        return [line for line in text.splitlines() if any(sign in line for sign in _ERRORS)]


class Ground:
    """The database of a campaign."""

    def __init__(self, url: str, server: CrashingPostgres | None) -> None:
        self.url = url
        self.server = server

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for the proxy."""
        parts = urlsplit(self.url)
        return parts.hostname or "localhost", parts.port or 5432

    def through(self, port: int) -> str:
        """Return the database's address through a proxy on this machine."""
        parts = urlsplit(self.url)
        credentials = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{credentials}@127.0.0.1:{port}" if credentials else f"127.0.0.1:{port}").geturl()


@contextlib.contextmanager
def open_ground(database_url: str | None, directory: Path) -> Iterator[Ground]:
    """Give the database that was named, or one on an embedded server below ``directory``."""
    if database_url is not None:
        yield Ground(database_url, None)
        return
    with CrashingPostgres(
        directory / "postgres", {"max_connections": "100", "log_error_verbosity": "default"}
    ) as server:
        yield Ground(server.url, server)
