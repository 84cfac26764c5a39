"""What is written for a person: the console on standard output, and text that cannot steer it."""

import shutil

from rich.console import Console

#: Width of what is written where no terminal reads it.
PLAIN_WIDTH = 160


def open_console() -> Console:
    """Return the console on standard output; where that is no terminal, lines may be as long as COLUMNS says."""
    console = Console()
    return console if console.is_terminal else Console(width=shutil.get_terminal_size((PLAIN_WIDTH, 40)).columns)


def printable(text: str) -> str:
    """Return a text with its control characters escaped: it can neither break the line nor steer the terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
