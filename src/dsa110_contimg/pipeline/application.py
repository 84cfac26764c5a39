"""Stage calibration-apply: a new Measurement Set with corrected visibilities.

V_pq is divided by g_p b_p conj(g_q b_q), with the gains interpolated linearly in amplitude and phase to the times of
the observation where they differ (`matching`). What has no solution is flagged. Then the whole array is looked at once
more (`rfi.array_outliers`): integrations and channels with more power than model and noise are flagged on all of it.

Weights become inverse variances in Jy^-2, from the noise of each antenna as measured on the corrected data (`noise`):
the square of the gain would do only if all antennas had the same noise before amplification by it.

The input is not touched; the output appears whole, so that a stage that is killed leaves no half-corrected data. If a
source of the model that the tables were solved against is in the beam, the ratio of corrected data to model tells
whether the tables fit the data.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg.pipeline import beam, noise, rfi
from dsa110_contimg.pipeline.calibration_model import from_text, point_sources
from dsa110_contimg.pipeline.caltable import CalibrationTable, read_table
from dsa110_contimg.pipeline.choices import ApplyChoices
from dsa110_contimg.pipeline.correction import correct
from dsa110_contimg.pipeline.errors import DataQualityError
from dsa110_contimg.pipeline.matching import match
from dsa110_contimg.pipeline.normal_sums import NormalSums, accumulate, residual_power
from dsa110_contimg.pipeline.products import require_space, written_aside
from dsa110_contimg.pipeline.progress import Progress, silent
from dsa110_contimg.pipeline.skymodel import PointSources
from dsa110_contimg.pipeline.visibilities import (
    Complex,
    Layout,
    Visibilities,
    opened,
    read_layout,
    read_visibilities,
    time_chunks,
    write_column,
)

#: Largest ratio of corrected data to model, either way, before the tables are refused.
MAX_RATIO = 5.0
#: From here on a note is made.
NOTED_RATIO = 1.5
#: A model whose brightest source has less than this through the beam is not compared with the data.
MIN_APPARENT_JY = 1.0


@dataclass(frozen=True)
class ApplyOptions(ApplyChoices):
    """What to apply to what.

    Parameters
    ----------
    ms_path : str
        Flagged Measurement Set; it is not changed.
    bandpass_path, gain_path : str
        Calibration tables of this pipeline.
    output_path : str
        Measurement Set to write.
    """

    ms_path: str
    bandpass_path: str
    gain_path: str
    output_path: str


@dataclass(frozen=True)
class CalibratedMS:
    """What was written.

    Parameters
    ----------
    ms_path : str
    flagged_fraction : float
        Of all samples of cross-correlations.
    flagged_fraction_live : float
        Of those of antennas that have solutions.
    array_flagged_fraction : float
        Integrations and channels that were flagged on all baselines.
    model_ratio : float or None
        Corrected data over model on the cross-correlations; None if no bright source of the model is in the beam.
    notes : tuple of str
    """

    ms_path: str
    flagged_fraction: float
    flagged_fraction_live: float
    array_flagged_fraction: float
    model_ratio: float | None
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


def apply(options: ApplyOptions, progress: Progress = silent) -> CalibratedMS:
    """Write a corrected Measurement Set.

    Raises
    ------
    BadInputError
        If the Measurement Set or a table does not exist, or is half written.
    DataQualityError
        If the tables belong to other antennas, channels or times, leave nothing unflagged, or do not fit the data.
    """
    layout = read_layout(options.ms_path)
    bandpass, gains = read_table(options.bandpass_path), read_table(options.gain_path)
    values = match(layout, options.bandpass_path, bandpass, options.gain_path, gains)
    sources = _visible(bandpass, layout)
    require_space(Path(options.output_path).parent, 2 * _size_bytes(layout))
    with written_aside(Path(options.output_path)) as partial:
        progress(0.0, "copying the Measurement Set")
        shutil.copytree(options.ms_path, partial)
        tally = _correct_all(str(partial), layout, values, sources, progress)
        _check(tally, options)
    progress(1.0, "calibrated")
    return _summary(options, layout, tally)


@dataclass
class _Tally:
    """What the passage over the data counts."""

    samples: int = 0
    live_samples: int = 0
    flagged: int = 0
    live_flagged: int = 0
    array_cells: int = 0
    data_times_model: float = 0.0
    model_power: float = 0.0

    @property
    def ratio(self) -> float | None:
        """Corrected data over model; None without a model."""
        return self.data_times_model / self.model_power if self.model_power > 0 else None


def _visible(bandpass: CalibrationTable, layout: Layout) -> PointSources:
    """Return the sources of the tables' model that this observation sees well."""
    centre = layout.centre_ra_rad, layout.centre_dec_rad
    width_rad = beam.half_power_width_rad(layout.mid_frequency_hz)
    near = [
        source
        for source in from_text(bandpass.model)
        if beam.separation_rad(np.radians(source.ra_deg), np.radians(source.dec_deg), *centre) < width_rad
    ]
    seen = point_sources(near, layout)
    bright = seen.apparent_flux_jy.mean(axis=(1, 2)).max(initial=0.0) >= MIN_APPARENT_JY
    return seen if bright else point_sources([], layout)


def _size_bytes(layout: Layout) -> int:
    """Return roughly how large a Measurement Set of this layout is."""
    return layout.n_times * layout.n_baselines * len(layout.frequencies_hz) * layout.n_polarisations * 13


def _correct_all(
    path: str, layout: Layout, values: tuple[Complex, Complex], sources: PointSources, progress: Progress
) -> _Tally:
    """Correct a Measurement Set in place, some integrations at a time, and count."""
    tally = _Tally()
    copied = replace(layout, path=path)
    with opened(path, readonly=False) as rows:
        for times in time_chunks(copied):
            progress(0.2 + 0.75 * times.start / layout.n_times, "correcting visibilities")
            chunk = read_visibilities(rows, copied, times)
            _correct_chunk(chunk, layout, values, sources, times.start, tally)
            if times.start == 0:
                variances = noise.antenna_variances(chunk, layout.n_antennas)
            chunk = noise.with_inverse_variances(chunk, variances)
            for name, column in (("DATA", chunk.data), ("FLAG", chunk.flags), ("WEIGHT_SPECTRUM", chunk.weights)):
                write_column(rows, copied, name, times, column)
            _write_row_columns(rows, copied, times, chunk)
    return tally


def _correct_chunk(
    chunk: Visibilities,
    layout: Layout,
    values: tuple[Complex, Complex],
    sources: PointSources,
    first: int,
    tally: _Tally,
) -> None:
    """Correct and flag some integrations, in place."""
    bandpass, gains = values
    counts = chunk.weights.copy()
    correct(chunk.data, chunk.flags, chunk.weights, chunk.antenna1, chunk.antenna2, gains, bandpass, first)
    np.copyto(chunk.weights, counts, where=chunk.weights > 0)
    use = np.broadcast_to(layout.crosses, chunk.data.shape[:2])
    unity = np.ones_like(gains), np.ones_like(bandpass)
    outliers = rfi.array_outliers(*residual_power(chunk, use, sources, *unity, first))
    chunk.flags[...] |= outliers[:, None, :, None]
    sums = NormalSums.zeros(layout.n_baselines, 1, layout.n_polarisations)
    accumulate(sums, chunk, use, sources, *unity, by="all", first_time=first)
    tally.data_times_model += float(sums.cross.real.sum(dtype=np.float64))
    tally.model_power += float(sums.power.sum(dtype=np.float64))
    tally.array_cells += int(outliers.sum())
    live = np.asarray(np.isfinite(gains).any(axis=(1, 2)))
    both = layout.crosses & live[layout.antenna1] & live[layout.antenna2]
    flagged = chunk.flags.sum(axis=(0, 2, 3))
    per_baseline = chunk.flags[:, 0].size
    tally.samples += int(layout.crosses.sum()) * per_baseline
    tally.live_samples += int(both.sum()) * per_baseline
    tally.flagged += int(flagged[layout.crosses].sum())
    tally.live_flagged += int(flagged[both].sum())


def _write_row_columns(rows: Any, layout: Layout, times: range, chunk: Visibilities) -> None:
    """Write the columns that sum a row up: WEIGHT is the mean of its unflagged weights, SIGMA what follows from it."""
    good = ~chunk.flags
    count = good.sum(axis=2)
    weight = (chunk.weights * good).sum(axis=2) / np.maximum(count, 1)
    write_column(rows, layout, "WEIGHT", times, weight.astype(np.float32))
    sigma = np.where(weight > 0, 1.0 / np.sqrt(np.where(weight > 0, weight, 1.0)), 0.0)
    write_column(rows, layout, "SIGMA", times, sigma.astype(np.float32))
    row_flags = (count == 0).all(axis=2).reshape(-1)
    rows.putcol("FLAG_ROW", row_flags, times.start * layout.n_baselines, len(row_flags))


def _check(tally: _Tally, options: ApplyOptions) -> None:
    """Refuse a result that is of no use."""
    if tally.live_flagged == tally.live_samples:
        raise DataQualityError(
            f"{options.ms_path}: everything is flagged after {options.bandpass_path} and {options.gain_path}: look at "
            "the flags of the observation and of the tables"
        )
    ratio = tally.ratio
    if ratio is not None and not 1 / MAX_RATIO < ratio < MAX_RATIO:
        raise DataQualityError(
            f"{options.ms_path}: corrected data are {ratio:.3g} times the model of {options.bandpass_path}, between "
            f"{1 / MAX_RATIO:g} and {MAX_RATIO:g} is accepted: the tables belong to other data, solve again"
        )


def _summary(options: ApplyOptions, layout: Layout, tally: _Tally) -> CalibratedMS:
    """Put the numbers together."""
    notes = []
    ratio = tally.ratio
    if ratio is not None and not 1 / NOTED_RATIO < ratio < NOTED_RATIO:
        notes.append(f"corrected data are {ratio:.2f} times the model: check the flux scale")
    return CalibratedMS(
        ms_path=options.output_path,
        flagged_fraction=tally.flagged / tally.samples,
        flagged_fraction_live=tally.live_flagged / tally.live_samples,
        array_flagged_fraction=tally.array_cells / (layout.n_times * len(layout.frequencies_hz)),
        model_ratio=ratio,
        notes=tuple(notes),
        files=(options.output_path,),
        inputs=(options.ms_path, options.bandpass_path, options.gain_path),
    )
