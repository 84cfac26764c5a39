"""Stage validation: one verdict on an observation, with its reasons; the thresholds stand in `quality`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dsa110_contimg.pipeline import calibrators, quality
from dsa110_contimg.pipeline.array import BAND_CENTRE_HZ
from dsa110_contimg.pipeline.choices import AssessChoices
from dsa110_contimg.pipeline.crossmatch import nearest_within
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.extraction import read_catalogue
from dsa110_contimg.pipeline.progress import Progress, silent
from dsa110_contimg.pipeline.quality import Finding


@dataclass(frozen=True, slots=True)
class AssessOptions(AssessChoices):
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


@dataclass(frozen=True, slots=True)
class Assessment:
    """The verdict: grade, one line, all reasons, and the numbers that it rests on."""

    grade: str
    summary: str
    reasons: tuple[str, ...]
    metrics: dict[str, float]
    files: tuple[str, ...]
    inputs: tuple[str, ...]


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
    reasons = tuple(finding.reason for finding in findings if finding.grade != "good")
    grade = quality.worst(finding.grade for finding in findings) or "good"
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
    found = nearest_within(
        calibrator.ra_deg, calibrator.dec_deg, read_catalogue(catalogue_path), calibrators.RADIUS_DEG
    )
    return found.flux_jy / calibrator.flux_jy(BAND_CENTRE_HZ) if found is not None else 0.0


def _findings(options: AssessOptions, metrics: dict[str, float]) -> Iterator[Finding]:
    """Judge each number, and what else the stages said."""
    numbers = ", ".join(f"{number:02d}" for number in options.missing_subbands)
    for finding in quality.judge(metrics):
        if finding.name == "missing_subbands":
            yield replace(finding, text=f"missing subbands: {numbers}")
        elif finding.name == "calibrator_flux_ratio":
            yield replace(finding, text=f"{finding.text}, {options.calibrator}")
        else:
            yield finding
    yield Finding("converged", options.converged, _warn_if(not options.converged), "CLEAN did not reach its threshold")
    unfitted = f"{options.n_unfitted} bright islands of the image are not in the catalogue"
    yield Finding("unfitted", options.n_unfitted, _warn_if(options.n_unfitted > 0), unfitted)


def _warn_if(wrong: bool) -> str:
    return "warn" if wrong else "good"
