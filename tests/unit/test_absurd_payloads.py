"""The JSON of payloads."""

from dataclasses import dataclass

import numpy as np
import pytest

from dsa110_contimg.absurd.payloads import encode, plain


@dataclass(frozen=True)
class Beam:
    major_arcsec: float
    names: tuple[str, ...]


def test_payloads_become_plain_strict_json() -> None:
    value = {"beam": Beam(float("inf"), ("a", "b\x00")), 3: np.float32(0.5), "n": np.int64(7), "flag": np.bool_(True)}
    assert encode(value) == '{"beam":{"major_arcsec":null,"names":["a","b"]},"3":0.5,"n":7,"flag":true}'


def test_what_has_no_json_form_is_refused_by_its_type() -> None:
    with pytest.raises(TypeError, match="ndarray has no JSON form"):
        plain({"image": np.zeros(3)})
