"""Request and reply models: the documented contract.

Replies are written as bytes without these models; a test validates every reply against them, and OpenAPI shows them.
Times are ISO 8601 UTC with Z, angles ICRS degrees, fluxes Jy, peaks and noise Jy/beam, beam axes arcsec. A number that
is not known, not a number or infinite is null.
"""

from dsa110_contimg.api.schemas.base import ErrorBody, QAGrade, Reply, RunStatus
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
    RegionDeleted,
    RegionDetail,
    RegionList,
    RegionView,
)
from dsa110_contimg.api.schemas.image_files import BulkDownload, FitsHeader, FitsSlice, FitsStatistics, FitsValidation
from dsa110_contimg.api.schemas.images import ImageDetail, ImageListItem, ImageQA
from dsa110_contimg.api.schemas.jobs import JobDetail, JobListItem
from dsa110_contimg.api.schemas.lineage import ImageVersion, ImageVersions, ReimageReply
from dsa110_contimg.api.schemas.logs import RunLog
from dsa110_contimg.api.schemas.measurement_sets import Antennas, CalibratorMatches, MSDetail, MSListItem
from dsa110_contimg.api.schemas.provenance import Provenance
from dsa110_contimg.api.schemas.quality import ImageReport, JobReport, MSReport
from dsa110_contimg.api.schemas.services import ServicesHistory, ServicesStatus, ServiceStatus
from dsa110_contimg.api.schemas.sources import (
    ContributingImage,
    LightCurve,
    SourceDetail,
    SourceListItem,
    SourceQA,
    Variability,
)
from dsa110_contimg.api.schemas.statistics import Stats
from dsa110_contimg.api.schemas.tickets import Ticket
from dsa110_contimg.api.schemas.work import (
    BulkCancelReply,
    BulkRerunReply,
    JobCanceled,
    QueueJob,
    QueueStats,
    RerunReply,
)
