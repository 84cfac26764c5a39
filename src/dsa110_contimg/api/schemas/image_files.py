"""Requests and replies about the files of images."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dsa110_contimg.api.schemas.base import Reply
from dsa110_contimg.api.schemas.images import Beam

PixelValue = Annotated[float | None, Field(description="in the unit of the image")]


class BulkDownload(BaseModel):
    """Which images are wanted in one archive."""

    model_config = ConfigDict(extra="forbid")
    image_ids: list[Annotated[str, Field(max_length=100)]] = Field(min_length=1, max_length=100)
    format: Literal["zip", "tar"] = "zip"


class FitsAxis(Reply):
    """One axis of an image."""

    type: str | None = Field(description="CTYPE: RA---SIN, DEC--SIN, FREQ, STOKES, ...")
    unit: str | None = Field(description="CUNIT; without one that of the standard: deg, Hz")
    length: int = Field(description="pixels")
    reference_pixel: float | None = Field(description="counted from 1, at the middle of a pixel")
    reference_value: float | None = Field(description="in the axis' unit")
    step: float | None = Field(description="per pixel, in the axis' unit")


class FitsHeader(Reply):
    """What the header of a FITS image says."""

    axes: list[FitsAxis] = Field(description="the fastest first, as in the header")
    n_planes: int
    unit: str | None = Field(description="of the pixels, BUNIT")
    beam: Beam | None
    frequency_hz: float | None = Field(description="middle of the spectral axis, Hz")
    rest_frequency_hz: float | None = Field(description="Hz")
    stokes: list[str]
    object: str | None
    telescope: str | None
    observed_at: str | None = Field(description="DATE-OBS as written")
    cards: dict[str, Any] = Field(description="null: a card without a value, or with one that cannot be read")
    history: list[str]
    problems: list[str] = Field(description="which cards cannot be read, and what cannot be told because of others")


class FitsValidation(Reply):
    """Whether a FITS image keeps the standard, as far as its readers rely on it."""

    valid: bool
    problems: list[str]
    shape: list[int] = Field(description="lengths of the axes, the slowest first")
    n_bytes: int


class FitsStatistics(Reply):
    """Statistics of one plane."""

    plane: int
    n_pixels: int
    n_valid: int = Field(description="pixels with a value")
    unit: str | None
    min: PixelValue
    max: PixelValue
    mean: PixelValue
    std: PixelValue
    rms: PixelValue
    median: PixelValue
    noise: float | None = Field(description="1.4826 times the median absolute deviation, in the unit of the image")
    sampled_every: int = Field(description="median and noise are of every so-manieth pixel")


class FitsSlice(Reply):
    """A rectangle of pixels."""

    plane: int
    x: int = Field(description="first column, from 0")
    y: int = Field(description="first row, from 0, counted from the south")
    unit: str | None
    values: list[list[float | None]] = Field(description="rows; null where there is no value")
