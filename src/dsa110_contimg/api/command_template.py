"""The command that carries out a rerun, where there is one: split into words once, filled in without a shell.

A placeholder is a whole word, so that what fills it can be one argument only, whatever it holds: ``--ms {ms_path}`` is
right, ``--ms={ms_path}`` is refused.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

#: What can be filled in: name → meaning.
PLACEHOLDERS: Mapping[str, str] = {
    "run_id": "name of the new run",
    "original_run_id": "name of the run that is done again",
    "ms_path": "path of the Measurement Set",
    "cal_table": "path of the calibration table",
    "phase_center_ra": "right ascension of the phase centre, deg",
    "phase_center_dec": "declination of the phase centre, deg",
}
RIGHT = f"words in which a placeholder is a whole word: {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}"


@dataclass(frozen=True, slots=True)
class CommandTemplate:
    """Words of a command, some of which are placeholders; without words there is no command."""

    words: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "CommandTemplate":
        """Split a text into words as a shell would, which runs nothing.

        Raises
        ------
        ValueError
            The message says what would be right.
        """
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise ValueError(f"{RIGHT} ({error})") from None
        wrong = [word for word in words if ("{" in word or "}" in word) and word[1:-1] not in PLACEHOLDERS]
        if wrong or not words or words[0].startswith("{"):
            raise ValueError(f"{RIGHT}; the first word names the program" + (f"; not {wrong[0]!r}" if wrong else ""))
        return cls(words)

    def __str__(self) -> str:
        """Return it as it would be set."""
        return " ".join(word if word.startswith("{") else shlex.quote(word) for word in self.words)

    def __bool__(self) -> bool:
        """Tell whether there is a command."""
        return bool(self.words)

    def fill(self, values: Mapping[str, object]) -> list[str]:
        """Return the command with its placeholders filled in, each value one word.

        Raises
        ------
        ValueError
            A value is not known, or cannot be a word of a command.
        """
        return [self._word(word, values) for word in self.words]

    @staticmethod
    def _word(word: str, values: Mapping[str, object]) -> str:
        if not word.startswith("{"):
            return word
        value = values.get(word[1:-1])
        if value is None:
            raise ValueError(f"the command needs {word[1:-1]}, which is not known of this run; give it in the request")
        text = str(value)
        if "\0" in text:
            raise ValueError(f"{word[1:-1]} holds a NUL character, which no argument can")
        return text
