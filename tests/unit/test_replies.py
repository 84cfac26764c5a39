"""Replies as bytes: any value that a database can hold is JSON."""

import math

import orjson
import pytest

from dsa110_contimg.api.replies import json_reply


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (2**64, float(2**64)),
        (-(10**30), -1e30),
        (10**400, None),
        (math.nan, None),
        (True, True),
    ],
)
def test_whole_numbers_beyond_64_bits_and_numbers_that_are_none_are_sent(value: object, sent: object) -> None:
    body = json_reply({"deep": [{"n": value}, (value,)]}).body
    assert orjson.loads(body) == {"deep": [{"n": sent}, [sent]]}


def test_what_is_nested_too_deep_is_cut_and_says_so() -> None:
    deep: object = 1
    for _ in range(900):
        deep = [deep]
    told = orjson.loads(json_reply([{"params": deep}, {"params": 2}]).body)
    assert told[1] == {"params": 2}
    for _ in range(248):
        told = told[0]["params"] if isinstance(told[0], dict) else told[0]
    assert told == ["(nested deeper than 250)"]


def test_what_is_no_json_value_is_an_error_of_ours() -> None:
    with pytest.raises(TypeError):
        json_reply({"a": object()})
