"""How an attempt ends other than well, and what is kept of it."""

import socket
import traceback
from collections.abc import Mapping
from typing import Any

from dsa110_contimg.absurd.claims import Run
from dsa110_contimg.absurd.executor import ChildFailed

_TRACEBACK_CHARACTERS = 8000


class Retry(Exception):  # noqa: N818 - an order, not an error
    """Raised by a handler: this attempt failed, try again after ``after_s`` seconds."""

    def __init__(self, after_s: float, message: str = "") -> None:
        super().__init__(message or f"to be tried again after {after_s:g} s")
        self.after_s = after_s


class Snooze(Exception):  # noqa: N818 - an order, not an error
    """Raised by a handler: nothing to do yet, run again after ``after_s`` seconds. No attempt is counted."""

    def __init__(self, after_s: float, message: str = "") -> None:
        super().__init__(message or f"to be run after {after_s:g} s")
        self.after_s = after_s


def types_of(error: BaseException) -> tuple[str, ...]:
    """Return the names of an exception's class and of those that it is made from, up to ``Exception``."""
    if isinstance(error, ChildFailed):
        return error.types
    return tuple(kind.__qualname__ for kind in type(error).__mro__[:-2])


def describe(run: Run, error: BaseException | None, worker_id: str) -> Mapping[str, Any]:
    """Return what is kept of a failed attempt."""
    where = {"worker_id": worker_id, "host": socket.gethostname(), "duration_s": round(run.age_s(), 3)}
    if run.reason == "timeout":
        message = f"the attempt took longer than its {run.task.timeout_sec:g} s and was ended"
        return {"type": "TimeoutError", "message": message, "reason": "timeout", **where}
    if run.reason == "cancel":
        return {"type": "Cancelled", "message": "stopped on request", "reason": "cancelled", **where}
    if isinstance(error, ChildFailed):
        return {
            "type": error.type, "types": error.types, "message": error.message, "traceback": error.traceback,
            "reason": "error", "signal": error.signal, "exit_code": error.exit_code, "stderr_tail": error.stderr_tail,
            **where,
        }  # fmt: skip
    if error is None:
        return {"type": "Stopped", "message": "the attempt was stopped", "reason": "error", **where}
    return {
        "type": type(error).__qualname__, "types": types_of(error),
        "message": str(error) or type(error).__qualname__, "reason": "error",
        "traceback": "".join(traceback.format_exception(error))[-_TRACEBACK_CHARACTERS:], **where,
    }  # fmt: skip
