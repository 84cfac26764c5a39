"""What somebody hostile may ask of every route: nothing is bypassed, nothing leaks, no error is ours."""

import base64
import collections
import json
import random
import re
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
import pytest_asyncio

from dsa110_contimg.api.async_repositories import AsyncCredentialRepository
from dsa110_contimg.api.credentials import SCOPES, create_key
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.route_table import RouteRow, route_rows
from fixtures.api_server import Queue, Served, fill_queue, segments, serving
from fixtures.api_world import QUEUE_OFF, World, build, settings
from fixtures.databases import new_database
from fixtures.opened_files import opened_files

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
CANARY = "canary-4c1b7e"
FOREIGN = "203.0.113.9"
SEED = 20261122
MAY_BE_AWAY = {501, 502, 503, 507}  # a part that this installation has not


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of an empty database in PostgreSQL; nothing for one in SQLite."""
    if request.param == "sqlite":
        yield ""
        return
    with new_database(request.getfixturevalue("postgres")) as url:
        yield url


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Path:
    """Where the world lies, with a secret file beside it."""
    found = tmp_path_factory.mktemp("hostile_postgresql" if database_url else "hostile_sqlite")
    (found / "secret.fits").write_text(CANARY)
    return found


def named(world: World, queue: Queue | None) -> dict[str, str]:
    """Return a value for each name in the paths of routes."""
    known = segments(world, queue)
    names = {"image_id": known["image"], "source_id": known["source"], "run_id": known["run"], "ms_id": known["ms"]}
    return names | ({"task_id": known["task"], "workflow_id": known["workflow"]} if queue else {})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(database_url: str, directory: Path) -> AsyncIterator[Served]:
    """The whole application over a small world; on PostgreSQL with a queue."""
    where = {"DSA110_DB_BACKEND": "postgresql", "DSA110_DB_PG_URL": database_url} if database_url else {}
    world = await build(settings(directory, DSA110_RATE_LIMIT_DISABLED="true", **where))
    filled_queue = await fill_queue(database_url) if database_url else None
    queue, names = filled_queue.config if filled_queue else QUEUE_OFF, named(world, filled_queue)
    async with serving(world.config, queue, names, world) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keys(served: Served) -> dict[str, str]:
    """A key for each scope, and one for all of them."""
    made = {scope: create_key(scope, [scope], time.time(), None) for scope in SCOPES}
    made["all"] = create_key("all", SCOPES, time.time(), None)
    async with open_database(served.world.config.database, served.world.config.timeouts) as adapter:
        for _, record in made.values():
            await AsyncCredentialRepository(adapter).add_key(record)
    return {name: text for name, (text, _) in made.items()}


def rows(served: Served, *methods: str) -> list[RouteRow]:
    return [row for row in route_rows(served.app) if row.method in methods]


def filled(path: str, value: str = "1") -> str:
    return re.sub(r"\{[^}]+\}", lambda _: value, path)


def alive(served: Served, path: str) -> str:
    """Return an address in which every name is one of something that is there."""
    return path.format_map(collections.defaultdict(lambda: "1", served.names))


def is_ours(status: int) -> bool:
    """Tell whether a status is an error of ours."""
    return status >= 500 and status not in MAY_BE_AWAY


def is_wrong(reply: httpx.Response) -> bool:
    """Tell whether a reply is an error of ours, or has a header that no server could send."""
    sendable = all(value.isprintable() or value == "" for value in reply.headers.values())
    return is_ours(reply.status_code) or not sendable


def assert_strict_json(reply: httpx.Response) -> None:
    """No NaN or infinity stands in a reply as a number; in a ticket, which is random text, the letters may well."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON: {reply.text[:300]}")

    if reply.headers.get("content-type") == "application/json":
        json.loads(reply.content, parse_constant=refuse)


def from_abroad(served: Served) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(served.app, raise_app_exceptions=False, client=(FOREIGN, 7))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


# --- the walk over all routes -----------------------------------------------------------------------------------------


async def test_every_route_lets_in_whom_the_page_about_scopes_names_and_nobody_else(
    served: Served, keys: dict[str, str]
) -> None:
    page = (ROOT / "docs" / "reference" / "security.md").read_text()
    told = {
        (method, "/api/v1" + path): scope
        for method, path, scope in re.findall(r"^\| (\w+) `(/\S+)` \| `(\S+)` \|$", page, re.MULTILINE)
    }
    wrong = []
    for number, row in enumerate(rows(served, "GET", "POST", "PUT", "PATCH", "DELETE")):
        needed = told.pop((row.method, row.path), "")
        address = filled(row.path, "00000000-0000-4000-8000-000000000000")
        for name in (None, *SCOPES) if needed else (None, SCOPES[number % len(SCOPES)]):  # a read is anybody's
            headers = {"X-API-Key": keys[name]} if name else {}
            status = (await served.client.request(row.method, address, headers=headers)).status_code
            right = status not in (401, 403) if name == needed or not needed else status == (403 if name else 401)
            if not right or is_ours(status):
                wrong.append((row.method, row.path, name, status))
    assert not wrong
    assert not told, "the page names routes that are not there"


async def test_nobody_from_elsewhere_is_answered_but_about_health(served: Served, keys: dict[str, str]) -> None:
    answered = set()
    async with from_abroad(served) as client:
        for row in rows(served, "GET", "POST", "PUT", "PATCH", "DELETE"):
            for headers in ({}, {"X-API-Key": keys["all"]}, {"X-Forwarded-For": "10.0.0.1"}):
                reply = await client.request(row.method, filled(row.path), headers=headers)
                if reply.status_code != 403:
                    answered.add(row.path)
    assert answered == {"/api/v1/health", "/api/v1/health/live", "/api/v1/health/ready", "/metrics"}


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        (FOREIGN, []),
        (FOREIGN, [(b"x-forwarded-for", b"10.0.0.1")]),
        ("10.0.0.1", [(b"origin", b"https://evil.example")]),
        ("10.0.0.1", [(b"origin", b"null")]),
        ("10.0.0.1", [(b"sec-fetch-site", b"cross-site")]),
        ("10.0.0.1", [(b"host", b"evil.example")]),
    ],
)
async def test_no_websocket_is_opened_for_strangers_and_pages_of_others(
    served: Served, client: str, headers: list[tuple[bytes, bytes]]
) -> None:
    for row in rows(served, "WebSocket"):
        sent = []
        scope = {
            "type": "websocket", "path": filled(row.path), "raw_path": b"", "query_string": b"", "scheme": "ws",
            "headers": [*([] if dict(headers).get(b"host") else [(b"host", b"localhost")]), *headers],
            "client": (client, 7), "subprotocols": [], "extensions": {}, "root_path": "",
        }  # fmt: skip

        async def receive() -> dict[str, str]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, str], sent: list[str] = sent) -> None:
            sent.append(message["type"])

        await served.app(scope, receive, send)  # type: ignore[arg-type]
        assert sent == ["websocket.close"], row.path


# --- paths ------------------------------------------------------------------------------------------------------------


def paths(directory: Path) -> list[str]:
    """Return more than 500 texts that want out of the data directories."""
    chance = random.Random(SEED)
    outside = [
        "/etc/passwd",
        "etc/passwd",
        f"{directory}/secret.fits",
        "/proc/self/environ",
        "/dev/zero",
        "secret.fits",
    ]
    ups = ["../" * n for n in (1, 2, 3, 5, 9, 20)] + ["..\\" * 6, "....//" * 6, "..;/" * 6, ".%2e/" * 6, "\u2025/" * 6]
    codings = [
        lambda text: text,
        lambda text: quote(text, safe=""),
        lambda text: quote(quote(text, safe=""), safe=""),
        lambda text: quote(text, safe="").replace("%2F", "%c0%af"),
        lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    ]
    found = [code(up + name) for name in outside for up in ["", "/", *ups] for code in codings]
    beneath = quote(f"{directory}/products/", safe="")
    found += [beneath + quote(up + name, safe="") for name in outside for up in ups]
    odd = ["%00", "a%00.fits", "%0d%0aX-Evil:%201", "~", "~root", "*", "?", "%3f", "%23", ".", "..", "...", "%20",
           "file:///etc/passwd", "http://127.0.0.1/", "-rf", "$(id)", ";id", "'\"--", "1 OR 1=1", "%ff%fe", "%ed%a0%80",
           "\u202e", "\ufeff1", "\uff0e\uff0e/", "1e999", "9" * 5000, "a" * 5000, "-1", "0", "1.5", "0x1",
           "１", "\u0661",
           "{0.__class__}", "%s%n", "<script>", "1%0a", "%09", "nan", "null", "None", "true"]  # fmt: skip
    found += odd + [quote(text, safe="%") for text in odd]
    while len(found) < 520:
        found.append(quote(bytes(chance.randrange(256) for _ in range(chance.randrange(1, 30))), safe=""))
    return list(dict.fromkeys(found))


def places(served: Served, *methods: str) -> list[tuple[str, str, str]]:
    """Return (method, address before a name, address after it) for each name in a path; the others are real."""
    found = []
    for row in rows(served, *methods):
        for name in re.finditer(r"\{[^}]+\}", row.path):
            found.append((row.method, alive(served, row.path[: name.start()]), alive(served, row.path[name.end() :])))
    return found


async def judge_paths(served: Served, keys: dict[str, str], chosen: Iterator[tuple[str, str]]) -> int:
    asked, wrong = 0, []
    with opened_files() as opened:
        for method, address in chosen:
            asked += 1
            try:
                reply = await served.client.request(method, address, headers={"X-API-Key": keys["all"]})
            except httpx.InvalidURL:
                continue
            leaks = CANARY in reply.text or "root:x:0:0" in reply.text
            if leaks or is_wrong(reply):
                wrong.append((method, address[:120], reply.status_code))
    assert not wrong
    assert not {path for path in opened if not is_at_home(path, served.world.config.paths.state_dir)}
    return asked


def is_at_home(path: str, state_dir: Path) -> bool:
    """Tell whether a file is of the data, of the software, or one step of a walk by descriptors."""
    if "/" not in path:
        return path != ".."
    own = (state_dir, *map(Path, {sys.prefix, sys.base_prefix, *filter(None, sys.path)}))
    return (
        ".." not in path.split("/")
        and Path(path) != state_dir / "secret.fits"
        and (path.startswith(("/proc/", "/dev/null")) or any(Path(path).is_relative_to(root) for root in own))
    )


async def test_no_path_leads_out_of_the_data_directories(served: Served, keys: dict[str, str], directory: Path) -> None:
    """Each text at one place, so that each place gets many; the long test asks each at each."""
    corpus = paths(directory)
    assert len(corpus) >= 500
    takers = places(served, "GET", "POST", "PUT", "PATCH", "DELETE")
    chosen = ((takers[n % len(takers)], text) for n, text in enumerate(corpus))
    assert await judge_paths(served, keys, ((way, head + text + tail) for (way, head, tail), text in chosen)) >= 500


@pytest.mark.slow
async def test_no_path_leads_out_at_any_route(served: Served, keys: dict[str, str], directory: Path) -> None:
    corpus = paths(directory)
    takers = [place for place in places(served, "GET") if re.search(r"/(?:images|ms|cal|logs|qa)/", place[1])]
    share = (
        1 if served.world.config.database.backend == "sqlite" else 16
    )  # what is done with a path is the same on both
    chosen = ((place, text) for number, place in enumerate(takers) for text in corpus[number % share :: share])
    asked = await judge_paths(served, keys, ((way, head + text + tail) for (way, head, tail), text in chosen))
    print(f"{asked} paths at {len(takers)} places: 0 leaks, 0 errors")


@pytest.mark.parametrize("share", [7, pytest.param(1, marks=pytest.mark.slow)])
async def test_no_path_of_a_row_leads_out_of_the_data_directories(
    served: Served, keys: dict[str, str], directory: Path, share: int
) -> None:
    """A row says nothing of what may be read or removed; each text is the path of an image and of a data set."""
    products = f"{directory}/products"
    texts = [text for text in map(unquote, paths(directory)) if "\0" not in text]
    if not (directory / "products/link.fits").is_symlink():
        (directory / "products/link.fits").symlink_to(directory / "secret.fits")
    texts += [f"{products}/{text}" for text in texts]
    texts = [f"{products}/link.fits", f"{products}/images/", products, *texts]
    texts = [text for text in dict.fromkeys(texts) if text and text.count(str(directory)) < 2]  # errors tell the others
    texts = texts[::share]
    readers = [
        "GET /images/{}/fits", "GET /images/{}/header", "GET /images/{}/thumbnail", "GET /images/{}/cutout?ra=1&dec=1",
        "GET /images/{}/png", "DELETE /images/{}?delete_files=true", "GET /images/bulk-download?ids={}",
        "GET /images/{}/validation", "GET /images/{}/animation", "GET /ms/{}/download", "GET /ms/{}/antennas",
        "GET /ms/{}/raster",
    ]  # fmt: skip
    config = served.world.config
    rows_of = [(5000 + number, text, ("fits", "casa")[number % 2]) for number, text in enumerate(texts)]
    async with open_database(config.database, config.timeouts) as adapter, adapter.transaction() as connection:
        one, two, three = ("?", "?", "?") if adapter.placeholder == "?" else ("$1", "$2", "$3")
        await connection.execute("DELETE FROM images WHERE id >= 5000")
        await connection.execute_many(
            f"INSERT INTO ms_index (path, created_at) VALUES ({one}, 0) ON CONFLICT DO NOTHING", [(t,) for t in texts]
        )
        await connection.execute_many(
            "INSERT INTO images (id, path, ms_path, created_at, type, format) "
            f"SELECT {one}, {two}, ms_path, created_at, type, {three} FROM images WHERE id = 1", rows_of,
        )  # fmt: skip

    def chosen() -> Iterator[tuple[str, str]]:
        for number, text in enumerate(texts):
            method, _, address = readers[number % len(readers)].partition(" ")
            yield method, "/api/v1" + address.format(quote(text, safe="") if "/ms/" in address else 5000 + number)

    assert await judge_paths(served, keys, chosen()) == len(texts) >= 500 // share
    assert (directory / "secret.fits").read_text() == CANARY


async def test_no_name_or_id_that_a_websocket_is_given_makes_an_error_of_ours(
    served: Served, keys: dict[str, str], directory: Path
) -> None:
    """An error of ours would come out of the application."""
    names = [unquote(text) for text in paths(directory)[::4]]
    ids = [
        "0",
        "x",
        "9" * 70 + "-1~5",
        "1-1~" + "9" * 18,
        "-1",
        "1-1",
        "\u0661-\u0661~\u0661",
        "\0",
        "~",
        "9" * 80,
        "1~1e9",
    ]
    asked = [(f"/api/v1/ws/jobs/{name}", "") for name in names]
    asked += [(alive(served, row.path), word) for row in rows(served, "WebSocket") for word in ids]
    for path, word in asked:
        sent: list[Any] = []
        told = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}]
        query = f"last_event_id={quote(word)}&client_id={quote(word)}".encode()
        scope = {
            "type": "websocket", "path": path, "raw_path": b"", "query_string": query, "scheme": "ws",
            "headers": [(b"host", b"localhost"), (b"x-api-key", keys["all"].encode())], "client": ("10.0.0.1", 7),
            "subprotocols": [], "extensions": {"websocket.http.response": {}}, "root_path": "",
        }  # fmt: skip

        async def receive(told: list[Any] = told) -> Any:
            return told.pop(0)

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        await served.app(scope, receive, send)
        statuses = {message["status"] for message in sent if "status" in message}
        assert not {status for status in statuses if is_ours(status)}, (path[:80], word, sent)


# --- bodies -----------------------------------------------------------------------------------------------------------

BODIES = [
    b"", b"{", b"NaN", b'{"a": NaN}', b'{"limit": 1e999}', b'{"a": -Infinity}', b"[" * 200_000, b'{"a":' * 200_000,
    b'"\\u0000"', b'{"name": "a\\u0000b"}', b'{"name": "\\ud800"}', b'"\\udfff"', b"1" * 5000,
    b'{"priority": ' + b"9" * 5000 + b"}",
    b'{"a": 1, "a": 2}', b"\xff\xfe", b"\xef\xbb\xbf{}", b"null", b"true", b"[]", b"{}", b'"text"', b"[[[]]]", b"\x00",
    b'{"task_name": null, "params": []}', b'{"__proto__": {"x": 1}}',
    b'{"run_ids": [' + b'"x",' * 2000 + b'"x"]}',
    b'{"password": "canary-4c1b7e", "type": "thumbnail"}', b'["canary-4c1b7e"]',
    b'{"image_ids": ["1", "a\\u001f\\r\\nX-Evil: 1"], "format": "tar"}',
    b'{"ids": [1e308, -0.0, 1E400]}', b'{"image_ids": [{}]}', b"\xed\xa0\x80",
]  # fmt: skip


@pytest.mark.parametrize("share", [5, pytest.param(1, marks=pytest.mark.slow)])
async def test_no_body_makes_an_error_of_ours(served: Served, keys: dict[str, str], share: int) -> None:
    """A fifth of them at each route; the long test sends each to each."""
    wrong, slowest_s = [], 0.0
    headers = {"X-API-Key": keys["all"], "Content-Type": "application/json"}
    for number, row in enumerate(rows(served, "POST", "PUT", "PATCH", "DELETE")):
        for body in BODIES[number % share :: share]:
            began = time.perf_counter()
            reply = await served.client.request(row.method, filled(row.path), content=body, headers=headers)
            slowest_s = max(slowest_s, time.perf_counter() - began)
            if is_wrong(reply):
                wrong.append((row.method, row.path, body[:60], reply.status_code, reply.text[:300]))
            assert_strict_json(reply)
            assert CANARY not in reply.text, "what has no place there is not told again"
    print(f"the slowest of {len(BODIES)} bodies took {slowest_s * 1e3:.0f} ms")
    assert not wrong


async def test_forms_and_texts_of_other_pages_change_nothing(served: Served, keys: dict[str, str]) -> None:
    usual = {"X-API-Key": keys["all"], "X-Request-ID": "page-2"}
    kinds = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", "")
    for row in rows(served, "POST", "PUT", "PATCH", "DELETE"):
        address = filled(row.path)
        for kind in kinds:
            headers = {"X-API-Key": keys["all"], "Content-Type": kind, "X-Request-ID": "page-1"}
            assert (await served.client.request(row.method, address, content=b"{}", headers=headers)).status_code == 415
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
            reply = await served.client.request(row.method, address, headers=headers | usual)
            assert (reply.status_code, reply.json()["error"]) == (403, "FOREIGN_ORIGIN")
    async with open_database(served.world.config.database, served.world.config.timeouts) as adapter:
        changes = await AsyncCredentialRepository(adapter).newest_changes(1000)
    assert not [entry for entry in changes if entry.request_id in ("page-1", "page-2")]


# --- every place of the description -----------------------------------------------------------------------------------

WORDS = [
    b"NaN", b"-Infinity", b"1e999", b"-1e308", b"1" * 5000, b"-9223372036854775809", b"18446744073709551616", b"0.1",
    b'"\\u0000"', b'"a\\u0000b"', b'"\\ud800"', b'"\\u202e"', b'"\\r\\nX-Evil: 1"', b'""', b'"' + b"a" * 5000 + b'"',
    b'"../../../etc/passwd"', b'"/etc/passwd"', b'"file:///etc/passwd"', b'"$(id)"', b'"=1+1"', b'"%s{0.__class__}"',
    b"[" * 60 + b"]" * 60, b"[" * 300 + b"]" * 300, b'{"a":' * 900 + b"1" + b"}" * 900, b"[" * 200_000,
    b"null", b"true", b"[]", b"{}", b"[[]]", b'{"\\u0000": 1}', b'{"a": 1, "a": 2}', b'{"a": 1e999}',
    b'{"a": "\\u0000"}', b'["\\u0000"]', b"[1e308, " + b"9" * 30 + b"]",
]  # fmt: skip


DEEP = b'{"a": ' + b"[" * 63 + b"]" * 63 + b"}"


def usual(schema: dict[str, Any]) -> Any:
    """Return a value that a schema of the description allows."""
    for known in ("default", "const"):
        if known in schema:
            return schema[known]
    if examples := schema.get("examples") or schema.get("enum"):
        return examples[0]
    if "anyOf" in schema:
        return usual(schema["anyOf"][0])
    formats = {"uuid": str(uuid.UUID(int=1)), "date-time": "2026-02-11T03:04:05Z"}
    kinds = {"string": "1", "integer": 1, "number": 1.0, "boolean": True, "array": ["1"], "object": {}}
    return formats[schema["format"]] if schema.get("format") in formats else kinds[schema["type"]]


def bodies_with(served: Served) -> Iterator[tuple[str, str, bytes, bytes]]:
    """Give (method, path, body up to a value, body after it) for each field of each body that the description knows."""
    described = served.app.openapi()
    for path, calls in described["paths"].items():
        for method, call in calls.items():
            schema = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if schema is None:
                continue
            known = described["components"]["schemas"].get(
                schema.get("$ref", "").rpartition("/")[2], {"properties": {"a": {"type": "object"}}}
            )
            for field in known["properties"]:
                rest = {name: usual(known["properties"][name]) for name in known.get("required", ()) if name != field}
                yield (
                    method.upper(),
                    path,
                    json.dumps(rest).encode()[:-1] + (b", " if rest else b"") + json.dumps(field).encode() + b": ",
                    b"}",
                )


@pytest.mark.parametrize("share", [37, pytest.param(4, marks=pytest.mark.slow)])
async def test_no_value_of_a_field_makes_an_error_of_ours_now_or_when_it_is_read(
    served: Served, keys: dict[str, str], share: int
) -> None:
    wrong = []
    headers = {"X-API-Key": keys["all"], "Content-Type": "application/json"}
    for number, (method, path, head, tail) in enumerate(bodies_with(served)):
        words = WORDS[number % share :: share]
        if path.endswith(("/masks", "/regions")):  # which start a child
            words = words[: 8 // share]
        for word in words:
            reply = await served.client.request(
                method, alive(served, path), content=head + word + tail, headers=headers
            )
            if is_wrong(reply):
                wrong.append((method, path, head[-60:], word[:30], reply.status_code, reply.text[:200]))
            assert_strict_json(reply)
        deep = await served.client.request(method, alive(served, path), content=head + DEEP + tail, headers=headers)
        assert "nested deeper than 64" in deep.text, "what is kept can be told again"
    for row in rows(served, "GET"):
        if re.search(r"/(absurd|batches|jobs|queue|stats)\b|/(masks|regions|ratings|versions)$", row.path) is None:
            continue  # what no body changes
        reply = await served.client.get(alive(served, row.path), headers=headers)
        if is_wrong(reply):
            wrong.append((row.method, row.path, b"", b"", reply.status_code, reply.text[:200]))
        assert_strict_json(reply)
    assert not wrong


async def test_a_body_of_thousands_of_faults_or_of_a_long_one_is_refused_in_few_words(
    served: Served, keys: dict[str, str]
) -> None:
    headers = {"X-API-Key": keys["all"], "Content-Type": "application/json"}
    many = {
        "numbers": b"[" + b"7," * 3000 + b"7]",
        "names": b"{" + b",".join(b'"%d": 7' % number for number in range(3000)) + b"}",
        "a name": b'{"' + b"a" * 30_000 + b'": 7}',
        "a text": b'"' + b"a" * 30_000 + b'"',
    }
    whole = [(row.method, row.path, b"", b"") for row in rows(served, "POST", "PUT", "PATCH", "DELETE")]
    wrong = []
    for number, (method, path, head, tail) in enumerate([*whole, *bodies_with(served)]):
        for name in ("a text", list(many)[number % 3]) if head else many:
            body = head + many[name] + tail
            reply = await served.client.request(method, alive(served, path), content=body, headers=headers)
            if is_wrong(reply) or (reply.status_code == 422 and len(reply.content) > 8192):
                wrong.append((method, path, head[-40:], name, reply.status_code, len(reply.content)))
    assert not wrong


# --- questions and headers --------------------------------------------------------------------------------------------

VALUES = ["-1", "0", "1001", "1000000000000", "9" * 5000, "NaN", "1e999", "%00", "%ff", "' OR 1=1 --", "a" * 5000, "",
          "..", "%ed%a0%80", "[]", "{}", "null", "1;drop table x", "\u202e", "%0d%0aSet-Cookie:%20x=1"]  # fmt: skip
CURSORS = [
    base64.urlsafe_b64encode(f'["{order}", {rest}]'.encode()).decode()
    for order in ("-created_at", "-path", "id")
    for rest in ("18446744073709551615, 1", '1e308, "x"', '"\\u0000", "\\u0000"', "1, 18446744073709551615", "[[]], {}")
]


def questions(served: Served) -> Iterator[tuple[str, str]]:
    """Give (path, name) for each question that a route knows, and for names that none knows."""
    for path, calls in served.app.openapi()["paths"].items():
        known = [place["name"] for place in calls.get("get", {}).get("parameters", ()) if place["in"] == "query"]
        yield from ((path, name) for name in [*known, "limit[]", "__proto__", "%00"] if "get" in calls)


@pytest.mark.parametrize("share", [20, pytest.param(4, marks=pytest.mark.slow)])
async def test_no_question_makes_an_error_of_ours(served: Served, share: int) -> None:
    """A few values for each name at each route; the long test asks more, of routes that start a child too."""
    wrong = []
    values = VALUES + [quote(json.dumps(word)) for word in ([], {}, "\0")] + CURSORS
    for number, (path, name) in enumerate(questions(served)):
        if share > 4 and re.search(r"/(animation|cutout|header|png|raster|slice|statistics|thumbnail)$", path):
            continue
        for value in values[number % share :: share]:
            reply = await served.client.get(f"{alive(served, path)}?{name}={value}")
            if is_wrong(reply) or "set-cookie" in reply.headers:
                wrong.append((path, name, value[:40], reply.status_code))
    assert not wrong


HEADERS: list[dict[str, Any]] = [
    {"Range": "bytes=" + ",".join(["0-"] * 1000)}, {"Range": "bytes=5-1,-,9999999999999999999999-"},
    {"If-None-Match": '"' * 5000}, {"If-Match": "*,*,*" * 500}, {"If-Match": b"\xff"}, {"If-Match": '"\0"'},
    {"If-Modified-Since": "Thu, 99 Foo -1 99:99:99"}, {"Accept": "a" * 8000}, {"Accept-Encoding": "gzip;q=1e999"},
    {"Authorization": "Bearer " + "." * 5000}, {"Authorization": "Basic OmE="}, {"X-API-Key": b"\xff\xfe\x80"},
    {"X-API-Key": "dsa110_" + "0" * 12 + "." + "x" * 43}, {"Cookie": "a=" + "b" * 4000},
    {"X-HTTP-Method-Override": "DELETE"}, {"X-Original-URL": "/api/v1/cache/clear"}, {"User-Agent": b"\xff\0"},
    {"X-Forwarded-Host": "evil.example"}, {"X-Forwarded-Prefix": "//evil.example"}, {"X-Forwarded-Proto": "javascript"},
    {"Forwarded": "for=127.0.0.1;host=evil.example"}, {"X-Request-ID": "a\tb"}, {"X-Request-ID": "\0"},
    {"Idempotency-Key": "x" * 9000}, {"Idempotency-Key": b"\xff\xfe"}, {"Idempotency-Key": "\0"},
    {"Idempotency-Key": ""}, {"Content-Length": "0", "Expect": "200-ok"}, {"Content-Type": "application/json;" * 500},
]  # fmt: skip


@pytest.mark.parametrize("headers", HEADERS, ids=lambda headers: next(iter(headers)))
async def test_no_header_makes_an_error_of_ours(served: Served, keys: dict[str, str], headers: dict[str, Any]) -> None:
    """At some reads, and at changes that have somebody's key; PostgreSQL keeps what it is told of them."""
    chance = random.Random(str(headers))
    asked = chance.sample(rows(served, "GET"), 3) + chance.sample(rows(served, "POST", "PUT", "PATCH", "DELETE"), 3)
    usual_ones = {"X-API-Key": keys["all"], "Content-Type": "application/json"}
    for row in asked:
        body = None if row.method == "GET" else b"{}"
        reply = await served.client.request(
            row.method, alive(served, row.path), content=body, headers=usual_ones | headers
        )
        assert not is_wrong(reply), (row.method, row.path, reply.text)
        assert "evil.example" not in reply.headers.get("location", "")
