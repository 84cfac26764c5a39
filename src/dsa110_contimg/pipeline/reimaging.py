"""Stage reimaging: another image of calibrated visibilities that were imaged before, complete by itself.

One stage does what `imaging`, `extraction` and `assessment` do one after the other for an observation. The catalogue is
a file beside the image. Its fluxes are no further epoch of a light curve: they are of the same visibilities.
"""

from dataclasses import dataclass, fields

from dsa110_contimg.pipeline import calibrators
from dsa110_contimg.pipeline.assessment import Assessment, AssessOptions, assess
from dsa110_contimg.pipeline.crossmatch import separation_deg
from dsa110_contimg.pipeline.extraction import Catalogue, ExtractOptions, extract
from dsa110_contimg.pipeline.imaging import ImageOptions, MadeImage, image
from dsa110_contimg.pipeline.progress import Progress, silent

_IMAGED, _SEARCHED = 0.8, 0.97  # parts of the time, of the usual image


@dataclass(frozen=True, slots=True, kw_only=True)
class ReimageOptions(ImageOptions):
    """What to image and how, and what is known of the visibilities.

    Parameters
    ----------
    catalogue_path : CSV file to write.
    flagged_fraction_live, median_snr, missing_subbands, calibrator : what the stages before said, as in `assessment`.
    """

    catalogue_path: str
    flagged_fraction_live: float
    median_snr: float
    missing_subbands: tuple[int, ...]
    calibrator: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reimaged(MadeImage):
    """The images, how many sources were found in them, and the verdict; as `extraction` and `assessment` give them."""

    catalogue_path: str
    n_sources: int
    n_unfitted: int
    grade: str
    summary: str
    reasons: tuple[str, ...]
    metrics: dict[str, float]


def reimage(options: ReimageOptions, progress: Progress = silent) -> Reimaged:
    """Image, find sources, judge.

    Raises
    ------
    BadInputError
        If the Measurement Set cannot be read or the options make no image.
    DataQualityError
        If nothing is unflagged, no beam fits, or the image has no noise.
    RetryableError
        If the disk is full.
    """
    made = image(options, lambda fraction, message: progress(_IMAGED * fraction, message))
    found = extract(
        ExtractOptions(made.image_path, made.flat_noise_path, options.catalogue_path),
        lambda fraction, message: progress(_IMAGED + (_SEARCHED - _IMAGED) * fraction, message),
    )
    progress(_SEARCHED, "judging the image")
    return _together(made, found, _judged(options, made, found))


def _judged(options: ReimageOptions, made: MadeImage, found: Catalogue) -> Assessment:
    return assess(
        AssessOptions(
            noise_jy=made.noise_jy,
            thermal_noise_jy=made.thermal_noise_jy,
            dynamic_range=made.dynamic_range,
            converged=made.converged,
            flagged_fraction_live=options.flagged_fraction_live,
            median_snr=options.median_snr,
            missing_subbands=options.missing_subbands,
            n_sources=found.n_sources,
            n_unfitted=found.n_unfitted,
            catalogue_path=found.catalogue_path,
            calibrator=options.calibrator if options.calibrator and _shows(made, options.calibrator) else None,
        )
    )


def _shows(made: MadeImage, calibrator: str) -> bool:
    """Tell whether a calibrator lies in an image; one that was cut off is not missing."""
    place = calibrators.find(calibrator)
    off_deg = separation_deg(made.center_ra_deg, made.center_dec_deg, place.ra_deg, place.dec_deg)
    return off_deg < made.imsize_x * made.cellsize_arcsec / 3600 / 2


def _together(made: MadeImage, found: Catalogue, verdict: Assessment) -> Reimaged:
    own = {field.name: getattr(made, field.name) for field in fields(MadeImage)}
    return Reimaged(
        **{**own, "files": (*made.files, *found.files)},
        catalogue_path=found.catalogue_path,
        n_sources=found.n_sources,
        n_unfitted=found.n_unfitted,
        grade=verdict.grade,
        summary=verdict.summary,
        reasons=verdict.reasons,
        metrics=verdict.metrics,
    )
