"""Repositories that await: each method executes one of ``queries`` through an adapter.

``repositories.py`` has the same classes, methods and signatures without ``Async`` and without awaiting.
"""

from collections.abc import Sequence

from dsa110_contimg.api import database
from dsa110_contimg.api.audit import AuditRecord, ChainCheck
from dsa110_contimg.api.batch_interfaces import BatchItemRecord, BatchRecord
from dsa110_contimg.api.credentials import ApiKeyRecord
from dsa110_contimg.api.db_adapters.backend import DatabaseAdapter
from dsa110_contimg.api.exceptions import DatabaseSchemaError
from dsa110_contimg.api.interfaces import (
    CalibrationTableRecord,
    ImageRecord,
    JobRecord,
    MeasurementSetRecord,
    ProvenanceRecord,
    Recording,
    RunOrigin,
    SourceSummary,
    Statistics,
)
from dsa110_contimg.api.operation_records import ProductFigures, ServiceState
from dsa110_contimg.api.pages import Document, Page, Wish
from dsa110_contimg.api.quality_interfaces import CalibrationQARecord, ImageQARecord
from dsa110_contimg.api.queries import (
    audit,
    batches,
    calibration,
    counts,
    credentials,
    events,
    images,
    jobs,
    measurement_sets,
    provenance,
    quality,
    reports,
    schema,
    service_history,
    sources,
    statistics,
)
from dsa110_contimg.api.queries import recording as recordings
from dsa110_contimg.api.report_interfaces import ImageFacts, MSFacts, RunFacts
from dsa110_contimg.api.tables import SCHEMA_REVISION


class _AsyncRepository:
    def __init__(self, adapter: DatabaseAdapter) -> None:
        self._adapter = adapter


class AsyncImageRepository(_AsyncRepository):
    """Reads images."""

    async def get_by_id(self, image_id: str) -> ImageRecord | None:
        """Return the image of this id (decimal text); None if there is none."""
        return await database.read(self._adapter, images.by_id(image_id))

    async def get_by_path(self, path: str) -> ImageRecord | None:
        """Return the image that was written to this path."""
        return await database.read(self._adapter, images.by_path(path))

    async def list_all(self, limit: int = 100, offset: int = 0) -> list[ImageRecord]:
        """Return images, newest ``created_at`` first, then by falling id."""
        return await database.read(self._adapter, images.page(limit, offset))

    async def list_for_ms(self, ms_path: str) -> list[ImageRecord]:
        """Return the images of one Measurement Set, newest first."""
        return await database.read(self._adapter, images.for_ms(ms_path))

    async def list_ids_of_run(self, run_id: str, ms_path: str) -> list[int]:
        """Return the ids of the images that a run made of its Measurement Set, newest first."""
        return await database.read(self._adapter, images.ids_of_run(run_id, ms_path))

    async def count(self) -> int:
        """Return the number of images."""
        return await database.read(self._adapter, images.count())

    async def list_page(self, wish: Wish) -> Page:
        """Return a page of images as documents, by the order and the conditions of ``wish``."""
        return await database.read(self._adapter, images.LIST.page(wish))


class AsyncMSRepository(_AsyncRepository):
    """Reads Measurement Sets."""

    async def get_metadata(self, ms_id: str) -> MeasurementSetRecord | None:
        """Return the Measurement Set of this path or short id."""
        return await database.read(self._adapter, measurement_sets.by_id(ms_id))

    async def get_path(self, ms_id: str) -> str | None:
        """Return the path of the Measurement Set of this path or short id."""
        return await database.read(self._adapter, measurement_sets.path_of(ms_id))

    async def get_origin(self, ms_id: str) -> MeasurementSetRecord | None:
        """Return it with the calibration table that is applied first."""
        return await database.read(self._adapter, measurement_sets.origin(ms_id))

    async def get_by_run_id(self, run_id: str) -> MeasurementSetRecord | None:
        """Return the Measurement Set that a run made."""
        return await database.read(self._adapter, measurement_sets.by_run(run_id))

    async def list_all(self, limit: int = 100, offset: int = 0) -> list[MeasurementSetRecord]:
        """Return Measurement Sets, latest observation first, then by path."""
        return await database.read(self._adapter, measurement_sets.page(limit, offset))

    async def list_page(self, wish: Wish) -> Page:
        """Return a page of Measurement Sets as documents, by the order and the conditions of ``wish``."""
        return await database.read(self._adapter, measurement_sets.LIST.page(wish))

    async def get_calibrator_matches(self, ms_path: str) -> list[CalibrationTableRecord]:
        """Return the calibration tables of a Measurement Set, in the order of application."""
        return await database.read(self._adapter, calibration.matches(ms_path))

    async def count(self) -> int:
        """Return the number of Measurement Sets."""
        return await database.read(self._adapter, measurement_sets.count())


class AsyncSourceRepository(_AsyncRepository):
    """Reads sources."""

    async def get_by_id(self, source_id: str) -> SourceSummary | None:
        """Return the source of this id."""
        return await database.read(self._adapter, sources.by_id(source_id))

    async def list_all(self, limit: int = 100, offset: int = 0) -> list[SourceSummary]:
        """Return sources by rising id (byte order)."""
        return await database.read(self._adapter, sources.page(limit, offset))

    async def count(self) -> int:
        """Return the number of sources."""
        return await database.read(self._adapter, sources.count())

    async def list_page(self, wish: Wish) -> Page:
        """Return a page of sources as documents, by the order and the conditions of ``wish``."""
        return await database.read(self._adapter, sources.LIST.page(wish))

    async def get_lightcurve_page(
        self, source_id: str, start_mjd: float | None, end_mjd: float | None, wish: Wish, superseded: bool = False
    ) -> Page:
        """Return a part of them as documents; ``wish`` gives limit and cursor."""
        steps = sources.lightcurve_page(source_id, start_mjd, end_mjd, wish, superseded)
        return await database.read(self._adapter, steps)

    async def list_contributions(
        self, source_id: str, limit: int, offset: int = 0, superseded: bool = False
    ) -> list[Document]:
        """Return the images in which a source was measured, with its flux density there, the last epoch first."""
        return await database.read(self._adapter, sources.contributions(source_id, limit, offset, superseded))

    async def list_cone(self, ra_deg: float, dec_deg: float, radius_deg: float, wish: Wish) -> Page:
        """Return a page of the sources within an angle of a position, nearest first; only offsets, no cursors."""
        return await database.read(self._adapter, sources.cone(ra_deg, dec_deg, radius_deg, wish))

    async def count_grades(self, source_id: str) -> dict[str | None, int]:
        """Return how many of the images of a source have each grade."""
        return await database.read(self._adapter, sources.grades(source_id))

    async def list_by_ids(self, source_ids: Sequence[str]) -> list[Document]:
        """Return those sources that there are, as documents, in the given order."""
        return await database.read(self._adapter, sources.by_ids(source_ids))


class AsyncJobRepository(_AsyncRepository):
    """Reads runs."""

    async def get_by_run_id(self, run_id: str) -> JobRecord | None:
        """Return the run of exactly this id."""
        return await database.read(self._adapter, jobs.by_run(run_id))

    async def get_status(self, run_id: str) -> str | None:
        """Return the state of the run of exactly this id."""
        return await database.read(self._adapter, jobs.status_of(run_id))

    async def list_all(self, limit: int = 100, offset: int = 0) -> list[JobRecord]:
        """Return runs, newest ``created_at`` first, then by falling number."""
        return await database.read(self._adapter, jobs.page(limit, offset))

    async def count(self) -> int:
        """Return the number of runs."""
        return await database.read(self._adapter, jobs.count())

    async def list_page(self, wish: Wish) -> Page:
        """Return a page of runs as documents, by the order and the conditions of ``wish``."""
        return await database.read(self._adapter, jobs.LIST.page(wish))


class AsyncCalibrationRepository(_AsyncRepository):
    """Reads calibration tables."""

    async def get_by_id(self, table_id: str) -> CalibrationTableRecord | None:
        """Return the table of this path or row number."""
        return await database.read(self._adapter, calibration.by_id(table_id))

    async def list_all(self, limit: int = 100, offset: int = 0) -> list[CalibrationTableRecord]:
        """Return tables, newest first, then by path."""
        return await database.read(self._adapter, calibration.page(limit, offset))

    async def list_page(self, wish: Wish) -> Page:
        """Return a page of tables as documents, by the order and the conditions of ``wish``."""
        return await database.read(self._adapter, calibration.LIST.page(wish))

    async def list_solved_from(self, ms_path: str) -> list[CalibrationTableRecord]:
        """Return the active tables that were solved from a Measurement Set, in the order of application."""
        return await database.read(self._adapter, calibration.solved_from(ms_path))

    async def list_active(self, mjd: float) -> list[CalibrationTableRecord]:
        """Return the newest active set that is valid at ``mjd``, by order of application."""
        return await database.read(self._adapter, calibration.active(mjd))

    async def count(self) -> int:
        """Return the number of tables."""
        return await database.read(self._adapter, calibration.count())


class AsyncReportRepository(_AsyncRepository):
    """Reads all that a report on quality is made of."""

    async def get_image(self, image_id: str) -> ImageFacts | None:
        """Return what is known of the image of this id (decimal text)."""
        return await database.read(self._adapter, reports.of_image(image_id))

    async def get_ms(self, ms_id: str) -> MSFacts | None:
        """Return what is known of the Measurement Set of this path or short id."""
        return await database.read(self._adapter, reports.of_ms(ms_id))

    async def get_run(self, run_id: str) -> RunFacts | None:
        """Return what is known of the run of exactly this id."""
        return await database.read(self._adapter, reports.of_run(run_id))


class AsyncQARepository(_AsyncRepository):
    """Keeps what was measured on products."""

    async def save_image_qa(self, record: ImageQARecord) -> None:
        """Keep what was measured on an image, instead of what was measured before."""
        await database.write(self._adapter, quality.save_image(record))

    async def save_calibration_qa(self, record: CalibrationQARecord) -> None:
        """Keep what was measured on the tables of a Measurement Set, instead of what was measured before."""
        await database.write(self._adapter, quality.save_tables(record))


class AsyncBatchRepository(_AsyncRepository):
    """Keeps batches."""

    async def get(self, batch_id: str) -> BatchRecord | None:
        """Return a batch."""
        return await database.read(self._adapter, batches.get(batch_id))

    async def list_page(self, wish: Wish) -> Page:
        """Return a page of batches as documents, by the order and the conditions of ``wish``."""
        return await database.read(self._adapter, batches.LIST.page(wish))

    async def list_items(self, batch_id: int, limit: int = 1000, offset: int = 0) -> list[BatchItemRecord]:
        """Return items of a batch in their order."""
        return await database.read(self._adapter, batches.page_of_items(batch_id, limit, offset))

    async def list_unended(self, batch_id: int, limit: int = 100) -> list[BatchItemRecord]:
        """Return items that are pending, or that somebody began and did not end, in their order."""
        return await database.read(self._adapter, batches.unended(batch_id, limit))

    async def begin_item(self, item_id: int) -> bool:
        """Write down that an item is worked on; False when it has ended, or its batch was cancelled."""
        return await database.write(self._adapter, batches.begin_item(item_id))

    async def end_item(self, item_id: int, error: str | None = None) -> bool:
        """Write down how an item ended (with ``error``: failed), and count it; False when it has ended already."""
        return await database.write(self._adapter, batches.end_item(item_id, error))

    async def cancel(self, batch_id: int) -> bool:
        """Cancel a batch and what of it has not ended; False when it has ended."""
        return await database.write(self._adapter, batches.cancel(batch_id))


class AsyncStatsRepository(_AsyncRepository):
    """Counts."""

    async def get_statistics(self) -> Statistics:
        """Return how much there is of everything."""
        return await database.read(self._adapter, statistics.statistics())

    async def get_counts(self) -> dict[str, dict[str, int]]:
        """Return how many rows each table has by stage, status or type ('' for none); empty ones are left out."""
        return await database.read(self._adapter, counts.counts())

    async def get_generations(self) -> dict[str, int]:
        """Return the number of the last write of each table."""
        return await database.read(self._adapter, counts.generations())


class AsyncServiceHistoryRepository(_AsyncRepository):
    """Remembers states of services."""

    async def keep(self, states: Sequence[ServiceState], minute_at: float, oldest_at: float) -> None:
        """Keep states that were seen in a minute, each once, and forget what is older than ``oldest_at``."""
        await database.write(self._adapter, service_history.keep(states, minute_at, oldest_at))

    async def since(self, since_at: float) -> list[ServiceState]:
        """Return the states since a time, by service and time; ``checked_at`` is the begin of their minute."""
        return await database.read(self._adapter, service_history.since(since_at))


class AsyncFigureRepository(_AsyncRepository):
    """Reads figures for Prometheus."""

    async def get_figures(self) -> ProductFigures:
        """Return how often things happened and how much there is."""
        return await database.read(self._adapter, events.figures())


class AsyncProvenanceRepository(_AsyncRepository):
    """Reads how products were made."""

    async def get_run_origin(self, run_id: str) -> RunOrigin | None:
        """Return what the run of exactly this id used and made."""
        return await database.read(self._adapter, provenance.run_origin(run_id))

    async def list_for_run(self, run_id: str) -> list[ProvenanceRecord]:
        """Return the stages of a run in the order in which they began."""
        return await database.read(self._adapter, provenance.for_run(run_id))

    async def list_for_file(self, path: str) -> list[ProvenanceRecord]:
        """Return the stages that read or wrote a file, in the order in which they began."""
        return await database.read(self._adapter, provenance.for_file(path))


class AsyncSchemaRepository(_AsyncRepository):
    """Knows whether the database is ours."""

    async def get_revision(self) -> str | None:
        """Return the revision of the tables; None in a database that was never migrated."""
        try:
            return await database.read(self._adapter, schema.revision())
        except DatabaseSchemaError:
            return None

    async def require_current(self) -> None:
        """Raise DatabaseSchemaError unless the tables are those of this version."""
        schema.require(await self.get_revision(), SCHEMA_REVISION)

    async def is_read_only(self) -> bool:
        """Tell whether it is a database of the earlier pipeline, which is served but never changed."""
        return self._adapter.read_only


class AsyncProductRecorder(_AsyncRepository):
    """Keeps what stages made."""

    async def record(self, recording: Recording) -> None:
        """Keep all parts of a recording in one transaction."""
        await database.write(self._adapter, recordings.record(recording))

    async def save_job(self, job: JobRecord) -> None:
        """Keep a run by its id."""
        await database.write(self._adapter, recordings.save_job(job))

    async def get_job(self, run_id: str) -> JobRecord | None:
        """Return a run by its id."""
        return await database.read(self._adapter, jobs.by_run(run_id))

    async def came_to_nothing(self, run_ids: Sequence[str], before_s: float) -> list[str]:
        """Return which of these runs failed before a time (Unix, s) and have no image."""
        return await database.read(self._adapter, recordings.came_to_nothing(run_ids, before_s))


class AsyncCredentialRepository(_AsyncRepository):
    """Keeps API keys and the record of changes."""

    async def get_key(self, key_id: str) -> ApiKeyRecord | None:
        """Return the key of this id."""
        return await database.read(self._adapter, credentials.find_key(key_id))

    async def list_keys(self) -> list[ApiKeyRecord]:
        """Return all keys, the oldest first."""
        return await database.read(self._adapter, credentials.list_keys())

    async def add_key(self, key: ApiKeyRecord) -> None:
        """Keep a new key."""
        await database.write(self._adapter, credentials.add_key(key))

    async def revoke_key(self, key_id: str, now_s: float) -> bool:
        """Take a key back at once; False when there is no such key or it was taken back before."""
        return await database.write(self._adapter, credentials.revoke_key(key_id, now_s))

    async def begin_change(self, entry: AuditRecord, mark_key_used: bool) -> AuditRecord:
        """Write down that somebody begins a change, and that the key was used; return the entry."""
        return await database.write(self._adapter, credentials.begin_change(entry, mark_key_used))

    async def add_entry(self, entry: AuditRecord) -> AuditRecord:
        """Write down another entry: how a change ended, or a wrong key."""
        return await database.write(self._adapter, audit.append(entry))

    async def newest_changes(self, limit: int = 100) -> list[AuditRecord]:
        """Return the newest changes first."""
        return await database.read(self._adapter, audit.newest_changes(limit))

    async def check_chain(self) -> ChainCheck:
        """Walk along the whole record of changes and tell whether it is as it was written."""
        return await database.read(self._adapter, audit.check_chain())
