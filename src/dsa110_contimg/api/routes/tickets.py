"""Tickets: how a page, which can send no header with a WebSocket, opens one with the rights of its key."""

from typing import Annotated, Any

from fastapi import Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.authorization import ScopedRoute, require_scope
from dsa110_contimg.api.credentials import SOCKET_PROTOCOL, Principal
from dsa110_contimg.api.dependencies import Access
from dsa110_contimg.api.replies import iso_time, json_reply
from dsa110_contimg.api.routers import router_of

router = router_of("/ws", "task queue", ScopedRoute)

_READS: Any = require_scope("read")


@router.post("/tickets", response_model=schemas.Ticket, dependencies=[_READS])
async def issue_ticket(access: Access, holder: Annotated[Principal, _READS]) -> Response:
    """Return a ticket for one WebSocket within 30 s, to be offered as a protocol beside `dsa110`."""
    text, expires_at = await access.issue_ticket(holder)
    return json_reply({"ticket": text, "expires_at": iso_time(expires_at), "protocol": SOCKET_PROTOCOL})
