"""A connection tells the gate how many requests came before, also those that the event loop has not begun with."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import uvicorn

from dsa110_contimg.api.middleware.connection import patient
from dsa110_contimg.api.middleware.crowd import Crowd


class Application:
    """Notes how many are ahead of each request, and answers ``/slow`` when it is let."""

    def __init__(self) -> None:
        self.ahead: list[int] = []
        self.go_on = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.ahead.append(scope["state"]["ahead"])
        if scope["path"] == "/slow":
            await asyncio.to_thread(self.go_on.wait)
        if scope["path"] == "/broken":
            raise RuntimeError("as meant")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@contextlib.contextmanager
def serving(application: Application) -> Iterator[str]:
    """Serve an application by our connections and give its address."""
    connection = patient(5.0, 5.0, 1 << 14, 100)
    config = uvicorn.Config(application, http=connection, loop="uvloop", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as address:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [address]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{address.getsockname()[1]}"
        finally:
            application.go_on.set()
            server.should_exit = True
            thread.join()


def test_a_request_knows_how_many_are_ahead_of_it() -> None:
    application = Application()
    with serving(application) as url:
        asking = [threading.Thread(target=httpx.get, args=[f"{url}/slow"]) for _ in range(3)]
        for thread in asking:
            thread.start()
        while len(application.ahead) < 3:
            time.sleep(0.005)
        assert sorted(application.ahead) == [0, 1, 2]
        application.go_on.set()
        for thread in asking:
            thread.join()
        assert httpx.get(f"{url}/broken", timeout=60.0).status_code == 500
        assert httpx.get(f"{url}/", timeout=60.0).status_code == 200
        assert application.ahead[3:] == [0, 0]


async def test_of_many_that_have_come_one_begins_in_each_round_and_who_will_be_refused_at_once() -> None:
    crowd, begun, loop = Crowd(most=3), list[int](), asyncio.get_running_loop()
    failed: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failed.append(context))
    for number in range(5):
        crowd.join(loop, partial(begun.append, number))
    assert begun == [0, 3, 4], "3 and 4 are beyond the most"
    for more in ([1], [2], [], []):
        await asyncio.sleep(0)
        assert begun[-len(more) :] == more if more else begun == [0, 3, 4, 1, 2]
    for _ in range(5):
        crowd.leave()
    crowd.join(loop, partial(begun.append, 5))
    assert begun[-1] == 5, "nobody waits when nobody is there"
    await asyncio.sleep(0)
    assert not failed
