"""The table of tickets, with which a page opens a WebSocket."""

from sqlalchemy import Table, Text

from dsa110_contimg.api.column_kinds import Identifier, Json
from dsa110_contimg.api.columns import column, metadata, unix

websocket_tickets = Table(
    "websocket_tickets",
    metadata,
    column("secret_sha256", Identifier, "SHA-256 of the ticket, hexadecimal", "meta.checksum", primary_key=True),
    column("actor", Text, "Who asked for it", "meta.id", nullable=False),
    column("key_id", Identifier, "Key that was shown for it", "meta.id"),
    column("scopes", Json, "What that one may do", "meta.code", nullable=False),
    unix("ends_at", "End of what was shown for it", "time.end"),
    unix("expires_at", "End of its life", "time.end", nullable=False),
)
"""Each is deleted by the one WebSocket that it opens."""
