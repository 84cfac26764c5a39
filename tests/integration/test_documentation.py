"""The description of the API: whole, true to the columns, fit for generators; its pages work without the net."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import pytest

from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.tables import images
from fixtures.api_server import serving
from fixtures.api_world import QUEUE_OFF, settings

NAME = re.compile(r"[a-z][a-z0-9_]*")
#: Names that clients of the earlier backend read, in the spelling that they know.
CAMEL_CASE = {
    "Provenance": {
        "runId", "msPath", "calTable", "calUrl", "pointingRaDeg", "pointingDecDeg", "qaGrade", "qaSummary", "logsUrl",
        "qaUrl", "msUrl", "imageUrl", "createdAt",
    },
    "RatingRequest": {"itemId", "tagId"},
    "RunIds": {"runIds"},
    "ServiceStatus": {"responseTime", "lastChecked"},
    "Stats": {"_meta"},
}  # fmt: skip


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(settings(tmp_path_factory.mktemp("described")), QUEUE_OFF).openapi()


def operations(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, calls in spec["paths"].items():
        for method, operation in calls.items():
            yield f"{method} {path}", operation


def test_every_call_has_a_name_of_its_own_that_is_one_in_any_language(spec: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(spec)]
    assert len(names) == len(set(names))
    assert all(NAME.fullmatch(name) for name in names)


def test_fields_are_spelt_one_way_but_for_those_that_earlier_clients_read(spec: dict[str, Any]) -> None:
    schemas = spec["components"]["schemas"]
    odd = {
        name: {key for key in schema.get("properties", {}) if not NAME.fullmatch(key)}
        for name, schema in schemas.items()
    }
    assert {name: keys for name, keys in odd.items() if keys} == CAMEL_CASE


def test_every_call_has_a_summary_a_description_and_one_explained_tag(spec: dict[str, Any]) -> None:
    explained = {tag["name"]: tag["description"] for tag in spec["tags"]}
    assert all(text != name for name, text in explained.items()), explained
    for name, operation in operations(spec):
        assert operation["summary"], name
        assert operation["description"], name
        assert len(operation["tags"]) == 1, name
        assert operation["tags"][0] in explained, name


def test_every_status_of_every_call_is_described_and_errors_have_the_one_body(spec: dict[str, Any]) -> None:
    errors = spec["components"]["responses"]
    for name, operation in operations(spec):
        assert {"400", "403", "404", "405", "413", "422", "429", "500", "503"} <= operation["responses"].keys(), name
        if operation.get("security"):
            assert {"401", "409", "507"} <= operation["responses"].keys(), name
        for status, reply in operation["responses"].items():
            told = errors[reply["$ref"].rpartition("/")[2]] if "$ref" in reply else reply
            assert told["description"], (name, status)
            if int(status) >= 400 and "$ref" in reply:
                body = told["content"]["application/json"]
                assert body["schema"]["$ref"].endswith("/ErrorBody")
                assert body["example"]["http_status"] == int(status)


def test_every_body_of_success_says_of_what_kind_it_is(spec: dict[str, Any]) -> None:
    for name, operation in operations(spec):
        replies = operation["responses"]
        assert ("304" in replies) == name.startswith("get "), name
        assert ("206" in replies) == ("416" in replies), name
        for status in {"200", "201", "202", "206"} & replies.keys():
            assert replies[status]["content"], (name, status)
            for kind, body in replies[status]["content"].items():
                told = {"type": "string", "format": "binary"} if not kind.startswith("text/") else {"type": "string"}
                assert body["schema"] if kind == "application/json" else body["schema"] == told, (name, kind)


def test_a_body_that_may_be_left_out_is_of_one_kind(spec: dict[str, Any]) -> None:
    bodies = [operation["requestBody"] for _, operation in operations(spec) if "requestBody" in operation]
    assert sum(not body.get("required") for body in bodies) == 3
    for body in bodies:
        assert "null" not in str(body), body


def test_rows_of_which_fields_are_chosen_have_the_same_keys_and_need_none(spec: dict[str, Any]) -> None:
    models = spec["components"]["schemas"]
    parts = {name.removesuffix("Part"): model for name, model in models.items() if name.endswith("Part")}
    assert {"ImageListItem", "SourceListItem", "JobListItem", "MSListItem"} <= parts.keys()
    for name, part in parts.items():
        assert part["properties"] == models[name]["properties"]
        assert "required" not in part


def test_calls_that_change_something_say_which_credentials_they_take(spec: dict[str, Any]) -> None:
    schemes = spec["components"]["securitySchemes"]
    assert schemes["APIKeyHeader"] == {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    assert schemes["HTTPBearer"] == {"type": "http", "scheme": "bearer"}
    for name, operation in operations(spec):
        if not name.startswith("get "):
            assert {scheme for each in operation["security"] for scheme in each} <= schemes.keys()
            assert operation["security"], name


def test_fields_that_are_columns_have_the_words_and_the_unit_of_the_column(spec: dict[str, Any]) -> None:
    detail = spec["components"]["schemas"]["ImageDetail"]["properties"]
    cell = images.c.cellsize_arcsec.info
    assert detail["cellsize_arcsec"]["description"] == f"{cell['description']}, {cell['unit']}"
    assert "ISO 8601" in detail["created_at"]["description"]
    assert detail["beam_major_arcsec"]["examples"] == [31.25]
    for name in ("noise_jy", "peak_flux_jy"):  # while the pixels of the file are corrected
        assert "not corrected for the primary beam" in detail[name]["description"]


def test_every_list_in_a_body_has_a_bound(spec: dict[str, Any]) -> None:
    """Each of its items may be a fault of its own, and takes time and memory to be told."""

    def lists(schema: dict[str, Any], name: str, seen: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
        known = schema.get("$ref", "").rpartition("/")[2]
        if known and known not in seen:
            yield from lists(spec["components"]["schemas"][known], known, (*seen, known))
        for inner in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
            yield from lists(inner, name, seen)
        for field, inner in schema.get("properties", {}).items():
            yield from lists(inner, f"{name}.{field}", seen)
        if schema.get("type") == "array":
            yield name, schema

    found = [
        each
        for call, operation in operations(spec)
        for told in operation.get("requestBody", {}).get("content", {}).values()
        for each in lists(told["schema"], call)
    ]
    assert len(found) > 10
    assert [name for name, schema in found if "maxItems" not in schema] == []


def test_every_number_of_the_sky_has_its_unit_in_its_text(spec: dict[str, Any]) -> None:
    units = {
        "jy": ("Jy",), "jyb": ("Jy / beam", "Jy/beam"), "deg": ("deg",), "arcsec": ("arcsec",), "mjd": ("MJD",),
        "hz": ("Hz",), "ghz": ("GHz",), "mhz": ("MHz",),
    }  # fmt: skip
    without, seen = [], 0
    for model, schema in spec["components"]["schemas"].items():
        for name, field in schema.get("properties", {}).items():
            wanted = units.get(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().rpartition("_")[2], ())
            numeric = {each.get("type") for each in (field, *field.get("anyOf", ()))} & {"number", "integer"}
            seen += bool(numeric and wanted)
            if numeric and wanted and not any(unit in field.get("description", "") for unit in wanted):
                without.append(f"{model}.{name}: {field.get('description')}")
    assert without == []
    assert seen > 80


def test_every_number_that_is_no_count_says_what_it_is_and_in_which_unit(spec: dict[str, Any]) -> None:
    silent, seen = [], 0
    for model, schema in spec["components"]["schemas"].items():
        for name, field in schema.get("properties", {}).items():
            parts = [field, *field.get("anyOf", ())]
            is_number = any(part.get("type") == "number" for part in parts)
            seen += is_number
            if is_number and not any(part.get("description") for part in parts):
                silent.append(f"{model}.{name}")
    assert silent == []
    assert seen > 100


def test_every_parameter_says_what_it_is_and_in_which_unit(spec: dict[str, Any]) -> None:
    silent = [(name, each["name"]) for name, operation in operations(spec) for each in operation.get("parameters", ())
              if not each.get("description")]  # fmt: skip
    assert silent == []
    told = {each["name"]: each["description"] for each in spec["paths"]["/api/v1/sources"]["get"]["parameters"]}
    assert told["min_peak_flux_jy"].startswith("at least; ")
    assert told["min_peak_flux_jy"].endswith(", Jy/beam")
    orders = "eta, id, last_detected_mjd, num_images, peak_flux_jy, ra_deg, v"
    assert told["sort"].endswith(f"one of {orders}; unless given id")


def described_parts(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give each model, field and parameter that has examples."""
    for name, model in spec["components"]["schemas"].items():
        yield name, model
        yield from ((f"{name}.{field}", schema) for field, schema in model.get("properties", {}).items())
    for name, operation in operations(spec):
        yield from ((f"{name} {each['name']}", each["schema"]) for each in operation.get("parameters", ()))


def test_examples_are_such_as_their_descriptions_ask_for(spec: dict[str, Any]) -> None:
    wrong, seen = [], 0
    for name, schema in described_parts(spec):
        for example in schema.get("examples", ()):
            seen += 1
            if not jsonschema_rs.is_valid({**schema, "components": spec["components"]}, example):
                wrong.append((name, example))
    assert wrong == []
    assert seen > 100


async def test_no_example_of_a_parameter_is_refused(spec: dict[str, Any], tmp_path: Any) -> None:
    refused = []
    async with serving(settings(tmp_path / "state")) as served:
        for name, operation in operations(spec):
            method, _, path = name.partition(" ")
            for each in operation.get("parameters", ()) if method == "get" else ():
                for example in each["schema"].get("examples", ()):
                    given = {each["name"]: example} if each["in"] == "query" else {}
                    address = path.replace(f"{{{each['name']}}}", quote(str(example), safe=""))
                    reply = await served.client.get(address, params=given)
                    about = reply.json().get("message", "") if reply.status_code in (400, 422) else ""
                    if f"{each['in']}.{each['name']}:" in about or f"{each['name']}=" in about:
                        refused.append((name, example, about))
    assert refused == []


def test_every_reference_leads_somewhere_and_no_schema_is_unused(spec: dict[str, Any]) -> None:
    used = set(re.findall(r"'\$ref': '#/components/(\w+/\w+)'", str(spec)))
    known = {f"{kind}/{name}" for kind, parts in spec["components"].items() for name in parts}
    assert used <= known
    assert {name for name in known if name.startswith("schemas/")} <= used


async def test_those_who_ask_at_the_same_time_get_one_description(tmp_path: Any) -> None:
    async with serving(settings(tmp_path), QUEUE_OFF) as client:
        replies = await asyncio.gather(*(client.get("/api/openapi.json") for _ in range(4)))
    assert [reply.status_code for reply in replies] == [200] * 4
    assert len({reply.content for reply in replies}) == 1


async def test_the_pages_are_served_with_all_that_they_load_from_this_server_only(tmp_path: Any) -> None:
    async with serving(settings(tmp_path, DSA110_ENV="testing")) as served:
        assert (await served.json("/api/openapi.json"))["info"]["title"]
        for page in ("/api/docs", "/api/redoc"):
            reply = await served.get(page)
            assert reply.status_code == 200
            policy = reply.headers["content-security-policy"]
            assert "script-src 'self';" in policy
            assert "default-src 'none'" in policy
            assert not re.search(r"<script[^>]*>[^<]", reply.text), "scripts in the page are forbidden by its policy"
            loaded = re.findall(r'(?:src|href)="([^"]+)"', reply.text)
            assert loaded
            for address in loaded:
                assert address.startswith("/")
                assert (await served.get(address)).status_code == 200, address


async def test_the_description_is_not_sent_twice_to_one_who_has_it(tmp_path: Any) -> None:
    async with serving(settings(tmp_path, DSA110_ENV="testing")) as served:
        tag = (await served.get("/api/openapi.json")).headers["etag"]
        assert (await served.get("/api/openapi.json", If_None_Match=tag)).status_code == 304


async def test_only_the_pages_of_the_description_may_have_styles_in_their_text(tmp_path: Any) -> None:
    async with serving(settings(tmp_path, DSA110_ENV="testing")) as served:
        for path in ("/", "/web/app.js", "/api/v1/health/live", "/api/openapi.json", "/api/docsx", "/api/v1/docs/x"):
            assert "unsafe" not in (await served.get(path)).headers["content-security-policy"], path
