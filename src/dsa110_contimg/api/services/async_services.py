"""What the routes of images, Measurement Sets, sources and runs ask for: fetch, decide, return a document.

Services raise :class:`RecordNotFoundError` for what is not known and return what ``schemas`` describe.
"""

from collections.abc import Sequence
from typing import Any

from dsa110_contimg.api.exceptions import required
from dsa110_contimg.api.interfaces import (
    ImageRecord,
    ImageRepositoryProtocol,
    JobRecord,
    JobRepositoryProtocol,
    MeasurementSetRecord,
    MSRepositoryProtocol,
    ProvenanceRepositoryProtocol,
    SourceRepositoryProtocol,
    SourceSummary,
)
from dsa110_contimg.api.pages import Page, Wish
from dsa110_contimg.api.replies import iso_time, path_segment
from dsa110_contimg.api.services import qa_service, source_reports, views

View = dict[str, Any]

_MOST_CONTRIBUTIONS = 1000


class AsyncImageService:
    """Images."""

    def __init__(self, images: ImageRepositoryProtocol) -> None:
        self.images = images

    async def find(self, image_id: str) -> ImageRecord:
        """Return the record of an image.

        Raises
        ------
        RecordNotFoundError
            No image has this id.
        """
        return required(await self.images.get_by_id(image_id), "Image", image_id)

    async def list_images(self, wish: Wish) -> Page:
        """Return a page of images, newest first unless asked for otherwise."""
        return views.with_times(await self.images.list_page(wish), "created_at")

    async def get_image(self, image_id: str) -> View:
        """Return one image."""
        return views.image_detail(await self.find(image_id))

    async def get_qa(self, image_id: str) -> View:
        """Return the verdict on an image."""
        return qa_service.image_qa(await self.find(image_id))


class AsyncMSService:
    """Measurement Sets."""

    def __init__(self, measurement_sets: MSRepositoryProtocol) -> None:
        self.measurement_sets = measurement_sets

    async def list_measurement_sets(self, wish: Wish) -> Page:
        """Return a page of Measurement Sets, by falling path unless asked for otherwise."""
        page = views.with_times(await self.measurement_sets.list_page(wish), "created_at")
        for row in page.rows:
            if "missing_subbands" in row:
                row["missing_subbands"] = row["missing_subbands"] or []
        return page

    async def find(self, ms_id: str) -> MeasurementSetRecord:
        """Return the record of a Measurement Set, by its path or its short id.

        Raises
        ------
        RecordNotFoundError
            None has this path or id.
        """
        return required(await self.measurement_sets.get_metadata(ms_id), "MeasurementSet", ms_id)

    async def get_metadata(self, ms_id: str) -> View:
        """Return one Measurement Set with its calibration tables and the verdict on its newest image."""
        ms = await self.find(ms_id)
        return views.ms_detail(ms, await self._matches(ms.path), qa_service.ms_grade(ms), qa_service.ms_summary(ms))

    async def get_calibrator_matches(self, ms_id: str) -> View:
        """Return the calibration tables of a Measurement Set, in the order of application."""
        path = required(await self.measurement_sets.get_path(ms_id), "MeasurementSet", ms_id)
        return {"ms_path": path, "matches": await self._matches(path)}

    async def _matches(self, ms_path: str) -> list[View]:
        return [views.match(table) for table in await self.measurement_sets.get_calibrator_matches(ms_path)]


class AsyncSourceService:
    """Sources of the sky."""

    def __init__(self, sources: SourceRepositoryProtocol) -> None:
        self.sources = sources

    async def list_sources(self, wish: Wish) -> Page:
        """Return a page of sources, by rising id unless asked for otherwise."""
        return await self.sources.list_page(wish)

    async def list_cone(self, centre: tuple[float, float], radius_deg: float, wish: Wish) -> Page:
        """Return a page of the sources within an angle of a position (ICRS, degrees), nearest first."""
        return await self.sources.list_cone(*centre, radius_deg, wish)

    async def list_chosen(self, source_ids: Sequence[str]) -> list[View]:
        """Return those of some sources that there are."""
        return await self.sources.list_by_ids(source_ids)

    async def find(self, source_id: str) -> SourceSummary:
        """Return the record of a source.

        Raises
        ------
        RecordNotFoundError
            No source has this id.
        """
        return required(await self.sources.get_by_id(source_id), "Source", source_id)

    async def get_source(self, source_id: str) -> View:
        """Return one source and the images in which it was measured, at most 1000."""
        source = await self.find(source_id)
        images = await self.sources.list_contributions(source_id, min(source.num_images, _MOST_CONTRIBUTIONS))
        return source_reports.detail(source, _dated(images))

    async def list_contributions(self, source_id: str, limit: int, offset: int, superseded: bool) -> list[View]:
        """Return a part of the images in which a source was measured, the last epoch first; all if asked."""
        await self.find(source_id)
        return _dated(await self.sources.list_contributions(source_id, limit, offset, superseded))

    async def get_lightcurve(
        self, source_id: str, start_mjd: float | None, end_mjd: float | None, wish: Wish, superseded: bool
    ) -> tuple[View, str | None]:
        """Return measurements of a source and the cursor of the next; an unknown source has none."""
        page = await self.sources.get_lightcurve_page(source_id, start_mjd, end_mjd, wish, superseded)
        document = {
            "source_id": source_id,
            "data_points": page.rows,
            "truncated": page.next_cursor is not None,
            "next_cursor": page.next_cursor,
        }
        return document, page.next_cursor

    async def get_variability(self, source_id: str) -> View:
        """Return how a source varies, from the sums that are kept with it."""
        return source_reports.variability(await self.find(source_id))

    async def get_qa(self, source_id: str) -> View:
        """Return what the grades of its images say of a source."""
        return source_reports.quality(await self.find(source_id), await self.sources.count_grades(source_id))


class AsyncJobService:
    """Runs of the pipeline."""

    def __init__(self, jobs: JobRepositoryProtocol, images: ImageRepositoryProtocol) -> None:
        self.jobs = jobs
        self.images = images

    async def list_jobs(self, wish: Wish) -> Page:
        """Return a page of runs, newest first unless asked for otherwise."""
        return views.with_times(await self.jobs.list_page(wish), "created_at", "started_at", "finished_at")

    async def find(self, run_id: str) -> JobRecord:
        """Return the record of a run, by exactly its id.

        Raises
        ------
        RecordNotFoundError
            No run has this id.
        """
        return required(await self.jobs.get_by_run_id(run_id), "Job", run_id)

    async def get_job(self, run_id: str) -> View:
        """Return one run."""
        job = await self.find(run_id)
        return views.job_detail(job, await self.images.list_ids_of_run(run_id, job.ms_path))


class AsyncProvenanceService:
    """Where products come from."""

    def __init__(
        self,
        images: AsyncImageService,
        measurement_sets: MSRepositoryProtocol,
        provenance: ProvenanceRepositoryProtocol,
    ) -> None:
        self.images = images
        self.measurement_sets = measurement_sets
        self.provenance = provenance

    async def of_image(self, image_id: str) -> View:
        """Return where an image comes from."""
        image = await self.images.find(image_id)
        return await self._document(
            image.run_id, image.ms_path, image.id, created_at=image.created_at, cal_table=image.cal_table,
            pointing=(image.center_ra_deg, image.center_dec_deg),
            qa=(image.qa_grade, image.qa_summary, f"/api/qa/image/{image.id}"),
        )  # fmt: skip

    async def of_ms(self, ms_id: str) -> View:
        """Return where a Measurement Set comes from."""
        ms = required(await self.measurement_sets.get_origin(ms_id), "MeasurementSet", ms_id)
        return await self._document(
            ms.run_id, ms.path, ms.image_id, created_at=ms.processed_at, cal_table=ms.cal_table,
            pointing=(ms.pointing_ra_deg, ms.pointing_dec_deg),
            qa=(qa_service.ms_grade(ms), qa_service.ms_summary(ms), f"/api/qa/ms/{path_segment(ms.path)}"),
        )  # fmt: skip

    async def of_job(self, run_id: str) -> View:
        """Return what a run used and made."""
        run = required(await self.provenance.get_run_origin(run_id), "Job", run_id)
        return await self._document(
            run_id, run.ms_path, run.image_id, created_at=run.started_at, cal_table=run.cal_table,
            pointing=(run.pointing_ra_deg, run.pointing_dec_deg),
            qa=(run.qa_grade, run.qa_summary, f"/api/qa/job/{path_segment(run_id)}"),
        )  # fmt: skip

    async def _document(
        self,
        run_id: str,
        ms_path: str,
        image_id: int | None,
        *,
        created_at: float | None,
        cal_table: str | None,
        pointing: tuple[float | None, float | None],
        qa: tuple[str | None, str | None, str],
    ) -> View:
        facts = {
            "run_id": run_id,
            "ms_path": ms_path,
            "cal_table": cal_table,
            "pointing_ra_deg": pointing[0],
            "pointing_dec_deg": pointing[1],
            "qa_grade": qa[0],
            "qa_summary": qa[1],
            "qa_url": qa[2],
            "created_at": iso_time(created_at),
        }
        return views.provenance(facts, image_id, await self.provenance.list_for_run(run_id))


def _dated(images: list[View]) -> list[View]:
    for image in images:
        image["created_at"] = iso_time(image["created_at"])
    return images
