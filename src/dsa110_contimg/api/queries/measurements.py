"""Statements that keep measurements together with what they add up to for each source.

What is new to a source is added to its sums. Where a measurement changed or went, the sums are made anew of all that
are left; where one comes a second time, they stay. So a stage that runs again leaves the same sums, and a usual image
costs one row per source, however long the light curves are. Measurements in images of a run that another superseded
(``observations``) are kept and add nothing: ``COUNTS`` is the one condition of all that is summed and shown.

Nothing is read before the first write of the transaction: from then on no other writer changes it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, select, update

from dsa110_contimg.api.db_adapters.backend import Row
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.flux_sums import Epoch, FluxSums
from dsa110_contimg.api.interfaces import PhotometryRecord
from dsa110_contimg.api.queries.decoding import as_given, first, record_columns, record_reader
from dsa110_contimg.api.queries.upserts import column_names, field_values, upsert
from dsa110_contimg.api.tables import images, photometry, sources

Epochs = dict[str, Epoch]
"""The measurement of each source in one image."""

_EPOCH = record_columns(Epoch, photometry)
_read_epoch = record_reader(Epoch, _EPOCH)
_SUMS = record_columns(FluxSums, sources)
_read_sums = record_reader(FluxSums, _SUMS)
COUNTS = images.c.superseded_by.is_(None)
"""The measurements in an image count."""
_IN_IMAGE = photometry.c.image_path == bindparam("in_image")

_UPSERT = upsert(photometry, ["source_id", "image_path"], [*column_names(PhotometryRecord, photometry), "image_id"])
_IMAGE = Statement(
    select(images.c.id, images.c.superseded_by, images.c.ms_path).where(images.c.path == bindparam("path"))
)
_MEASURED = Statement(select(photometry.c.source_id, *_EPOCH).where(_IN_IMAGE))
_SUMS_OF_MEASURED = Statement(
    select(sources.c.id, *_SUMS).join(photometry, photometry.c.source_id == sources.c.id).where(_IN_IMAGE)
)
_OF_SOURCE = Statement(
    select(*_EPOCH)
    .join_from(photometry, images, images.c.id == photometry.c.image_id)
    .where(photometry.c.source_id == bindparam("source"), COUNTS)
    .order_by(photometry.c.mjd, photometry.c.image_id)
)
# Changes no row, but from here on other writers wait (PostgreSQL; with SQLite they wait since the begin).
_TAKE_TURN = Statement(delete(photometry).where(photometry.c.id.is_(None)))
_FORGET = Statement(delete(photometry).where(photometry.c.source_id == bindparam("gone"), _IN_IMAGE))
_FORGET_ALL = Statement(delete(photometry).where(_IN_IMAGE))
_KEEP_SUMS = Statement(
    update(sources)
    .where(sources.c.id == bindparam("source"))
    .values(as_given(column for column in _SUMS if column.name in sources.c))
)


def _by_source(read: Callable[[Any], Any]) -> Callable[[Sequence[Row]], dict[str, Any]]:
    return lambda rows: {name: read(rest) for name, *rest in rows}


def take_turn() -> Steps[None]:
    """Have all who write counted tables wait for this transaction; what they wrote before is seen from now on."""
    yield Query(_TAKE_TURN)


def save(records: Sequence[PhotometryRecord]) -> Steps[list[str]]:
    """Keep the measurements of one or more images; earlier ones of these images that are not among them go.

    Returns
    -------
    list of str
        The Measurement Sets of these images.
    """
    by_image: dict[str, list[PhotometryRecord]] = {}
    for record in sorted(records, key=lambda each: each.source_id):
        by_image.setdefault(record.image_path, []).append(record)
    if by_image:
        yield from take_turn()
    sets: list[str] = []
    for path, measured in sorted(by_image.items()):
        found: Row | None = yield Query(_IMAGE, {"path": path}, first(tuple))
        number, superseded_by, ms_path = found or (None, None, None)
        yield from _save_image(path, number, measured, counts=superseded_by is None)
        sets += [ms_path] if ms_path else []
    return sets


def _save_image(path: str, number: int | None, measured: Sequence[PhotometryRecord], *, counts: bool) -> Steps[None]:
    before: Epochs = yield Query(_MEASURED, {"in_image": path}, _by_source(_read_epoch))
    gone = sorted(before.keys() - {record.source_id for record in measured})
    yield Query(_FORGET, many=[{"gone": name, "in_image": path} for name in gone])
    yield Query(_UPSERT, many=[{**field_values(each), "image_id": number} for each in measured])
    now: Epochs = yield Query(_MEASURED, {"in_image": path}, _by_source(_read_epoch))
    if not counts:
        return
    changed = {name for name in before.keys() & now.keys() if before[name] != now[name]}
    yield from _add(path, {name: epoch for name, epoch in now.items() if name not in before})
    yield from _add_up({*gone, *changed})


def _add(path: str, new: Epochs) -> Steps[None]:
    sums: Mapping[str, FluxSums] = yield Query(_SUMS_OF_MEASURED, {"in_image": path}, _by_source(_read_sums))
    yield Query(_KEEP_SUMS, many=[_values(name, sums[name].add(epoch)) for name, epoch in sorted(new.items())])


def _add_up(names: Iterable[str]) -> Steps[None]:
    """Make the sums of some sources anew of all their measurements that count."""
    for name in sorted(names):
        sums: FluxSums = yield Query(_OF_SOURCE, {"source": name}, _folded)
        yield Query(_KEEP_SUMS, many=[_values(name, sums)])


def _folded(rows: Sequence[Row]) -> FluxSums:
    sums = FluxSums()
    for row in rows:
        sums = sums.add(_read_epoch(row))
    return sums


def _values(name: str, sums: FluxSums) -> dict[str, Any]:
    return {"source": name, **dataclasses.asdict(sums)}


def add_up_all_of(image_paths: Sequence[str]) -> Steps[None]:
    """Make the sums of all sources anew that were measured in one of these images."""
    names: set[str] = set()
    for path in image_paths:
        names |= (yield Query(_MEASURED, {"in_image": path}, _by_source(_read_epoch))).keys()
    yield from _add_up(names)


def forget(image_path: str) -> Steps[None]:
    """Delete the measurements of an image, before the image itself, and what they added to their sources."""
    yield from take_turn()
    before: Epochs = yield Query(_MEASURED, {"in_image": image_path}, _by_source(_read_epoch))
    yield Query(_FORGET_ALL, {"in_image": image_path})
    yield from _add_up(before)
