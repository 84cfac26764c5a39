"""Comparison of a catalogue with the truth of a simulation.

A true source is *detectable* if it lies where the response of the primary beam is above the cut of the image, and its
apparent flux density exceeds `DETECTABLE_SNR` times the noise about it. It is recovered if a catalogued source lies
within `MATCH_RADIUS_DEG`. Ratios compare flux densities corrected for the primary beam, at the centre of the band.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from dsa110_contimg.pipeline.crossmatch import nearest_within, separation_deg
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.extraction import FoundSource, read_catalogue
from dsa110_contimg.pipeline.imaging import BEAM_CUT
from dsa110_contimg.pipeline.progress import Progress, silent

MATCH_RADIUS_DEG = 30 / 3600  # under a beam; simulated sources are 0.1 degrees apart
DETECTABLE_SNR = 10.0


@dataclass(frozen=True, slots=True)
class RecoverOptions:
    """The catalogue of an image, and the truth file of the simulation that it shows."""

    catalogue_path: str
    truth_path: str


@dataclass(frozen=True, slots=True)
class TrueSource:
    """A simulated source: flux density, and its mean after the primary beam, at the centre of the band."""

    name: str
    ra_deg: float
    dec_deg: float
    flux_jy: float
    mean_apparent_flux_jy: float


@dataclass(frozen=True, slots=True)
class RecoveredSource:
    """One simulated source and what was measured of it; None where it was not found, or the noise is not known."""

    name: str
    true_jy: float
    true_snr: float | None
    detectable: bool
    measured_jy: float | None
    ratio: float | None
    offset_arcsec: float | None


@dataclass(frozen=True, slots=True)
class Recovery:
    """How well a simulated sky came back.

    Attributes
    ----------
    sources : all simulated sources, brightest first.
    rows : the same as text: name, injected mJy, recovered mJy, ratio, offset in arcsec.
    n_detectable, n_recovered : detectable sources, and how many of them were found.
    completeness : their quotient; 0 without detectable sources.
    median_flux_ratio, median_offset_arcsec : of the recovered detectable sources; None without any.
    n_spurious : catalogued sources without a true one.
    """

    sources: tuple[RecoveredSource, ...]
    rows: tuple[tuple[str, ...], ...]
    n_detectable: int
    n_recovered: int
    completeness: float
    median_flux_ratio: float | None
    median_offset_arcsec: float | None
    n_spurious: int


def read_truth(path: Path) -> list[TrueSource]:
    """Read the sources of a simulation's truth file.

    Raises
    ------
    BadInputError
        If the file is missing or is no truth file.
    """
    fields = ("name", "ra_deg", "dec_deg", "flux_jy", "mean_apparent_flux_jy")
    try:
        sources = json.loads(path.read_text(encoding="ascii"))["sources"]
        return [TrueSource(**{field: source[field] for field in fields}) for source in sources]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"{path} cannot be read as the truth of a simulation ({error})") from error


def recover(options: RecoverOptions, progress: Progress = silent) -> Recovery:
    """Compare a catalogue file with a truth file.

    Raises
    ------
    BadInputError
        If one of the two cannot be read.
    """
    progress(0.0, "comparing the catalogue with the truth")
    return compare(read_truth(Path(options.truth_path)), read_catalogue(Path(options.catalogue_path)))


def compare(truth: Sequence[TrueSource], catalogue: Sequence[FoundSource]) -> Recovery:
    """Compare a catalogue with the true sources.

    The noise of a source that was not found is the median noise of the flat-noise image; without a single catalogued
    source every true one counts as detectable.
    """
    noise_jyb = median(found.local_rms * found.response for found in catalogue) if catalogue else 0.0
    brightest_first = sorted(truth, key=lambda source: -source.flux_jy)
    sources = tuple(_compared(source, catalogue, noise_jyb) for source in brightest_first)
    detectable = [source for source in sources if source.detectable]
    ratios = [source.ratio for source in detectable if source.ratio is not None]
    offsets = [source.offset_arcsec for source in detectable if source.offset_arcsec is not None]
    return Recovery(
        sources=sources,
        rows=tuple(_row(source) for source in sources),
        n_detectable=len(detectable),
        n_recovered=len(ratios),
        completeness=len(ratios) / len(detectable) if detectable else 0.0,
        median_flux_ratio=median(ratios) if ratios else None,
        median_offset_arcsec=median(offsets) if offsets else None,
        n_spurious=sum(nearest_within(f.ra_deg, f.dec_deg, truth, MATCH_RADIUS_DEG) is None for f in catalogue),
    )


def _compared(source: TrueSource, catalogue: Sequence[FoundSource], noise_jyb: float) -> RecoveredSource:
    found = nearest_within(source.ra_deg, source.dec_deg, catalogue, MATCH_RADIUS_DEG)
    local_jyb = found.local_rms * found.response if found is not None else noise_jyb
    snr = source.mean_apparent_flux_jy / local_jyb if local_jyb > 0 else None
    inside = source.mean_apparent_flux_jy >= BEAM_CUT * source.flux_jy
    return RecoveredSource(
        name=source.name,
        true_jy=source.flux_jy,
        true_snr=snr,
        detectable=inside and (snr is None or snr > DETECTABLE_SNR),
        measured_jy=found.flux_jy if found else None,
        ratio=found.flux_jy / source.flux_jy if found else None,
        offset_arcsec=_offset_arcsec(source, found) if found else None,
    )


def _offset_arcsec(source: TrueSource, found: FoundSource) -> float:
    return 3600 * separation_deg(source.ra_deg, source.dec_deg, found.ra_deg, found.dec_deg)


def _row(source: RecoveredSource) -> tuple[str, ...]:
    if source.measured_jy is None or source.ratio is None or source.offset_arcsec is None:
        return source.name, f"{1e3 * source.true_jy:.1f}", "-", "-", "-"
    return (
        source.name,
        f"{1e3 * source.true_jy:.1f}",
        f"{1e3 * source.measured_jy:.1f}",
        f"{source.ratio:.3f}",
        f"{source.offset_arcsec:.1f}",
    )
