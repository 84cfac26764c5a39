"""Another version of an image: what can be chosen, and what is judged."""

from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from dsa110_contimg.api.schemas.lineage import ReimageRequest
from dsa110_contimg.api.services.reimage_service import CHOICES
from dsa110_contimg.pipeline import calibrators
from dsa110_contimg.pipeline.imaging import ImageOptions, MadeImage
from dsa110_contimg.pipeline.reimaging import _shows


def test_everything_that_the_imager_can_be_told_can_be_chosen_but_paths() -> None:
    told = {field.name for field in fields(ImageOptions) if not field.name.endswith("_path")}
    everything = {"imsize": [256, 256], "cell": "2.5arcsec", "niter": 5, "robust": 0}
    assert set(ReimageRequest.model_validate(everything).choices()) == set(CHOICES) == told


def test_zero_is_a_choice_and_null_is_none() -> None:
    wanted = ReimageRequest.model_validate({"robust": 0, "cell": None, "threshold": None, "weighting": None})
    assert (wanted.choices(), wanted.unsupported()) == ({"robust": 0.0}, [])
    assert ReimageRequest.model_validate({"threshold": "1mJy", "gain": 0}).unsupported() == ["gain", "threshold"]


@pytest.mark.parametrize(
    "text", ["2.5", "arcsec", "2.5deg", "1e3arcsec", "nanarcsec", "601arcsec", "2.4arcsec", "9" * 41]
)
def test_a_cell_is_a_number_with_its_unit(text: str) -> None:
    with pytest.raises(ValidationError):
        ReimageRequest.model_validate({"cell": text})


def made(n_pixels: int, off_deg: float) -> MadeImage:
    """Return an image of 10 arcsec pixels whose centre lies so far north of 3C48; its other numbers do not matter."""
    place = calibrators.find("3C48")
    known: dict[str, Any] = dict.fromkeys((field.name for field in fields(MadeImage)), 0)
    known |= {"center_ra_deg": place.ra_deg, "center_dec_deg": place.dec_deg + off_deg}
    return MadeImage(**{**known, "imsize_x": n_pixels, "cellsize_arcsec": 10.0})


def test_a_calibrator_that_a_smaller_image_leaves_out_is_not_missing() -> None:
    assert _shows(made(720, 0.9), "3C48")
    assert not _shows(made(720, 1.1), "3C48"), "it would count as a flux ratio of zero"
