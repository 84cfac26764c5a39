"""What a request says before its body."""

from collections.abc import Sequence

from dsa110_contimg.api.middleware.headers import Header


class Head:
    """The headers of a request.

    Parameters
    ----------
    headers
        Names and values as they came.

    Attributes
    ----------
    count : int
        Of headers.
    size_bytes : int
        As they are sent, each with its colon, a space and the end of its line.
    """

    __slots__ = ("_values", "count", "size_bytes")

    def __init__(self, headers: Sequence[Header]) -> None:
        self.count = len(headers)
        self.size_bytes = 0
        self._values: dict[bytes, tuple[str, ...]] = {}
        for name, value in headers:
            lower = name.lower()
            self._values[lower] = (*self.values(lower), value.decode("latin-1"))
            self.size_bytes += len(name) + len(value) + 4

    def values(self, name: bytes) -> tuple[str, ...]:
        """Return the values of a header, whose name is in lower case."""
        return self._values.get(name, ())

    @property
    def asks_before_asking(self) -> bool:
        """Whether a browser asks what it may ask (CORS), if the method is OPTIONS."""
        return bool(self.values(b"origin")) and bool(self.values(b"access-control-request-method"))
