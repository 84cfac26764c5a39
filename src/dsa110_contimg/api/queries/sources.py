"""Statements on sources and their light curves.

The cone search asks the database for a box in declination and right ascension that holds the whole cone, and then
keeps what is within the angle: sources near a pole may have any right ascension, and a cone across RA 0 is two boxes.
"""

import math

from sqlalchemy import BindParameter, and_, bindparam, or_, select

from dsa110_contimg.api.column_kinds import Number
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import LightCurvePoint, SourceRecord, SourceSummary
from dsa110_contimg.api.queries.decoding import ask, counting, every, first, paged, record_columns, record_reader, value
from dsa110_contimg.api.tables import images, photometry, sources

_LATEST_IMAGE = (
    select(images.c.id)
    .join(photometry, photometry.c.image_path == images.c.path)
    .where(photometry.c.source_id == sources.c.id)
    .order_by(photometry.c.mjd.desc(), images.c.id.desc())
    .limit(1)
    .scalar_subquery()
)
_SUMMARY = record_columns(
    SourceSummary,
    sources,
    sources.c.detection_count.label("num_images"),
    _LATEST_IMAGE.label("latest_image_id"),
)
_read_summary = record_reader(SourceSummary, _SUMMARY)
_POSITION = record_columns(SourceRecord, sources)
_read_position = record_reader(SourceRecord, _POSITION)
_POINT = record_columns(LightCurvePoint, photometry, images.c.id.label("image_id"))
_read_point = record_reader(LightCurvePoint, _POINT)


def _number(name: str) -> BindParameter[float]:
    return bindparam(name, type_=Number)


_BY_ID = Statement(select(*_SUMMARY).where(sources.c.id == bindparam("id")))
_ALL = paged(select(*_SUMMARY).order_by(sources.c.id))
_BOX = Statement(
    select(*_POSITION).where(
        sources.c.dec_deg.between(_number("dec_low"), _number("dec_high")),
        or_(
            sources.c.ra_deg.between(_number("ra_low"), _number("ra_high")),
            sources.c.ra_deg.between(_number("wrapped_low"), _number("wrapped_high")),
        ),
    )
)
_CURVE = Statement(
    select(*_POINT)
    .join_from(photometry, images, images.c.path == photometry.c.image_path)
    .where(
        and_(
            photometry.c.source_id == bindparam("source_id"),
            photometry.c.mjd.between(_number("start_mjd"), _number("end_mjd")),
        )
    )
    .order_by(photometry.c.mjd, photometry.c.id)
)
_COUNT = counting(sources)
# No observation is outside; a bound that is always there keeps the statement one and the index in use.
_FIRST_MJD, _LAST_MJD = -1e9, 1e9


def by_id(source_id: str) -> Steps[SourceSummary | None]:
    """Find a source by its id."""
    return ask(Query(_BY_ID, {"id": source_id}, first(_read_summary)))


def page(limit: int, offset: int) -> Steps[list[SourceSummary]]:
    """Read a part of all sources, by rising id."""
    return ask(Query(_ALL, {"limit": limit, "offset": offset}, every(_read_summary)))


def lightcurve(source_id: str, start_mjd: float | None, end_mjd: float | None) -> Steps[list[LightCurvePoint]]:
    """Read the measurements of a source by rising time."""
    bounds = {
        "source_id": source_id,
        "start_mjd": _FIRST_MJD if start_mjd is None else start_mjd,
        "end_mjd": _LAST_MJD if end_mjd is None else end_mjd,
    }
    return ask(Query(_CURVE, bounds, every(_read_point)))


def near(ra_deg: float, dec_deg: float, radius_deg: float) -> Steps[list[SourceRecord]]:
    """Read the sources within an angle of a position, nearest first."""
    candidates: list[SourceRecord] = yield Query(_BOX, cone_box(ra_deg, dec_deg, radius_deg), every(_read_position))
    found = [(separation_deg(ra_deg, dec_deg, each.ra_deg, each.dec_deg), each) for each in candidates]
    return [each for distance, each in sorted(found, key=lambda pair: (pair[0], pair[1].id)) if distance <= radius_deg]


def count() -> Steps[int]:
    """Count the sources."""
    return ask(Query(_COUNT, {}, value))


def cone_box(ra_deg: float, dec_deg: float, radius_deg: float) -> dict[str, float]:
    """Return the limits of a box around a cone, degrees.

    A circle of radius r around declination d reaches asin(sin r / cos d) to either side in right ascension, or all
    around when a pole is in it. What sticks out over 0 or 360 comes back as a second range (else an empty one).
    """
    margin = 1e-9  # rounding: degrees, far below any position error
    radius = radius_deg + margin
    box = {"dec_low": dec_deg - radius, "dec_high": dec_deg + radius}
    if abs(dec_deg) + radius >= 90.0:
        return {**box, "ra_low": 0.0, "ra_high": 360.0, "wrapped_low": 1.0, "wrapped_high": 0.0}
    ratio = math.sin(math.radians(radius)) / math.cos(math.radians(dec_deg))
    half = math.degrees(math.asin(min(1.0, ratio))) + margin
    low, high = ra_deg % 360.0 - half, ra_deg % 360.0 + half
    wrapped = (0.0, high - 360.0) if high > 360.0 else (1.0, 0.0)
    if low < 0.0:
        wrapped = (low + 360.0, 360.0)
    return {**box, "ra_low": low, "ra_high": high, "wrapped_low": wrapped[0], "wrapped_high": wrapped[1]}


def separation_deg(ra1_deg: float, dec1_deg: float, ra2_deg: float, dec2_deg: float) -> float:
    """Return the angle between two directions, degrees.

    By Vincenty's formula for a sphere (1975, Survey Review 23, 88), which is exact for small and for large angles.
    """
    dec1, dec2 = math.radians(dec1_deg), math.radians(dec2_deg)
    d_ra = math.radians(ra2_deg - ra1_deg)
    across = math.cos(dec2) * math.sin(d_ra)
    along = math.cos(dec1) * math.sin(dec2) - math.sin(dec1) * math.cos(dec2) * math.cos(d_ra)
    inward = math.sin(dec1) * math.sin(dec2) + math.cos(dec1) * math.cos(dec2) * math.cos(d_ra)
    return math.degrees(math.atan2(math.hypot(across, along), inward))
