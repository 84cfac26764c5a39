"""The page at / in a real browser: where reading needs a key it asks for one, and it says what is not well."""

import asyncio
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from dsa110_contimg.api.app import server_settings
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.interfaces import JobRecord, Recording
from fixtures.api_world import CREATED_AT, GROUP_ID, QUEUE_OFF, RUN_ID, build, settings
from fixtures.live_api import add_keys, running

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PICTURE = "document.querySelector('#image img')?.naturalWidth"
COLOUR = "getComputedStyle(document.getElementById('fresh')).color"
ALL_IN_SIGHT = "[...document.querySelectorAll('section, body')].every((part) => part.scrollWidth <= part.clientWidth)"


async def keep(config: APIConfig, run: JobRecord) -> None:
    """Write down a run."""
    async with open_database(config.database, config.timeouts) as adapter:
        await AsyncProductRecorder(adapter).record(Recording(job=run))


class Browser:
    """A tab of a browser without a screen."""

    def __init__(self, tab: ClientConnection) -> None:
        self._tab = tab
        self._numbers = itertools.count(1)

    def tell(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._tab.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (told := json.loads(self._tab.recv(timeout=60))).get("id") != number:
            pass
        return told

    def value(self, script: str) -> Any:
        """Return what a script comes to; None while the page is just being left."""
        return self.tell("Runtime.evaluate", expression=script).get("result", {}).get("result", {}).get("value")

    def be_wide(self, pixels: int) -> None:
        """Give the page so much room."""
        size = {"width": pixels, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.tell("Emulation.setDeviceMetricsOverride", **size)

    def wait(self, condition: str) -> None:
        """Wait until a condition holds in the page."""
        end_s = time.monotonic() + 60
        while self.value(condition) is not True:
            assert time.monotonic() < end_s, (condition, self.value("document.body.innerText"))
            time.sleep(0.05)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
    process = subprocess.Popen(
        [str(CHROMIUM), *options, f"--user-data-dir={tmp_path / 'browser'}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "DevTools listening on" in line)
        address = said.split("ws://")[1].split("/")[0]
        tabs = httpx.get(f"http://{address}/json", trust_env=False, timeout=60).json()
        url = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        with connect(url, max_size=None, proxy=None) as tab:
            yield Browser(tab)
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no browser is installed")
def test_the_page_asks_for_a_key_where_reading_needs_one_and_shows_everything_with_it(
    tmp_path: Path, browser: Browser
) -> None:
    config = settings(tmp_path / "world", DSA110_PORT="0", DSA110_READ_NEEDS_KEY="true")
    asyncio.run(build(config))
    keys = asyncio.run(add_keys(config))

    def show(key: str) -> None:
        browser.value(f"document.getElementById('key-text').value = '{key}'")
        browser.value("document.querySelector('#key button').click()")

    with running(server_settings(config, QUEUE_OFF)) as port:
        browser.tell("Page.navigate", url=f"http://127.0.0.1:{port}/")
        browser.wait("document.getElementById('key-why')?.textContent !== '' && !document.getElementById('key').hidden")
        assert RUN_ID not in browser.value("document.body.innerText")
        show(keys["ops"])
        browser.wait("document.getElementById('key-why').textContent.includes('read') && !sessionStorage.length")
        show(keys["read"])
        browser.wait(f"document.body.innerText.includes('{RUN_ID}') && {PICTURE} > 0")
        assert browser.value("document.getElementById('key').hidden")
        for width in (400, 520, 1000, 1400, 1600, 1900):
            browser.be_wide(width)
            browser.wait(ALL_IN_SIGHT)
        browser.wait("performance.getEntriesByType('resource').some((one) => one.name.endsWith('/ws/tickets'))")
        assert keys["read"] not in browser.value("document.documentElement.outerHTML + location.href")
        browser.value(f"document.querySelector('a[href*=\"{RUN_ID}\"]').click()")
        browser.wait(f"location.protocol === 'blob:' && document.body.innerText.includes('{RUN_ID}')")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no browser is installed")
def test_the_page_says_what_has_failed_and_why_and_when_nobody_answers(tmp_path: Path, browser: Browser) -> None:
    config = settings(tmp_path / "world", DSA110_PORT="0", REDIS_URL="redis://127.0.0.1:1/0")
    asyncio.run(build(config))
    reason = "DataQualityError: no calibrator is bright enough in /data/products/ms/2026-01-25T01:12:15.ms"
    asyncio.run(keep(config, JobRecord("job-that-failed", GROUP_ID, "failed", "", CREATED_AT, error=reason)))

    with running(server_settings(config, QUEUE_OFF)) as port:
        browser.be_wide(400)
        browser.tell("Page.navigate", url=f"http://127.0.0.1:{port}/")
        browser.wait(f"document.body.innerText.includes('{reason}')")
        browser.wait(ALL_IN_SIGHT)
        assert browser.value("document.querySelector('#jobs .failed[colspan]').offsetHeight") < 100
        browser.wait("/Redis: .*127.0.0.1:1/.test(document.getElementById('troubles').innerText)")
        browser.wait("document.getElementById('fresh').textContent.startsWith('As of ')")
        well = browser.value(COLOUR)
    browser.wait("/^The service does not answer .*told last: 2/.test(document.getElementById('fresh').textContent)")
    assert browser.value(COLOUR) != well
