"""Stage validation: one verdict on an observation, with its reasons.

Every threshold of the pipeline's quality stands in `Thresholds`, with the argument for it. A value beyond its ``warn``
limit makes the grade ``warn``, beyond its ``fail`` limit ``fail``; the worst one counts, and each gives a reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dsa110_contimg.pipeline import calibrators
from dsa110_contimg.pipeline.array import BAND_CENTRE_HZ
from dsa110_contimg.pipeline.crossmatch import nearest_within
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.extraction import read_catalogue
from dsa110_contimg.pipeline.progress import Progress, silent

GRADES = ("good", "warn", "fail")
CALIBRATOR_RADIUS_DEG = 30 / 3600  # less than a synthesised beam of the whole array's core


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


@dataclass(frozen=True, slots=True)
class AssessOptions:
    """The numbers to judge, from the products of the earlier stages.

    Parameters
    ----------
    noise_jy, thermal_noise_jy : measured and expected rms (Jy/beam).
    dynamic_range : peak over noise.
    converged : CLEAN reached its threshold.
    flagged_fraction_live : of the data of live antennas and present subbands.
    median_snr : of the calibration.
    missing_subbands : numbers of the subbands without data.
    n_sources : found in the image.
    n_unfitted : bright islands of the image that are not in the catalogue.
    catalogue_path, calibrator : where to look for the calibrator and its name; None = not judged.
    thresholds : limits of the grades.
    """

    noise_jy: float
    thermal_noise_jy: float
    dynamic_range: float
    converged: bool
    flagged_fraction_live: float
    median_snr: float
    missing_subbands: tuple[int, ...]
    n_sources: int
    n_unfitted: int = 0
    catalogue_path: str | None = None
    calibrator: str | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, slots=True)
class Assessment:
    """The verdict: grade, one line, all reasons, and the numbers that it rests on."""

    grade: str
    summary: str
    reasons: tuple[str, ...]
    metrics: dict[str, float]
    files: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Finding:
    """One judged number: its text says what it is and what it should be."""

    grade: str
    text: str


def assess(options: AssessOptions, progress: Progress = silent) -> Assessment:
    """Judge an observation.

    Raises
    ------
    BadInputError
        If the expected noise is no positive number, the catalogue cannot be read, or the calibrator is not in the list
        of calibrators.
    """
    if not options.thermal_noise_jy > 0:
        raise BadInputError(f"thermal_noise_jy is {options.thermal_noise_jy}: give what imaging returned, above 0")
    progress(0.0, "judging the image")
    metrics = _metrics(options)
    findings = list(_findings(options, metrics))
    reasons = tuple(f"{finding.grade}: {finding.text}" for finding in findings if finding.grade != "good")
    grade = max((finding.grade for finding in findings), key=GRADES.index)
    summary = f"rms {1e3 * options.noise_jy:.2f} mJy/beam, {metrics['rms_ratio']:.2f} x thermal; " + (
        "; ".join(finding.text for finding in findings if finding.grade == grade) if reasons else "all within limits"
    )
    inputs = (options.catalogue_path,) if options.catalogue_path is not None else ()
    return Assessment(grade, summary, reasons, metrics, (), inputs)


def _metrics(options: AssessOptions) -> dict[str, float]:
    """Return the numbers that are judged."""
    metrics = {
        "rms_ratio": options.noise_jy / options.thermal_noise_jy,
        "dynamic_range": options.dynamic_range,
        "flagged_fraction_live": options.flagged_fraction_live,
        "calibration_snr": options.median_snr,
        "missing_subbands": float(len(options.missing_subbands)),
        "sources": float(options.n_sources),
    }
    if options.catalogue_path is not None and options.calibrator is not None:
        metrics["calibrator_flux_ratio"] = calibrator_flux_ratio(Path(options.catalogue_path), options.calibrator)
    return metrics


def calibrator_flux_ratio(catalogue_path: Path, name: str) -> float:
    """Return the calibrator's flux density in the image over that of the list; 0 if it was not found.

    Raises
    ------
    BadInputError
        If the catalogue cannot be read, or no calibrator has this name.
    """
    calibrator = calibrators.find(name)
    found = nearest_within(calibrator.ra_deg, calibrator.dec_deg, read_catalogue(catalogue_path), CALIBRATOR_RADIUS_DEG)
    return found.flux_jy / float(calibrator.flux_jy(BAND_CENTRE_HZ)) if found is not None else 0.0


def _findings(options: AssessOptions, metrics: dict[str, float]) -> Iterator[_Finding]:
    """Judge each number."""
    limits = options.thresholds
    for limit, value, text in (
        (limits.rms_ratio, metrics["rms_ratio"], "the noise is {:.2f} times the thermal one"),
        (limits.dynamic_range, metrics["dynamic_range"], "the dynamic range is {:.0f}"),
        (limits.flagged_fraction_live, metrics["flagged_fraction_live"], "{:.0%} of the live data are flagged"),
        (limits.calibration_snr, metrics["calibration_snr"], "the calibration has a median SNR of {:.1f}"),
        (limits.sources, metrics["sources"], "{:.0f} sources were found"),
    ):
        yield _Finding(limit.grade(value), f"{text.format(value)} ({_wanted(limit)})")
    numbers = ", ".join(f"{number:02d}" for number in options.missing_subbands)
    yield _Finding(limits.missing_subbands.grade(len(options.missing_subbands)), f"missing subbands: {numbers}")
    yield _Finding("good" if options.converged else "warn", "CLEAN did not reach its threshold")
    unfitted = f"{options.n_unfitted} bright islands of the image are not in the catalogue"
    yield _Finding("warn" if options.n_unfitted else "good", unfitted)
    if (ratio := metrics.get("calibrator_flux_ratio")) is not None:
        text = f"the calibrator has {ratio:.3f} times its flux density" if ratio > 0 else "the calibrator was not found"
        grade = limits.calibrator_flux_error.grade(abs(ratio - 1))
        yield _Finding(grade, f"{text} ({options.calibrator}, within {limits.calibrator_flux_error.warn:.0%} is good)")


def _wanted(limit: Limit) -> str:
    """Return a limit in words."""
    side = "at most" if limit.at_most else "at least"
    return f"good: {side} {limit.warn:g}, usable: {side} {limit.fail:g}"
