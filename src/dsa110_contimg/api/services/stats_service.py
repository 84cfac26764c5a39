"""How much there is of everything, as the dashboard shows it."""

from typing import Any

from dsa110_contimg.api.interfaces import StatsRepositoryProtocol
from dsa110_contimg.api.replies import iso_now, iso_time

_STAGES = ("imaged", "calibrated", "ingested", "pending")
_STATUSES = ("completed", "running", "pending", "failed")
_CACHE_HINT_S = 30


class AsyncStatsService:
    """Counts."""

    def __init__(self, stats: StatsRepositoryProtocol) -> None:
        self.stats = stats

    async def get_stats(self) -> dict[str, Any]:
        """Return the counts of one moment; parts add up to their totals."""
        found = await self.stats.get_statistics()
        stages = dict.fromkeys(_STAGES, 0)
        for stage, number in found.ms_by_stage.items():
            stages[stage or "pending"] = stages.get(stage or "pending", 0) + number
        recent = [image | {"created_at": iso_time(image["created_at"])} for image in found.recent_images]
        return {
            "ms": {"total": found.ms_total, "by_stage": stages},
            "images": {"total": found.images_total},
            "photometry": {"total": found.photometry_total},
            "sources": {"total": found.sources_total},
            "jobs": {"total": found.jobs_total, "by_status": dict.fromkeys(_STATUSES, 0) | dict(found.jobs_by_status)},
            "recent_images": recent,
            "cal_tables": {"total": found.cal_tables_total},
            "_meta": {"generated_at": iso_now(), "cache_hint_seconds": _CACHE_HINT_S},
        }
