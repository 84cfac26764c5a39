"""Answers what this process still knows, behind the gate and before the routes, as plain ASGI.

What it does not know goes on to the routes, with what it knew of the tables at that moment in
``scope["state"]["seen"]``: a route whose replies may be kept says so (``validation.py``).
"""

from dsa110_contimg.api.middleware.exchange import ASGIApp, Receive, Scope, Send
from dsa110_contimg.api.reply_memory import ReplyMemory


class Remembering:
    """Pure ASGI middleware; see the module's text."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a question that was answered before, or hand it on."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        memory: ReplyMemory = scope["app"].state.services.memory
        kept = await memory.find((scope["path"], scope["query_string"]))
        if kept is None:
            scope["state"]["seen"] = memory.seen
            await self.app(scope, receive, send)
            return
        scope.update(kept.told)
        await send({"type": "http.response.start", "status": 200, "headers": kept.headers})
        await send({"type": "http.response.body", "body": kept.body})
