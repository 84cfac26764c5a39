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


def test_what_is_no_json_value_is_an_error_of_ours() -> None:
    with pytest.raises(TypeError):
        json_reply({"a": object()})
