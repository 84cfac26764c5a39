"""Work for one client only: it ends when that client leaves.

A picture is kept for whoever asks next and is drawn to its end. A cutout or a report is for the one who asked: a child
that goes on with it takes its turn from those who still wait.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from dsa110_contimg.api.request_error import RequestError

_LEFT = 499  # as nginx writes it down; nobody reads the reply
Result = TypeVar("Result")


async def unless_left(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of work, which is cancelled when the client of the request leaves.

    The work must hold nothing that is lost with it when it is cancelled. It has ended when this returns or raises.

    Raises
    ------
    RequestError
        The client has left.
    """
    working, leaving = asyncio.create_task(work), asyncio.create_task(_has_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
    if working.cancelled():
        raise RequestError(_LEFT, "CLIENT_LEFT", "The client did not wait for the reply.")
    return working.result()


async def _has_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
