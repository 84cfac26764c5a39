"""Request and reply models: the documented contract.

Replies are written as bytes without these models; a test validates every reply against them, and OpenAPI shows them.
Times are ISO 8601 UTC with Z, angles ICRS degrees, fluxes Jy, peaks and noise Jy/beam, beam axes arcsec. A number that
is not known, not a number or infinite is null.
"""

from dsa110_contimg.api.schemas.base import ErrorBody, Health, QAGrade, Reply
from dsa110_contimg.api.schemas.batches import Batch, BatchItem
from dsa110_contimg.api.schemas.cache import CacheCleared, CacheInvalidated, CacheStats
from dsa110_contimg.api.schemas.calibration import CalTable, CalTableItem
from dsa110_contimg.api.schemas.health import HealthReply, Liveness, Readiness
from dsa110_contimg.api.schemas.image_care import (
    ImageDeleted,
    MaskDeleted,
    MaskDetail,
    MaskList,
    MaskView,
    RatingList,
    RatingReply,
    RatingView,
    RegionDeleted,
    RegionDetail,
    RegionList,
    RegionView,
)
from dsa110_contimg.api.schemas.image_files import (
    BulkDownload,
    FitsAxis,
    FitsHeader,
    FitsSlice,
    FitsStatistics,
    FitsValidation,
)
from dsa110_contimg.api.schemas.images import Beam, ImageDetail, ImageListItem, ImageQA, QualityMetrics, SourceStats
from dsa110_contimg.api.schemas.jobs import JobDetail, JobListItem
from dsa110_contimg.api.schemas.lineage import ImageVersion, ImageVersions, ReimageReply
from dsa110_contimg.api.schemas.logs import RunLog
from dsa110_contimg.api.schemas.measurement_sets import (
    Antenna,
    AntennaCounts,
    Antennas,
    CalibratorMatch,
    CalibratorMatches,
    MSDetail,
    MSListItem,
)
from dsa110_contimg.api.schemas.provenance import ProductFileView, Provenance, StageView
from dsa110_contimg.api.schemas.quality import CalibrationReport, ImageReport, JobReport, MSReport
from dsa110_contimg.api.schemas.services import (
    ServicePast,
    ServicesHistory,
    ServiceSpan,
    ServicesStatus,
    ServicesSummary,
    ServiceStatus,
)
from dsa110_contimg.api.schemas.sources import (
    ContributingImage,
    FluxStats,
    LightCurve,
    LightCurvePointView,
    SourceDetail,
    SourceListItem,
    SourceMetrics,
    SourceQA,
    Variability,
)
from dsa110_contimg.api.schemas.statistics import JobCounts, MSCounts, RecentImage, Stats, StatsMeta, Total
from dsa110_contimg.api.schemas.tickets import Ticket
from dsa110_contimg.api.schemas.work import (
    BulkCancelReply,
    BulkRerunReply,
    JobCanceled,
    QueueJob,
    QueueStats,
    RerunReply,
)

__all__ = [
    "Antenna",
    "AntennaCounts",
    "Antennas",
    "Batch",
    "BatchItem",
    "Beam",
    "BulkCancelReply",
    "BulkDownload",
    "BulkRerunReply",
    "CacheCleared",
    "CacheInvalidated",
    "CacheStats",
    "CalTable",
    "CalTableItem",
    "CalibrationReport",
    "CalibratorMatch",
    "CalibratorMatches",
    "ContributingImage",
    "ErrorBody",
    "FitsAxis",
    "FitsHeader",
    "FitsSlice",
    "FitsStatistics",
    "FitsValidation",
    "FluxStats",
    "Health",
    "HealthReply",
    "ImageDeleted",
    "ImageDetail",
    "ImageListItem",
    "ImageQA",
    "ImageReport",
    "ImageVersion",
    "ImageVersions",
    "JobCanceled",
    "JobCounts",
    "JobDetail",
    "JobListItem",
    "JobReport",
    "LightCurve",
    "LightCurvePointView",
    "Liveness",
    "MSCounts",
    "MSDetail",
    "MSListItem",
    "MSReport",
    "MaskDeleted",
    "MaskDetail",
    "MaskList",
    "MaskView",
    "ProductFileView",
    "Provenance",
    "QAGrade",
    "QualityMetrics",
    "QueueJob",
    "QueueStats",
    "RatingList",
    "RatingReply",
    "RatingView",
    "Readiness",
    "RecentImage",
    "RegionDeleted",
    "RegionDetail",
    "RegionList",
    "RegionView",
    "ReimageReply",
    "Reply",
    "RerunReply",
    "RunLog",
    "ServicePast",
    "ServiceSpan",
    "ServiceStatus",
    "ServicesHistory",
    "ServicesStatus",
    "ServicesSummary",
    "SourceDetail",
    "SourceListItem",
    "SourceMetrics",
    "SourceQA",
    "SourceStats",
    "StageView",
    "Stats",
    "StatsMeta",
    "Ticket",
    "Total",
    "Variability",
]
