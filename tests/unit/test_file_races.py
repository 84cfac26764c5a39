"""Somebody exchanges files and directories for symbolic links while they are opened: nothing outside is ever served."""

import os
import threading
import time
from pathlib import Path

import pytest

from dsa110_contimg.api.exceptions import FileNotAccessibleError
from dsa110_contimg.api.file_access import FileStore

INSIDE, OUTSIDE = b"product", b"secret!"
ENOUGH, LIMIT = 1_000, 200_000


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """A served directory with one product two levels down, and the same below a directory that is not served."""
    for root, content in ((tmp_path / "served", INSIDE), (tmp_path / "outside", OUTSIDE)):
        (root / "a" / "b").mkdir(parents=True)
        (root / "a" / "b" / "x.fits").write_bytes(content)
    return tmp_path / "served", tmp_path / "outside"


def exchange(path: Path, target: Path, stop: threading.Event) -> None:
    """Put a link to ``target`` in the place of ``path`` and back again, until told to stop."""
    away, link = path.with_name(path.name + ".away"), path.with_name(path.name + ".link")
    while not stop.is_set():
        link.symlink_to(target)
        path.rename(away)
        link.rename(path)
        path.unlink()
        away.rename(path)
        time.sleep(0)  # let the other thread see it whole, too


@pytest.mark.parametrize("part", ["a", "a/b", "a/b/x.fits"])
def test_an_exchange_for_a_link_during_the_walk_leads_nowhere(roots: tuple[Path, Path], part: str) -> None:
    served, outside = roots
    store, stop, seen = FileStore([served]), threading.Event(), {"served": 0, "refused": 0}
    racer = threading.Thread(target=exchange, args=(served / part, outside / part, stop))
    racer.start()
    try:
        for _ in range(LIMIT):
            if min(seen.values()) >= ENOUGH:
                break
            try:
                file = store.open(f"{served}/a/b/x.fits")
            except FileNotAccessibleError:
                seen["refused"] += 1
                continue
            try:
                assert os.read(file.fd, 100) == INSIDE
                seen["served"] += 1
            finally:
                file.close()
    finally:
        stop.set()
        racer.join()
    assert min(seen.values()) > 0, "the two never met"
    print(f"{seen}: 0 leaks")


def test_no_descriptor_stays_open_whatever_is_refused(roots: tuple[Path, Path]) -> None:
    served, outside = roots
    (served / "link").symlink_to(outside)
    os.mkfifo(served / "fifo")
    store = FileStore([served])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("link/a/b/x.fits", "fifo", "a", "a/b/nothing", "../outside/a/b/x.fits", "a/\0", "a/b/x.fits/more", ""):
        with pytest.raises(FileNotAccessibleError):
            store.open(f"{served}/{name}")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
