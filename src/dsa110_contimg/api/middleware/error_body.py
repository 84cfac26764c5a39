"""The one error body of every reply, whoever refuses: the gate, the framework or a service.

:meth:`DSA110APIError.to_body` gives the keys that programs and the web client read; here the ids of the request are
added, and ``detail`` where clients of the framework's own errors look for it.
"""

import hashlib
from typing import Any

from dsa110_contimg.api.exceptions import DSA110APIError

_WITH_DETAIL = frozenset({401, 403, 404, 405, 422, 501, 503})


def trace_id(request_id: str) -> str:
    """Return the 12 hexadecimal digits that join what is said of one request."""
    return hashlib.blake2b(request_id.encode(), digest_size=6).hexdigest()


def error_body(error: DSA110APIError, request_id: str, detail: Any = None) -> dict[str, Any]:
    """Return the error body.

    Parameters
    ----------
    error : DSA110APIError
        What went wrong.
    request_id : str
        Id of the request, as in the reply's ``X-Request-ID``; ``trace_id`` (12 hexadecimal digits) is made from it.
    detail : any
        The framework's own ``detail``; without it the message, for the statuses where earlier replies had one.
    """
    body = error.to_body(ref_id=request_id, trace_id=trace_id(request_id))
    if detail is not None or error.status_code in _WITH_DETAIL:
        body["detail"] = error.message if detail is None else detail
    return body
