"""Edits that undo nobody else's: ``If-Match: <ETag>`` says which version the client has read (RFC 9110 13.1.1).

The look and the edit are two statements: whoever edits between the two is not seen.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Header

from dsa110_contimg.api.exceptions import DSA110APIError
from dsa110_contimg.api.replies import json_reply

IfMatch = Annotated[str | None, Header(description="Change it only if its `ETag` is still one of these")]


class PreconditionFailedError(DSA110APIError):
    """Somebody else has changed what the client wants to change."""

    status_code = 412
    error_code = "PRECONDITION_FAILED"
    action = "Read it again, and send the change with its present ETag."


async def require_match(wanted: str | None, read: Callable[[], Awaitable[Any]]) -> None:
    """Refuse an edit of something that is not what the client has read.

    Parameters
    ----------
    wanted : str or None
        The header as it came: tags, or ``*`` for whatever is there; None asks for nothing.
    read : callable
        Gives what a ``GET`` would answer.

    Raises
    ------
    PreconditionFailedError
        None of the tags is that of the present version; weak ones never are.
    """
    if wanted is None:
        return
    tag = json_reply(await read()).headers["ETag"]
    if not {"*", tag}.intersection(part.strip() for part in wanted.split(",")):
        raise PreconditionFailedError(f"If-Match is {wanted}, and the present version has the ETag {tag}.")
