"""What earlier clients expect, as docs/reference/contract.md says it, is what the API is described to be."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from architecture.source_tree import ROOT
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.config import APIConfig

PAGE = (ROOT / "docs" / "reference" / "contract.md").read_text()
SHAPES = dict(re.findall(r"^\| ([A-Z]\w+) \| `(.+)` \|$", PAGE, re.MULTILINE))
#: Method, path, query, what is replied, tests.
CALLS = re.findall(r"^\| ([A-Z]+) `([^`?]+)(?:\?([^`]+))?` \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
RULES = re.findall(r"^\| (\d[^|]*) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
TYPES = {"str": "string", "int": "integer", "bool": "boolean", "obj": "object"}


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return create_app(APIConfig.from_env({}), AbsurdConfig(enabled=False)).openapi()


def variants(spec: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give what a schema may be, references followed."""
    if "$ref" in schema:
        yield from variants(spec, spec["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    elif "anyOf" in schema:
        for one in schema["anyOf"]:
            yield from variants(spec, one)
    else:
        yield schema


def keeps(spec: dict[str, Any], schema: dict[str, Any], told: str) -> bool:
    """Tell whether whoever expects a type of the page can read what a schema describes."""
    found = list(variants(spec, schema))
    some = [one for one in found if one.get("type") != "null"]
    wanted = told.removesuffix("?")
    nullable = told.endswith("?") or wanted == "any"
    return (nullable or some == found) and any(is_a(spec, one, wanted) for one in some)


def is_a(spec: dict[str, Any], schema: dict[str, Any], told: str) -> bool:
    if told == "any":
        return True
    if told.startswith("["):
        return schema.get("type") == "array" and keeps(spec, schema["items"], told[1:-1])
    if told == "num":
        return schema.get("type") in ("number", "integer")
    if told in TYPES:
        return schema.get("type") == TYPES[told]
    return not missing(spec, schema, SHAPES.get(told, told))


def missing(spec: dict[str, Any], schema: dict[str, Any], keys: str) -> list[str]:
    """Return those of some keys with their types that a schema does not keep."""
    properties, required = schema.get("properties", {}), schema.get("required", [])
    lost = []
    for key in keys.split(", "):
        name, told = key.split(" ")
        there = name in properties and (name in required or told.endswith("*"))
        if not there or not keeps(spec, properties[name], told.removesuffix("*")):
            lost.append(key)
    return lost


def test_the_page_has_lost_no_row() -> None:
    assert (len(SHAPES), len(CALLS), len(RULES)) == (51, 105, 37)


@pytest.mark.parametrize(("method", "path", "query", "reply", "tests"), CALLS, ids=[f"{a} {b}" for a, b, *_ in CALLS])
def test_each_call_is_described_with_the_parameters_and_keys_that_clients_know(
    spec: dict[str, Any], method: str, path: str, query: str, reply: str, tests: str
) -> None:
    call = spec["paths"][f"/api/v1{path}"][method.lower()]
    defaults = {given["name"]: given["schema"].get("default") for given in call.get("parameters", [])}
    for name, _, default in (each.partition("=") for each in query.split("&") if each):
        assert name in defaults
        assert not default or default == str(defaults[name])
    [(kind, body)] = list(call["responses"]["200"]["content"].items())[:1]
    told = reply.strip("`")
    if reply.startswith("file"):
        assert told.removeprefix("file `") in call["responses"]["200"]["content"]
    elif told.startswith("[") or told in (*SHAPES, "any"):
        assert kind == "application/json"
        assert keeps(spec, body["schema"], told)
    else:
        [schema] = variants(spec, body["schema"])
        assert missing(spec, schema, told) == []


def test_errors_have_the_keys_of_all_clients(spec: dict[str, Any]) -> None:
    assert missing(spec, spec["components"]["schemas"]["ErrorBody"], SHAPES["Error"]) == []


def test_every_row_names_tests_that_exist() -> None:
    for row, tests in [(path, tests) for _, path, _, _, tests in CALLS] + [(row, tests) for row, _, tests in RULES]:
        named = re.findall(r"`([^`:]+)::(\w+)`", tests)
        assert named, row
        for file, name in named:
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), (row, file, name)


@pytest.mark.parametrize(
    ("path", "most"),
    [("/images", 1000), ("/sources", 1000), ("/jobs", 1000), ("/queue/jobs", 200), ("/absurd/workflows", 1000)],
)
def test_lists_give_as_many_rows_as_clients_are_used_to(spec: dict[str, Any], path: str, most: int) -> None:
    [limit] = [given for given in spec["paths"][f"/api/v1{path}"]["get"]["parameters"] if given["name"] == "limit"]
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, most)
