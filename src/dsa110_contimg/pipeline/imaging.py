"""Stage imaging: from calibrated visibilities to images of the sky in Stokes I.

Method, in the order of the code; each module named gives its formulas and sources.

1. The radius of the field: where the primary beam falls to `FIELD_RESPONSE` at the middle of the band, so that no
   bright source stays outside and scatters its sidelobes in. A smaller image that is asked for is the middle of it.
2. Stokes I, averaged in frequency as far as the field allows; noise from the data (`averaging`).
3. Robust weights, and the noise expected from them (`weighting`).
4. Size of a pixel from the synthesised beam: at least `PIXELS_PER_BEAM` on its minor axis (`psf`).
5. Bright compact sources fitted to the visibilities and subtracted (`components`).
6. CLEAN of the rest with a guard against divergence (`deconvolution`).
7. Restoring, correction for the primary beam's mean response (`psf`, `response`), three FITS images (`fitsimage`).

The flat-noise image is the restored image as the interferometer saw it; its noise is the same everywhere. The
corrected image is it divided by the effective primary beam, blank where that is below `BEAM_CUT`. The noise is the
robust standard deviation of the residual inside the corrected area.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dsa110_contimg.pipeline import beam as primary
from dsa110_contimg.pipeline.array import subband_frequencies_hz
from dsa110_contimg.pipeline.averaging import AveragedVisibilities, Doubles, Floats, read_averaged, robust_sigma
from dsa110_contimg.pipeline.choices import ImageChoices
from dsa110_contimg.pipeline.components import PointComponent, PointFitter
from dsa110_contimg.pipeline.deconvolution import Deconvolved, RadlerMinorCycle, guarded_clean, residual_of
from dsa110_contimg.pipeline.errors import DataQualityError
from dsa110_contimg.pipeline.fitsimage import Card, ImageGeometry, write_image
from dsa110_contimg.pipeline.gridding import ImageGrid, point_spread_function
from dsa110_contimg.pipeline.naming import SUBBAND_COUNT
from dsa110_contimg.pipeline.progress import Progress, silent
from dsa110_contimg.pipeline.psf import Beam, add_points, convolve, fit_beam, pixel_grid_for
from dsa110_contimg.pipeline.response import DriftingBeam, drifting_beam, effective_beam, weight_table
from dsa110_contimg.pipeline.visibilities import Bools, Layout, read_layout, subtable_column
from dsa110_contimg.pipeline.weighting import apply_briggs, thermal_noise

FIELD_RESPONSE = 0.1  # outside, a source of 1 Jy has sidelobes of 0.1 Jy x 2 % at most; brighter ones are rare
BEAM_CUT = 0.1  # below it the noise is ten times that of the centre, and the model of the beam is a guess
PIXELS_PER_BEAM = 4.0  # of 4 to 5, for speed: a Gaussian is still sampled well enough to be fitted without bias
PREVIEW_PIXELS = 512  # of the point spread function that the size of a pixel is chosen from
PREVIEW_OVERSAMPLING = 5.0  # pixels to the narrowest fringe


@dataclass(frozen=True, slots=True)
class ImageOptions(ImageChoices):
    """What to image, how and where to.

    Parameters
    ----------
    ms_path : calibrated Measurement Set.
    image_path, flat_noise_path, residual_path : FITS images to write.
    """

    ms_path: str
    image_path: str
    flat_noise_path: str
    residual_path: str


@dataclass(frozen=True, slots=True)
class MadeImage:
    """The images of one observation and what is to be known about them; names carry their units.

    ``noise_jy`` is the robust rms of the residual (Jy/beam), ``thermal_noise_jy`` what the weights lead to,
    ``peak_flux_jy`` the brightest pixel of the flat-noise image, ``dynamic_range`` their ratio, ``n_visibilities`` the
    unflagged samples, ``n_point_sources`` the sources fitted to the visibilities; ``robust`` and
    ``max_minor_iterations`` are what was asked for.
    """

    image_path: str
    flat_noise_path: str
    residual_path: str
    beam_major_arcsec: float
    beam_minor_arcsec: float
    beam_pa_deg: float
    noise_jy: float
    thermal_noise_jy: float
    peak_flux_jy: float
    dynamic_range: float
    center_ra_deg: float
    center_dec_deg: float
    imsize_x: int
    imsize_y: int
    cellsize_arcsec: float
    freq_ghz: float
    bandwidth_mhz: float
    integration_sec: float
    mid_mjd: float
    n_visibilities: int
    n_point_sources: int
    n_iterations: int
    n_major_cycles: int
    converged: bool
    missing_subbands: tuple[int, ...]
    robust: float
    max_minor_iterations: int
    files: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Sky:
    """What the imager needs to know besides the visibilities."""

    visibilities: AveragedVisibilities
    tables: list[Doubles]
    drifting: DriftingBeam
    grid: ImageGrid
    psf: Floats
    beam: Beam
    thermal_jyb: float


@dataclass(frozen=True, slots=True)
class _Cleaned:
    """What is written of the deconvolved field: its residual and restored image (Jy/beam)."""

    residual: Floats
    restored: Floats
    n_major_cycles: int
    converged: bool
    n_iterations: int
    n_points: int


def image(options: ImageOptions, progress: Progress = silent) -> MadeImage:
    """Make the images of a calibrated Measurement Set.

    Raises
    ------
    BadInputError
        If the Measurement Set cannot be read.
    DataQualityError
        If nothing is unflagged, or no beam fits.
    RetryableError
        If the disk is full.
    """
    layout = read_layout(options.ms_path)
    sky = _prepared(options, layout, _part(progress, 0.0, 0.25))
    cleaned = _cleaned(options, sky, _part(progress, 0.25, 0.9))
    progress(0.9, "correcting for the primary beam and writing the images")
    return _written(options, layout, sky, cleaned)


def _cleaned(options: ImageOptions, sky: _Sky, progress: Progress) -> _Cleaned:
    """Take the bright sources out of the visibilities, clean the rest, restore both."""
    fitter = PointFitter(sky.visibilities, sky.drifting, sky.grid, sky.psf, sky.beam, sky.thermal_jyb)
    points = fitter.subtract(_part(progress, 0.0, 0.4))
    heights_jyb = [fitter.mean_flux_jyb(point, sky.tables, points.reference_hz) for point in points.components]
    dirty, model = points.image, np.zeros_like(points.image)
    minor = RadlerMinorCycle(sky.psf, dirty, model, sky.grid, sky.beam, options.max_minor_iterations)
    best = guarded_clean(
        dirty,
        model,
        minor,
        lambda present: residual_of(sky.visibilities, points.residual, present, sky.grid),
        _part(progress, 0.4, 1.0),
    )
    n_pixels = options.n_pixels or sky.grid.n_pixels
    return _Cleaned(
        _middle(best.residual, n_pixels),
        _middle(_restored(sky, best, points.components, heights_jyb), n_pixels),
        best.n_major_cycles,
        best.converged,
        minor.n_iterations,
        len(heights_jyb),
    )


def _middle(pixels: Floats, n_pixels: int) -> Floats:
    """Return the square of ``n_pixels`` a side around the phase centre, pixel [n//2, n//2] of both."""
    start = pixels.shape[0] // 2 - n_pixels // 2
    return pixels[start : start + n_pixels, start : start + n_pixels]


def _part(progress: Progress, start: float, end: float) -> Progress:
    """Return the progress of a part of the stage."""
    return lambda fraction, message: progress(start + (end - start) * fraction, message)


def _prepared(options: ImageOptions, layout: Layout, progress: Progress) -> _Sky:
    radius_rad = _field_radius_rad(options, layout)
    visibilities = read_averaged(options.ms_path, radius_rad, progress)
    apply_briggs(visibilities, 2 * radius_rad, options.robust)
    grid = _chosen_grid(options, visibilities, radius_rad)
    psf = point_spread_function(visibilities, grid)
    tables = weight_table(visibilities, layout.n_times)
    drifting = drifting_beam(layout.times_mjd, layout.centre_ra_rad, layout.centre_dec_rad)
    beam = fit_beam(psf, grid.cell_rad)
    return _Sky(visibilities, tables, drifting, grid, psf, beam, thermal_noise(visibilities))


def _field_radius_rad(options: ImageOptions, layout: Layout) -> float:
    """Return half the side of what is imaged: as the primary beam wants it, or more if that is asked for."""
    asked_rad = (options.n_pixels or 0) * np.radians((options.cell_arcsec or 0.0) / 3600) / 2
    angles = np.linspace(0, 2 * primary.half_power_width_rad(layout.mid_frequency_hz), 400)
    return max(
        float(asked_rad), float(angles[np.argmax(primary.power(angles, layout.mid_frequency_hz) < FIELD_RESPONSE)])
    )


def _chosen_grid(options: ImageOptions, visibilities: AveragedVisibilities, radius_rad: float) -> ImageGrid:
    """Return the grid of what is imaged, with pixels as asked for, or fine enough for the synthesised beam."""
    if options.cell_arcsec is not None:
        cell_rad = float(np.radians(options.cell_arcsec / 3600))
        grid = ImageGrid(2 * int(np.ceil(radius_rad / cell_rad)), cell_rad)
    else:
        preview = ImageGrid(PREVIEW_PIXELS, 1 / (PREVIEW_OVERSAMPLING * visibilities.longest_baseline_wavelengths))
        beam = fit_beam(point_spread_function(visibilities, preview, wide=False), preview.cell_rad)
        grid = pixel_grid_for(beam, radius_rad, PIXELS_PER_BEAM)
    return ImageGrid(max(grid.n_pixels, options.n_pixels or 0), grid.cell_rad)


def _restored(sky: _Sky, cleaned: Deconvolved, points: list[PointComponent], heights_jyb: list[float]) -> Floats:
    """Return the restored image (Jy/beam): residual, CLEAN components and fitted sources."""
    restored = cleaned.residual + convolve(cleaned.model, sky.beam, sky.grid.cell_rad)
    half = sky.grid.n_pixels // 2
    x = np.array([half - point.l_cosine / sky.grid.cell_rad for point in points])
    y = np.array([half + point.m_cosine / sky.grid.cell_rad for point in points])
    add_points(restored, x, y, np.array(heights_jyb), sky.beam, sky.grid.cell_rad)
    return restored


def _missing_subbands(layout: Layout) -> tuple[int, ...]:
    """Return the subbands of which no channel is in the Measurement Set."""
    present = layout.frequencies_hz
    spacing = np.abs(np.diff(subband_frequencies_hz(0))[0])
    centers = [float(subband_frequencies_hz(number).mean()) for number in range(SUBBAND_COUNT)]
    return tuple(n for n, center in enumerate(centers) if np.abs(present - center).min() > spacing)


def _geometry(layout: Layout, grid: ImageGrid) -> ImageGeometry:
    """Return where the image lies on the sky, in frequency and in time."""
    channel_hz = float(np.median(np.diff(layout.frequencies_hz)))
    return ImageGeometry(
        n_pixels=grid.n_pixels,
        cell_deg=float(np.degrees(grid.cell_rad)),
        center_ra_deg=float(np.degrees(layout.centre_ra_rad)) % 360,
        center_dec_deg=float(np.degrees(layout.centre_dec_rad)),
        freq_hz=layout.mid_frequency_hz,
        bandwidth_hz=float(layout.frequencies_hz[-1] - layout.frequencies_hz[0]) + channel_hz,
        start_mjd=float(layout.times_mjd[0]) - layout.interval_s / 2 / 86400,
        integration_s=layout.n_times * layout.interval_s,
    )


def _cards(options: ImageOptions, layout: Layout, made: MadeImage) -> dict[str, Card]:
    """Return the cards that say what was done."""
    return {
        "OBJECT": str(subtable_column(options.ms_path, "FIELD", "NAME")[0]),
        "BMAJ": made.beam_major_arcsec / 3600,
        "BMIN": made.beam_minor_arcsec / 3600,
        "BPA": made.beam_pa_deg,
        "WEIGHT": "briggs",
        "ROBUST": options.robust,
        "NOISE": made.noise_jy,
        "THERMAL": made.thermal_noise_jy,
        "NITER": made.n_iterations,
        "NMAJOR": made.n_major_cycles,
        "NPOINT": made.n_point_sources,
        "CONVERGD": made.converged,
        "NCHAN": len(layout.frequencies_hz),
        "MISSBAND": ",".join(map(str, made.missing_subbands)) or "none",
        "NTILES": 1,
        "MSFILE": Path(options.ms_path).name,
        "PIPEVER": version("dsa110-contimg"),
    }


def _measured(
    options: ImageOptions, layout: Layout, sky: _Sky, cleaned: _Cleaned, geometry: ImageGeometry, inside: Bools
) -> MadeImage:
    """Return what is to be known about the images; ``inside`` is where the corrected image is not blank."""
    noise_jyb = robust_sigma(cleaned.residual[inside])
    peak_jyb = float(cleaned.restored[inside].max(initial=-np.inf))
    if not noise_jyb > 0 or not np.isfinite(peak_jyb):
        raise DataQualityError(f"{options.ms_path}: the image has noise {noise_jyb} and peak {peak_jyb} Jy/beam")
    return MadeImage(
        image_path=options.image_path,
        flat_noise_path=options.flat_noise_path,
        residual_path=options.residual_path,
        beam_major_arcsec=3600 * float(np.degrees(sky.beam.major_rad)),
        beam_minor_arcsec=3600 * float(np.degrees(sky.beam.minor_rad)),
        beam_pa_deg=float(np.degrees(sky.beam.pa_rad)),
        noise_jy=noise_jyb,
        thermal_noise_jy=sky.thermal_jyb,
        peak_flux_jy=peak_jyb,
        dynamic_range=peak_jyb / noise_jyb,
        center_ra_deg=geometry.center_ra_deg,
        center_dec_deg=geometry.center_dec_deg,
        imsize_x=geometry.n_pixels,
        imsize_y=geometry.n_pixels,
        cellsize_arcsec=3600 * geometry.cell_deg,
        freq_ghz=geometry.freq_hz / 1e9,
        bandwidth_mhz=geometry.bandwidth_hz / 1e6,
        integration_sec=geometry.integration_s,
        mid_mjd=geometry.mid_mjd,
        n_visibilities=sky.visibilities.n_samples,
        n_point_sources=cleaned.n_points,
        n_iterations=cleaned.n_iterations,
        n_major_cycles=cleaned.n_major_cycles,
        converged=cleaned.converged,
        missing_subbands=_missing_subbands(layout),
        robust=options.robust,
        max_minor_iterations=options.max_minor_iterations,
        files=(options.image_path, options.flat_noise_path, options.residual_path),
        inputs=(options.ms_path,),
    )


def _written(options: ImageOptions, layout: Layout, sky: _Sky, cleaned: _Cleaned) -> MadeImage:
    """Correct for the primary beam, measure, and write the three images."""
    grid = ImageGrid(len(cleaned.restored), sky.grid.cell_rad)
    response = effective_beam(sky.visibilities, sky.tables, sky.drifting, grid)
    inside = response >= BEAM_CUT
    geometry = _geometry(layout, grid)
    made = _measured(options, layout, sky, cleaned, geometry, inside)
    cards = _cards(options, layout, made)
    corrected = np.where(inside, cleaned.restored / response, np.float32(np.nan)).astype(np.float32)
    write_image(Path(options.residual_path), cleaned.residual, geometry, cards)
    write_image(Path(options.flat_noise_path), cleaned.restored, geometry, cards)
    write_image(Path(options.image_path), corrected, geometry, cards | {"PBCUT": BEAM_CUT})
    return made
