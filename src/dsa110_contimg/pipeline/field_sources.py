"""The bright sources of a calibrator's field, found in the data that a first calibration corrected.

A model with the calibrator alone leaves the other sources to the gains: each pulls them by about its flux density over
that of the calibrator and over the square root of the number of antennas. So after a first turn the corrected data of
the inner baselines are averaged (`averaging`), imaged, and point sources fitted to them (`components`); those that
matter enter the model of the next turn. The calibrator is found too, and left out: its flux density is that of the
catalogue, and with it the scale of all others.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.pipeline import beam as primary
from dsa110_contimg.pipeline.averaging import (
    AveragedVisibilities,
    VisibilityGroup,
    average_channels,
    averaging_factor,
    channel_bins,
    empty_group,
)
from dsa110_contimg.pipeline.calibration_model import ModelSource
from dsa110_contimg.pipeline.components import BRIGHT_SNR, PointComponent, PointFitter
from dsa110_contimg.pipeline.correction import correct
from dsa110_contimg.pipeline.gridding import ImageGrid, point_spread_function
from dsa110_contimg.pipeline.progress import silent
from dsa110_contimg.pipeline.psf import fit_beam
from dsa110_contimg.pipeline.response import drifting_beam
from dsa110_contimg.pipeline.skymodel import C_M_PER_S
from dsa110_contimg.pipeline.visibilities import Bools, Complex, Layout, Visibilities
from dsa110_contimg.pipeline.weighting import thermal_noise

#: Longest baseline used for the search; with it the image is small, and positions are right to 1 arcsec.
MAX_UV_LAMBDA = 4000.0
#: Amplitude that averaging over channels may cost at the edge of the searched field.
MAX_LOSS = 0.03
#: More baselines than this make the search slower and no better: with 800 its noise is a tenth of what it looks for.
MAX_BASELINES = 800
#: Times the noise that a source must have: the gains of the turn before are not perfect, and a false source would stay.
LIMIT_SNR = 15.0
_PIXELS_PER_FRINGE = 4.0


def find(
    chunks: Iterator[tuple[int, Visibilities]],
    layout: Layout,
    gains: Complex,
    bandpass: Complex,
    calibrator: ModelSource,
    limit_jy: float,
) -> list[ModelSource]:
    """Return the bright sources of the field other than the calibrator.

    Parameters
    ----------
    chunks : iterator of (int, Visibilities)
        All integrations in order, each run with the index of its first; they are left unchanged.
    gains, bandpass : ndarray of complex64
        What the first turn solved.
    limit_jy : float
        Flux density through the beam of the faintest source to look for, if noise allows.
    """
    radius_rad = primary.half_power_width_rad(layout.mid_frequency_hz) * 0.75
    visibilities = _corrected(chunks, layout, gains, bandpass, radius_rad)
    cell_rad = 1.0 / (_PIXELS_PER_FRINGE * visibilities.longest_baseline_wavelengths)
    grid = ImageGrid(2 * int(np.ceil(radius_rad / cell_rad)), cell_rad)
    psf = point_spread_function(visibilities, grid)
    fitter = PointFitter(
        visibilities,
        drifting_beam(layout.times_mjd, layout.centre_ra_rad, layout.centre_dec_rad),
        grid,
        psf,
        fit_beam(psf, cell_rad),
        max(limit_jy / BRIGHT_SNR, thermal_noise(visibilities) * LIMIT_SNR / BRIGHT_SNR),
    )
    points = fitter.subtract(silent)
    sources = [_source(point, layout, points.reference_hz) for point in points.components]
    return [source for source in sources if not _is_at(source, calibrator, fitter.beam.major_rad)]


def _corrected(
    chunks: Iterator[tuple[int, Visibilities]], layout: Layout, gains: Complex, bandpass: Complex, radius_rad: float
) -> AveragedVisibilities:
    """Return corrected Stokes I of the inner baselines, averaged in frequency."""
    groups: dict[int, VisibilityGroup] = {}
    members: dict[int, NDArray[np.intp]] = {}
    bins: dict[int, NDArray[np.int64]] = {}
    n_samples = 0
    for first, chunk in chunks:
        if not groups:
            members = _members(chunk, layout, radius_rad)
            bins = {factor: channel_bins(layout.frequencies_hz, factor) for factor in members}
            groups = {factor: empty_group(layout, len(members[factor]), bins[factor]) for factor in members}
        for factor, baselines in members.items():
            inner = _inner(chunk, baselines)
            correct(inner.data, inner.flags, inner.weights, inner.antenna1, inner.antenna2, gains, bandpass, first)
            inner.weights[inner.flags] = 0.0
            n_samples += int(np.count_nonzero(inner.weights))
            part = slice(first * len(baselines), (first + len(chunk.data)) * len(baselines))
            group, shape = groups[factor], (-1, *inner.data.shape[2:])
            group.uvw_m[part] = inner.uvw_m.reshape(-1, 3)
            average_channels(
                inner.data.reshape(shape),
                inner.weights.reshape(shape),
                bins[factor],
                group.vis[part],
                group.weight[part],
            )
    return AveragedVisibilities(list(groups.values()), n_samples)


def _members(chunk: Visibilities, layout: Layout, radius_rad: float) -> dict[int, NDArray[np.intp]]:
    """Divide the baselines that are short enough by the number of channels that may be averaged on them."""
    lengths_m = np.linalg.norm(chunk.uvw_m[0], axis=-1)
    wanted: Bools = layout.crosses & (lengths_m * layout.mid_frequency_hz / C_M_PER_S <= MAX_UV_LAMBDA)
    if not wanted.any():
        wanted = layout.crosses
    wanted = _thinned(wanted, lengths_m)
    width_hz = float(np.median(np.diff(layout.frequencies_hz)))
    factors = np.array([averaging_factor(length, width_hz, radius_rad, MAX_LOSS) for length in lengths_m])
    return {int(factor): np.flatnonzero(wanted & (factors == factor)) for factor in np.unique(factors[wanted])}


def _thinned(wanted: Bools, lengths_m: NDArray[np.float64]) -> Bools:
    """Return at most `MAX_BASELINES` of the wanted baselines, of all lengths alike."""
    by_length = np.flatnonzero(wanted)[np.argsort(lengths_m[wanted], kind="stable")]
    kept = np.unique(np.linspace(0, len(by_length) - 1, min(MAX_BASELINES, len(by_length))).round().astype(int))
    thinned = np.zeros_like(wanted)
    thinned[by_length[kept]] = True
    return thinned


def _inner(chunk: Visibilities, baselines: NDArray[np.intp]) -> Visibilities:
    """Return a copy of some baselines."""
    return replace(
        chunk,
        data=chunk.data[:, baselines],
        flags=chunk.flags[:, baselines],
        weights=chunk.weights[:, baselines],
        uvw_m=chunk.uvw_m[:, baselines],
        antenna1=chunk.antenna1[baselines],
        antenna2=chunk.antenna2[baselines],
    )


def _source(point: PointComponent, layout: Layout, reference_hz: float) -> ModelSource:
    """Return a fitted point as a source of the model; the inverse of `skymodel.direction_cosines`."""
    l_cosine, m_cosine, _ = point.lmn
    n_cosine = np.sqrt(1.0 - l_cosine**2 - m_cosine**2)
    sine, cosine = np.sin(layout.centre_dec_rad), np.cos(layout.centre_dec_rad)
    dec_rad = np.arcsin(m_cosine * cosine + n_cosine * sine)
    ra_rad = layout.centre_ra_rad + np.arctan2(l_cosine, n_cosine * cosine - m_cosine * sine)
    ra_deg, dec_deg = float(np.degrees(ra_rad)) % 360.0, float(np.degrees(dec_rad))
    return ModelSource(
        name=f"{ra_deg:08.4f}{dec_deg:+08.4f}",
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        flux_jy=point.flux_jy,
        spectral_index=point.slope_jy / point.flux_jy,
        reference_hz=reference_hz,
        origin="this observation",
    )


def _is_at(source: ModelSource, calibrator: ModelSource, tolerance_rad: float) -> bool:
    places_rad = np.radians([source.ra_deg, source.dec_deg, calibrator.ra_deg, calibrator.dec_deg])
    return bool(primary.separation_rad(*places_rad) < tolerance_rad)
