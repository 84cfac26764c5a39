"""What the wings say to each other about measured quality."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ImageQARecord:
    """What was measured on one image; ``overall_quality``: excellent, good, marginal, poor or unknown."""

    ms_path: str
    image_path: str
    rms_noise: float | None
    peak_flux: float | None
    dynamic_range: float | None
    beam_major: float | None
    beam_minor: float | None
    beam_pa: float | None
    num_sources: int | None
    overall_quality: str
    timestamp: float
    thumbnail_path: str | None = None


@dataclass(frozen=True, slots=True)
class CalibrationQARecord:
    """What was measured on the calibration tables that were solved from one Measurement Set.

    ``flags_total`` and the ``flag_fraction`` of each kind of table count antennas that are there; absent ones are not
    flagged, they are named apart.
    """

    ms_path: str
    overall_quality: str
    flags_total: float | None
    timestamp: float
    k_metrics: Mapping[str, Any] = field(default_factory=dict)
    bp_metrics: Mapping[str, Any] = field(default_factory=dict)
    g_metrics: Mapping[str, Any] = field(default_factory=dict)
    per_spw_stats: Mapping[str, Any] = field(default_factory=dict)
