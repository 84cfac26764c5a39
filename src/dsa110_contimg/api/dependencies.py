"""What routes declare: the services of the application. Async only: a plain function would cost a thread."""

from typing import Annotated

from fastapi import Depends, Request

from dsa110_contimg.api.interfaces import ImageRepositoryProtocol
from dsa110_contimg.api.services.absurd_service import AbsurdService
from dsa110_contimg.api.services.async_services import (
    AsyncImageService,
    AsyncJobService,
    AsyncMSService,
    AsyncProvenanceService,
    AsyncSourceService,
)
from dsa110_contimg.api.services.composition import Services
from dsa110_contimg.api.services.fits_service import ImageFileService
from dsa110_contimg.api.services.stats_service import AsyncStatsService
from dsa110_contimg.api.services_monitor import HealthMonitor


async def get_services(request: Request) -> Services:
    """Return all services."""
    services: Services = request.app.state.services
    return services


async def get_async_image_repository(request: Request) -> ImageRepositoryProtocol:
    """Return where images are kept."""
    return (await get_services(request)).images.images


async def get_async_image_service(request: Request) -> AsyncImageService:
    """Return the service of images."""
    return (await get_services(request)).images


async def get_image_file_service(request: Request) -> ImageFileService:
    """Return the service of the files of images."""
    return (await get_services(request)).image_files


async def get_async_ms_service(request: Request) -> AsyncMSService:
    """Return the service of Measurement Sets."""
    return (await get_services(request)).measurement_sets


async def get_async_source_service(request: Request) -> AsyncSourceService:
    """Return the service of sources."""
    return (await get_services(request)).sources


async def get_async_job_service(request: Request) -> AsyncJobService:
    """Return the service of runs."""
    return (await get_services(request)).jobs


async def get_async_provenance_service(request: Request) -> AsyncProvenanceService:
    """Return the service of provenance."""
    return (await get_services(request)).provenance


async def get_async_stats_service(request: Request) -> AsyncStatsService:
    """Return the service of counts."""
    return (await get_services(request)).stats


async def get_health_monitor(request: Request) -> HealthMonitor:
    """Return the monitor of health."""
    return (await get_services(request)).health


async def get_absurd_service(request: Request) -> AbsurdService:
    """Return the service of the durable queue."""
    return (await get_services(request)).absurd


ImageService = Annotated[AsyncImageService, Depends(get_async_image_service)]
ImageFiles = Annotated[ImageFileService, Depends(get_image_file_service)]
MSService = Annotated[AsyncMSService, Depends(get_async_ms_service)]
SourceService = Annotated[AsyncSourceService, Depends(get_async_source_service)]
JobService = Annotated[AsyncJobService, Depends(get_async_job_service)]
ProvenanceService = Annotated[AsyncProvenanceService, Depends(get_async_provenance_service)]
StatsService = Annotated[AsyncStatsService, Depends(get_async_stats_service)]
Monitor = Annotated[HealthMonitor, Depends(get_health_monitor)]
TaskQueue = Annotated[AbsurdService, Depends(get_absurd_service)]
