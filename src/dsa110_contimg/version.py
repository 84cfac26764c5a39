"""Which code runs: version of the package and, in a checkout, the commit."""

import shutil
import subprocess
from pathlib import Path

from dsa110_contimg import __version__


def code_version() -> str:
    """Return ``0.1.0+g<commit>[-dirty]`` in a git checkout, else the package's version alone."""
    source = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (source / ".git").exists():
        return __version__
    asked = subprocess.run(
        [git, "-C", str(source), "describe", "--always", "--dirty", "--exclude=*"], capture_output=True, text=True
    )
    return f"{__version__}+g{asked.stdout.strip()}" if asked.returncode == 0 else __version__
