"""Settings of the queue. The only place of this wing where the environment is read."""

import difflib
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from dsa110_contimg.secret_files import SUFFIX, masked, secret_text

logger = logging.getLogger(__name__)


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the variable, its value and what would be right."""


def _flag(value: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if value.strip().lower() not in words:
        raise ValueError("true or false")
    return words[value.strip().lower()]


def _whole(smallest: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = smallest - 1
        if number < smallest:
            raise ValueError(f"a whole number of at least {smallest}")
        return number

    return read


def _seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0.0 < number < 1e9:
        raise ValueError("a number of seconds above 0")
    return number


def _address(value: str) -> str:
    with suppress(ValueError):  # of brackets that hold no address
        if urlsplit(value.strip()).scheme in ("postgresql", "postgres"):
            return value.strip()
    raise ValueError("an address like postgresql://user:password@host:5432/dsa110_absurd")


def _name(value: str) -> str:
    if not value.strip():
        raise ValueError("a name that is not empty")
    return value.strip()


def _names(value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    if not all(names):
        raise ValueError("names separated by commas")
    return names


#: Variable → (field of the configuration, reader of its text, meaning).
_VARIABLES: Mapping[str, tuple[str, Callable[[str], object], str]] = {
    "ABSURD_ENABLED": ("enabled", _flag, "whether workers and scheduler may start"),
    "ABSURD_DATABASE_URL": ("database_url", _address, "address of the queue's PostgreSQL"),
    "ABSURD_QUEUE_NAME": ("queue_name", _name, "queue of the pipeline's tasks (in PostgreSQL, not the RQ queue)"),
    "ABSURD_WORKER_QUEUES": (
        "worker_queues",
        _names,
        "queues that a worker serves, separated by commas; empty: the one above",
    ),
    "ABSURD_WORKER_TASKS": (
        "worker_tasks",
        _names,
        "names of the tasks that a worker takes, separated by commas; empty: all that it knows",
    ),
    "ABSURD_WORKER_CONCURRENCY": ("worker_concurrency", _whole(1), "tasks that one worker runs at once"),
    "ABSURD_WORKER_POLL_INTERVAL": (
        "worker_poll_interval_sec",
        _seconds,
        "longest wait for a task when no notification comes, s",
    ),
    "ABSURD_TASK_TIMEOUT": ("task_timeout_sec", _seconds, "limit of one attempt, s"),
    "ABSURD_MAX_RETRIES": ("max_retries", _whole(0), "further attempts after a failed one"),
    "ABSURD_DLQ_ENABLED": (
        "dead_letter_enabled",
        _flag,
        "taken from older settings, without effect: dead letters are always kept",
    ),
    "ABSURD_DLQ_QUEUE_NAME": (
        "dead_letter_queue_name",
        _name,
        "taken from older settings, without effect: dead letters are kept with their own queue",
    ),
    "ABSURD_MAX_CRASHES": ("max_crashes", _whole(1), "workers that may die over one task before it is given up"),
    "ABSURD_LEASE": ("lease_sec", _seconds, "time after which a silent worker has lost its tasks, s"),
    "ABSURD_HEARTBEAT_INTERVAL": ("heartbeat_interval_sec", _seconds, "time between a worker's beats, s"),
    "ABSURD_STOP_GRACE": ("stop_grace_sec", _seconds, "time for running tasks when a worker is told to stop, s"),
    "ABSURD_KILL_GRACE": ("kill_grace_sec", _seconds, "time between SIGTERM and SIGKILL of a child, s"),
    "ABSURD_CHILD_MEMORY_MB": ("child_memory_mb", _whole(64), "limit of a child's address space, MB; empty: none"),
}


@dataclass(frozen=True, slots=True)
class AbsurdConfig:
    """Settings of client, worker and scheduler; ``docs/settings.md`` lists their variables."""

    enabled: bool = False
    database_url: str = field(default="postgresql://localhost/dsa110_absurd", repr=False)
    queue_name: str = "dsa110-pipeline"
    worker_queues: tuple[str, ...] = ()
    worker_tasks: tuple[str, ...] = ()
    worker_concurrency: int = 4
    worker_poll_interval_sec: float = 1.0
    task_timeout_sec: float = 3600.0
    max_retries: int = 3
    dead_letter_enabled: bool = True
    dead_letter_queue_name: str = ""
    max_crashes: int = 2
    lease_sec: float = 10.0
    heartbeat_interval_sec: float = 3.0
    stop_grace_sec: float = 10.0
    kill_grace_sec: float = 5.0
    child_memory_mb: int | None = None

    def __post_init__(self) -> None:
        if not self.dead_letter_queue_name:
            object.__setattr__(self, "dead_letter_queue_name", f"{self.queue_name}-dlq")
        self.validate()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "AbsurdConfig":
        """Read the ``ABSURD_*`` variables of ``environ`` (the process's environment when it is not given).

        A variable that is empty counts as not set; the database's address can stand in a file that
        ``ABSURD_DATABASE_URL_FILE`` names. One that nothing reads is named in a warning, with the variable it
        resembles.

        Raises
        ------
        ConfigError
            A value cannot be used; the message names variable, value and remedy.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, object] = {}
        for variable, (name, read, _) in _VARIABLES.items():
            text = environ.get(variable, "")
            try:
                if name == "database_url":
                    text = secret_text(environ, variable)
                if text:
                    values[name] = read(text)
            except ValueError as error:
                shown = masked(text) if name == "database_url" else text
                raise ConfigError(f"{variable} is {shown!r}; give {error}") from None
        known = {*_VARIABLES, f"ABSURD_DATABASE_URL{SUFFIX}"}
        for unread in sorted(name for name in environ if name.startswith("ABSURD_") and name not in known):
            near = difflib.get_close_matches(unread, _VARIABLES, n=1)
            logger.warning("nothing reads %s%s", unread, f"; did you mean {near[0]}?" if near else "")
        return cls(**values)  # type: ignore[arg-type]

    @property
    def queues(self) -> tuple[str, ...]:
        """Queues that a worker serves."""
        return self.worker_queues or (self.queue_name,)

    def validate(self) -> None:
        """Check what a single value cannot tell.

        Raises
        ------
        ConfigError
            The worker's beat does not fit into its lease, or a value is out of range.
        """
        if not self.queue_name:
            raise ConfigError("ABSURD_QUEUE_NAME is ''; give a name that is not empty")
        if self.worker_concurrency < 1:
            raise ConfigError(f"ABSURD_WORKER_CONCURRENCY is {self.worker_concurrency}; give at least 1")
        if self.max_retries < 0:
            raise ConfigError(f"ABSURD_MAX_RETRIES is {self.max_retries}; give at least 0")
        if self.heartbeat_interval_sec * 2 > self.lease_sec:
            raise ConfigError(
                f"ABSURD_HEARTBEAT_INTERVAL is {self.heartbeat_interval_sec:g} and ABSURD_LEASE is {self.lease_sec:g}; "
                "give a lease of at least twice the interval, or one late beat costs a worker its tasks"
            )

    def describe(self) -> list[tuple[str, str, bool, str]]:
        """Return every setting as (variable, value, whether that is the default, meaning); the password is masked."""
        usual = AbsurdConfig()
        rows = []
        for variable, (name, _, meaning) in _VARIABLES.items():
            value = getattr(self, name)
            shown = masked(value) if name == "database_url" else _shown(value)
            rows.append((variable, shown, value == getattr(usual, name), meaning))
        return rows

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__slots__ if name != "database_url"}
        shown["database_url"] = masked(self.database_url)
        return f"AbsurdConfig({', '.join(f'{name}={value!r}' for name, value in sorted(shown.items()))})"


def process_environment() -> dict[str, str]:
    """Return a copy of the environment, for those that start other processes; nobody else asks."""
    return dict(os.environ)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value)
