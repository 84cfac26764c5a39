"""Headers that every reply carries, and how long a reply may be kept."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

Header = tuple[bytes, bytes]

_API_POLICY = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# A picture that only a key opens is fetched by the page's script and shown from its memory (blob:).
_PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
# Swagger UI and ReDoc set styles from their scripts and draw signs from data: addresses.
_DOCUMENTATION_POLICY = _PAGE_POLICY.replace(b"style-src 'self'", b"style-src 'self' 'unsafe-inline'").replace(
    b"img-src 'self' blob:", b"img-src 'self' data:"
)
_SECURITY: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_VARY = b"Accept, Accept-Encoding, Authorization"
_WITHOUT_BODY = (204, 304)
_CONTROLS = bytes([*range(9), *range(10, 32), 127])  # all but the tab; the two that end a line are among them
_NO_STORE = b"no-cache, no-store, must-revalidate"
_LIVE = re.compile("/(?:health|metrics|jobs|queue|absurd)")
_KEPT = re.compile("/(?:images|sources|ms)")


def is_page(path: str) -> bool:
    """Tell whether a path belongs to the pages for people, which need scripts and styles of this server."""
    return path == "/" or path.startswith("/web/")


def is_documentation(path: str) -> bool:
    """Tell whether a path belongs to the pages that show the description of the API, with their scripts."""
    return path in ("/api/docs", "/api/redoc") or path.startswith("/api/docs/")


def content_policy(path: str) -> bytes:
    """Return what a browser may load into a reply."""
    if is_documentation(path):
        return _DOCUMENTATION_POLICY
    return _PAGE_POLICY if is_page(path) else _API_POLICY


def cache_control(method: str, path: str, status: int) -> bytes:
    """Return how long a reply may be kept when the route itself does not say.

    Errors are never kept. Products may be kept but are asked for again each time (``ETag`` makes that cheap): a detail
    that changes must not be shown stale.
    """
    if method not in ("GET", "HEAD") or status >= 400:
        return b"no-store"
    if _LIVE.search(path):
        return _NO_STORE
    if is_page(path) or is_documentation(path) or _KEPT.search(path):
        return b"private, no-cache"
    return _NO_STORE


@lru_cache(maxsize=1024)
def _missing(
    method: str, path: str, status: int, secure: bool, names: frozenset[bytes], varies: tuple[bytes, ...]
) -> list[Header]:
    """Return what is added to headers with these names, the same for every request of this kind."""
    policy = (b"content-security-policy", content_policy(path))
    kept = (b"cache-control", cache_control(method, path, status))
    usual = (*_SECURITY, policy, kept, *((_STRICT_TRANSPORT,) if secure else ()))
    added = [header for header in usual if header[0] not in names]
    depends = [*varies, _VARY] if method in ("GET", "HEAD") else varies
    if depends:
        parts = [name.strip() for text in depends for name in text.split(b",")]
        added.append((b"vary", b", ".join(dict.fromkeys(parts))))
    return added


def finished_headers(
    given: Sequence[Header], method: str, path: str, status: int, request_id: str, secure: bool
) -> list[Header]:
    """Return the headers of a reply with everything added that is missing; what the route set stays.

    Parameters
    ----------
    given
        Headers of the route, names in lower case.
    method, path, status, request_id
        Of the request and its reply.
    secure : bool
        The client came by TLS.
    """
    headers = common_headers(given, method, path, status, secure)
    if not any(name == b"x-request-id" for name, _ in headers):
        headers.append((b"x-request-id", request_id.encode()))
    return headers


def common_headers(given: Sequence[Header], method: str, path: str, status: int, secure: bool) -> list[Header]:
    """Return all of :func:`finished_headers` that does not differ from one request of a kind to the next."""
    headers = [header for header in given if header[0] not in (b"vary", b"server")]
    varies = tuple([value for name, value in given if name == b"vary"])
    names = frozenset([name for name, _ in headers])
    headers += _missing(method, path, status, secure, names, varies)
    if (b"cache-control", _NO_STORE) in headers:
        headers.append((b"pragma", b"no-cache"))
    return headers


def lines_of(headers: Iterable[Header]) -> bytes:
    """Return headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def are_lines(lines: bytes, count: int) -> bool:
    """Tell whether what is to be sent as so many headers is one line each, without control characters."""
    return len(lines) - len(lines.translate(None, _CONTROLS)) == 2 * count


def are_whole(status: int, headers: Sequence[Header], body: bytes) -> bool:
    """Tell whether headers say rightly where their reply ends, and not that the connection does."""
    named = dict(headers)
    is_bounded = named.get(b"content-length") == b"%d" % len(body) or (status in _WITHOUT_BODY and not body)
    return is_bounded and b"connection" not in named
