"""Counts for the dashboard."""

from fastapi import Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.cache import cached
from dsa110_contimg.api.dependencies import StatsService
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.validation import StrictRoute

router = router_of("/stats", "stats", StrictRoute)


@router.get("", response_model=schemas.Stats)
@cached("stats", "ms_index", "images", "photometry", "sources", "jobs", "caltables")
async def get_stats(service: StatsService) -> Response:
    """Return how much there is of everything."""
    return json_reply(await service.get_stats())
