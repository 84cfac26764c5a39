"""What reports on quality are made of, and the Protocol of who reads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dsa110_contimg.api.interfaces import ImageRecord, JobRecord, MeasurementSetRecord, StageSummary
from dsa110_contimg.api.quality_interfaces import CalibrationQARecord, ImageQARecord


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the report of an image is made of."""

    image: ImageRecord
    measured: ImageQARecord | None


@dataclass(frozen=True, slots=True)
class MSFacts:
    """What the report of a Measurement Set is made of."""

    ms: MeasurementSetRecord
    image: ImageRecord | None  # its newest assessed one that is no further version of another
    measured: CalibrationQARecord | None
    stages: Sequence[StageSummary] = ()


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the report of a run is made of."""

    job: JobRecord
    cal_table: str | None  # applied first
    images: Sequence[ImageRecord] = ()  # that it made, newest first
    stages: Sequence[StageSummary] = ()


class ReportRepositoryProtocol(Protocol):
    """Reads all that a report is made of; kept by ``AsyncReportRepository(adapter)``."""

    async def get_image(self, image_id: str) -> ImageFacts | None:
        """Return what is known of the image of this id (decimal text)."""

    async def get_ms(self, ms_id: str) -> MSFacts | None:
        """Return what is known of the Measurement Set of this path or short id."""

    async def get_run(self, run_id: str) -> RunFacts | None:
        """Return what is known of the run of exactly this id."""
