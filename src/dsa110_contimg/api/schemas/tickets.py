"""Replies about tickets."""

from dsa110_contimg.api.schemas.base import Reply


class Ticket(Reply):
    """A ticket for one WebSocket: ``new WebSocket(address, [protocol, ticket])``."""

    ticket: str
    expires_at: str
    protocol: str
