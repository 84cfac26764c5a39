"""States of the services around the API; one of the three places that may catch everything.

Targets come from the settings. Each check has a time limit of its own and all run at once, so that one service that
hangs neither delays nor hides the others; a failed check is a result, not an error. However many ask, the services are
asked once in five seconds. What is asked are addresses of the settings and nothing else: no redirect is followed, no
body is read, and at most 64 KiB of a reply's head.

``http://host:port/path`` is running below status 400 and degraded above; ``tcp://host:port`` when a connection can be
made; the words ``redis:``, ``postgresql:``, ``absurd:`` (workers), ``disk:`` and ``self:`` (this process, without a
request) are checked by those who know them.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urlsplit

from dsa110_contimg.api.exceptions import DatabaseError, DSA110APIError, RecordNotFoundError
from dsa110_contimg.api.kept import Kept
from dsa110_contimg.api.operation_records import ServiceHistoryProtocol, ServiceState
from dsa110_contimg.api.replies import iso_time

log = logging.getLogger(__name__)

Check = Callable[[], Awaitable[Any]]

LIFE_S = 5.0
HISTORY_S = 86400.0
_WATCH_S = 60.0
_MINUTE_S = 60.0
_HEAD_BYTES = 64 << 10
_DESCRIPTIONS = {
    "Vite Dev Server": "Web pages under development", "Grafana": "Dashboards", "Redis": "Cache, rate limits, RQ jobs",
    "FastAPI Backend": "This API", "MkDocs": "Documentation", "Prometheus": "Metrics and alerts",
    "PostgreSQL": "Databases of queue and products", "ABSURD workers": "Workers of the durable queue",
    "Disk": "Space for data and products",
}  # fmt: skip


class DegradedError(Exception):
    """A service answers, but not well."""


async def ask(check: Check, limit_s: float) -> Any:
    """Return a check's answer, or the exception that it ended with."""
    try:
        async with asyncio.timeout(limit_s):
            return await check()
    except TimeoutError:
        return TimeoutError(f"no answer within {limit_s:g} s")
    except Exception as error:  # noqa: BLE001 - a check may fail in any way and must not take the others with it
        return error


def said(error: BaseException) -> str:
    """Return what clients are told of a failed check."""
    text = error.message if isinstance(error, DSA110APIError) else str(error)
    return text or type(error).__name__


async def ask_http(parts: SplitResult) -> None:
    """Send one GET and read the first line of the reply.

    Raises
    ------
    DegradedError
        The status is 400 or more, or the reply is no HTTP.
    OSError
        No connection can be made.
    """
    secure = (parts.scheme == "https") or None
    reader, writer = await asyncio.open_connection(parts.hostname, _port(parts), ssl=secure, limit=_HEAD_BYTES)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        words = (await reader.readline()).split(None, 2)
    except ValueError as error:  # no end of a line in 64 KiB
        raise DegradedError("the reply is no HTTP") from error
    finally:
        writer.close()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise DegradedError("the reply is no HTTP")
    if int(words[1]) >= 400:
        raise DegradedError(f"HTTP {int(words[1])}")


async def ask_tcp(parts: SplitResult) -> None:
    """Make a connection and close it."""
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.close()


class ServicesMonitor:
    """Asks every service how it is and remembers the last day.

    Parameters
    ----------
    targets : sequence of (name, address)
        What is asked, in the order of the answer.
    known : mapping
        For each word that is no address (``redis``, ``self``, ...) its port (0: none) and its check, which may return
        details. A target whose word is not here does not apply and is left out.
    history
        Where states are remembered.
    limit_s : float
        Longest check of one service.
    """

    def __init__(
        self,
        targets: Sequence[tuple[str, str]],
        known: Mapping[str, tuple[int, Check]],
        history: ServiceHistoryProtocol,
        limit_s: float = 2.0,
    ) -> None:
        self._targets = [(name, urlsplit(address)) for name, address in targets]
        self._known = known
        self._history = history
        self._limit_s = limit_s
        self._kept: Kept[list[ServiceState]] = Kept(self._ask_all, LIFE_S)
        self._written: set[tuple[str, float, str]] = set()

    async def states(self) -> list[ServiceState]:
        """Return the state of every service, at most five seconds old."""
        return await self._kept.get()

    async def state_at(self, port: int) -> ServiceState:
        """Return the state of the service at a port.

        Raises
        ------
        RecordNotFoundError
            No service that is monitored has this port.
        """
        for state in await self.states():
            if port and state.port == port:
                return state
        raise RecordNotFoundError("Service", str(port))

    async def history(self, hours: int) -> dict[str, Any]:
        """Return how long which service was in which state; seconds between two looks at it are not known."""
        since_s = time.time() - hours * 3600.0
        spans: dict[str, list[dict[str, Any]]] = {}
        for state in await self._history.since(since_s):
            _add_to_spans(spans.setdefault(state.name, []), state)
        services = [{"name": name, "spans": [_shown(span) for span in found]} for name, found in spans.items()]
        return {"services": services, "since": iso_time(round(since_s, 3)), "hours": hours}

    async def watch(self) -> None:
        """Look once a minute, so that the history has no gaps when nobody asks."""
        while True:
            await asyncio.sleep(_WATCH_S)
            await self.states()

    async def close(self) -> None:
        """Give up checks that still run."""
        await self._kept.close()

    async def _ask_all(self) -> list[ServiceState]:
        asked = [(name, parts) for name, parts in self._targets if parts.netloc or parts.scheme in self._known]
        states = list(await asyncio.gather(*(self._state(name, parts) for name, parts in asked)))
        await self._remember(states)
        return states

    async def _state(self, name: str, parts: SplitResult) -> ServiceState:
        port, check = self._check(parts)
        began_s = time.perf_counter()
        answer = await ask(check, self._limit_s)
        elapsed_ms = round((time.perf_counter() - began_s) * 1e3, 2)
        status, error = _verdict(answer)
        details = dict(answer) if isinstance(answer, Mapping) else None
        text = _DESCRIPTIONS.get(name, f"{parts.scheme} at {parts.hostname}")
        return ServiceState(name, port, text, status, elapsed_ms, round(time.time(), 3), error, details)

    def _check(self, parts: SplitResult) -> tuple[int, Check]:
        if not parts.netloc:
            return self._known[parts.scheme]
        return _port(parts), partial(ask_tcp if parts.scheme == "tcp" else ask_http, parts)

    async def _remember(self, states: Sequence[ServiceState]) -> None:
        """Keep each state once a minute; what cannot be kept is told all the same."""
        minute_at = time.time() // _MINUTE_S * _MINUTE_S
        new = [state for state in states if (state.name, minute_at, state.status) not in self._written]
        if not new:
            return
        try:
            async with asyncio.timeout(self._limit_s):
                await self._history.keep(new, minute_at, minute_at - HISTORY_S)
        except (DatabaseError, TimeoutError) as error:
            log.warning("states of services are not kept: %s", str(error) or "the database does not answer")
        self._written = {key for key in self._written if key[1] == minute_at}
        self._written |= {(state.name, minute_at, state.status) for state in new}


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _verdict(answer: Any) -> tuple[str, str | None]:
    if isinstance(answer, ConnectionRefusedError):
        return "stopped", "Connection refused"
    if isinstance(answer, TimeoutError):
        return "error", "Connection timeout"
    if isinstance(answer, DegradedError):
        return "degraded", str(answer)
    if isinstance(answer, BaseException):
        return "error", said(answer)
    return "running", None


def _add_to_spans(spans: list[dict[str, Any]], state: ServiceState) -> None:
    """Lengthen the last span of the same state by a minute, or begin a new one."""
    last = spans[-1] if spans else None
    if last and last["status"] == state.status and state.checked_at - last["until"] <= 2 * _MINUTE_S:
        last["until"] = state.checked_at + _MINUTE_S
        return
    until = state.checked_at + _MINUTE_S
    spans.append({"status": state.status, "since": state.checked_at, "until": until, "error": state.error})


def _shown(span: Mapping[str, Any]) -> dict[str, Any]:
    return {**span, "since": iso_time(span["since"]), "until": iso_time(span["until"])}
