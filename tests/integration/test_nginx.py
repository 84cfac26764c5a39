"""A real nginx with our example of its settings, before the API as it is served."""

import datetime
import os
import pwd
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api import schemas
from dsa110_contimg.api.app import server_settings
from dsa110_contimg.up.servers import free_port
from fixtures.api_world import settings
from fixtures.live_api import running

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

EXAMPLE = (Path(__file__).parents[2] / "ops" / "nginx" / "dsa110.conf").read_text()
NAME = "dsa110.example.org"
CLIENT = "127.0.0.2"  # every address of 127/8 is a peer of its own
STRANGER = "127.0.1.1"
FEW = 20  # of the class of lists
JUDGED = "/api/v1/health?detailed=false"  # with a query the address is judged


def write_certificate(directory: Path) -> None:
    """Write a certificate that signs itself, and its key, under the names of the example."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    day = datetime.timedelta(days=1)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    (directory / "dsa110.crt").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (directory / "dsa110.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))


def write_settings(directory: Path, port: int, behind: Iterable[int]) -> Path:
    """Write the example with other ports, inside what it takes to run nginx by itself in a directory."""
    line = re.search(r"server 127\.0\.0\.1:8000([^;]*);", EXAMPLE)
    assert line
    servers = " ".join(f"server 127.0.0.1:{one}{line[1]};" for one in behind)
    site = EXAMPLE.replace(line[0], servers).replace("443 ssl", f"127.0.0.1:{port} ssl")
    kept = " ".join(f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    path = directory / "nginx.conf"
    path.write_text(
        f"daemon off; pid pid; error_log errors; user {pwd.getpwuid(os.geteuid()).pw_name};\n"
        f"events {{}}\nhttp {{ access_log off; {kept}\n{site.replace('/etc/nginx/tls/', '')}\n}}\n"
    )
    return path


class World:
    """The API's processes and the proxy before them."""

    def __init__(self, directory: Path, behind: tuple[int, ...]) -> None:
        self._state = directory / "state"
        self.behind = behind
        self._running: dict[int, ExitStack] = {}
        self.port = free_port()

    def start(self, port: int) -> None:
        """Start a process of the API; here it is a thread."""
        config = settings(
            self._state, DSA110_PORT=str(port), DSA110_TRUSTED_PROXIES="127.0.0.1", DSA110_ALLOWED_HOSTS=NAME,
            DSA110_ALLOWED_IPS="127.0.0.0/24", DSA110_RATE_LIMIT_MINUTE=str(FEW), DSA110_RATE_LIMIT_STORE="memory",
        )  # fmt: skip
        stack = self._running[port] = ExitStack()
        stack.enter_context(running(server_settings(config, AbsurdConfig(enabled=True)), port))

    def stop(self, port: int) -> None:
        self._running.pop(port).close()

    def close(self) -> None:
        for port in list(self._running):
            self.stop(port)

    def client(self, source: str = CLIENT) -> httpx.Client:
        transport = httpx.HTTPTransport(verify=False, local_address=source)
        host = {"Host": f"{NAME}:{self.port}"}
        return httpx.Client(base_url=f"https://127.0.0.1:{self.port}", transport=transport, headers=host, timeout=30.0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two processes of the API behind nginx."""
    directory = tmp_path_factory.mktemp("nginx")
    world = World(directory, (free_port(), free_port()))
    write_certificate(directory)
    told = write_settings(directory, world.port, world.behind)
    proxy = subprocess.Popen([str(NGINX), "-p", str(directory), "-e", "errors", "-c", str(told)])
    try:
        for port in world.behind:
            world.start(port)
        while not (directory / "pid").exists():
            assert proxy.poll() is None, (directory / "errors").read_text()
            time.sleep(0.02)
        yield world
    finally:
        proxy.terminate()
        proxy.wait()
        world.close()


def require_error_body(reply: httpx.Response, status: int, error: str) -> None:
    """Check that a reply is an error as the API itself tells it."""
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/json"), reply.text
    body = schemas.ErrorBody.model_validate_json(reply.content)
    assert (body.error, body.http_status, body.ref_id) == (error, status, reply.headers["x-request-id"])
    assert ("retry-after" in reply.headers) is (status >= 500)


def test_clients_behind_nginx_are_who_they_are(world: World) -> None:
    for source, claim, status in ((CLIENT, "8.8.8.8", 200), (STRANGER, CLIENT, 403), (STRANGER, "127.0.0.1", 403)):
        with world.client(source) as client:
            reply = client.get(JUDGED, headers={"X-Forwarded-For": claim, "Forwarded": f"for={claim}"})
        assert reply.status_code == status, (source, claim, reply.text)
        assert (source in reply.text) is (status == 403)
        assert "strict-transport-security" in reply.headers or status == 403


CLAIMS = {
    STRANGER: ("127.0.0.2", "127.0.0.1", "127.0.0.2, 127.0.0.1", "::ffff:127.0.0.2", "127.0.0.2:80", "unknown", ""),
    CLIENT: ("8.8.8.8", "127.0.1.1, 8.8.8.8", "::ffff:8.8.8.8", "unknown", "x" * 900),
}


def heads_that_claim(claims: Sequence[str]) -> list[dict[str, str]]:
    """Return headers that say that somebody is somebody else."""
    names = ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "Client-IP", "True-Client-IP", "X-Originating-IP")
    heads = [{name: claim} for name in names for claim in claims]
    heads += [{"Forwarded": f"for={claim};by=127.0.0.1"} for claim in claims]
    return heads + [dict.fromkeys((*names, "Forwarded"), claim) for claim in claims]


@pytest.mark.parametrize("source", CLAIMS)
def test_no_header_makes_a_stranger_behind_nginx_a_client_or_a_client_a_stranger(world: World, source: str) -> None:
    wrong = []
    with world.client(source) as client:
        for headers in heads_that_claim(CLAIMS[source]):
            reply = client.get(JUDGED, headers=headers)
            refused = reply.status_code == 403 and f"Access denied from {STRANGER}" in reply.text
            if not (refused if source == STRANGER else reply.status_code == 200):
                wrong.append((headers, reply.status_code))
    assert not wrong


@pytest.mark.parametrize("source", CLAIMS)
async def test_no_header_opens_a_websocket_for_a_stranger_behind_nginx_or_keeps_out_a_client(
    world: World, source: str
) -> None:
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    wrong = []
    for headers in heads_that_claim(CLAIMS[source]):
        address = f"wss://{NAME}:{world.port}/api/v1/ws/absurd"
        try:
            async with connect(
                address, ssl=trust, host="127.0.0.1", local_addr=(source, 0), additional_headers=headers
            ) as link:
                heard = str(await link.recv())
        except InvalidStatus as refused:
            heard = str(refused.response.status_code)
        if ("403" if source == STRANGER else '"connected"') not in heard:
            wrong.append((headers, heard))
    assert not wrong


def test_who_asks_too_often_behind_nginx_is_one_whatever_he_calls_himself(world: World) -> None:
    """Each process counts for itself here: a client gets what both let pass."""
    with world.client("127.0.0.77") as client, world.client("127.0.0.78") as other:
        claims = [f"127.0.0.{number}, 10.9.8.{number}" for number in range(3 * FEW)]
        asked = [client.get("/api/v1/images", headers={"X-Forwarded-For": one, "X-Real-IP": one}) for one in claims]
        assert [reply.status_code for reply in asked].count(429) >= FEW
        assert asked[-1].headers["x-ratelimit-limit"] == str(FEW)
        assert other.get("/api/v1/images").headers["x-ratelimit-remaining"] == str(FEW - 1)


def test_ranges_and_limits_hold_behind_nginx(world: World) -> None:
    with world.client() as client:
        part = client.get("/", headers={"Range": "bytes=0-14"})
        assert (part.status_code, part.content) == (206, b"<!doctype html>")
        big = client.post(
            "/api/v1/batches", content=b" " * (1 << 20) + b" ", headers={"Content-Type": "application/json"}
        )
        require_error_body(big, 413, "PAYLOAD_TOO_LARGE")
        require_error_body(client.get("/", headers={"Cookie": "x" * 40_000}), 431, "HEADERS_TOO_LARGE")
        require_error_body(client.get("/" + "x" * 40_000), 414, "URI_TOO_LONG")
        assert client.get(JUDGED, headers={"Host": "evil.example"}).status_code == 421


async def test_a_page_behind_nginx_opens_a_websocket_whatever_the_port(world: World) -> None:
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    own, told = f"https://{NAME}:{world.port}", f"wss://{NAME}:{world.port}/api/v1/ws/absurd"
    async with connect(told, ssl=trust, origin=own, host="127.0.0.1", local_addr=(CLIENT, 0)) as link:
        assert '"connected"' in str(await link.recv())
    with pytest.raises(InvalidStatus, match="403"):
        async with connect(told, ssl=trust, origin="https://evil.example", host="127.0.0.1", local_addr=(CLIENT, 0)):
            pass


def test_processes_restarted_one_after_the_other_fail_no_request(world: World) -> None:
    with world.client() as client:
        for port in world.behind:
            world.stop(port)
            assert [client.get(JUDGED).status_code for _ in range(4)] == [200] * 4
            world.start(port)


def test_what_nginx_says_while_nobody_answers_is_an_error_of_the_api(world: World) -> None:
    with world.client() as client:
        for port in world.behind:
            world.stop(port)
        try:
            require_error_body(client.get(JUDGED), 502, "SERVICE_UNAVAILABLE")
            require_error_body(client.post("/api/v1/batches", json={}), 502, "SERVICE_UNAVAILABLE")
        finally:
            for port in world.behind:
                world.start(port)
