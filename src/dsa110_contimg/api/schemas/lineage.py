"""Requests and replies about versions of images."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dsa110_contimg.api.schemas.base import QAGrade, Reply
from dsa110_contimg.pipeline.image_limits import (
    MAX_CELL_ARCSEC,
    MAX_MINOR_ITERATIONS,
    MAX_PIXELS,
    MIN_CELL_ARCSEC,
    MIN_PIXELS,
)

_ARCSEC = re.compile(r"(\d{1,4}(?:\.\d{1,20})?)arcsec")


def _square(sides: tuple[int, int]) -> tuple[int, int]:
    if sides[0] != sides[1]:
        raise ValueError(f"the image is square, and {sides[0]} is not {sides[1]}: give the same number twice")
    return sides


def _cell(text: str) -> str:
    _arcsec(text)
    return text


def _arcsec(text: str) -> float:
    found = _ARCSEC.fullmatch(text.replace(" ", ""))
    if found is None or not MIN_CELL_ARCSEC <= float(found[1]) <= MAX_CELL_ARCSEC:
        raise ValueError(f"give a number from {MIN_CELL_ARCSEC:g} to {MAX_CELL_ARCSEC:g} with its unit, as 5arcsec")
    return float(found[1])


_Side = Annotated[int, Field(ge=MIN_PIXELS, le=MAX_PIXELS, multiple_of=2)]


class ReimageRequest(BaseModel):
    """What is to be otherwise with another version of an image; what is not said stays as it was."""

    model_config = ConfigDict(extra="allow")  # what else a client says is refused by name, with what there is

    imsize: Annotated[tuple[_Side, _Side], AfterValidator(_square)] | None = Field(
        None,
        description="pixels a side, twice; a small image is the middle of the field, all of which is cleaned",
        examples=[[5040, 5040]],
    )
    cell: Annotated[str, Field(max_length=40), AfterValidator(_cell)] | None = Field(
        None, description="size of a pixel with its unit", examples=["2.5arcsec"]
    )
    niter: int | None = Field(None, ge=1, le=MAX_MINOR_ITERATIONS, description="most minor iterations of CLEAN")
    robust: float | None = Field(None, ge=-2, le=2, description="Briggs' parameter, -2 (uniform) to 2 (natural)")
    weighting: Literal["briggs"] | None = Field(None, description="there is no other")
    use_existing_mask: Literal[False] | None = Field(None, description="CLEAN makes its own mask")

    def choices(self) -> dict[str, Any]:
        """Return what is wanted in the words of the imager."""
        wanted = {
            "n_pixels": self.imsize and self.imsize[0], "cell_arcsec": self.cell and _arcsec(self.cell),
            "max_minor_iterations": self.niter, "robust": self.robust,
        }  # fmt: skip
        return {name: value for name, value in wanted.items() if value is not None}

    def unsupported(self) -> list[str]:
        """Return the names of parameters that the imager has not."""
        return sorted(name for name, value in (self.model_extra or {}).items() if value is not None)


class ReimageReply(Reply):
    """Another version of an image that is ordered; the order is durable."""

    status: Literal["queued"]
    job_id: str
    parent_image_id: str
    new_version: int
    run_id: str = Field(description="run that makes it")
    message: str
    queue_connected: bool


class ImageVersion(Reply):
    """One image among the versions of its family."""

    id: str
    version: int
    parent_id: str | None = Field(description="image that it was made after; that image may be deleted")
    created_at: str | None
    qa_grade: QAGrade | None
    imaging_params: dict[str, Any] | None = Field(description="what the imager was told, in the words of `reimage`")


class ImageVersions(Reply):
    """A family of images: the first one and all that were made after it, or after one of those, by version."""

    current_id: str
    root_id: str = Field(description="first image of the family; it may be deleted")
    chain: list[ImageVersion]
    total_versions: int
