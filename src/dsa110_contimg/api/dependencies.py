"""What routes declare: the services of the application. Async only: a plain function would cost a thread."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from dsa110_contimg.api.cache import ReplyCache
from dsa110_contimg.api.metrics import MetricsExporter
from dsa110_contimg.api.reply_memory import ReplyMemory
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

T = TypeVar("T")


def _one_of(choose: Callable[[Services], T]) -> Callable[[Request], Coroutine[Any, Any, T]]:
    """Return the dependency that gives a route one of the services of the application."""

    async def give(request: Request) -> T:
        return choose(request.app.state.services)

    return give


get_async_image_repository = _one_of(lambda services: services.images.images)
get_async_image_service = _one_of(lambda services: services.images)


async def asks_as_earlier_client(request: Request) -> bool:
    """Tell whether the base is the one that the earlier web client asks at, and nobody else has to."""
    asked_path: str = request.state.asked_path
    return asked_path.startswith("/api/absurd/")


Access = Annotated[AccessService, Depends(_one_of(lambda services: services.access))]
ImageService = Annotated[AsyncImageService, Depends(get_async_image_service)]
ImageCare = Annotated[ImageCareService, Depends(_one_of(lambda services: services.image_care))]
Lineage = Annotated[LineageService, Depends(_one_of(lambda services: services.lineage))]
Reimaging = Annotated[ReimageService, Depends(_one_of(lambda services: services.reimaging))]
ImageFiles = Annotated[ImageFileService, Depends(_one_of(lambda services: services.image_files))]
MSService = Annotated[AsyncMSService, Depends(_one_of(lambda services: services.measurement_sets))]
SourceService = Annotated[AsyncSourceService, Depends(_one_of(lambda services: services.sources))]
JobService = Annotated[AsyncJobService, Depends(_one_of(lambda services: services.jobs))]
ProvenanceService = Annotated[AsyncProvenanceService, Depends(_one_of(lambda services: services.provenance))]
MSFiles = Annotated[MSFileService, Depends(_one_of(lambda services: services.ms_files))]
CalibrationService = Annotated[AsyncCalibrationService, Depends(_one_of(lambda services: services.calibration))]
QAService = Annotated[AsyncQAService, Depends(_one_of(lambda services: services.quality))]
Batches = Annotated[BatchService, Depends(_one_of(lambda services: services.batches))]
LogService = Annotated[RunLogService, Depends(_one_of(lambda services: services.logs))]
StatsService = Annotated[AsyncStatsService, Depends(_one_of(lambda services: services.stats))]
Monitor = Annotated[HealthMonitor, Depends(_one_of(lambda services: services.health))]
Cache = Annotated[ReplyCache, Depends(_one_of(lambda services: services.cache))]
Memory = Annotated[ReplyMemory, Depends(_one_of(lambda services: services.memory))]
ServiceMonitor = Annotated[ServicesMonitor, Depends(_one_of(lambda services: services.monitor))]
Exporter = Annotated[MetricsExporter, Depends(_one_of(lambda services: services.metrics))]
Tasks = Annotated[TaskService, Depends(_one_of(lambda services: services.absurd.tasks))]
Workflows = Annotated[WorkflowService, Depends(_one_of(lambda services: services.absurd.workflows))]
Queues = Annotated[QueueService, Depends(_one_of(lambda services: services.absurd.queues))]
Schedules = Annotated[ScheduleService, Depends(_one_of(lambda services: services.absurd.schedules))]
Templates = Annotated[TemplateService, Depends(_one_of(lambda services: services.absurd.templates))]
DeadLetters = Annotated[DeadLetterService, Depends(_one_of(lambda services: services.absurd.dead_letters))]
QueueMonitor = Annotated[MonitoringService, Depends(_one_of(lambda services: services.absurd.monitoring))]
Reruns = Annotated[RerunService, Depends(_one_of(lambda services: services.reruns))]
JobQueueService = Annotated[RqService, Depends(_one_of(lambda services: services.rq))]
EarlierClient = Annotated[bool, Depends(asks_as_earlier_client)]
