"""What a campaign is judged by: its history, the server's journal and the tables as they stand at the end."""

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from dsa110_contimg.chaos.history import Row, read_history


@dataclass(frozen=True)
class Terms:
    """What the campaign had asked for, as far as judgement depends on it. Times in seconds."""

    lease_s: float = 10.0
    wake_limit_s: float = 1.1
    cost_ratio_limit: float = 1.3


@dataclass(frozen=True)
class Evidence:
    """Everything that was seen.

    Attributes
    ----------
    events : list of dict
        The history (:mod:`dsa110_contimg.chaos.history`), in the order of time.
    journal : list of dict
        The server's journal in the order of ``n``; ``at`` in seconds since 1970.
    tasks, attempts, edges, permits, ticks : list of dict
        Rows of the tables at the end.
    server_words : list of str
        Errors of the server's log.
    """

    terms: Terms = field(default_factory=Terms)
    events: list[Row] = field(default_factory=list)
    journal: list[Row] = field(default_factory=list)
    tasks: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    edges: list[Row] = field(default_factory=list)
    permits: list[Row] = field(default_factory=list)
    ticks: list[Row] = field(default_factory=list)
    server_words: list[str] = field(default_factory=list)

    @cached_property
    def task(self) -> dict[str, Row]:
        """The final row of each task."""
        return {row["task_id"]: row for row in self.tasks}

    @cached_property
    def leases(self) -> dict[int, Row]:
        """Claim → ``task_id``, ``worker``, ``attempt``, ``opened`` and ``closed`` (None while it is held)."""
        leases: dict[int, Row] = {}
        for row in self.journal:
            if row["what"] == "leased":
                leases[row["claim"]] = {**row, "opened": row["at"], "closed": None, "closed_xid": None}
            elif row["what"] == "unleased" and row["claim"] in leases:
                leases[row["claim"]] |= {"closed": row["at"], "closed_xid": row["xid"]}
        return leases

    @cached_property
    def by_task(self) -> dict[str, list[Row]]:
        """The journal of each task."""
        journals: dict[str, list[Row]] = {}
        for row in self.journal:
            journals.setdefault(row["task_id"], []).append(row)
        return journals

    def of_kind(self, event_kind: str, /, **fields: Any) -> list[Row]:
        """Return the events of one kind, with these values."""
        return [
            event
            for event in self.events
            if event["e"] == event_kind and all(event.get(k) == v for k, v in fields.items())
        ]

    def save(self, directory: Path) -> None:
        """Write everything but the history, which lies there already."""
        rest = {key: value for key, value in vars(self).items() if key in self.__dataclass_fields__ and key != "events"}
        rest["terms"] = asdict(self.terms)
        (directory / "evidence.json").write_text(json.dumps(rest, default=str), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what a campaign has left in a directory."""
        rest = json.loads((directory / "evidence.json").read_text(encoding="utf-8"))
        rest["terms"] = Terms(**rest["terms"])
        return cls(events=read_history(directory / "history.jsonl"), **rest)
