"""ABSURD, the durable task queue of the pipeline, on PostgreSQL (Asynchronous Background Service for Unified Resource
Distribution). ``schema.sql`` tells the life of a task; ``README.md`` tells how to use and run it.

The names below are imported when they are first used: a child process that runs one stage needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsa110_contimg.absurd.client import AbsurdClient
    from dsa110_contimg.absurd.config import AbsurdConfig
    from dsa110_contimg.absurd.endings import Retry, Snooze
    from dsa110_contimg.absurd.registry import Tasks, TaskType
    from dsa110_contimg.absurd.specs import Dependency, Spawned, TaskSpec
    from dsa110_contimg.absurd.worker import AbsurdWorker

__all__ = [
    "AbsurdClient", "AbsurdConfig", "AbsurdWorker", "Dependency", "Retry", "Snooze", "Spawned", "TaskSpec", "TaskType",
    "Tasks",
]  # fmt: skip

_HOMES = {
    "AbsurdClient": "client",
    "AbsurdConfig": "config",
    "AbsurdWorker": "worker",
    "Dependency": "specs",
    "Spawned": "specs",
    "Retry": "endings",
    "Snooze": "endings",
    "TaskSpec": "specs",
    "TaskType": "registry",
    "Tasks": "registry",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
