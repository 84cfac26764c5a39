"""The ceilings: a body of the size that the path names from plain ASGI, and from a FastAPI route, through one server.

python -m benchmarks.api.bare asgi 8080 &
curl localhost:8080/350
"""

import sys
from functools import cache
from typing import Any

import uvicorn
from fastapi import FastAPI, Response


@cache
def body(size: str) -> bytes:
    """Return a JSON text of so many bytes."""
    return b'"' + b"x" * (int(size) - 2) + b'"'


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Answer with a body of the size that the path names."""
    if scope["type"] == "http":
        headers = [(b"content-type", b"application/json"), (b"content-length", scope["raw_path"][1:])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body(scope["path"][1:])})


fastapi = FastAPI()


@fastapi.get("/{size}")
async def answer(size: str) -> Response:
    """Answer with a body of this size."""
    return Response(body(size), media_type="application/json")


def main(kind: str, port: str) -> None:
    """Serve until told to stop."""
    application: Any = {"asgi": asgi, "fastapi": fastapi}[kind]
    uvicorn.run(application, port=int(port), access_log=False, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main(*sys.argv[1:])
