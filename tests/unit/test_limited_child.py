"""Children for files that may be hostile: what they import, from where, and when they end."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import Request

from dsa110_contimg.api.departure import unless_left
from dsa110_contimg.api.request_error import RequestError
from dsa110_contimg.api.services.limited_child import ChildRefusedError, LimitedChild, in_memory

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
    assert await LimitedChild().run("dsa110_contimg.pipeline.confinement") == b""


class Asker:
    """A client that waits for a reply until it leaves."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.said = [{"type": "http.request", "body": b"", "more_body": False}]
        self.request = Request({"type": "http"}, self.receive)

    async def receive(self) -> dict[str, object]:
        if self.said:
            return self.said.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}


@pytest.mark.parametrize("end", ["the client leaves", "the request takes too long"])
async def test_a_child_that_nobody_waits_for_is_ended(tmp_path: Path, end: str) -> None:
    note, asker = tmp_path / "note", Asker()
    os.mkfifo(note)
    work = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    child = LimitedChild(time_limit_s=600).run("timeit", "-n1", "-r1", work)
    asking = asyncio.create_task(unless_left(asker.request, child))
    pid = int(await asyncio.to_thread(note.read_text))
    asker.left.set() if end == "the client leaves" else asking.cancel()
    with pytest.raises((RequestError, asyncio.CancelledError)):
        await asyncio.wait_for(asking, 60)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_who_stays_gets_what_was_made_or_why_not() -> None:
    asker = Asker()
    async with asyncio.timeout(60):
        assert await unless_left(asker.request, LimitedChild().run("platform", "--terse")) != b""
        with pytest.raises(ChildRefusedError, match="No module named"):
            await unless_left(asker.request, LimitedChild().run("dsa110_contimg.nothing"))


async def test_a_child_that_says_too_much_is_ended() -> None:
    talking = "import sys, time\nfor _ in range(100): sys.stdout.write('x' * 10**6)\ntime.sleep(600)"
    async with asyncio.timeout(30):
        with pytest.raises(ChildRefusedError, match="more than 100000 bytes; ask for less"):
            await LimitedChild(time_limit_s=600, most_bytes=100_000).run("timeit", "-n1", "-r1", talking)
        assert len(await LimitedChild().run("timeit", "-n1", "-r1", "print('x' * 10**6)")) > 10**6


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("os._exit(3)", "its reader ended with 3"),
        ("os.kill(os.getpid(), 11)", "its reader was ended by SIGSEGV"),
        ("os.kill(os.getpid(), 24)", "it takes too much CPU time"),
    ],
)
async def test_of_a_child_that_ends_without_a_word_it_is_told_how(end: str, told: str) -> None:
    with pytest.raises(ChildRefusedError, match=f"^{told}$"):
        await LimitedChild().run("timeit", "-n1", "-r1", f"import os; {end}")


async def test_a_child_that_takes_too_much_time_says_so() -> None:
    burning = "c.CPU_S = 1; c.answer_confined(lambda: exec('while 1: 0'), ())"
    burning = f"from dsa110_contimg.pipeline import confinement as c; {burning}"
    with pytest.raises(ChildRefusedError, match=r"^it takes too much CPU time$"):
        await LimitedChild().run("timeit", "-n1", "-r1", burning)


@pytest.mark.parametrize(
    ("form", "text", "told"),
    [("ds9", "fk5\ncircle(a,b,c)", "could not convert"), ("crtf", "box", 'Not a valid CRTF line: "box"')],
)
async def test_what_is_wrong_with_a_text_of_regions_is_told_without_names_of_software(
    form: str, text: str, told: str
) -> None:
    with in_memory(text.encode()) as fd, pytest.raises(ChildRefusedError, match=f"^{told}"):
        await LimitedChild().run("dsa110_contimg.api.batch.region_texts", "--fd", str(fd), "--format", form, fds=[fd])
