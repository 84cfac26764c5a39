"""A connection tells the gate how many requests came before, also those that the event loop has not begun with."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import uvicorn

from dsa110_contimg.api.middleware.connection import patient


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
    connection = patient(5.0, 5.0, 1 << 14)
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
        assert httpx.get(f"{url}/broken").status_code == 500
        assert httpx.get(f"{url}/").status_code == 200
        assert application.ahead[3:] == [0, 0]
