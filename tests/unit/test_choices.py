"""What can be chosen of the stages: the same in the order of a run, in the stage, and on the page."""

import importlib
import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dsa110_contimg.absurd.adapter import STAGES, assessment_options
from dsa110_contimg.absurd.options import OptionsError
from dsa110_contimg.absurd.workflows import CHOICES, fixed_options, require_choices
from dsa110_contimg.pipeline.choices import bounds

PAGE = Path(__file__).parents[2] / "docs" / "queue-api.md"


class Asked(dict[str, Any]):
    """Results of earlier stages, of whatever is asked for; it knows what was."""

    def __missing__(self, key: str) -> "Asked":
        return Asked()


def options_of(stage: str) -> Any:
    """Return the type of the options that a stage's function takes."""
    module, _, name = STAGES[stage].function.partition(":")
    function = getattr(importlib.import_module(module), name)
    return typing.get_type_hints(function)[next(iter(inspect.signature(function).parameters))]


@pytest.mark.parametrize("stage", CHOICES)
def test_the_options_of_a_stage_are_what_can_be_chosen_and_what_the_pipeline_chooses(stage: str) -> None:
    kind = options_of(stage)
    assert issubclass(kind, CHOICES[stage])
    told = assessment_options(Asked()).keys() if STAGES[stage].options is assessment_options else set()
    chosen, fixed = {field.name for field in fields(CHOICES[stage])}, fixed_options(stage) | told
    assert {field.name for field in fields(kind)} == chosen | fixed
    assert not chosen & fixed, "what was chosen would be silently passed over"


@pytest.mark.parametrize(
    ("stage", "chosen", "words"),
    [
        ("imaging", {"nitter": 5}, r"imaging: 'nitter' is unknown, given as 5; did you mean 'max_minor_iterations'\?"),
        ("imaging", {"robust": 7}, "imaging: robust is 7.0; give a number from -2 to 2"),
        ("imaging", {"robust": float("nan")}, "robust is nan; give a number from -2 to 2"),
        ("imaging", {"robust": "0"}, "imaging.robust is '0'; give a value of type float"),
        ("imaging", {"robust": None}, "imaging.robust is None"),
        ("imaging", {"n_pixels": 511}, "n_pixels is 511; give an even number"),
        ("imaging", {"n_pixels": 32}, "n_pixels is 32; give a number from 64 to 8192"),
        ("imaging", {"n_pixels": 512.0}, "imaging.n_pixels is 512.0; give a value of type int"),
        ("imaging", {"cell_arcsec": 1}, "cell_arcsec is 1.0; give a number from 2.5 to 600"),
        ("imaging", {"n_pixels": 8192, "cell_arcsec": 60}, "136.5 degrees a side; at most 20 can be imaged"),
        ("imaging", {"max_minor_iterations": 0}, "max_minor_iterations is 0; give a number from 1 to 1000000"),
        ("imaging", {"niter": 5}, "did you mean 'max_minor_iterations'"),
        ("imaging", {"cell": 5}, "did you mean 'cell_arcsec'"),
        ("imaging", {"zzz": 5}, "'zzz' is unknown, given as 5; there are cell_arcsec, max_minor"),
        ("flagging", {"aoflager": False}, "did you mean 'aoflagger'"),
        ("flagging", {"aoflagger": 1}, "flagging.aoflagger is 1; give a value of type bool"),
        ("calibration-solve", {"min_baselines": -1}, "min_baselines is -1; give a number from 2 to 100"),
        ("calibration-solve", {"calibrator": "XYZ"}, "calibrator 'XYZ' is not in the catalogue"),
        ("calibration-solve", {"calibrator": "3c488"}, r"did you mean 3C48\?"),
        ("calibration-apply", {"x": 1}, "'x' is unknown, given as 1; there is nothing to choose"),
        ("source-finding", {"peak_sigma": 3.5}, "island_sigma is 4.0; give at most peak_sigma, which is 3.5"),
        ("validation", {"noise_jy": 1e-9}, "'noise_jy' is unknown, given as 1e-09; there is nothing to choose"),
        ("convert-uvh5-to-ms", {"chunk_bytes": 0}, "chunk_bytes is 0; give a number from 1 to 4000000000"),
    ],
)
def test_what_a_stage_would_refuse_is_refused_by_option_value_and_remedy(
    stage: str, chosen: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionsError, match=words):
        require_choices(stage, chosen)


def test_what_is_possible_is_taken_to_its_bounds() -> None:
    for stage, kind in CHOICES.items():
        for field in fields(kind):
            for value in bounds(field) or ():
                others = {"peak_sigma": 1000} if field.name == "island_sigma" else {}
                whole = "int" in str(field.type)
                if (stage, field.name, value) != ("source-finding", "peak_sigma", 3):  # below the default island_sigma
                    require_choices(stage, {**others, field.name: int(value) if whole else value})


def rows() -> Iterator[tuple[str, str, str, str, str]]:
    """Give stage, option, type, default and bounds, as the page has them."""
    for stage, kind in CHOICES.items():
        for field in fields(kind):
            limits = bounds(field)
            told = f"{limits[0]:.12g} to {limits[1]:.12g}" if limits else ""
            kind_name = re.sub(r"<class '(?:.*\.)?(\w+)'>", r"\1", str(field.type)).replace(" | ", " or ")
            yield stage, field.name, kind_name, str(field.default).lower(), told


def test_the_page_has_every_option_with_its_type_default_and_bounds() -> None:
    table = re.findall(
        r"^\| `([a-z0-9-]+)` \| `(\w+)` \| ([^|]+) \| ([^|]+) \|([^|]*)\| [^|]+ \|$", PAGE.read_text(), re.MULTILINE
    )
    assert [tuple(cell.strip() for cell in row) for row in table] == list(rows())
