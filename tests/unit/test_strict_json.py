"""JSON of clients is read strictly."""

import json

import pytest

from dsa110_contimg.api.strict_json import MAX_DEPTH, strict_json


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_json_may_be_nested_so_deep_and_no_deeper(opened: str, closed: str) -> None:
    def nested(depth: int) -> str:
        return opened * depth + ("1" if opened != "[" else "") + closed * depth

    assert strict_json(nested(MAX_DEPTH)) == json.loads(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 300, 5000):
        with pytest.raises(json.JSONDecodeError):
            strict_json(nested(depth))


@pytest.mark.parametrize("text", ["NaN", "1e999", '"\\ud800"', '{"a": -Infinity}', "", "{", b"\xff", "9" * 400])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(json.JSONDecodeError):
        strict_json(text)


@pytest.mark.parametrize("text", ["7", "1.5", "true", "null", '"7"'])
def test_a_value_that_holds_no_other_is_json(text: str) -> None:
    assert strict_json(text) == json.loads(text)
