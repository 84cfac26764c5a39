"""The ceilings: a fixed body of some size from plain ASGI, and from a FastAPI route, through the same server.

python -m benchmarks.api.bare asgi 8080 350
"""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, Response


def asgi(body: bytes) -> Any:
    """Return an application that answers everything with ``body``."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return application


def fastapi(body: bytes) -> Any:
    """Return an application with one route that answers with ``body``."""
    app = FastAPI()

    @app.get("/{path:path}")
    async def answer(path: str) -> Response:
        return Response(body, media_type="application/json")

    return app


def main(kind: str, port: str, size: str) -> None:
    """Serve until told to stop."""
    application = {"asgi": asgi, "fastapi": fastapi}[kind](b'"' + b"x" * (int(size) - 2) + b'"')
    uvicorn.run(application, port=int(port), access_log=False, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main(*sys.argv[1:])
