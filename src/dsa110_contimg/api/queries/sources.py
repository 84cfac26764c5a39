"""Statements on sources and their light curves.

The cone search asks the database for a box in declination and right ascension that holds the whole cone, and then
keeps what is within the angle: sources near a pole may have any right ascension, and a cone across RA 0 is two boxes.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from sqlalchemy import BindParameter, Text, and_, bindparam, case, cast, func, or_, select, tuple_
from sqlalchemy.sql import ColumnElement, Select

from dsa110_contimg.api.column_kinds import Number, RowNumber
from dsa110_contimg.api.db_adapters.backend import Row
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import SourceRecord, SourceSummary
from dsa110_contimg.api.pages import Document, Page, Wish, read_cursor, write_cursor
from dsa110_contimg.api.queries import counts
from dsa110_contimg.api.queries.decoding import (
    SHORT,
    as_they_are,
    ask,
    every,
    first,
    is_short,
    page_limit,
    paged,
    pairs,
    record_columns,
    record_reader,
)
from dsa110_contimg.api.queries.listing import ListQuery, condition_values
from dsa110_contimg.api.queries.measurements import COUNTS
from dsa110_contimg.api.tables import images, photometry, sources
from dsa110_contimg.pipeline.crossmatch import separation_deg

Columns = Mapping[str, ColumnElement[Any]]
Points = tuple[list[Document], list[Row]]

_SUMMARY = record_columns(
    SourceSummary,
    sources,
    sources.c.detection_count.label("num_images"),
)
_read_summary = record_reader(SourceSummary, _SUMMARY)
_POSITION = record_columns(SourceRecord, sources)
_read_position = record_reader(SourceRecord, _POSITION)


def _number(name: str) -> BindParameter[float]:
    return bindparam(name, type_=Number)


_BY_ID = Statement(select(*_SUMMARY).where(sources.c.id == bindparam("id")))
LIST = ListQuery(
    "sources",
    {
        "id": sources.c.id, "name": sources.c.name, "ra_deg": sources.c.ra_deg, "dec_deg": sources.c.dec_deg,
        "num_images": sources.c.detection_count, "image_id": cast(sources.c.latest_image_id, Text),
        "first_detected_mjd": sources.c.first_detected_mjd, "last_detected_mjd": sources.c.last_detected_mjd,
        "peak_flux_jy": sources.c.peak_flux_jy, "flux_jy": sources.c.weighted_mean_jy, "eta": sources.c.eta,
        "v": sources.c.v,
    },
    key="id",
    order="id",
    sortable=("ra_deg", "num_images", "last_detected_mjd", "peak_flux_jy", "eta", "v"),
    source=sources,
)  # fmt: skip
_ALL = paged(select(*_SUMMARY).order_by(sources.c.id))
_BOX_HOLDS = and_(
    sources.c.dec_deg.between(_number("dec_low"), _number("dec_high")),
    or_(
        sources.c.ra_deg.between(_number("ra_low"), _number("ra_high")),
        sources.c.ra_deg.between(_number("wrapped_low"), _number("wrapped_high")),
    ),
)
_BOX = Statement(select(*_POSITION).where(_BOX_HOLDS))
_ITEM = Statement(LIST.selection(LIST.names, (("id", "eq"),)))
# What was not measured of the whole source was measured of its peak; flux density and uncertainty go together.
_NO_FLUX = photometry.c.flux_jy.is_(None)
_FLUX = case((_NO_FLUX, photometry.c.peak_jyb), else_=photometry.c.flux_jy)
_FLUX_ERROR = case((_NO_FLUX, photometry.c.peak_err_jyb), else_=photometry.c.flux_err_jy)
# A measurement of an earlier file whose image is in no list has the negative of its own number for that of the image
# (`earlier`). Its own path is read for no other: the index of light curves, in which all else stands, has no paths.
_itself = photometry.alias()
_PATH = func.coalesce(
    images.c.path, select(_itself.c.image_path).where(_itself.c.id == -photometry.c.image_id).scalar_subquery()
)
_POINTS = {
    "mjd": photometry.c.mjd, "flux_jy": _FLUX, "flux_err_jy": _FLUX_ERROR, "peak_jyb": photometry.c.peak_jyb,
    "peak_err_jyb": photometry.c.peak_err_jyb, "snr": photometry.c.snr,
    "image_id": cast(images.c.id, Text), "image_path": _PATH, "flags": photometry.c.flags,
}  # fmt: skip
_OF_SOURCE = photometry.c.source_id == bindparam("source_id")
# What another run of the same observation superseded is left out, unless it is asked for; then each row says by which.
_SUPERSEDED = {"superseded_by": images.c.superseded_by}
_NUMBER = "number"  # of the image, by which measurements of one time are told apart; it is not shown


def _in_images(columns: Columns, *, every: bool = False) -> Select[Any]:
    """Return the selection of what is said of the measurements of a source and their images; ``every``: or of none."""
    named = [column.label(name) for name, column in columns.items()]
    of_image = images.c.id == photometry.c.image_id
    return select(*named).join_from(photometry, images, of_image, isouter=every).where(_OF_SOURCE)


def _curve(columns: Columns, *conditions: ColumnElement[bool]) -> tuple[Columns, Statement]:
    statement = (
        _in_images({**columns, _NUMBER: photometry.c.image_id}, every=True)
        .where(
            photometry.c.mjd <= _number("end_mjd"),
            tuple_(photometry.c.mjd, photometry.c.image_id)
            > tuple_(_number("start_mjd"), bindparam("after", type_=RowNumber)),
            *conditions,
        )
        .order_by(photometry.c.mjd, photometry.c.image_id)
        .limit(page_limit())
    )
    return columns, Statement(statement)


_CURVES = {False: _curve(_POINTS, COUNTS), True: _curve(_POINTS | _SUPERSEDED)}
_CONTRIBUTIONS = {
    "image_id": cast(photometry.c.image_id, Text), "path": images.c.path, "ms_path": images.c.ms_path,
    "qa_grade": images.c.qa_grade, "created_at": images.c.created_at, "flux_jy": _FLUX, "flux_error_jy": _FLUX_ERROR,
}  # fmt: skip


def _contributing(columns: Columns, *conditions: ColumnElement[bool]) -> tuple[Columns, Statement]:
    newest = (photometry.c.mjd.desc(), photometry.c.image_id.desc())
    return columns, paged(_in_images(columns).where(*conditions).order_by(*newest))


_CONTRIBUTING = {False: _contributing(_CONTRIBUTIONS, COUNTS), True: _contributing(_CONTRIBUTIONS | _SUPERSEDED)}
_GRADES = Statement(
    select(images.c.qa_grade, func.count())
    .join_from(photometry, images, images.c.id == photometry.c.image_id)
    .where(_OF_SOURCE, COUNTS)
    .group_by(images.c.qa_grade)
)
_CURVE_CURSOR = "mjd"
_PART = 1000  # measurements: some milliseconds of the event loop on PostgreSQL, whose rows are decoded in it
# No observation is outside; a bound that is always there keeps the statement one and the index in use.
_FIRST_MJD, _LAST_MJD = -1e9, 1e9
_BEFORE_ALL = -(1 << 62)  # below the number of any image


def by_id(source_id: str) -> Steps[SourceSummary | None]:
    """Find a source by its id."""
    return ask(Query(_BY_ID, {"id": source_id}, first(_read_summary), prompt=True))


def page(limit: int, offset: int) -> Steps[list[SourceSummary]]:
    """Read a part of all sources, by rising id."""
    return ask(Query(_ALL, {"limit": limit, "offset": offset}, every(_read_summary)))


def near(ra_deg: float, dec_deg: float, radius_deg: float) -> Steps[list[SourceRecord]]:
    """Read the sources within an angle of a position, nearest first."""
    candidates: list[SourceRecord] = yield Query(_BOX, cone_box(ra_deg, dec_deg, radius_deg), every(_read_position))
    found = [(separation_deg(ra_deg, dec_deg, each.ra_deg, each.dec_deg), each) for each in candidates]
    return [each for distance, each in sorted(found, key=lambda pair: (pair[0], pair[1].id)) if distance <= radius_deg]


def count() -> Steps[int]:
    """Count the sources."""
    return counts.total("sources")


def lightcurve_page(
    source_id: str, start_mjd: float | None, end_mjd: float | None, wish: Wish, superseded: bool = False
) -> Steps[Page]:
    """Read a part of the measurements of a source by rising time, as documents; ``superseded`` ones too if asked."""
    start, after = (_FIRST_MJD if start_mjd is None else start_mjd), _BEFORE_ALL
    if wish.cursor is not None:
        start, after = read_cursor(wish.cursor, _CURVE_CURSOR, (float, int))
    params = {
        "source_id": source_id, "start_mjd": start, "after": after,
        "end_mjd": _LAST_MJD if end_mjd is None else end_mjd,
    }  # fmt: skip
    points, rows = yield from _curve_points(_CURVES[superseded], params, wish.limit + 1)
    last = rows[wish.limit - 1] if len(rows) > wish.limit else None
    cursor = None if last is None else write_cursor(_CURVE_CURSOR, last["mjd"], last[_NUMBER])
    return Page(points[: wish.limit], None, cursor)


def _curve_points(curve: tuple[Columns, Statement], params: dict[str, Any], most: int) -> Steps[Points]:
    """Read a curve in parts, between which others are served; the first is all of a short one, and read promptly."""
    columns, statement = curve
    points: list[Document] = []
    read: list[Row] = []
    size = SHORT
    while True:
        wanted = min(size, most - len(points))
        query = Query(statement, {**params, "limit": wanted}, partial(_with_rows, columns), prompt=not points)
        part: Points = yield query
        points += part[0]
        read += part[1]
        if len(part[0]) < wanted or len(points) == most:
            return points, read
        params = {**params, "start_mjd": read[-1]["mjd"], "after": read[-1][_NUMBER]}
        size = _PART


def _with_rows(columns: Columns, rows: Sequence[Row]) -> Points:
    return _documents(columns, rows), list(rows)


def contributions(source_id: str, limit: int, offset: int, superseded: bool = False) -> Steps[list[Document]]:
    """Read a part of the images in which a source was measured, the last epoch first, as documents."""
    columns, statement = _CONTRIBUTING[superseded]
    params = {"source_id": source_id, "limit": limit, "offset": offset}
    rows: Sequence[Row] = yield Query(statement, params, as_they_are, prompt=is_short(limit, offset))
    return _documents(columns, rows)


def grades(source_id: str) -> Steps[dict[str | None, int]]:
    """Count the images of a source by grade, those that count."""
    return ask(Query(_GRADES, {"source_id": source_id}, pairs))


def by_ids(source_ids: Sequence[str]) -> Steps[list[Document]]:
    """Read the sources of these ids that there are, as documents."""
    found: list[Document] = []
    for source_id in source_ids:
        found += yield Query(_ITEM, {"eq_id": source_id}, lambda rows: LIST.documents(LIST.names, rows), prompt=True)
    return found


def cone(ra_deg: float, dec_deg: float, radius_deg: float, wish: Wish) -> Steps[Page]:
    """Read a page of the sources within an angle of a position that meet the conditions, nearest first."""
    conditions = tuple((each.name, each.operator) for each in wish.filters)
    statement = Statement(LIST.selection(LIST.names, conditions).where(_BOX_HOLDS))
    params = {**cone_box(ra_deg, dec_deg, radius_deg), **condition_values(wish)}
    rows: Sequence[Row] = yield Query(statement, params, as_they_are)
    candidates = LIST.documents(LIST.names, rows)
    found = [(separation_deg(ra_deg, dec_deg, each["ra_deg"], each["dec_deg"]), each) for each in candidates]
    within = sorted((pair for pair in found if pair[0] <= radius_deg), key=lambda pair: (pair[0], pair[1]["id"]))
    shown = [each for _, each in within[wish.offset : wish.offset + wish.limit]]
    if wish.fields:
        shown = [{name: each[name] for name in wish.fields} for each in shown]
    return Page(shown, len(within), None)


def _documents(columns: Columns, rows: Sequence[Row]) -> list[Document]:
    return list(map(dict, map(zip, repeat(tuple(columns)), rows)))  # a quarter faster than a loop: curves are long


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
