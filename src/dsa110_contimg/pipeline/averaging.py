"""Stokes I visibilities as the imager wants them: averaged in frequency, in groups of baselines of like length.

Method
------
*Stokes I.* Of each sample I = (w_XX XX + w_YY YY) / (w_XX + w_YY) with weight w_XX + w_YY: the best estimate for an
unpolarised sky, and usable where one polarisation is flagged.

*Averaging.* A point source at distance theta (rad) from the phase centre turns by 2 pi b theta dnu / c over a bandwidth
dnu on a baseline of length b, so averaging keeps sinc(b theta dnu / c) of its amplitude, sinc(x) = sin(pi x)/(pi x)
(bandwidth smearing: Thompson, Moran & Swenson 2017, section 6.3). Each baseline gets the largest factor n of `FACTORS`
with

    1 - sinc(b theta n dnu_channel / c) <= max_loss,                                                        (1)

theta being the radius of the imaged field. So every baseline stays below the loss, the longest ones too, and the many
short ones shrink. Two factors only, because each group costs the gridder a set of Fourier transforms: with 1 and 4, a
pass over 40 antennas takes 3.1 CPU-s, without averaging 4.1, and with ten factors 9. A bin never spans a gap.

*Noise.* WEIGHT_SPECTRUM is only proportional to the inverse variance. The constant follows from the data: the second
difference of three neighbouring channels of one baseline, d_1 - 2 d_2 + d_3, has no sky in it to second order in the
fringe's turn per channel, and variance sigma_1^2 (1/w_1 + 4/w_2 + 1/w_3), real and imaginary part each. sigma_1 is
taken from the median absolute deviation, which interference and bright sources cannot carry away.
"""

from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.pipeline.compiled import compiled
from dsa110_contimg.pipeline.errors import DataQualityError
from dsa110_contimg.pipeline.progress import Progress
from dsa110_contimg.pipeline.skymodel import C_M_PER_S
from dsa110_contimg.pipeline.visibilities import Layout, opened, read_column, read_layout, time_chunks

FACTORS = (1, 4)
MAX_LOSS = 0.01  # of amplitude at the edge of the field; the same order as the error of the flux scale
MAD_TO_SIGMA = 1.4826  # of a normal distribution
CHUNK_BYTES = 60_000_000  # of visibilities at once: a chunk must not starve other threads, as casacore holds the GIL
NOISE_ROWS = 3000  # baselines whose second differences are kept: 4 million numbers, 0.1 % error of sigma

Complexes = NDArray[np.complex64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(slots=True)
class VisibilityGroup:
    """Baselines that share one averaging in frequency.

    Attributes
    ----------
    uvw_m : (row, 3), in the sign of a Measurement Set.
    freqs_hz : (chan,), ascending.
    vis : (row, chan), Jy; 0 where the weight is 0.
    weight : (row, chan), 1/Jy^2: inverse variance of the real part, which is that of the imaginary part; 0 = flagged.
    time_index : (row,), index into the observation's times.
    imaging_weight : (row, chan), weight in the image (see `weighting`); the natural weights at first.
    """

    uvw_m: Doubles
    freqs_hz: Doubles
    vis: Complexes
    weight: Floats
    time_index: Indices
    imaging_weight: Floats


@dataclass(slots=True)
class AveragedVisibilities:
    """All cross-correlations of one observation.

    Attributes
    ----------
    groups : the averaged visibilities.
    n_samples : unflagged samples (row x channel x polarisation) that went in.
    """

    groups: list[VisibilityGroup]
    n_samples: int

    @property
    def imaging_weight_sum(self) -> float:
        """Sum of the imaging weights, which normalises images."""
        return float(sum(group.imaging_weight.sum(dtype=np.float64) for group in self.groups))

    @property
    def longest_baseline_wavelengths(self) -> float:
        """Longest projected baseline with data, in wavelengths."""
        lengths = [
            np.hypot(group.uvw_m[:, 0], group.uvw_m[:, 1])[group.weight.any(axis=1)].max(initial=0.0)
            * group.freqs_hz[-1]
            for group in self.groups
        ]
        return float(max(lengths) / C_M_PER_S)


def averaging_factor(length_m: float, channel_width_hz: float, radius_rad: float, max_loss: float = MAX_LOSS) -> int:
    """Return how many channels may be averaged on a baseline, eq. 1.

    Parameters
    ----------
    length_m : length of the baseline.
    channel_width_hz : width of one channel.
    radius_rad : radius of the imaged field.
    max_loss : largest accepted loss of amplitude at that radius.
    """
    turns = length_m * radius_rad * channel_width_hz / C_M_PER_S
    usable = [n for n in FACTORS if turns * n < 1.0 and 1.0 - np.sinc(turns * n) <= max_loss]
    return usable[-1] if usable else 1


def channel_bins(freqs_hz: Doubles, factor: int) -> Indices:
    """Return the bin number of each channel: runs of ``factor`` channels that never span a gap.

    Parameters
    ----------
    freqs_hz : (chan,) ascending channel centres, possibly with gaps.
    factor : channels to a bin.
    """
    steps = np.diff(freqs_hz)
    gap = np.concatenate([[False], steps > 1.5 * np.median(steps)]) if steps.size else np.zeros(1, np.bool_)
    run = np.cumsum(gap)
    within = (np.arange(freqs_hz.size) - np.searchsorted(run, run)) // factor
    return np.cumsum(np.diff(run * freqs_hz.size + within, prepend=0) > 0)


@compiled(parallel=True)
def average_channels(data: Complexes, weight: Floats, bins: Indices, vis: Complexes, out_weight: Floats) -> None:
    """Average (row, chan, pol) samples into (row, bin); ``vis`` and ``out_weight`` are filled in place."""
    n_rows, n_chans, n_pols = data.shape
    for row in prange(n_rows):
        total = np.zeros(vis.shape[1], np.complex128)
        sum_weight = np.zeros(vis.shape[1], np.float64)
        for chan in range(n_chans):
            for pol in range(n_pols):
                w = weight[row, chan, pol]
                if w > 0.0:
                    total[bins[chan]] += w * data[row, chan, pol]
                    sum_weight[bins[chan]] += w
        for k in range(vis.shape[1]):
            out_weight[row, k] = sum_weight[k]
            if sum_weight[k] > 0.0:
                vis[row, k] = total[k] / sum_weight[k]
            else:
                vis[row, k] = 0.0


def second_differences(data: Complexes, weight: Floats) -> Floats:
    """Return normalised second differences along frequency: sigma of unit weight times standard normal numbers.

    Parameters
    ----------
    data, weight : (row, chan, pol); weight 0 = flagged.

    Returns
    -------
    1-D float32: real and imaginary parts of all triples without a flagged sample.
    """
    valid = (weight[:, :-2] > 0) & (weight[:, 1:-1] > 0) & (weight[:, 2:] > 0)
    difference = (data[:, :-2] - 2 * data[:, 1:-1] + data[:, 2:])[valid]
    variance = 1 / weight[:, :-2][valid] + 4 / weight[:, 1:-1][valid] + 1 / weight[:, 2:][valid]
    return np.asarray((difference / np.sqrt(variance)).astype(np.complex64).view(np.float32))


def robust_sigma(values: NDArray[np.floating]) -> float:
    """Return the standard deviation of the bulk of ``values``, 1.4826 times the median absolute deviation."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return float("nan")
    return MAD_TO_SIGMA * float(np.median(np.abs(finite - np.median(finite))))


def _lengths_m(layout: Layout) -> Doubles:
    """Return the length of each baseline from the UVW of the first integration; 0 for autocorrelations."""
    with opened(layout.path) as rows:
        uvw_m = read_column(rows, layout, "UVW", range(1))[0]
    return np.where(layout.crosses, np.linalg.norm(uvw_m, axis=-1), 0.0)


def empty_group(layout: Layout, n_baselines: int, bins: Indices) -> VisibilityGroup:
    """Return the group of so many baselines whose channels fall into ``bins``, without data."""
    shape = (n_baselines * layout.n_times, int(bins[-1]) + 1)
    weight = np.zeros(shape, np.float32)
    return VisibilityGroup(
        uvw_m=np.zeros((shape[0], 3)),
        freqs_hz=np.bincount(bins, layout.frequencies_hz) / np.bincount(bins),
        vis=np.zeros(shape, np.complex64),
        weight=weight,
        time_index=np.repeat(np.arange(layout.n_times), n_baselines),
        imaging_weight=weight,
    )


def read_averaged(path: str, radius_rad: float, progress: Progress) -> AveragedVisibilities:
    """Read a calibrated Measurement Set in chunks, averaged as the module's description says.

    Parameters
    ----------
    path : Measurement Set; autocorrelations are left out.
    radius_rad : radius of the field to be imaged.

    Raises
    ------
    BadInputError
        If the Measurement Set cannot be read.
    DataQualityError
        If everything in it is flagged.
    """
    layout = read_layout(path)
    lengths_m = _lengths_m(layout)
    width_hz = float(np.median(np.diff(layout.frequencies_hz)))
    factors = np.array([averaging_factor(length, width_hz, radius_rad) for length in lengths_m])
    members = {int(n): np.flatnonzero(layout.crosses & (factors == n)) for n in np.unique(factors[layout.crosses])}
    bins = {n: channel_bins(layout.frequencies_hz, n) for n in members}
    groups = {n: empty_group(layout, len(baselines), bins[n]) for n, baselines in members.items()}
    differences: list[Floats] = []
    n_samples = 0
    every = max(1, layout.n_times * int(layout.crosses.sum()) // NOISE_ROWS)
    with opened(path) as rows:
        for times in time_chunks(layout, CHUNK_BYTES):
            progress(times.start / layout.n_times, "reading the calibrated visibilities")
            data = read_column(rows, layout, "DATA", times)
            weight = read_column(rows, layout, "WEIGHT_SPECTRUM", times)
            weight[read_column(rows, layout, "FLAG", times) | ~np.isfinite(data)] = 0.0
            uvw_m = read_column(rows, layout, "UVW", times)
            for n, baselines in members.items():
                part = slice(times.start * len(baselines), times.stop * len(baselines))
                chosen, kept = data[:, baselines], weight[:, baselines]
                chosen, kept = chosen.reshape(-1, *chosen.shape[2:]), kept.reshape(-1, *kept.shape[2:])
                group = groups[n]
                group.uvw_m[part] = uvw_m[:, baselines].reshape(-1, 3)
                average_channels(chosen, kept, bins[n], group.vis[part], group.weight[part])
                differences.append(second_differences(chosen[::every], kept[::every]))
                n_samples += int(np.count_nonzero(kept))
    if n_samples == 0:
        raise DataQualityError(f"{path}: all visibilities are flagged, there is nothing to image")
    return _in_jansky_weights(AveragedVisibilities(list(groups.values()), n_samples), np.concatenate(differences))


def _in_jansky_weights(averaged: AveragedVisibilities, differences: Floats) -> AveragedVisibilities:
    """Scale relative weights to inverse variances."""
    sigma = robust_sigma(differences)
    if not sigma > 0:
        raise DataQualityError(f"the noise of the visibilities cannot be estimated ({sigma} Jy): too few are unflagged")
    for group in averaged.groups:
        group.weight *= np.float32(1.0 / sigma**2)
        group.imaging_weight = group.weight
    return averaged
