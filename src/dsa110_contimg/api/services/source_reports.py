"""What is said of a source: its detail, its variability, its quality. Pure."""

import math
from collections.abc import Mapping
from typing import Any

from dsa110_contimg.api.flux_sums import chance_of_chi_squared
from dsa110_contimg.api.interfaces import SourceSummary

View = dict[str, Any]

# A source varies when noise alone gives its chi squared once in 740 (3 sigma) and it changes by more than the flux
# scale of an image is known to.
_CHANCE = 1.35e-3
_FLUX_SCALE = 0.1
_GRADES = ("fail", "warn", "good")


def detail(source: SourceSummary, contributing: list[View]) -> View:
    """Return one source with the images in which it was measured and its flux density there."""
    return {
        "id": source.id,
        "name": source.name,
        "ra_deg": source.ra_deg,
        "dec_deg": source.dec_deg,
        "num_images": source.num_images,
        "peak_flux_jy": source.peak_flux_jy,
        "flux_jy": source.weighted_mean_jy,
        "eta": source.eta,
        "v": source.v,
        "contributing_images": contributing,
        "latest_image_id": None if source.latest_image_id is None else str(source.latest_image_id),
    }


def variability(source: SourceSummary) -> View:
    """Return how a source varies.

    ``variability_index`` is V and ``chi_squared_reduced`` η of `flux_sums`; both are null with fewer than two epochs.
    """
    count, degrees = source.flux_count, source.flux_count - 1
    spread = None if degrees < 1 else math.sqrt((source.deviation_sum or 0.0) / degrees)
    chance = None if degrees < 1 else chance_of_chi_squared(source.chi_squared or 0.0, degrees)
    return {
        "source_id": source.id,
        "source_name": source.name,
        "n_epochs": count,
        "variability_index": source.v,
        "modulation_index": source.v,
        "chi_squared": source.chi_squared if degrees > 0 else None,
        "chi_squared_reduced": source.eta,
        "is_variable": None if chance is None else chance < _CHANCE and (source.v or 0.0) > _FLUX_SCALE,
        "flux_stats": {
            "mean_jy": source.mean_flux_jy,
            "std_jy": spread,
            "min_jy": source.min_flux_jy,
            "max_jy": source.max_flux_jy,
        },
        "weighted_mean_jy": source.weighted_mean_jy,
        "eta": source.eta,
        "v": source.v,
        "chance_probability": chance,
        "message": None if degrees > 0 else f"epochs with a flux density and its uncertainty: {count}; two are needed",
    }


def quality(source: SourceSummary, grades: Mapping[str | None, int]) -> View:
    """Return what the grades of its images say of a source: overall the one that half of them have or better."""
    known = {grade: grades.get(grade, 0) for grade in _GRADES}
    flags = [f"{number} of {source.num_images} images are graded {grade}" for grade, number in known.items() if number]
    return {
        "source_id": source.id,
        "source_name": source.name,
        "n_images": source.num_images,
        "qa_grades": [grade for grade in reversed(_GRADES) if known[grade]],
        "overall_grade": _middle(known),
        "flags": [flag for flag in flags if not flag.endswith("good")],
        "metrics": {
            "ra_deg": source.ra_deg,
            "dec_deg": source.dec_deg,
            **{f"n_{grade}": number for grade, number in known.items()},
            "n_epochs": source.flux_count,
            "eta": source.eta,
            "v": source.v,
        },
    }


def _middle(counts: Mapping[str, int]) -> str | None:
    """Return the grade in the middle of all, in the order of the mapping; of two the lower."""
    place = (sum(counts.values()) + 1) // 2
    for grade, number in counts.items():
        place -= number
        if place <= 0 < number:
            return grade
    return None
