"""Statements on images."""

from functools import partial
from typing import Any

from sqlalchemy import Text, bindparam, cast, select
from sqlalchemy.sql import Select

from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import ImageRecord
from dsa110_contimg.api.pages import Document
from dsa110_contimg.api.queries import counts
from dsa110_contimg.api.queries.calibration import first_match
from dsa110_contimg.api.queries.decoding import (
    ask,
    every,
    first,
    is_short,
    paged,
    record_columns,
    record_reader,
    row_number,
    value_of,
)
from dsa110_contimg.api.queries.listing import ListQuery
from dsa110_contimg.api.tables import image_regions, images, ms_index

_COLUMNS = record_columns(ImageRecord, images, ms_index.c.stage.label("ms_stage"))
READ = record_reader(ImageRecord, _COLUMNS)
SELECTED: Select[Any] = select(*_COLUMNS).join_from(images, ms_index, ms_index.c.path == images.c.ms_path, isouter=True)
_MASK = (
    select(image_regions.c.id)
    .where(image_regions.c.image_id == images.c.id, image_regions.c.kind == "mask")
    .order_by(image_regions.c.created_at.desc(), image_regions.c.id.desc())
    .limit(1)
    .scalar_subquery()
)
_NEWEST = (images.c.created_at.desc(), images.c.id.desc())

_DETAIL = record_columns(
    ImageRecord,
    images,
    ms_index.c.stage.label("ms_stage"),
    first_match(images.c.ms_path, ms_index.c.mid_mjd).label("cal_table"),
    _MASK.label("mask_id"),
)
_read_detail = record_reader(ImageRecord, _DETAIL)
_BY_ID = Statement(SELECTED.with_only_columns(*_DETAIL).where(images.c.id == bindparam("id")))
_BY_PATH = Statement(SELECTED.where(images.c.path == bindparam("path")))
_ALL = paged(SELECTED.order_by(*_NEWEST))
_FOR_MS = Statement(SELECTED.where(images.c.ms_path == bindparam("ms_path")).order_by(*_NEWEST))
_OF_RUN = Statement(
    select(images.c.id)
    .where(images.c.ms_path == bindparam("ms_path"), images.c.run_id == bindparam("run_id"))
    .order_by(*_NEWEST)
)
LIST = ListQuery(
    "images",
    {
        "id": cast(images.c.id, Text), "path": images.c.path, "qa_grade": images.c.qa_grade,
        "created_at": images.c.created_at, "run_id": images.c.run_id, "type": images.c.type,
        "noise_jy": images.c.noise_jy, "dynamic_range": images.c.dynamic_range, "peak_flux_jy": images.c.peak_flux_jy,
        "beam_major_arcsec": images.c.beam_major_arcsec, "beam_minor_arcsec": images.c.beam_minor_arcsec,
        "beam_pa_deg": images.c.beam_pa_deg, "pointing_ra_deg": images.c.center_ra_deg,
        "pointing_dec_deg": images.c.center_dec_deg,
    },
    key="number",
    order="-created_at",
    sortable=("mid_mjd", "noise_jy", "dynamic_range", "peak_flux_jy"),
    more={"number": images.c.id, "mid_mjd": images.c.mid_mjd, "ms_path": images.c.ms_path},
    source=images,
    bucket="type",
)  # fmt: skip

_RECENT_NAMES = ("id", "path", "created_at", "type")
_RECENT = paged(LIST.selection(_RECENT_NAMES, ()).order_by(*_NEWEST))


def by_id(image_id: str) -> Steps[ImageRecord | None]:
    """Find an image by its id, the decimal text of its number."""
    number = row_number(image_id)
    return None if number is None else (yield Query(_BY_ID, {"id": number}, first(_read_detail), prompt=True))


def by_path(path: str) -> Steps[ImageRecord | None]:
    """Find an image by its path."""
    return ask(Query(_BY_PATH, {"path": path}, first(READ), prompt=True))


def page(limit: int, offset: int) -> Steps[list[ImageRecord]]:
    """Read a part of all images, newest first."""
    return ask(Query(_ALL, {"limit": limit, "offset": offset}, every(READ), prompt=is_short(limit, offset)))


def recent(limit: int) -> Steps[list[Document]]:
    """Read the newest images as documents, with id, path, time and kind."""
    decode = partial(LIST.documents, _RECENT_NAMES)
    return ask(Query(_RECENT, {"limit": limit, "offset": 0}, decode, prompt=is_short(limit, 0)))


def for_ms(ms_path: str) -> Steps[list[ImageRecord]]:
    """Read the images of a Measurement Set, newest first."""
    return ask(Query(_FOR_MS, {"ms_path": ms_path}, every(READ), prompt=True))


def ids_of_run(run_id: str, ms_path: str) -> Steps[list[int]]:
    """Read the ids of the images that a run made, newest first: others of its Measurement Set may be later versions."""
    return ask(Query(_OF_RUN, {"run_id": run_id, "ms_path": ms_path}, every(value_of), prompt=True))


def count() -> Steps[int]:
    """Count the images."""
    return counts.total("images")
