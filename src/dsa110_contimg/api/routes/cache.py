"""Kept replies: how the cache is, and how it is emptied."""

from typing import Annotated

from fastapi import Path, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.authorization import ScopedRoute, require_scope
from dsa110_contimg.api.dependencies import Cache, Memory
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of

router = router_of("/cache", "cache", ScopedRoute)

_OPERATES = [require_scope("ops")]
Pattern = Annotated[str, Path(description="glob of Redis on the keys of kept replies, such as images:*")]


@router.get("", response_model=schemas.CacheStats, response_model_exclude_unset=True)
async def get_cache(cache: Cache) -> Response:
    """Tell hits and misses, memory in use and how many replies are kept."""
    return json_reply(await cache.stats())


@router.post("/invalidate/{pattern}", response_model=schemas.CacheInvalidated, dependencies=_OPERATES)
async def invalidate_cache(pattern: Pattern, cache: Cache, memory: Memory) -> Response:
    """Forget the kept replies whose keys fit a pattern, and all of this process; nothing else is reached."""
    memory.forget()
    return json_reply({"pattern": pattern, "keys_deleted": await cache.invalidate(pattern)})


@router.post("/clear", response_model=schemas.CacheCleared, dependencies=_OPERATES)
async def clear_cache(cache: Cache, memory: Memory) -> Response:
    """Forget all kept replies; jobs and rate limits stay."""
    memory.forget()
    return json_reply({"status": "cleared", "keys_deleted": await cache.invalidate("*")})
