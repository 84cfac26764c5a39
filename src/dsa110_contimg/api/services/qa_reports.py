"""Reports on quality, as clients ask for them: what is known is fetched here, and judged in ``qa_service``."""

from typing import Any

from dsa110_contimg.api.interfaces import (
    ProvenanceRepositoryProtocol,
)
from dsa110_contimg.api.quality_interfaces import QARepositoryProtocol
from dsa110_contimg.api.services import qa_service
from dsa110_contimg.api.services.async_services import (
    AsyncImageService,
    AsyncJobService,
    AsyncMSService,
    cal_table_of,
    images_of,
)

View = dict[str, Any]


class AsyncQAService:
    """Verdicts on images, Measurement Sets and runs, with the numbers and the reasons."""

    def __init__(
        self,
        images: AsyncImageService,
        measurement_sets: AsyncMSService,
        jobs: AsyncJobService,
        measured: QARepositoryProtocol,
        provenance: ProvenanceRepositoryProtocol,
    ) -> None:
        self.images = images
        self.measurement_sets = measurement_sets
        self.jobs = jobs
        self.measured = measured
        self.provenance = provenance

    async def of_image(self, image_id: str) -> View:
        """Return the verdict on an image."""
        image = await self.images.find(image_id)
        return qa_service.image_report(image, await self.measured.get_image_qa(image.path))

    async def of_ms(self, ms_id: str) -> View:
        """Return the verdict on a Measurement Set."""
        ms = await self.measurement_sets.find(ms_id)
        images = await self.images.images.list_for_ms(ms.path)
        stages = await self.provenance.list_for_run(ms.run_id) if ms.run_id else []
        return qa_service.ms_report(ms, images, await self.measured.get_calibration_qa(ms.path), stages)

    async def of_job(self, run_id: str) -> View:
        """Return the verdict on a run."""
        job = await self.jobs.find(run_id)
        images = await images_of(self.images.images, job)
        table = await cal_table_of(self.measurement_sets.measurement_sets, job.ms_path)
        return qa_service.job_report(job, images, table, await self.provenance.list_for_run(run_id))
