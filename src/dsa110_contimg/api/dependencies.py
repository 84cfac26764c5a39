"""What routes declare: the services of the application. Async only: a plain function would cost a thread."""

from typing import Annotated

from fastapi import Depends, Request

from dsa110_contimg.api.cache import ReplyCache
from dsa110_contimg.api.interfaces import ImageRepositoryProtocol
from dsa110_contimg.api.metrics import MetricsExporter
from dsa110_contimg.api.services.absurd.dead_letters import DeadLetterService
from dsa110_contimg.api.services.absurd.monitoring import MonitoringService
from dsa110_contimg.api.services.absurd.queues import QueueService
from dsa110_contimg.api.services.absurd.schedules import ScheduleService
from dsa110_contimg.api.services.absurd.tasks import TaskService
from dsa110_contimg.api.services.absurd.templates import TemplateService
from dsa110_contimg.api.services.absurd.workflows import WorkflowService
from dsa110_contimg.api.services.access_service import AccessService
from dsa110_contimg.api.services.async_services import (
    AsyncImageService,
    AsyncJobService,
    AsyncMSService,
    AsyncProvenanceService,
    AsyncSourceService,
)
from dsa110_contimg.api.services.batch_service import BatchService
from dsa110_contimg.api.services.calibration_service import AsyncCalibrationService
from dsa110_contimg.api.services.composition import Services
from dsa110_contimg.api.services.health_service import HealthMonitor
from dsa110_contimg.api.services.image_care_service import ImageCareService
from dsa110_contimg.api.services.image_file_service import ImageFileService
from dsa110_contimg.api.services.lineage_service import LineageService
from dsa110_contimg.api.services.log_service import RunLogService
from dsa110_contimg.api.services.ms_file_service import MSFileService
from dsa110_contimg.api.services.qa_reports import AsyncQAService
from dsa110_contimg.api.services.reimage_service import ReimageService
from dsa110_contimg.api.services.rerun_service import RerunService
from dsa110_contimg.api.services.rq_service import RqService
from dsa110_contimg.api.services.stats_service import AsyncStatsService
from dsa110_contimg.api.services_monitor import ServicesMonitor


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


async def get_image_care_service(request: Request) -> ImageCareService:
    """Return the service of what people say about images."""
    return (await get_services(request)).image_care


async def get_lineage_service(request: Request) -> LineageService:
    """Return the service of versions of images."""
    return (await get_services(request)).lineage


async def get_reimage_service(request: Request) -> ReimageService:
    """Return the service that orders versions of images."""
    return (await get_services(request)).reimaging


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


async def get_ms_file_service(request: Request) -> MSFileService:
    """Return the service of what is inside Measurement Sets."""
    return (await get_services(request)).ms_files


async def get_calibration_service(request: Request) -> AsyncCalibrationService:
    """Return the service of calibration tables."""
    return (await get_services(request)).calibration


async def get_qa_service(request: Request) -> AsyncQAService:
    """Return the service of verdicts on quality."""
    return (await get_services(request)).quality


async def get_batch_service(request: Request) -> BatchService:
    """Return the service of batches."""
    return (await get_services(request)).batches


async def get_log_service(request: Request) -> RunLogService:
    """Return the service of the logs of runs."""
    return (await get_services(request)).logs


async def get_async_stats_service(request: Request) -> AsyncStatsService:
    """Return the service of counts."""
    return (await get_services(request)).stats


async def get_health_monitor(request: Request) -> HealthMonitor:
    """Return the monitor of health."""
    return (await get_services(request)).health


async def get_services_monitor(request: Request) -> ServicesMonitor:
    """Return the monitor of the services around the API."""
    return (await get_services(request)).monitor


async def get_cache(request: Request) -> ReplyCache:
    """Return the kept replies."""
    return (await get_services(request)).cache


async def get_metrics_exporter(request: Request) -> MetricsExporter:
    """Return what makes the text for Prometheus."""
    return (await get_services(request)).metrics


async def get_queue_tasks(request: Request) -> TaskService:
    """Return the service of tasks of the durable queue."""
    return (await get_services(request)).absurd.tasks


async def get_queue_workflows(request: Request) -> WorkflowService:
    """Return the service of workflows of the durable queue."""
    return (await get_services(request)).absurd.workflows


async def get_queue_queues(request: Request) -> QueueService:
    """Return the service of queues of the durable queue."""
    return (await get_services(request)).absurd.queues


async def get_queue_schedules(request: Request) -> ScheduleService:
    """Return the service of schedules of the durable queue."""
    return (await get_services(request)).absurd.schedules


async def get_queue_templates(request: Request) -> TemplateService:
    """Return the service of templates of the durable queue."""
    return (await get_services(request)).absurd.templates


async def get_queue_dead_letters(request: Request) -> DeadLetterService:
    """Return the service of dead letters of the durable queue."""
    return (await get_services(request)).absurd.dead_letters


async def get_queue_monitoring(request: Request) -> MonitoringService:
    """Return the service of the figures of the durable queue."""
    return (await get_services(request)).absurd.monitoring


async def get_rerun_service(request: Request) -> RerunService:
    """Return the service that orders and cancels runs."""
    return (await get_services(request)).reruns


async def get_rq_service(request: Request) -> RqService:
    """Return the service of the RQ queue."""
    return (await get_services(request)).rq


async def get_access_service(request: Request) -> AccessService:
    """Return the service that knows keys."""
    return (await get_services(request)).access


async def asks_as_earlier_client(request: Request) -> bool:
    """Tell whether the base is the one that the earlier web client asks at, and nobody else has to."""
    asked_path: str = request.state.asked_path
    return asked_path.startswith("/api/absurd/")


Access = Annotated[AccessService, Depends(get_access_service)]
ImageService = Annotated[AsyncImageService, Depends(get_async_image_service)]
ImageCare = Annotated[ImageCareService, Depends(get_image_care_service)]
Lineage = Annotated[LineageService, Depends(get_lineage_service)]
Reimaging = Annotated[ReimageService, Depends(get_reimage_service)]
ImageFiles = Annotated[ImageFileService, Depends(get_image_file_service)]
MSService = Annotated[AsyncMSService, Depends(get_async_ms_service)]
SourceService = Annotated[AsyncSourceService, Depends(get_async_source_service)]
JobService = Annotated[AsyncJobService, Depends(get_async_job_service)]
ProvenanceService = Annotated[AsyncProvenanceService, Depends(get_async_provenance_service)]
MSFiles = Annotated[MSFileService, Depends(get_ms_file_service)]
CalibrationService = Annotated[AsyncCalibrationService, Depends(get_calibration_service)]
QAService = Annotated[AsyncQAService, Depends(get_qa_service)]
Batches = Annotated[BatchService, Depends(get_batch_service)]
LogService = Annotated[RunLogService, Depends(get_log_service)]
StatsService = Annotated[AsyncStatsService, Depends(get_async_stats_service)]
Monitor = Annotated[HealthMonitor, Depends(get_health_monitor)]
Cache = Annotated[ReplyCache, Depends(get_cache)]
ServiceMonitor = Annotated[ServicesMonitor, Depends(get_services_monitor)]
Exporter = Annotated[MetricsExporter, Depends(get_metrics_exporter)]
Tasks = Annotated[TaskService, Depends(get_queue_tasks)]
Workflows = Annotated[WorkflowService, Depends(get_queue_workflows)]
Queues = Annotated[QueueService, Depends(get_queue_queues)]
Schedules = Annotated[ScheduleService, Depends(get_queue_schedules)]
Templates = Annotated[TemplateService, Depends(get_queue_templates)]
DeadLetters = Annotated[DeadLetterService, Depends(get_queue_dead_letters)]
QueueMonitor = Annotated[MonitoringService, Depends(get_queue_monitoring)]
Reruns = Annotated[RerunService, Depends(get_rerun_service)]
JobQueueService = Annotated[RqService, Depends(get_rq_service)]
EarlierClient = Annotated[bool, Depends(asks_as_earlier_client)]
