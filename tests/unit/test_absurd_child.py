"""The child process: options are built as annotated, or refused with the place that does not fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from dsa110_contimg.absurd import child
from dsa110_contimg.absurd.child import OptionsError, build


@dataclass(frozen=True)
class Cell:
    size_arcsec: float
    count: int = 1


@dataclass(frozen=True)
class Options:
    path: str
    files: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    cell: Cell | None = None
    cells: list[Cell] | None = None
    weighting: Literal["natural", "robust"] = "robust"
    extra: Mapping[str, int] | None = None
    threshold: int | float = 0
    guarded: bool = True
    anything: Any = None


def test_options_are_built_from_json_with_everything_that_stages_use() -> None:
    built = build(
        Options,
        {
            "path": "a.ms", "files": ["x", "y"], "window": [1, 2.5], "cell": {"size_arcsec": 3},
            "cells": [{"size_arcsec": 1.0, "count": 4}], "weighting": "natural", "extra": {"n": 1}, "threshold": 2.5,
            "guarded": False, "anything": {"a": [1]},
        },
    )  # fmt: skip
    assert built == Options(
        path="a.ms", files=("x", "y"), window=(1.0, 2.5), cell=Cell(3.0), cells=[Cell(1.0, 4)], weighting="natural",
        extra={"n": 1}, threshold=2.5, guarded=False, anything={"a": [1]},
    )  # fmt: skip
    assert isinstance(built.cell.size_arcsec, float)


def test_an_int_stays_one_where_either_is_allowed() -> None:
    assert type(build(int | float, 3)) is int
    assert type(build(float | int, 3)) is int


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, " lacks path$"),
        ({"path": "a", "pahts": 1}, r"options: 'pahts' is unknown, given as 1; did you mean 'path'\? there are .*path"),
        ({"path": 1}, "options.path is 1; give a value of type str"),
        ({"path": "a", "files": "x"}, "options.files is 'x'; give a list"),
        ({"path": "a", "files": ["x", 2]}, r"options.files\[1\] is 2"),
        ({"path": "a", "window": [1.0]}, "a list of 2"),
        ({"path": "a", "cell": {"size_arcsec": "big"}}, "options.cell.size_arcsec is 'big'"),
        ({"path": "a", "weighting": "uniform"}, r"one of \['natural', 'robust'\]"),
        ({"path": "a", "guarded": 1}, "type bool"),
        ({"path": "a", "threshold": True}, "threshold is True"),
        ({"path": "a", "extra": {"n": "x"}}, "options.extra.n is 'x'"),
        ([], "an object with the fields of Options"),
        (
            {"path": "a", "cell": {"size_arcsec": 10**400}},
            "size_arcsec is 10{99}.{3}; give a number below 1.79769e.308",
        ),
        ({"path": "a", "p" * 200: "v" * 200}, "is unknown, given as 'v{99}.{3};"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_their_place(given: Any, words: str) -> None:
    with pytest.raises(OptionsError, match=words):
        build(Options, given)


def test_a_refusal_of_options_is_not_worth_a_retry() -> None:
    assert OptionsError.retryable is False


def stage(options: Cell, progress: child.Callable[[float, str], None]) -> dict[str, float]:
    """Stand for a stage."""
    progress(0.5, "half")
    return {"size": options.size_arcsec * options.count}


def test_a_function_is_loaded_by_name_and_called_with_its_options() -> None:
    told: list[tuple[float, str]] = []
    result = child.run(f"{__name__}:stage", {"size_arcsec": 2, "count": 3}, lambda f, m: told.append((f, m)))
    assert (result, told) == ({"size": 6.0}, [(0.5, "half")])


@pytest.mark.parametrize("target", ["no_such_module:f", f"{__name__}:no_such_function", "words"])
def test_a_name_that_leads_nowhere_is_refused(target: str) -> None:
    with pytest.raises(OptionsError, match="cannot be run"):
        child.load(target)
