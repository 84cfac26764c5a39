"""Statements that count."""

from collections.abc import Sequence

from sqlalchemy import func, literal, select, union_all

from dsa110_contimg.api.db_adapters.backend import Row
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import ImageRecord, Statistics
from dsa110_contimg.api.queries import images as image_queries
from dsa110_contimg.api.tables import caltables, images, jobs, ms_index, photometry, sources

_RECENT = 10
_STAGE = func.coalesce(ms_index.c.stage, "")
# One statement is one moment: the parts add up to the totals.
_COUNTS = Statement(
    union_all(
        select(literal("ms").label("what"), _STAGE.label("part"), func.count().label("number")).group_by(_STAGE),
        select(literal("jobs"), jobs.c.status, func.count()).group_by(jobs.c.status),
        *(
            select(literal(table.name), literal(""), func.count()).select_from(table)
            for table in (images, photometry, sources, caltables)
        ),
    )
)

Counts = dict[str, dict[str, int]]


def _nested(rows: Sequence[Row]) -> Counts:
    counts: Counts = {}
    for what, part, number in rows:
        counts.setdefault(what, {})[part] = number
    return counts


def statistics() -> Steps[Statistics]:
    """Count everything."""
    counts: Counts = yield Query(_COUNTS, {}, _nested)
    recent: list[ImageRecord] = yield from image_queries.page(_RECENT, 0)
    stages, states = counts.get("ms", {}), counts.get("jobs", {})
    totals = {name: counts[name][""] for name in ("images", "photometry", "sources", "caltables")}
    return Statistics(
        ms_total=sum(stages.values()),
        ms_by_stage=stages,
        images_total=totals["images"],
        photometry_total=totals["photometry"],
        sources_total=totals["sources"],
        jobs_total=sum(states.values()),
        jobs_by_status=states,
        cal_tables_total=totals["caltables"],
        recent_images=tuple(recent),
    )
