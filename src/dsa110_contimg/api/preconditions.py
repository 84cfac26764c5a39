"""Edits that undo nobody else's: ``If-Match: <ETag>`` says which version the client has read (RFC 9110 13.1.1).

The look gives the version of the row that it saw, and the edit changes only a row of that version: of two editors who
look at the same moment, one is refused.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Header

from dsa110_contimg.api.exceptions import PreconditionFailedError
from dsa110_contimg.api.replies import json_reply

IfMatch = Annotated[str | None, Header(description="Change it only if its `ETag` is still one of these")]


def require_match(wanted: str, present: Mapping[str, Any]) -> bool:
    """Refuse an edit of something that is not what the client has read.

    Parameters
    ----------
    wanted : str
        The header as it came: tags, or ``*`` for whatever is there.
    present : mapping
        What a ``GET`` would answer.

    Returns
    -------
    bool
        The edit must find this very version; False for ``*``.

    Raises
    ------
    PreconditionFailedError
        None of the tags is that of the present version; weak ones never are.
    """
    tags = {part.strip() for part in wanted.split(",")}
    tag = json_reply(present).headers["ETag"]
    if not {"*", tag} & tags:
        raise PreconditionFailedError(f"If-Match is {wanted}, and the present version has the ETag {tag}.")
    return "*" not in tags
