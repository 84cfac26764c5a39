"""Which queue this code makes: its version, the SQL that makes it, and whether an installed one is made of the same.

A function may change without a new version: older code works with it too. What an installed queue was made of is kept
as the comment of its schema, so that a queue that has the version but not the functions of the code is told.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

SCHEMA_VERSION = 3

#: The oldest version of the code that works with this schema.
SERVES_FROM = 2

#: The queue, in the order in which it is made.
SCHEMA_FILES = (
    "schema.sql",
    "sql/events.sql",
    "sql/keys.sql",
    "sql/ending.sql",
    "sql/spawning.sql",
    "sql/work.sql",
    "sql/workers.sql",
    "sql/operators.sql",
    "sql/views.sql",
    "sql/dead_letters.sql",
    "sql/retention.sql",
    "sql/schedules.sql",
    "sql/templates.sql",
    "sql/monitoring.sql",
    "sql/pruning.sql",
    "sql/roles.sql",
)

OUTDATED = (
    "the queue's functions in the database are not those of this code; run "
    "`python -m dsa110_contimg.absurd.setup init` of the newest release"
)


@dataclass(frozen=True, slots=True)
class Release:
    """One version of the queue: how it is made, and how an older one becomes it."""

    version: int
    serves_from: int
    schema: tuple[str, ...]
    upgrades: Mapping[int, str]  # by the version that each leads to

    @property
    def fingerprint(self) -> str:
        """Checksum of the SQL that makes it."""
        return hashlib.sha256("\0".join(self.schema).encode()).hexdigest()


@lru_cache
def current_release() -> Release:
    """Return the release that this code belongs to."""
    home = files("dsa110_contimg.absurd")
    steps = {int(step.name[:4]): step for step in home.joinpath("upgrades").iterdir() if step.name.endswith(".sql")}
    return Release(
        SCHEMA_VERSION,
        SERVES_FROM,
        tuple(home.joinpath(name).read_text(encoding="utf-8") for name in SCHEMA_FILES),
        {version: step.read_text(encoding="utf-8") for version, step in steps.items()},
    )


def is_outdated(installed: Mapping[str, Any]) -> bool:
    """Tell whether a queue of our version (``schema_version``) is made of other SQL (``made_of``) than ours."""
    release = current_release()
    return bool(installed["schema_version"] == release.version and installed["made_of"] != release.fingerprint)
