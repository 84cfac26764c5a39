"""Errors that are told by their HTTP status: what the gate refuses and what the framework found wrong."""

from collections.abc import Mapping

from dsa110_contimg.api.exceptions import DSA110APIError

#: The client did nothing wrong that it could correct.
_PASSES = frozenset({408, 429, 503})


class RequestError(DSA110APIError):
    """An error that is told by its HTTP status rather than by a class.

    Parameters
    ----------
    status : int
        HTTP status of the reply.
    code : str
        Code of the error body.
    message : str
        What was wrong, with the value, and what would be right.
    headers : mapping, optional
        Headers of the reply.
    """

    action = "Correct the request and send it again."

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.headers = headers or {}
        self.status_code = status
        self.error_code = code
        if status in _PASSES:
            self.action = "Try again in a moment."
