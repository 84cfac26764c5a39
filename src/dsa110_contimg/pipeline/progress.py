"""How a stage says how far it is."""

from collections.abc import Callable

#: Called with the finished fraction (0 to 1) and a short text; a stage calls it between chunks of its work.
Progress = Callable[[float, str], None]


def silent(fraction: float, message: str) -> None:
    """Take a progress report and say nothing; for callers that do not show progress."""
