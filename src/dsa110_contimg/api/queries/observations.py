"""Statements that keep which run speaks for an observation, so that none counts twice in a light curve.

An observation is what was recorded at one time: all Measurement Sets of one group of raw files, or a single one whose
group is not known. When it was run more than once, the measurements of one run count, and the images of the others say
which run that is (``superseded_by``). That run is, of those that have images of it (other versions of an image, which
give no measurements, stand aside):

1. one that is completed and whose image is not graded ``fail``,
2. else one that is completed,
3. else one that has measurements;

and of several the one that was ordered last. So a rerun that is under way, failed, or came out badly takes nothing
away; and which of two that run at once ends first makes no difference.

Whoever calls has written a counted table in this transaction, so that no other writer changes what is read here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import bindparam, func, select, update

from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.queries import measurements
from dsa110_contimg.api.queries.decoding import every, record_columns, record_reader, value, value_of
from dsa110_contimg.api.tables import images, jobs, ms_index, photometry


@dataclass(frozen=True, slots=True)
class _Image:
    """An image of an observation, and what is known of its run."""

    id: int
    path: str
    run_id: str
    superseded_by: str | None
    qa_grade: str | None
    status: str | None
    created_at: float | None  # of the order of the run
    row: int | None
    measured: bool


_MEASURED = select(photometry.c.id).where(photometry.c.image_path == images.c.path).exists()
_COLUMNS = record_columns(
    _Image, images, jobs.c.status, jobs.c.created_at, jobs.c.id.label("row"), _MEASURED.label("measured")
)
# Written so that no index serves it: most images have no parent, and SQLite would read them all.
_IS_FIRST_VERSION = func.coalesce(images.c.parent_id, 0) == 0
_IMAGES = (
    select(*_COLUMNS)
    .join_from(images, ms_index, ms_index.c.path == images.c.ms_path)
    .join(jobs, jobs.c.run_id == images.c.run_id, isouter=True)
    .where(_IS_FIRST_VERSION, images.c.run_id.is_not(None))
    .order_by(images.c.run_id, images.c.id)
)
_read = record_reader(_Image, _COLUMNS)
_OF_GROUP = Statement(_IMAGES.where(ms_index.c.group_id == bindparam("of_group", type_=ms_index.c.group_id.type)))
_OF_SET = Statement(_IMAGES.where(images.c.ms_path == bindparam("of_ms", type_=images.c.ms_path.type)))
_GROUP = Statement(select(ms_index.c.group_id).where(ms_index.c.path == bindparam("of_ms", type_=ms_index.c.path.type)))
_SETS_OF_RUN = Statement(
    select(images.c.ms_path).where(images.c.run_id == bindparam("of_run", type_=images.c.run_id.type)).distinct()
)
_MARK = Statement(
    update(images)
    .where(images.c.id == bindparam("image_number", type_=images.c.id.type))
    .values(superseded_by=bindparam("by_run", type_=images.c.superseded_by.type))
)


def settle_run(run_id: str) -> Steps[None]:
    """Have the observations of which a run has images say which run speaks for them."""
    yield from settle((yield Query(_SETS_OF_RUN, {"of_run": run_id}, every(value_of))))


def settle(ms_paths: Iterable[str]) -> Steps[None]:
    """Have the observations of some Measurement Sets say which run speaks for them; their sources add up by it."""
    for ms_path in sorted(ms_paths):
        group: str | None = yield Query(_GROUP, {"of_ms": ms_path}, value)
        statement = _OF_GROUP if group else _OF_SET
        yield from _mark((yield Query(statement, {"of_group": group, "of_ms": ms_path}, every(_read))))


def _mark(found: Sequence[_Image]) -> Steps[None]:
    speaker = _speaker(found)
    wanted = [(image, None if image.run_id == speaker else speaker) for image in found]
    changed = [(image, by_run) for image, by_run in wanted if by_run != image.superseded_by]
    yield Query(_MARK, many=[{"image_number": image.id, "by_run": by_run} for image, by_run in changed])
    turned = [image.path for image, by_run in changed if None in (by_run, image.superseded_by)]
    yield from measurements.add_up_all_of(turned)


def _speaker(found: Sequence[_Image]) -> str | None:
    """Return the run that speaks for an observation, of its images by run."""
    runs = [list(of_run) for _, of_run in groupby(found, key=lambda image: image.run_id)]
    return max(runs, key=_claim)[0].run_id if runs else None


def _claim(of_run: Sequence[_Image]) -> tuple[int, float, int, str]:
    """Return how good the claim of a run is, by its images."""
    run = of_run[0]
    if run.status == "completed":
        claim = 2 if any(image.qa_grade == "fail" for image in of_run) else 3
    else:
        claim = 1 if any(image.measured for image in of_run) else 0
    return claim, run.created_at or 0.0, run.row or 0, run.run_id
