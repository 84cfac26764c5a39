"""Counts the shapes of a text of regions (DS9 or CRTF), in a process of its own.

``python -m dsa110_contimg.api.batch.region_texts --fd 5 --format ds9`` writes the number on standard output.
"""

import argparse
import os
import sys

from regions import Regions

from dsa110_contimg.pipeline.confinement import answer_confined

_UNUSABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError)


def count(text: str, form: str) -> int:
    """Return how many shapes a text has.

    Raises
    ------
    ValueError
        It has none, or is no text of this format.
    """
    found = len(Regions.parse(text, format=form))
    if not found:
        raise ValueError(f"the text holds no shape in the format {form}")
    return found


def main() -> int:
    """Count; the exit code is 2 and standard error has the reason when that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m dsa110_contimg.api.batch.region_texts")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the text (UTF-8)")
    parser.add_argument("--format", choices=("ds9", "crtf"), required=True)
    options = parser.parse_args()
    text = os.fdopen(options.fd, encoding="utf-8")
    return answer_confined(lambda: str(count(text.read(), options.format)).encode(), _UNUSABLE)


if __name__ == "__main__":
    sys.exit(main())
