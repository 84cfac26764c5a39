"""Somebody exchanges files and directories between two steps of a walk: nothing outside is ever opened or removed.

The exchange is made by the opener itself, just before it opens what was exchanged, so that each race is run at the one
moment at which it can be lost.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dsa110_contimg.api.exceptions import FileNotAccessibleError, ServiceUnavailableError
from dsa110_contimg.api.file_access import FILE_FLAGS, FileStore, descend
from dsa110_contimg.api.file_reply import FileReply
from dsa110_contimg.api.file_trees import list_tree
from fixtures.opened_files import held

INSIDE, OUTSIDE = b"product", b"secret!"
PARTS = ["", "a", "a/b", "a/b/x.fits"]  # root, first directory, last directory, file


class Exchanger:
    """Opens like ``os.open``; exchanges a path once, right before that path is opened."""

    def __init__(self, path: Path, exchange: Callable[[Path], object]) -> None:
        self.path = path
        self.exchange = exchange
        self.exchanged = False

    def __call__(self, path: str, flags: int, *, dir_fd: int | None = None) -> int:
        assert flags & os.O_NONBLOCK, "a FIFO would hold us here"
        if not self.exchanged and Path(path).name == self.path.name:
            self.exchange(self.path)
            self.exchanged = True
        return os.open(path, flags, dir_fd=dir_fd)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A served directory with one product two levels down, and the same below a directory that is not served."""
    for root, content in ((tmp_path / "served", INSIDE), (tmp_path / "outside", OUTSIDE)):
        (root / "a" / "b").mkdir(parents=True)
        (root / "a" / "b" / "x.fits").write_bytes(content)
    return tmp_path / "served"


def for_a_link_outside(path: Path) -> None:
    """Put a link to its counterpart outside in the place of a path."""
    target = str(path).replace("/served", "/outside")
    path.rename(path.with_name(f"{path.name}.away"))
    path.symlink_to(target)


def for_a_link_to_itself(path: Path) -> None:
    """Put a link to what stood there in the place of a path: harmless, but nobody can know."""
    away = path.with_name(f"{path.name}.away")
    path.rename(away)
    path.symlink_to(away)


def for_a_fifo(path: Path) -> None:
    """Put a FIFO, whose opening would wait for a writer, in the place of a path."""
    path.rename(path.with_name(f"{path.name}.away"))
    os.mkfifo(path)


@pytest.mark.parametrize("exchange", [for_a_link_outside, for_a_link_to_itself, for_a_fifo])
@pytest.mark.parametrize("part", PARTS)
def test_a_file_is_not_reached_through_what_was_exchanged_before_a_step(
    served: Path, part: str, exchange: Callable[[Path], object]
) -> None:
    racer = Exchanger(served / part, exchange)
    store = FileStore([served], racer)
    with pytest.raises(FileNotAccessibleError):
        os.read(store.open(f"{served}/a/b/x.fits").fd, 100)
    assert racer.exchanged
    assert held(served.parent) == []


@pytest.mark.parametrize("exchange", [for_a_link_outside, for_a_link_to_itself, for_a_fifo])
@pytest.mark.parametrize("part", PARTS[:-1])
def test_a_directory_is_not_reached_through_what_was_exchanged_before_a_step(
    served: Path, part: str, exchange: Callable[[Path], object]
) -> None:
    racer = Exchanger(served / part, exchange)
    with pytest.raises(FileNotAccessibleError):
        FileStore([served], racer).open_directory(f"{served}/a/b")
    assert racer.exchanged


def test_a_directory_that_becomes_a_file_is_no_directory_any_more(served: Path) -> None:
    def for_a_file(path: Path) -> None:
        path.rename(path.with_name("away"))
        path.write_bytes(INSIDE)

    with pytest.raises(FileNotAccessibleError, match="not a directory"):
        FileStore([served], Exchanger(served / "a/b", for_a_file)).open_directory(f"{served}/a/b")


@pytest.mark.parametrize(
    ("part", "what"), [("", "a/b"), ("a", "a/b"), ("", "a/b/x.fits"), ("a", "a/b/x.fits"), ("a/b", "a/b/x.fits")]
)
def test_nothing_outside_is_removed_through_what_was_exchanged_before_a_step(
    served: Path, part: str, what: str
) -> None:
    racer = Exchanger(served / part, for_a_link_outside)
    with pytest.raises(FileNotAccessibleError):
        FileStore([served], racer).remove(f"{served}/{what}")
    assert racer.exchanged
    assert held(served.parent) == []
    assert Path(str(served).replace("/served", "/outside"), "a/b/x.fits").read_bytes() == OUTSIDE


def test_a_link_is_removed_and_what_it_leads_to_stays(served: Path) -> None:
    outside = served.with_name("outside")
    (served / "link").symlink_to(outside)
    FileStore([served]).remove(f"{served}/link")
    assert not (served / "link").is_symlink()
    assert (outside / "a/b/x.fits").read_bytes() == OUTSIDE


@pytest.mark.parametrize("exchange", [for_a_link_outside, for_a_link_to_itself, for_a_fifo])
def test_a_tree_is_not_listed_through_what_was_exchanged_after_it_was_seen(
    served: Path, exchange: Callable[[Path], object]
) -> None:
    racer = Exchanger(served / "a/b", exchange)
    directory = FileStore([served]).open_directory(f"{served}/a")
    with pytest.raises(FileNotAccessibleError, match="Cannot list a: it changes meanwhile"):
        list_tree(directory, racer)
    directory.close()
    assert racer.exchanged
    assert held(served.parent) == []


@pytest.mark.parametrize("part", ["b", "b/x.fits"])
def test_a_file_of_a_tree_is_not_reached_through_what_was_exchanged_after_the_listing(served: Path, part: str) -> None:
    directory = FileStore([served]).open_directory(f"{served}/a")
    assert [entry.path for entry in list_tree(directory)] == ["b", "b/x.fits"]
    for_a_link_outside(served / "a" / part)
    with pytest.raises(OSError, match=r"Too many levels of symbolic links|Not a directory"):
        descend(directory.fd, ["b", "x.fits"], FILE_FLAGS)
    directory.close()


def test_a_tree_with_more_than_is_allowed_is_not_listed(served: Path) -> None:
    directory = FileStore([served]).open_directory(f"{served}/a")
    assert len(list_tree(directory, most=2)) == 2
    with pytest.raises(FileNotAccessibleError, match="it has more than 1 files"):
        list_tree(directory, most=1)
    assert held(served.parent) == [f"{served}/a"]
    directory.close()


class Hanging:
    """Opens like ``os.open``, but a file of one name only when somebody says so."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def __call__(self, path: str, flags: int, *, dir_fd: int | None = None) -> int:
        if path == self.name:
            self.begun.set()
            assert self.goes_on.wait(30)
        return os.open(path, flags, dir_fd=dir_fd)


@pytest.mark.parametrize(("how", "path"), [("open", "a/b/x.fits"), ("open_directory", "a/b")])
async def test_what_is_open_at_last_when_nobody_waits_any_more_is_closed(served: Path, how: str, path: str) -> None:
    hanging = Hanging(Path(path).name)
    store = FileStore([served], hanging)
    waiting = asyncio.create_task(asyncio.to_thread(getattr(store, how), f"{served}/{path}"))
    assert await asyncio.to_thread(hanging.begun.wait, 30)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    hanging.goes_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    await asyncio.sleep(0)  # what the thread returned is handed to nobody
    assert held(served) == []


async def test_storage_that_hangs_is_told_of_in_time_and_keeps_nothing_else_waiting(served: Path) -> None:
    hanging = Hanging("x.fits")
    path, store = f"{served}/a/b/x.fits", FileStore([served], hanging, patience_s=0.2)
    told = await asyncio.gather(*[store.ask(store.open, path) for _ in range(40)], return_exceptions=True)
    assert {str(each) for each in told} == {"storage: no answer in 0.2 s"}
    with pytest.raises(ServiceUnavailableError, match=r"no answer in 0\.1 s"):
        await store.ask(store.open, path, patience_s=0.1)
    async with asyncio.timeout(20):
        assert await asyncio.to_thread(FileStore([served]).open, path), "other threads are free"
    hanging.goes_on.set()
    async with asyncio.timeout(20):
        (await store.ask(store.open, path, patience_s=20.0)).close()
        while held(served):  # of those who have gone  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_a_reply_that_is_never_sent_closes_its_file(served: Path) -> None:
    reply = FileReply(FileStore([served]).open(f"{served}/a/b/x.fits"), "application/fits", "no-store")
    assert held(served) == [f"{served}/a/b/x.fits"]
    del reply
    assert held(served) == []


def test_what_is_closed_twice_closes_nothing_of_others(served: Path) -> None:
    file = FileStore([served]).open(f"{served}/a/b/x.fits")
    number, other = file.fd, os.open(served, os.O_RDONLY)
    file.close()
    os.dup2(other, number)
    file.close()
    assert held(served) == [str(served)] * 2
    os.close(number)
    os.close(other)


HOSTILE = [
    "../outside/a/b/x.fits", "a/../../outside/a/b/x.fits", "a/..", "..", "link/a/b/x.fits", "leaf", "fifo", "a",
    "a/b/nothing", "a/\0", "a/b/x.fits/more", "a/b/x.fits/.", "a/b/" + "n" * 300, "", ".",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_no_descriptor_stays_open_whatever_is_refused(served: Path, name: str) -> None:
    (served / "link").symlink_to(served.with_name("outside"))
    (served / "leaf").symlink_to(served.with_name("outside") / "a/b/x.fits")
    os.mkfifo(served / "fifo")
    store = FileStore([served])
    if name != "a/b/x.fits/.":  # a path has no component ".": this is the file itself
        with pytest.raises(FileNotAccessibleError):
            store.open(f"{served}/{name}")
    if name not in ("a", "."):
        with pytest.raises(FileNotAccessibleError):
            store.open_directory(f"{served}/{name}")
    assert held(served.parent) == []


@pytest.mark.parametrize(
    "name", ["..", "a/../../outside/a/b/x.fits", "../outside/a/b/x.fits", "", "a/b/nothing", "a/\0"]
)
def test_nothing_outside_and_no_root_is_removed(served: Path, name: str) -> None:
    with pytest.raises(FileNotAccessibleError):
        FileStore([served]).remove(f"{served}/{name}")
    assert served.with_name("outside").joinpath("a/b/x.fits").read_bytes() == OUTSIDE
    assert (served / "a/b/x.fits").read_bytes() == INSIDE


def test_a_directory_is_removed_with_what_is_in_it(served: Path) -> None:
    FileStore([served]).remove(f"{served}/a/b")
    assert list((served / "a").iterdir()) == []
    FileStore([served]).remove(f"{served}/a")
    assert list(served.iterdir()) == []
    assert held(served.parent) == []


def test_a_directory_whose_name_only_begins_like_a_root_is_outside(served: Path) -> None:
    beside = served.with_name("served-not")
    beside.mkdir()
    (beside / "x.fits").write_bytes(OUTSIDE)
    with pytest.raises(FileNotAccessibleError, match="outside the data directories"):
        FileStore([served]).open(f"{beside}/x.fits")


def test_a_file_in_the_root_itself_is_found_and_a_root_behind_a_link_is_followed_once(served: Path) -> None:
    (served / "x.fits").write_bytes(INSIDE)
    door = served.with_name("door")
    door.symlink_to(served)
    store = FileStore([door])
    for path in (f"{served}/x.fits", f"{door}/x.fits", f"{door}/a/b/x.fits"):
        file = store.open(path)
        assert os.read(file.fd, 100) == INSIDE
        file.close()
    for_a_link_to_itself(served)
    with pytest.raises(FileNotAccessibleError):
        store.open(f"{door}/x.fits")
