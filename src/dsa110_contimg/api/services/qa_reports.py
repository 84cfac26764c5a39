"""Reports on quality, as clients ask for them: what is known is fetched here, and judged in ``qa_service``."""

from typing import Any

from dsa110_contimg.api.exceptions import required
from dsa110_contimg.api.report_interfaces import ReportRepositoryProtocol
from dsa110_contimg.api.services import qa_service

View = dict[str, Any]


class AsyncQAService:
    """Verdicts on images, Measurement Sets and runs, with the numbers and the reasons.

    Each method raises RecordNotFoundError for what is not known.
    """

    def __init__(self, reports: ReportRepositoryProtocol) -> None:
        self.reports = reports

    async def of_image(self, image_id: str) -> View:
        """Return the verdict on an image."""
        known = required(await self.reports.get_image(image_id), "Image", image_id)
        return qa_service.image_report(known.image, known.measured)

    async def of_ms(self, ms_id: str) -> View:
        """Return the verdict on a Measurement Set."""
        return qa_service.ms_report(required(await self.reports.get_ms(ms_id), "MeasurementSet", ms_id))

    async def of_job(self, run_id: str) -> View:
        """Return the verdict on a run."""
        return qa_service.job_report(required(await self.reports.get_run(run_id), "Job", run_id))
