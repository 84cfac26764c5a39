"""How many requests, how long and how large: counted for Prometheus.

The label ``handler`` is the template of the route (``/api/v1/images/{image_id}``), never a path that was asked, and
``none`` for what no route answered; so clients cannot make series. Health and metrics themselves are not counted.
"""

from bisect import bisect_left

from dsa110_contimg.api.middleware.bases import BASE
from dsa110_contimg.api.middleware.exchange import Scope
from dsa110_contimg.api.tally import Cell, Family, Tally

REQUESTS = Family("counter", "http_requests", "Requests by route, method and class of status.")
REQUEST_SIZE = Family("summary", "http_request_size_bytes", "Announced length of request bodies by route.")
RESPONSE_SIZE = Family("summary", "http_response_size_bytes", "Length of reply bodies by route.")
DURATION = Family("histogram", "http_request_duration_seconds", "Time to the end of the reply, by route and method.")
FINE_DURATION = Family("histogram", "http_request_duration_highr_seconds", "Time to the end of the reply, finely.")
FAMILIES = (REQUESTS, REQUEST_SIZE, RESPONSE_SIZE, DURATION, FINE_DURATION)

BOUNDS_S = (0.1, 0.5, 1.0)
FINE_BOUNDS_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0, 30.0, 60.0,
)  # fmt: skip
NO_ROUTE = "none"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNCOUNTED = frozenset({"/metrics", *(f"{BASE}/health{part}" for part in ("", "/live", "/ready"))})


def _bounds(numbers: tuple[float, ...]) -> list[str]:
    return [*map(str, numbers), "+Inf"]


class _Pair:
    """Count and sum of a size."""

    __slots__ = ("count", "total")

    def __init__(self, tally: Tally, family: Family, labels: dict[str, str]) -> None:
        self.count = tally.cell(family, labels, "_count")
        self.total = tally.cell(family, labels, "_sum")

    def add(self, size: int) -> None:
        self.count.add()
        if size:
            self.total.add(size)


class _RouteCells:
    """The numbers of one route and method."""

    __slots__ = ("_buckets", "_labels", "_sum_s", "_tally", "requests", "sizes")

    def __init__(self, tally: Tally, handler: str, method: str) -> None:
        of_route = {"handler": handler}
        self._tally = tally
        self._labels = {**of_route, "method": method}
        self.requests: dict[str, Cell] = {}
        self.sizes = tuple(_Pair(tally, family, of_route) for family in (REQUEST_SIZE, RESPONSE_SIZE))
        self._buckets, self._sum_s = tally.histogram(DURATION, self._labels, _bounds(BOUNDS_S))

    def add(self, status: int, request_bytes: int, response_bytes: int, seconds: float) -> None:
        group = f"{status // 100}xx"
        cell = self.requests.get(group)
        if cell is None:
            cell = self.requests[group] = self._tally.cell(REQUESTS, {**self._labels, "status": group}, "_total")
        cell.add()
        self.sizes[0].add(request_bytes)
        self.sizes[1].add(response_bytes)
        self._buckets[bisect_left(BOUNDS_S, seconds)].add()
        self._sum_s.add(seconds)


class RequestMeter:
    """Counts the requests of one process.

    Parameters
    ----------
    tally : Tally
        Keeps the numbers.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._routes: dict[tuple[str, str], _RouteCells] = {}
        self._fine: tuple[list[Cell], Cell] | None = None

    def count(self, scope: Scope, method: str, status: int, size: int, seconds: float) -> None:
        """Count one request that has ended.

        Parameters
        ----------
        scope : mapping
            Of ASGI, in which the route has left its template.
        method : str
            As the client said it: the gate routes HEAD as GET.
        status : int
            Of the reply.
        size : int
            Of its body, bytes that were sent.
        seconds : float
            From the first look at the request to the end of the reply.
        """
        if scope["path"] in _UNCOUNTED:
            return
        if method not in _METHODS:
            method = "other"
        handler = scope.get("route_template", NO_ROUTE)
        cells = self._routes.get((handler, method))
        if cells is None:
            cells = self._routes[handler, method] = _RouteCells(self._tally, handler, method)
        cells.add(status, _announced(scope) if method not in ("GET", "HEAD") else 0, size, seconds)
        if self._fine is None:
            self._fine = self._tally.histogram(FINE_DURATION, {}, _bounds(FINE_BOUNDS_S))
        buckets, total_s = self._fine
        buckets[bisect_left(FINE_BOUNDS_S, seconds)].add()
        total_s.add(seconds)


def _announced(scope: Scope) -> int:
    """Return the length that a request announces; 0 when it announces none, or nonsense."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 19 else 0
    return 0
