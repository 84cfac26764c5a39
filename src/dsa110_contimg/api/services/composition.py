"""The services of one process, composed from its database, its queue and its settings."""

from dataclasses import dataclass

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.api.async_repositories import (
    AsyncBatchRepository,
    AsyncCalibrationRepository,
    AsyncCredentialRepository,
    AsyncFigureRepository,
    AsyncImageRepository,
    AsyncJobRepository,
    AsyncMSRepository,
    AsyncProvenanceRepository,
    AsyncReportRepository,
    AsyncSchemaRepository,
    AsyncServiceHistoryRepository,
    AsyncSourceRepository,
    AsyncStatsRepository,
)
from dsa110_contimg.api.cache import CacheSettings, ReplyCache
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.db_adapters.backend import DatabaseAdapter
from dsa110_contimg.api.file_access import FileStore
from dsa110_contimg.api.generations import Generations
from dsa110_contimg.api.image_care_repository import AsyncImageCareRepository
from dsa110_contimg.api.job_queue import JobQueue
from dsa110_contimg.api.lineage_repository import AsyncLineageRepository
from dsa110_contimg.api.metrics import MetricsExporter
from dsa110_contimg.api.reply_memory import ReplyMemory
from dsa110_contimg.api.run_logs import RunLogs
from dsa110_contimg.api.services.absurd import AbsurdServices
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
from dsa110_contimg.api.services.fits_service import FitsService
from dsa110_contimg.api.services.health_service import HealthMonitor
from dsa110_contimg.api.services.image_care_service import ImageCareService
from dsa110_contimg.api.services.image_file_service import ImageFileService
from dsa110_contimg.api.services.limited_child import LimitedChild
from dsa110_contimg.api.services.lineage_service import LineageService
from dsa110_contimg.api.services.log_service import RunLogService
from dsa110_contimg.api.services.ms_file_service import MSFileService
from dsa110_contimg.api.services.picture_store import PictureStore
from dsa110_contimg.api.services.qa_reports import AsyncQAService
from dsa110_contimg.api.services.reimage_service import ReimageService
from dsa110_contimg.api.services.rerun_service import RerunService
from dsa110_contimg.api.services.rq_service import RqService
from dsa110_contimg.api.services.run_board import RunBoard
from dsa110_contimg.api.services.run_watch import RunWatch
from dsa110_contimg.api.services.service_checks import ServiceChecks
from dsa110_contimg.api.services.socket_limit import SocketLimit
from dsa110_contimg.api.services.stats_service import AsyncStatsService
from dsa110_contimg.api.services.thumbnail_service import ThumbnailService
from dsa110_contimg.api.services.work_service import Means, WorkService
from dsa110_contimg.api.services_monitor import ServicesMonitor
from dsa110_contimg.api.tally import Tally
from dsa110_contimg.api.ticket_repository import AsyncTicketRepository
from dsa110_contimg.api.work_repository import AsyncWorkRepository


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that routes ask."""

    images: AsyncImageService
    image_files: ImageFileService
    image_care: ImageCareService
    lineage: LineageService
    reimaging: ReimageService
    measurement_sets: AsyncMSService
    ms_files: MSFileService
    calibration: AsyncCalibrationService
    sources: AsyncSourceService
    jobs: AsyncJobService
    logs: RunLogService
    quality: AsyncQAService
    provenance: AsyncProvenanceService
    stats: AsyncStatsService
    health: HealthMonitor
    monitor: ServicesMonitor
    metrics: MetricsExporter
    cache: ReplyCache
    generations: Generations
    memory: ReplyMemory
    absurd: AbsurdServices
    access: AccessService
    sockets: SocketLimit
    work: WorkService
    reruns: RerunService
    batches: BatchService
    rq: RqService
    run_watch: RunWatch


def compose(
    config: APIConfig, adapter: DatabaseAdapter, queue: AbsurdClient | None, queue_name: str, tally: Tally | None = None
) -> Services:
    """Return the services over a products database and a queue (None: switched off); nothing is opened here."""
    tally = tally or Tally(config.paths.state_dir / "metrics")  # not open: what is not the server counts no requests
    image_rows, ms_rows = AsyncImageRepository(adapter), AsyncMSRepository(adapter)
    images = AsyncImageService(image_rows)
    measurement_sets = AsyncMSService(ms_rows)
    jobs = AsyncJobService(AsyncJobRepository(adapter), image_rows)
    absurd = AbsurdServices.over(queue, queue_name, config.timeouts.health_check)
    stat_rows, schema = AsyncStatsRepository(adapter), AsyncSchemaRepository(adapter)
    health = HealthMonitor(config, schema, absurd.monitoring.presence)
    files = FileStore(config.paths.served_roots)
    logs = RunLogs(config.log.run_directory)
    history = AsyncProvenanceRepository(adapter)
    rq = JobQueue.from_config(config)
    work = WorkService(Means(AsyncWorkRepository(adapter), jobs.jobs, rq, absurd.gateway), config)
    child = LimitedChild()
    lineage = AsyncLineageRepository(adapter)
    generations = Generations(adapter, stat_rows)
    pictures = PictureStore(config.paths.state_dir / "thumbnails")
    thumbnails = ThumbnailService(pictures, child)
    return Services(
        images=images,
        image_files=ImageFileService(images, files, thumbnails, FitsService(child)),
        image_care=ImageCareService(images, AsyncImageCareRepository(adapter), files, child),
        lineage=LineageService(images, lineage),
        reimaging=ReimageService(images, ms_rows, history, lineage, files, work, tasks_enabled=queue is not None),
        measurement_sets=measurement_sets,
        ms_files=MSFileService(measurement_sets, files, LimitedChild(), pictures),
        calibration=AsyncCalibrationService(AsyncCalibrationRepository(adapter)),
        sources=AsyncSourceService(AsyncSourceRepository(adapter)),
        jobs=jobs,
        logs=RunLogService(jobs, logs),
        stats=AsyncStatsService(stat_rows),
        provenance=AsyncProvenanceService(images, ms_rows, history),
        quality=AsyncQAService(AsyncReportRepository(adapter)),
        health=health,
        monitor=_services_monitor(config, adapter, ServiceChecks(config, health, schema, absurd.monitoring), queue),
        cache=ReplyCache(_cache_settings(config), tally),
        generations=generations,
        memory=ReplyMemory(generations, config.server.reply_memory_mb << 20, config.redis.default_ttl, tally),
        metrics=MetricsExporter(AsyncFigureRepository(adapter), tally, config.auth.environment),
        absurd=absurd,
        access=AccessService(AsyncCredentialRepository(adapter), config.auth, AsyncTicketRepository(adapter)),
        sockets=SocketLimit(config.timeouts, config.access.max_websockets),
        work=work,
        batches=BatchService(AsyncBatchRepository(adapter), work),
        reruns=RerunService(jobs, measurement_sets, work, config, tasks_enabled=queue is not None),
        rq=RqService(work, rq),
        run_watch=RunWatch(jobs.jobs, work.orders, absurd.events, RunBoard(work.orders), logs),
    )


def _cache_settings(config: APIConfig) -> CacheSettings:
    redis, name = config.redis, config.database.display_name
    return CacheSettings(
        redis.url,
        name,
        redis.cache_enabled,
        frozenset(redis.cached),
        redis.default_ttl,
        config.timeouts.redis_socket,
        config.timeouts.cache,
    )


def _services_monitor(
    config: APIConfig, adapter: DatabaseAdapter, checks: ServiceChecks, queue: AbsurdClient | None
) -> ServicesMonitor:
    known = checks.known(queue.config.database_url if queue else None)
    history = AsyncServiceHistoryRepository(adapter)
    return ServicesMonitor(config.monitor.named, known, history, config.timeouts.health_check)
