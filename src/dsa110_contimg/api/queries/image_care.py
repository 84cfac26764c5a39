"""Statements on ratings, masks and regions of images, and on the end of an image."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select
from sqlalchemy.sql import ClauseElement

from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.queries import measurements, observations
from dsa110_contimg.api.queries.decoding import as_given, ask, every, first, record_columns, record_reader, value
from dsa110_contimg.api.tables import image_ratings, image_regions, images


@dataclass(frozen=True, slots=True)
class RatingRecord:
    """One rating of an image."""

    image_id: int
    rater: str
    rating: int
    rated_at: float
    confidence: str | None = None
    tag: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class RegionRecord:
    """One mask or region of an image, with the text of its shapes."""

    id: str
    image_id: int
    kind: str  # mask | region
    format: str  # ds9 | crtf | json
    content: str
    region_count: int
    created_by: str
    created_at: float
    purpose: str | None = None
    name: str | None = None


_RATING = record_columns(RatingRecord, image_ratings)
_read_rating = record_reader(RatingRecord, _RATING)
_REGION = record_columns(RegionRecord, image_regions)
_read_region = record_reader(RegionRecord, _REGION)


def _rating(make: Callable[..., Any]) -> ClauseElement:
    names = [column.name for column in _RATING if column.name is not None]
    statement = make(image_ratings).values(as_given(image_ratings.c[name] for name in names))
    given = {name: statement.excluded[name] for name in names if name not in ("image_id", "rater")}
    built: ClauseElement = statement.on_conflict_do_update(index_elements=["image_id", "rater"], set_=given)
    return built


_OF_IMAGE = image_ratings.c.image_id == bindparam("of_image", type_=image_ratings.c.image_id.type)
_RATE = Statement(_rating)
_RATINGS = Statement(select(*_RATING).where(_OF_IMAGE).order_by(image_ratings.c.rated_at.desc()).limit(1000))
_AVERAGE = Statement(select(func.avg(image_ratings.c.rating * 1.0)).where(_OF_IMAGE))

_AT = image_regions.c
_THESE = (_AT.image_id == bindparam("of_image", type_=_AT.image_id.type)) & (_AT.kind == bindparam("of_kind"))
_THIS = _THESE & (_AT.id == bindparam("of_id", type_=_AT.id.type))
_ADD = Statement(insert(image_regions).values(as_given(_AT)))
_REGIONS = Statement(select(*_REGION).where(_THESE).order_by(_AT.created_at, _AT.id))
_ONE_REGION = Statement(select(*_REGION).where(_THIS))
_FORGET_REGION = Statement(delete(image_regions).where(_THIS).returning(_AT.id))

_NUMBER = bindparam("image_number", type_=images.c.id.type)
_FORGET_IMAGE = Statement(delete(images).where(images.c.id == _NUMBER).returning(images.c.ms_path))


def rate(rating: RatingRecord) -> Steps[float]:
    """Keep a rating and return the average of all ratings of the image."""
    yield Query(_RATE, dataclasses.asdict(rating))
    average: Any = yield Query(_AVERAGE, {"of_image": rating.image_id}, value)
    return float(average)


def ratings(image_id: int) -> Steps[list[RatingRecord]]:
    """Read the ratings of an image, the newest first."""
    return ask(Query(_RATINGS, {"of_image": image_id}, every(_read_rating)))


def add_region(region: RegionRecord) -> Steps[None]:
    """Keep a mask or region."""
    yield Query(_ADD, dataclasses.asdict(region))


def regions(image_id: int, kind: str) -> Steps[list[RegionRecord]]:
    """Read the masks or the regions of an image, the oldest first."""
    return ask(Query(_REGIONS, {"of_image": image_id, "of_kind": kind}, every(_read_region)))


def region(image_id: int, kind: str, region_id: str) -> Steps[RegionRecord | None]:
    """Find a mask or region by exactly its id."""
    return ask(Query(_ONE_REGION, {"of_image": image_id, "of_kind": kind, "of_id": region_id}, first(_read_region)))


def forget_region(image_id: int, kind: str, region_id: str) -> Steps[bool]:
    """Delete a mask or region by exactly its id; False when there is none."""
    found = yield Query(_FORGET_REGION, {"of_image": image_id, "of_kind": kind, "of_id": region_id}, value)
    return found is not None


def forget_image(image_id: int, path: str) -> Steps[bool]:
    """Delete an image with its measurements (and what they added to their sources), ratings, masks and regions.

    Measurements that those of this image had superseded count again.
    """
    yield from measurements.forget(path)
    ms_path = yield Query(_FORGET_IMAGE, {"image_number": image_id}, value)
    yield from observations.settle([ms_path] if ms_path is not None else ())
    return ms_path is not None
