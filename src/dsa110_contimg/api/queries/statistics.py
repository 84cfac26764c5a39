"""How much there is of everything."""

from dsa110_contimg.api.db_adapters.statement import Steps
from dsa110_contimg.api.interfaces import Statistics
from dsa110_contimg.api.queries import counts, images

_RECENT = 10


def statistics() -> Steps[Statistics]:
    """Read how much there is of everything; the counts are of one moment."""
    found = yield from counts.counts()
    recent = yield from images.recent(_RECENT)
    stages, states = found.get("ms_index", {}), found.get("jobs", {})
    totals = {name: sum(found.get(name, {}).values()) for name in ("images", "photometry", "sources", "caltables")}
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
