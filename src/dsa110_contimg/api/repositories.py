"""Repositories that block, for scripts, RQ jobs and batches: each method executes one of ``queries``.

``async_repositories.py`` has the same classes, methods and signatures with ``Async``; a test keeps them the same.
"""

from collections.abc import Sequence

from dsa110_contimg.api.audit import AuditRecord, ChainCheck
from dsa110_contimg.api.batch_interfaces import BatchItemRecord, BatchRecord
from dsa110_contimg.api.credentials import ApiKeyRecord
from dsa110_contimg.api.database import BlockingDatabase
from dsa110_contimg.api.exceptions import DatabaseSchemaError
from dsa110_contimg.api.interfaces import (
    CalibrationTableRecord,
    ImageRecord,
    JobRecord,
    LightCurvePoint,
    MeasurementSetRecord,
    ProvenanceRecord,
    Recording,
    SourceRecord,
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
    schema,
    service_history,
    sources,
    statistics,
)
from dsa110_contimg.api.queries import recording as recordings
from dsa110_contimg.api.tables import SCHEMA_REVISION


class _Repository:
    def __init__(self, database: BlockingDatabase) -> None:
        self._database = database


class ImageRepository(_Repository):
    """Reads images."""

    def get_by_id(self, image_id: str) -> ImageRecord | None:
        """Return the image of this id (decimal text); None if there is none."""
        return self._database.read(images.by_id(image_id))

    def get_by_path(self, path: str) -> ImageRecord | None:
        """Return the image that was written to this path."""
        return self._database.read(images.by_path(path))

    def list_all(self, limit: int = 100, offset: int = 0) -> list[ImageRecord]:
        """Return images, newest ``created_at`` first, then by falling id."""
        return self._database.read(images.page(limit, offset))

    def list_for_ms(self, ms_path: str) -> list[ImageRecord]:
        """Return the images of one Measurement Set, newest first."""
        return self._database.read(images.for_ms(ms_path))

    def list_for_source(self, source_id: str, limit: int = 100, offset: int = 0) -> list[ImageRecord]:
        """Return the images in which a source was measured, newest first."""
        return self._database.read(images.for_source(source_id, limit, offset))

    def count(self) -> int:
        """Return the number of images."""
        return self._database.read(images.count())

    def list_page(self, wish: Wish) -> Page:
        """Return a page of images as documents, by the order and the conditions of ``wish``."""
        return self._database.read(images.LIST.page(wish))


class MSRepository(_Repository):
    """Reads Measurement Sets."""

    def get_metadata(self, ms_id: str) -> MeasurementSetRecord | None:
        """Return the Measurement Set of this path or short id."""
        return self._database.read(measurement_sets.by_id(ms_id))

    def get_by_run_id(self, run_id: str) -> MeasurementSetRecord | None:
        """Return the Measurement Set that a run made."""
        return self._database.read(measurement_sets.by_run(run_id))

    def list_all(self, limit: int = 100, offset: int = 0) -> list[MeasurementSetRecord]:
        """Return Measurement Sets, latest observation first, then by path."""
        return self._database.read(measurement_sets.page(limit, offset))

    def list_page(self, wish: Wish) -> Page:
        """Return a page of Measurement Sets as documents, by the order and the conditions of ``wish``."""
        return self._database.read(measurement_sets.LIST.page(wish))

    def get_calibrator_matches(self, ms_path: str) -> list[CalibrationTableRecord]:
        """Return the calibration tables of a Measurement Set, in the order of application."""
        return self._database.read(calibration.matches(ms_path))

    def count(self) -> int:
        """Return the number of Measurement Sets."""
        return self._database.read(measurement_sets.count())


class SourceRepository(_Repository):
    """Reads sources."""

    def get_by_id(self, source_id: str) -> SourceSummary | None:
        """Return the source of this id."""
        return self._database.read(sources.by_id(source_id))

    def list_all(self, limit: int = 100, offset: int = 0) -> list[SourceSummary]:
        """Return sources by rising id (byte order)."""
        return self._database.read(sources.page(limit, offset))

    def list_near(self, ra_deg: float, dec_deg: float, radius_deg: float) -> list[SourceRecord]:
        """Return the sources within ``radius_deg`` of a position, nearest first."""
        return self._database.read(sources.near(ra_deg, dec_deg, radius_deg))

    def get_lightcurve(
        self, source_id: str, start_mjd: float | None = None, end_mjd: float | None = None
    ) -> list[LightCurvePoint]:
        """Return the measurements of a source by rising time; both ends belong to the range."""
        return self._database.read(sources.lightcurve(source_id, start_mjd, end_mjd))

    def count(self) -> int:
        """Return the number of sources."""
        return self._database.read(sources.count())

    def list_page(self, wish: Wish) -> Page:
        """Return a page of sources as documents, by the order and the conditions of ``wish``."""
        return self._database.read(sources.LIST.page(wish))

    def get_lightcurve_page(self, source_id: str, start_mjd: float | None, end_mjd: float | None, wish: Wish) -> Page:
        """Return a part of them as documents; ``wish`` gives limit and cursor."""
        return self._database.read(sources.lightcurve_page(source_id, start_mjd, end_mjd, wish))

    def list_contributions(self, source_id: str, limit: int, offset: int = 0) -> list[Document]:
        """Return the images in which a source was measured, with its flux density there, the last epoch first."""
        return self._database.read(sources.contributions(source_id, limit, offset))

    def list_cone(self, ra_deg: float, dec_deg: float, radius_deg: float, wish: Wish) -> Page:
        """Return a page of the sources within an angle of a position, nearest first; only offsets, no cursors."""
        return self._database.read(sources.cone(ra_deg, dec_deg, radius_deg, wish))

    def count_grades(self, source_id: str) -> dict[str | None, int]:
        """Return how many of the images of a source have each grade."""
        return self._database.read(sources.grades(source_id))

    def list_by_ids(self, source_ids: Sequence[str]) -> list[Document]:
        """Return those sources that there are, as documents, in the given order."""
        return self._database.read(sources.by_ids(source_ids))


class JobRepository(_Repository):
    """Reads runs."""

    def get_by_run_id(self, run_id: str) -> JobRecord | None:
        """Return the run of exactly this id."""
        return self._database.read(jobs.by_run(run_id))

    def list_all(self, limit: int = 100, offset: int = 0) -> list[JobRecord]:
        """Return runs, newest ``created_at`` first, then by falling number."""
        return self._database.read(jobs.page(limit, offset))

    def count(self) -> int:
        """Return the number of runs."""
        return self._database.read(jobs.count())

    def list_page(self, wish: Wish) -> Page:
        """Return a page of runs as documents, by the order and the conditions of ``wish``."""
        return self._database.read(jobs.LIST.page(wish))


class CalibrationRepository(_Repository):
    """Reads calibration tables."""

    def get_by_id(self, table_id: str) -> CalibrationTableRecord | None:
        """Return the table of this path or row number."""
        return self._database.read(calibration.by_id(table_id))

    def list_all(self, limit: int = 100, offset: int = 0) -> list[CalibrationTableRecord]:
        """Return tables, newest first, then by path."""
        return self._database.read(calibration.page(limit, offset))

    def list_page(self, wish: Wish) -> Page:
        """Return a page of tables as documents, by the order and the conditions of ``wish``."""
        return self._database.read(calibration.LIST.page(wish))

    def list_solved_from(self, ms_path: str) -> list[CalibrationTableRecord]:
        """Return the active tables that were solved from a Measurement Set, in the order of application."""
        return self._database.read(calibration.solved_from(ms_path))

    def list_active(self, mjd: float) -> list[CalibrationTableRecord]:
        """Return the newest active set that is valid at ``mjd``, by order of application."""
        return self._database.read(calibration.active(mjd))

    def count(self) -> int:
        """Return the number of tables."""
        return self._database.read(calibration.count())


class QARepository(_Repository):
    """Keeps what was measured on products."""

    def get_image_qa(self, image_path: str) -> ImageQARecord | None:
        """Return what was last measured on an image."""
        return self._database.read(quality.of_image(image_path))

    def get_calibration_qa(self, ms_path: str) -> CalibrationQARecord | None:
        """Return what was last measured on the tables that were solved from a Measurement Set."""
        return self._database.read(quality.of_ms(ms_path))

    def save_image_qa(self, record: ImageQARecord) -> None:
        """Keep what was measured on an image, instead of what was measured before."""
        self._database.write(quality.save_image(record))

    def save_calibration_qa(self, record: CalibrationQARecord) -> None:
        """Keep what was measured on the tables of a Measurement Set, instead of what was measured before."""
        self._database.write(quality.save_tables(record))


class BatchRepository(_Repository):
    """Keeps batches."""

    def get(self, batch_id: str) -> BatchRecord | None:
        """Return a batch."""
        return self._database.read(batches.get(batch_id))

    def list_page(self, wish: Wish) -> Page:
        """Return a page of batches as documents, by the order and the conditions of ``wish``."""
        return self._database.read(batches.LIST.page(wish))

    def list_items(self, batch_id: int, limit: int = 1000, offset: int = 0) -> list[BatchItemRecord]:
        """Return items of a batch in their order."""
        return self._database.read(batches.page_of_items(batch_id, limit, offset))

    def list_unended(self, batch_id: int, limit: int = 100) -> list[BatchItemRecord]:
        """Return items that are pending, or that somebody began and did not end, in their order."""
        return self._database.read(batches.unended(batch_id, limit))

    def begin_item(self, item_id: int) -> bool:
        """Write down that an item is worked on; False when it has ended, or its batch was cancelled."""
        return self._database.write(batches.begin_item(item_id))

    def end_item(self, item_id: int, error: str | None = None) -> bool:
        """Write down how an item ended (with ``error``: failed), and count it; False when it has ended already."""
        return self._database.write(batches.end_item(item_id, error))

    def cancel(self, batch_id: int) -> bool:
        """Cancel a batch and what of it has not ended; False when it has ended."""
        return self._database.write(batches.cancel(batch_id))


class StatsRepository(_Repository):
    """Counts."""

    def get_statistics(self) -> Statistics:
        """Return how much there is of everything."""
        return self._database.read(statistics.statistics())

    def get_counts(self) -> dict[str, dict[str, int]]:
        """Return how many rows each table has by stage, status or type ('' for none); empty ones are left out."""
        return self._database.read(counts.counts())

    def get_generations(self) -> dict[str, int]:
        """Return the number of the last write of each table."""
        return self._database.read(counts.generations())


class ServiceHistoryRepository(_Repository):
    """Remembers states of services."""

    def keep(self, states: Sequence[ServiceState], minute_at: float, oldest_at: float) -> None:
        """Keep states that were seen in a minute, each once, and forget what is older than ``oldest_at``."""
        self._database.write(service_history.keep(states, minute_at, oldest_at))

    def since(self, since_at: float) -> list[ServiceState]:
        """Return the states since a time, by service and time; ``checked_at`` is the begin of their minute."""
        return self._database.read(service_history.since(since_at))


class FigureRepository(_Repository):
    """Reads figures for Prometheus."""

    def get_figures(self) -> ProductFigures:
        """Return how often things happened and how much there is."""
        return self._database.read(events.figures())


class ProvenanceRepository(_Repository):
    """Reads how products were made."""

    def list_for_run(self, run_id: str) -> list[ProvenanceRecord]:
        """Return the stages of a run in the order in which they began."""
        return self._database.read(provenance.for_run(run_id))

    def list_for_file(self, path: str) -> list[ProvenanceRecord]:
        """Return the stages that read or wrote a file, in the order in which they began."""
        return self._database.read(provenance.for_file(path))


class SchemaRepository(_Repository):
    """Knows whether the database is ours."""

    def get_revision(self) -> str | None:
        """Return the revision of the tables; None in a database that was never migrated."""
        try:
            return self._database.read(schema.revision())
        except DatabaseSchemaError:
            return None

    def require_current(self) -> None:
        """Raise DatabaseSchemaError unless the tables are those of this version."""
        schema.require(self.get_revision(), SCHEMA_REVISION)

    def is_read_only(self) -> bool:
        """Tell whether it is a database of the earlier pipeline, which is served but never changed."""
        return self._database.read_only


class ProductRecorder(_Repository):
    """Keeps what stages made."""

    def record(self, recording: Recording) -> None:
        """Keep all parts of a recording in one transaction."""
        self._database.write(recordings.record(recording))

    def save_job(self, job: JobRecord) -> None:
        """Keep a run by its id."""
        self._database.write(recordings.save_job(job))

    def sources_near(self, ra_deg: float, dec_deg: float, radius_deg: float) -> Sequence[SourceRecord]:
        """Return the known sources within ``radius_deg`` of a position, nearest first."""
        return self._database.read(sources.near(ra_deg, dec_deg, radius_deg))

    def get_job(self, run_id: str) -> JobRecord | None:
        """Return a run by its id."""
        return self._database.read(jobs.by_run(run_id))


class CredentialRepository(_Repository):
    """Keeps API keys and the record of changes."""

    def get_key(self, key_id: str) -> ApiKeyRecord | None:
        """Return the key of this id."""
        return self._database.read(credentials.find_key(key_id))

    def list_keys(self) -> list[ApiKeyRecord]:
        """Return all keys, the oldest first."""
        return self._database.read(credentials.list_keys())

    def add_key(self, key: ApiKeyRecord) -> None:
        """Keep a new key."""
        self._database.write(credentials.add_key(key))

    def revoke_key(self, key_id: str, now_s: float) -> bool:
        """Take a key back at once; False when there is no such key or it was taken back before."""
        return self._database.write(credentials.revoke_key(key_id, now_s))

    def begin_change(self, entry: AuditRecord, mark_key_used: bool) -> AuditRecord:
        """Write down that somebody begins a change, and that the key was used; return the entry."""
        return self._database.write(credentials.begin_change(entry, mark_key_used))

    def add_entry(self, entry: AuditRecord) -> AuditRecord:
        """Write down another entry: how a change ended, or a wrong key."""
        return self._database.write(audit.append(entry))

    def newest_changes(self, limit: int = 100) -> list[AuditRecord]:
        """Return the newest changes first."""
        return self._database.read(audit.newest_changes(limit))

    def check_chain(self) -> ChainCheck:
        """Walk along the whole record of changes and tell whether it is as it was written."""
        return self._database.read(audit.check_chain())
