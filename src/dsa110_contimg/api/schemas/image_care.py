"""Requests and replies about ratings, masks and regions of images."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dsa110_contimg.api.schemas.base import Reply

RegionFormat = Literal["ds9", "crtf", "json"]
RegionText = Annotated[str, Field(min_length=1, max_length=256 << 10, examples=["image; circle(32, 32, 5)"])]
RegionPurpose = Literal["analysis", "source", "exclude", "calibrator"]


class RatingRequest(BaseModel):
    """A rating: ``rating`` from 1 to 5, or ``confidence`` as the earlier web client asks it (5, 3 or 1 stars)."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    rating: int | None = Field(None, ge=1, le=5, strict=True)
    comment: str | None = Field(None, max_length=4000)
    rater: str | None = Field(None, min_length=1, max_length=100, description="default: the holder of the key")
    item_id: str | None = Field(None, alias="itemId", max_length=100)
    confidence: Literal["true", "false", "unsure"] | None = None
    tag_id: str | None = Field(None, alias="tagId", max_length=100)
    notes: str | None = Field(None, max_length=4000)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if (self.rating is None) == (self.confidence is None):
            raise ValueError("give either rating (1 to 5) or confidence (true, false or unsure)")
        return self


class RatingView(Reply):
    """One rating."""

    image_id: str
    rating: int
    comment: str | None
    rater: str
    rated_at: str
    confidence: str | None
    tag_id: str | None


class RatingReply(RatingView):
    """One rating, and what all of the image are now on average."""

    new_average: float | None = Field(description="1 (worst) to 5 (best)")


class RatingList(Reply):
    """The ratings of an image, the newest first."""

    ratings: list[RatingView]
    total: int
    average: float | None = Field(description="1 (worst) to 5 (best)")


class MaskRequest(BaseModel):
    """A mask as a text of DS9 or CRTF."""

    model_config = ConfigDict(extra="forbid")
    format: Literal["ds9", "crtf"] = "ds9"
    regions: RegionText


class RegionRequest(BaseModel):
    """Regions as a text of DS9 or CRTF, or as a JSON array of objects."""

    model_config = ConfigDict(extra="forbid")
    format: RegionFormat = "ds9"
    regions: RegionText
    name: str | None = Field(None, max_length=200)
    purpose: RegionPurpose = "analysis"


class MaskView(Reply):
    """One mask."""

    id: str
    path: str = Field(description="where its text is")
    format: str
    region_count: int
    name: str | None
    created_at: str
    created_by: str


class MaskDetail(MaskView):
    """One mask with its text."""

    content: str


class MaskList(Reply):
    """The masks of an image, the oldest first."""

    masks: list[MaskView]
    total: int


class RegionView(MaskView):
    """One set of regions."""

    purpose: str | None


class RegionDetail(RegionView):
    """One set of regions with its text."""

    content: str


class RegionList(Reply):
    """The regions of an image, the oldest first."""

    regions: list[RegionView]
    total: int


class MaskDeleted(Reply):
    """A mask that is no more."""

    status: Literal["deleted"]
    mask_id: str


class RegionDeleted(Reply):
    """A region that is no more."""

    status: Literal["deleted"]
    region_id: str


class ImageDeleted(Reply):
    """An image that is no more."""

    status: Literal["deleted"]
    image_id: str
    files_deleted: list[str] = Field(description="paths that were removed; others were not there or may not be")
