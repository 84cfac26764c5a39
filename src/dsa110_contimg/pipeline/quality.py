"""Quality: every threshold, and how measured numbers are judged by them.

Every threshold of the pipeline's quality stands in `Thresholds`, with the argument for it. A value beyond its ``warn``
limit makes the grade ``warn``, beyond its ``fail`` limit ``fail``; the worst one counts, and each gives a reason. This
module needs nothing but Python, so that whoever tells about quality judges by the same limits as the stage that grades
(`assessment`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

GRADES = ("good", "warn", "fail")


@dataclass(frozen=True, slots=True)
class Limit:
    """A pair of limits. ``at_most`` says whether larger values are worse."""

    warn: float
    fail: float
    at_most: bool = True

    def grade(self, value: float) -> str:
        """Return the grade of a value; what is no number fails."""
        sign = 1.0 if self.at_most else -1.0
        if not sign * value <= sign * self.fail:
            return "fail"
        return "good" if sign * value <= sign * self.warn else "warn"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """All limits of the assessment.

    Attributes
    ----------
    rms_ratio : image noise over thermal expectation. 1 is perfect; 1.5 means that calibration or deconvolution add as
        much as the sky's own noise; at 3 they are eight times its variance and fluxes near the limit are not to be
        trusted.
    dynamic_range : brightest pixel over noise. Every field of 5 degrees has a source of some 0.3 Jy, 100 times a noise
        of 3 mJy; below 30 the image is noise, or its brightest source was smeared out by phases.
    flagged_fraction_live : of the data of live antennas and present subbands. The site loses some 3 to 10 % to
        interference; above 30 % the sidelobes of the remaining coverage are no longer those that were planned, above
        50 % most of the observation is missing.
    calibration_snr : median of the solutions. An error of 1/SNR in each gain scatters flux by 1/SNR/sqrt(antennas): at
        10 some 2 %, at 3 about 5 %, where single solutions cannot be told from noise.
    missing_subbands : an image without a sixteenth of the band is good, but not what was ordered; without half of it
        its frequency, beam and noise are those of another instrument.
    sources : found. A calibrated field has the calibrator and some ten others; without any there is no image.
    calibrator_flux_error : deviation of the calibrator's flux density in the image from the catalogue's. It was set to
        the catalogue's, so 5 % is already lost coherence; beyond 15 % the scale is wrong.
    """

    rms_ratio: Limit = Limit(1.5, 3.0)
    dynamic_range: Limit = Limit(100.0, 30.0, at_most=False)
    flagged_fraction_live: Limit = Limit(0.3, 0.5)
    calibration_snr: Limit = Limit(10.0, 3.0, at_most=False)
    missing_subbands: Limit = Limit(0, 8)
    sources: Limit = Limit(5, 1, at_most=False)
    calibrator_flux_error: Limit = Limit(0.05, 0.15)


#: Words for one number, from the best; the limits are those that clients of the earlier service know.
WORDS = ("excellent", "good", "marginal", "poor")
_FLAGGED_WORDS = (0.1, 0.3, 0.5)
_DYNAMIC_RANGE_WORDS = (1000.0, 100.0, 10.0)


def flagged_word(fraction: float | None) -> str:
    """Return the word for a flagged fraction of solutions: excellent below 0.1, good below 0.3, marginal below 0.5."""
    if fraction is None or fraction != fraction:
        return "unknown"
    return WORDS[sum(fraction >= limit for limit in _FLAGGED_WORDS)]


def dynamic_range_word(value: float | None) -> str:
    """Return the word for a dynamic range: excellent above 1000, good above 100, marginal above 10."""
    if value is None or value != value:
        return "unknown"
    return WORDS[sum(value <= limit for limit in _DYNAMIC_RANGE_WORDS)]


@dataclass(frozen=True, slots=True)
class Finding:
    """One judged number: its text says what it is and what it should be."""

    name: str
    value: float
    grade: str
    text: str

    @property
    def reason(self) -> str:
        """The text behind the grade."""
        return f"{self.grade}: {self.text}"


#: Metric (and attribute of `Thresholds`) and how it is told.
_TOLD = {
    "rms_ratio": "the noise is {:.2f} times the thermal one",
    "dynamic_range": "the dynamic range is {:.0f}",
    "flagged_fraction_live": "{:.0%} of the live data are flagged",
    "calibration_snr": "the calibration has a median SNR of {:.1f}",
    "sources": "{:.0f} sources were found",
    "missing_subbands": "{:.0f} subbands are missing",
}


def judge(metrics: Mapping[str, float | None], limits: Thresholds | None = None) -> Iterator[Finding]:
    """Judge the numbers that are there, by the limits of their names; those without a limit are passed over.

    Parameters
    ----------
    metrics
        Name → value; None is not judged. ``calibrator_flux_ratio`` is judged by its distance from 1.
    limits : Thresholds, optional
        Those of the pipeline unless given.
    """
    limits = limits or Thresholds()
    for name, text in _TOLD.items():
        if (value := metrics.get(name)) is not None:
            limit: Limit = getattr(limits, name)
            yield Finding(name, value, limit.grade(value), f"{text.format(value)} ({wanted(limit)})")
    if (ratio := metrics.get("calibrator_flux_ratio")) is not None:
        limit = limits.calibrator_flux_error
        told = f"the calibrator has {ratio:.3f} times its flux density" if ratio > 0 else "the calibrator was not found"
        yield Finding(
            "calibrator_flux_ratio", ratio, limit.grade(abs(ratio - 1)), f"{told} (within {limit.warn:.0%} is good)"
        )


def worst(grades: Iterable[str]) -> str | None:
    """Return the worst of some grades; None of none."""
    return max(grades, key=GRADES.index, default=None)


def wanted(limit: Limit) -> str:
    """Return a limit in words."""
    side = "at most" if limit.at_most else "at least"
    return f"good: {side} {limit.warn:g}, usable: {side} {limit.fail:g}"
