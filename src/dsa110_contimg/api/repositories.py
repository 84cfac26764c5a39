"""Repositories that block, for scripts: each call is that of ``async_repositories``, waited for.

A test keeps names and signatures the same.
"""

import functools
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from dsa110_contimg.api.async_repositories import (
    AsyncBatchRepository,
    AsyncCalibrationRepository,
    AsyncCredentialRepository,
    AsyncFigureRepository,
    AsyncImageRepository,
    AsyncJobRepository,
    AsyncMSRepository,
    AsyncProductRecorder,
    AsyncProvenanceRepository,
    AsyncQARepository,
    AsyncReportRepository,
    AsyncSchemaRepository,
    AsyncServiceHistoryRepository,
    AsyncSourceRepository,
    AsyncStatsRepository,
)
from dsa110_contimg.api.database import BlockingDatabase

P = ParamSpec("P")
T = TypeVar("T")


class _Repository:
    _awaited: ClassVar[type[Any]]

    def __init__(self, database: BlockingDatabase) -> None:
        self._database = database


def _blocking(
    call: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Repository, P], T]:
    """Return a call of an awaited repository as one that waits for its answer."""

    @functools.wraps(call)
    def wait(self: _Repository, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._database.call(lambda adapter: call(type(self)._awaited(adapter), *args, **kwargs))

    return wait


class ImageRepository(_Repository):
    """Reads images."""

    _awaited = AsyncImageRepository
    get_by_id = _blocking(AsyncImageRepository.get_by_id)
    get_by_path = _blocking(AsyncImageRepository.get_by_path)
    list_all = _blocking(AsyncImageRepository.list_all)
    list_for_ms = _blocking(AsyncImageRepository.list_for_ms)
    list_ids_of_run = _blocking(AsyncImageRepository.list_ids_of_run)
    count = _blocking(AsyncImageRepository.count)
    list_page = _blocking(AsyncImageRepository.list_page)


class MSRepository(_Repository):
    """Reads Measurement Sets."""

    _awaited = AsyncMSRepository
    get_metadata = _blocking(AsyncMSRepository.get_metadata)
    get_path = _blocking(AsyncMSRepository.get_path)
    get_origin = _blocking(AsyncMSRepository.get_origin)
    get_by_run_id = _blocking(AsyncMSRepository.get_by_run_id)
    list_all = _blocking(AsyncMSRepository.list_all)
    list_page = _blocking(AsyncMSRepository.list_page)
    get_calibrator_matches = _blocking(AsyncMSRepository.get_calibrator_matches)
    count = _blocking(AsyncMSRepository.count)


class SourceRepository(_Repository):
    """Reads sources."""

    _awaited = AsyncSourceRepository
    get_by_id = _blocking(AsyncSourceRepository.get_by_id)
    list_all = _blocking(AsyncSourceRepository.list_all)
    count = _blocking(AsyncSourceRepository.count)
    list_page = _blocking(AsyncSourceRepository.list_page)
    get_lightcurve_page = _blocking(AsyncSourceRepository.get_lightcurve_page)
    list_contributions = _blocking(AsyncSourceRepository.list_contributions)
    list_cone = _blocking(AsyncSourceRepository.list_cone)
    count_grades = _blocking(AsyncSourceRepository.count_grades)
    list_by_ids = _blocking(AsyncSourceRepository.list_by_ids)


class JobRepository(_Repository):
    """Reads runs."""

    _awaited = AsyncJobRepository
    get_by_run_id = _blocking(AsyncJobRepository.get_by_run_id)
    get_status = _blocking(AsyncJobRepository.get_status)
    list_all = _blocking(AsyncJobRepository.list_all)
    count = _blocking(AsyncJobRepository.count)
    list_page = _blocking(AsyncJobRepository.list_page)


class CalibrationRepository(_Repository):
    """Reads calibration tables."""

    _awaited = AsyncCalibrationRepository
    get_by_id = _blocking(AsyncCalibrationRepository.get_by_id)
    list_all = _blocking(AsyncCalibrationRepository.list_all)
    list_page = _blocking(AsyncCalibrationRepository.list_page)
    list_solved_from = _blocking(AsyncCalibrationRepository.list_solved_from)
    list_active = _blocking(AsyncCalibrationRepository.list_active)
    count = _blocking(AsyncCalibrationRepository.count)


class ReportRepository(_Repository):
    """Reads all that a report on quality is made of."""

    _awaited = AsyncReportRepository
    get_image = _blocking(AsyncReportRepository.get_image)
    get_ms = _blocking(AsyncReportRepository.get_ms)
    get_run = _blocking(AsyncReportRepository.get_run)


class QARepository(_Repository):
    """Keeps what was measured on products."""

    _awaited = AsyncQARepository
    save_image_qa = _blocking(AsyncQARepository.save_image_qa)
    save_calibration_qa = _blocking(AsyncQARepository.save_calibration_qa)


class BatchRepository(_Repository):
    """Keeps batches."""

    _awaited = AsyncBatchRepository
    get = _blocking(AsyncBatchRepository.get)
    list_page = _blocking(AsyncBatchRepository.list_page)
    list_items = _blocking(AsyncBatchRepository.list_items)
    list_unended = _blocking(AsyncBatchRepository.list_unended)
    begin_item = _blocking(AsyncBatchRepository.begin_item)
    end_item = _blocking(AsyncBatchRepository.end_item)
    cancel = _blocking(AsyncBatchRepository.cancel)


class StatsRepository(_Repository):
    """Counts."""

    _awaited = AsyncStatsRepository
    get_statistics = _blocking(AsyncStatsRepository.get_statistics)
    get_counts = _blocking(AsyncStatsRepository.get_counts)
    get_generations = _blocking(AsyncStatsRepository.get_generations)


class ServiceHistoryRepository(_Repository):
    """Remembers states of services."""

    _awaited = AsyncServiceHistoryRepository
    keep = _blocking(AsyncServiceHistoryRepository.keep)
    since = _blocking(AsyncServiceHistoryRepository.since)


class FigureRepository(_Repository):
    """Reads figures for Prometheus."""

    _awaited = AsyncFigureRepository
    get_figures = _blocking(AsyncFigureRepository.get_figures)


class ProvenanceRepository(_Repository):
    """Reads how products were made."""

    _awaited = AsyncProvenanceRepository
    get_run_origin = _blocking(AsyncProvenanceRepository.get_run_origin)
    list_for_run = _blocking(AsyncProvenanceRepository.list_for_run)
    list_for_file = _blocking(AsyncProvenanceRepository.list_for_file)


class SchemaRepository(_Repository):
    """Knows whether the database is ours."""

    _awaited = AsyncSchemaRepository
    get_revision = _blocking(AsyncSchemaRepository.get_revision)
    require_current = _blocking(AsyncSchemaRepository.require_current)
    is_read_only = _blocking(AsyncSchemaRepository.is_read_only)


class ProductRecorder(_Repository):
    """Keeps what stages made."""

    _awaited = AsyncProductRecorder
    record = _blocking(AsyncProductRecorder.record)
    save_job = _blocking(AsyncProductRecorder.save_job)
    get_job = _blocking(AsyncProductRecorder.get_job)
    came_to_nothing = _blocking(AsyncProductRecorder.came_to_nothing)


class CredentialRepository(_Repository):
    """Keeps API keys and the record of changes."""

    _awaited = AsyncCredentialRepository
    get_key = _blocking(AsyncCredentialRepository.get_key)
    list_keys = _blocking(AsyncCredentialRepository.list_keys)
    add_key = _blocking(AsyncCredentialRepository.add_key)
    revoke_key = _blocking(AsyncCredentialRepository.revoke_key)
    begin_change = _blocking(AsyncCredentialRepository.begin_change)
    add_entry = _blocking(AsyncCredentialRepository.add_entry)
    newest_changes = _blocking(AsyncCredentialRepository.newest_changes)
    check_chain = _blocking(AsyncCredentialRepository.check_chain)
