"""Who may talk to the service: networks, the address of a client behind proxies, host names, origins.

Nothing here does input or output; the gate (``middleware/gate.py``) asks and acts. An allow-list of addresses is
ambient authority: any page open in a browser inside the private network "is allowed". The host and origin rules belong
to it for that reason (DNS rebinding, cross-site WebSockets), they are no extras.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from dsa110_contimg.api.request_error import RequestError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: What changes nothing (RFC 9110, 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# `urlsplit` would take evil.example[::1] and [::1]evil.example for ::1.
_HOST = re.compile(
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[\w-]+(?:\.[\w-]+)*)\.?)(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class RefusedError(RequestError):
    """A request that the gate does not let pass: for what it is, or (403, 421) for where it comes from."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, code, message, headers)
        if status in {403, 421}:
            self.action = "Connect from an allowed network, by a name of this server, not from a page of another site."


@dataclass(frozen=True, slots=True)
class NetworkSet:
    """A set of IP networks."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, networks: Iterable[Network]) -> "NetworkSet":
        """Take networks as configured; an IPv4 network mapped into IPv6 becomes IPv4, as addresses do."""
        return cls(tuple(_unmapped(network) for network in networks))

    def __contains__(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self.networks)


def _unmapped(network: Network) -> Network:
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None:  # of a prefix shorter than 96 bits the first address is none
        return network
    return IPv4Network((mapped, network.prefixlen - 96))


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """Return the address that a text names; an IPv4 address mapped into IPv6 comes back as IPv4.

    Raises
    ------
    ValueError
        The text is no address (a zone, as in ``fe80::1%eth0``, makes it none: it means something on one host only).
    """
    if "%" in text:
        raise ValueError(f"{text!r} carries a zone")
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _parse_hop(text: str) -> Address:
    """Read one element of X-Forwarded-For: an address, or an address with a port as some proxies write it."""
    hop = text.strip()
    if hop.startswith("["):
        hop, _, port = hop[1:].partition("]")
        _require_port(port.removeprefix(":")) if port else None
    elif hop.count(":") == 1:
        hop, _, port = hop.partition(":")
        _require_port(port)
    return parse_address(hop)


def _require_port(text: str) -> None:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise ValueError(f"{text!r} is no port")


@dataclass(frozen=True, slots=True)
class ClientAddressRule:
    """Finds the address that a request comes from and tells whether it may read.

    Parameters
    ----------
    allowed : NetworkSet
        Networks of clients.
    trusted_proxies : NetworkSet
        Peers whose ``X-Forwarded-For`` is believed; nobody by default.
    """

    allowed: NetworkSet
    trusted_proxies: NetworkSet = NetworkSet()

    def client(self, peer: str | None, forwarded_for: Sequence[str]) -> Address:
        """Return the client's address.

        The peer of the connection is the client unless it is a trusted proxy. Then the hops of all
        ``X-Forwarded-For`` headers, joined in their order, are walked from the right, because each proxy appends
        what it saw and everything further left may be invented by the client; the first hop that is no trusted
        proxy is the client.

        Raises
        ------
        RefusedError
            The peer has no address, a trusted proxy sent no header (every outsider would then look like the proxy), or
            a hop that had to be read is no address.
        """
        address = self._peer(peer)
        if address not in self.trusted_proxies:
            return address
        if not forwarded_for:
            raise RefusedError(
                403, "FORBIDDEN",
                f"The proxy {address} sent no X-Forwarded-For, so the client is unknown; "
                "let the proxy set that header to the address of its peer.",
            )  # fmt: skip
        for hop in reversed(",".join(forwarded_for).split(",")):
            address = self._hop(hop)
            if address not in self.trusted_proxies:
                return address
        return address  # all hops are trusted proxies: the outermost one asks for itself

    @staticmethod
    def _peer(peer: str | None) -> Address:
        try:
            return parse_address((peer or "").partition("%")[0])
        except ValueError as error:
            raise RefusedError(403, "FORBIDDEN", "The connection has no IP address to judge.") from error

    @staticmethod
    def _hop(text: str) -> Address:
        try:
            return _parse_hop(text)
        except ValueError as error:
            raise RefusedError(
                400, "BAD_FORWARDED_FOR", f"X-Forwarded-For holds {text.strip()[:60]!r}, which is no IP address."
            ) from error

    def require_allowed(self, address: Address) -> None:
        """Refuse an address outside the allowed networks.

        Raises
        ------
        RefusedError
            Always with status 403.
        """
        if address not in self.allowed:
            raise RefusedError(403, "FORBIDDEN", f"Access denied from {address}")


@lru_cache(maxsize=256)
def split_host(value: str) -> tuple[str, int | None]:
    """Split ``name``, ``name:port``, ``[v6]`` or ``[v6]:port`` into a lower-case name and a port.

    Raises
    ------
    ValueError
        The text is not of that form.
    """
    found = _HOST.fullmatch(value)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port or 0) > 65535:
        raise ValueError(f"{value!r} is no host")
    return (found["address"] or found["name"]).lower(), port


@dataclass(frozen=True, slots=True)
class HostRule:
    """Which ``Host`` a request may name, against DNS rebinding.

    Allowed are the loopback names, the configured names (``*.example.org`` allows every name below it), and plain
    IP addresses of the allowed networks: rebinding needs a name that its attacker controls.
    """

    names: frozenset[str]
    networks: NetworkSet

    def require_allowed(self, hosts: Sequence[str]) -> tuple[str, int | None]:
        """Return the host of a request.

        Raises
        ------
        RefusedError
            400 when there is not exactly one well-formed header, 421 when the name is not ours.
        """
        try:
            (value,) = hosts
            name, port = split_host(value)
        except ValueError as error:
            raise RefusedError(400, "BAD_HOST", "A request needs exactly one well-formed Host header.") from error
        if not self._knows(name):
            raise RefusedError(
                421, "UNKNOWN_HOST", f"This server is not called {name[:80]!r}; add the name to DSA110_ALLOWED_HOSTS."
            )
        return name, port

    def _knows(self, name: str) -> bool:
        if name in LOOPBACK_NAMES or name in self.names:
            return True
        if any(pattern.startswith("*.") and name.endswith(pattern[1:]) for pattern in self.names):
            return True
        try:
            return parse_address(name) in self.networks
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class OriginRule:
    """Which pages may open a WebSocket or change something: pages of this server, and configured origins."""

    origins: frozenset[str]

    def require_allowed(
        self, origins: Sequence[str], host: tuple[str, int | None], fetch_sites: Sequence[str] = ()
    ) -> None:
        """Refuse a request that a page of somebody else's makes; a client that is no browser sends no Origin.

        Parameters
        ----------
        origins
            Values of ``Origin``.
        host
            Name and port of this server, as the request says.
        fetch_sites
            Values of ``Sec-Fetch-Site``, by which a browser tells even where it sends no origin.

        Raises
        ------
        RefusedError
            Always with status 403.
        """
        if not origins:
            if {value.strip().lower() for value in fetch_sites} - {"same-origin", "none"}:
                raise RefusedError(403, "FOREIGN_ORIGIN", "Pages of other sites may not do this here.")
            return
        if len(origins) == 1 and (origins[0] in self.origins or _same_server(origins[0], host)):
            return
        raise RefusedError(403, "FOREIGN_ORIGIN", f"Pages of {', '.join(origins)[:120]!r} may not do this here.")


def _same_server(origin: str, host: tuple[str, int | None]) -> bool:
    """Compare host and port; the scheme only gives the default port, since a proxy may have ended TLS before us."""
    scheme, _, rest = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme)
    if default is None:
        return False
    try:
        name, port = split_host(rest)
    except ValueError:
        return False
    return (name, port or default) == (host[0], host[1] or default)
