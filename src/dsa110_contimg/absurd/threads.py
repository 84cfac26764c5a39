"""Runs a function in a thread of its own that the process does not wait for when it ends."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

logger = logging.getLogger(__name__)


class _Outcome(contextlib.AbstractContextManager[None]):
    """Hands what ends its block, whatever it is, to a future of another thread's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]") -> None:
        self._loop = loop
        self._future = future
        self.value: Any = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, StopIteration):  # a future refuses it
            error = RuntimeError(f"the function raised {error!r}")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, error)
        return True

    def _settle(self, error: BaseException | None) -> None:
        if error is None:
            self._future.set_result(self.value)
        else:
            self._future.set_exception(error)


class Threads:
    """Functions in threads, and the threads that did not end when they were asked to.

    A thread cannot be killed. One whose task is stopped has ``grace_s`` to notice; then it is left behind and keeps its
    place among the worker's slots until it ends, so that there are never more threads than slots.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self.left_behind: set[asyncio.Future[Any]] = set()

    async def run(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """Return what the function returns."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        outcome = _Outcome(loop, future)

        def call() -> None:
            with outcome:
                outcome.value = function(*args)

        threading.Thread(target=call, name=name, daemon=True).start()
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future}, timeout=self._grace_s)
            if not future.done():
                logger.error("the thread of %s does not end; its slot stays taken. Use the process executor", name)
                self.left_behind.add(future)
                future.add_done_callback(self._back)
            elif not future.cancelled():
                future.exception()  # it has been stopped; how it ended does not matter
            raise

    def _back(self, future: "asyncio.Future[Any]") -> None:
        self.left_behind.discard(future)
        if not future.cancelled():
            future.exception()
