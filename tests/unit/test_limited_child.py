"""Children for files that may be hostile: what they import, and from where."""

import subprocess
import sys
from pathlib import Path

import pytest

from dsa110_contimg.api.services.limited_child import LimitedChild

#: What takes longer to import than a picture takes to draw; whoever needs coordinates is a module of its own.
LONG = ("astropy.coordinates", "astropy.wcs", "pandas", "scipy")


def test_pictures_and_reports_that_need_no_coordinates_are_made_without_what_knows_them() -> None:
    code = (
        "import sys; from dsa110_contimg.api.batch import thumbnails, fits_reports; "
        f"print([name for name in {LONG!r} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


async def test_a_child_imports_nothing_from_where_the_service_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "resource.py").write_text("raise SystemExit('not the standard library')")
    monkeypatch.chdir(tmp_path)
    assert await LimitedChild().run("dsa110_contimg.api.batch.confinement") == b""
