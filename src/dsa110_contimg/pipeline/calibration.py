"""Stage calibration-solve: gains of the antennas from a calibrator of known flux density in the beam.

Method
------
The model is the calibrator as a point source, at its catalogue flux density times the Airy beam as it drifts through,
per integration and channel (`calibration_model`). The unknowns are a bandpass b_p(nu) per antenna, channel and
polarisation, and gains g_p(t) per antenna, integration and polarisation (`normal_sums`, `solver`). Each is solved with
the other inside the model, in turns: b, g, b, g. The second turn removes what the drift of the phases had taken from
the first bandpass; what remains is of second order in that drift.

Baselines shorter than `SolveOptions.min_uv_lambda` see extended emission and the sum of the field's weak sources, and
take no part, unless that leaves an antenna with too few of them: then the limit is lowered, and a note says so.

After the first turn, integrations and channels where the whole array sees more than model and noise are left out
(`rfi.array_outliers`). At the end the bandpass is normalised, so that the flux scale is in the gains, and all phases
are referred to one antenna; solutions below the minimum signal-to-noise ratio and channels that stand off their
neighbours are flagged; short gaps are interpolated (`solutions`).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.pipeline import field_sources, rfi, solutions
from dsa110_contimg.pipeline.calibration_model import ModelSource, choose_calibrator, point_sources, to_text
from dsa110_contimg.pipeline.caltable import BANDPASS, GAIN, CalibrationTable, write_table
from dsa110_contimg.pipeline.errors import DataQualityError
from dsa110_contimg.pipeline.normal_sums import NormalSums, accumulate, residual_power
from dsa110_contimg.pipeline.products import written_aside
from dsa110_contimg.pipeline.progress import Progress, silent
from dsa110_contimg.pipeline.skymodel import C_M_PER_S
from dsa110_contimg.pipeline.solver import Gains, stefcal
from dsa110_contimg.pipeline.visibilities import (
    Bools,
    Complex,
    Layout,
    Visibilities,
    opened,
    read_layout,
    read_visibilities,
    time_chunks,
)

#: Visibilities of observations up to this size are read once and held.
HELD_BYTES = 600_000_000


@dataclass(frozen=True)
class SolveOptions:
    """How to solve.

    Parameters
    ----------
    ms_path : str
        Flagged Measurement Set.
    bandpass_path, gain_path : str
        Tables to write.
    calibrator : str or None
        Name in the catalogue; None takes the one that appears brightest.
    min_apparent_jy : float
        Flux density that the calibrator must have through the beam.
    min_uv_lambda : float
        Shortest baseline that takes part.
    min_baselines : int
        Baselines that an antenna needs in a problem.
    min_snr : float
        Signal-to-noise ratio that a solution needs.
    """

    ms_path: str
    bandpass_path: str
    gain_path: str
    calibrator: str | None = None
    min_apparent_jy: float = 1.0
    min_uv_lambda: float = 1000.0
    min_baselines: int = 4
    min_snr: float = 3.0


@dataclass(frozen=True)
class CalibrationSolution:
    """What was solved.

    Parameters
    ----------
    calibrator : str
    calibrator_flux_jy, calibrator_apparent_jy : float
        At the middle of the band: of the catalogue, and through the beam at mid time.
    flux_origin : str
        Which scale the catalogue's flux density is on.
    refant : str
    dead_antennas : tuple of str
        Antennas with rows but without a single solution.
    field_sources : int
        Other bright sources that were found and taken into the model.
    converged_fraction : float
        Problems whose solution converged.
    valid_start_mjd, valid_end_mjd : float
        Times that the gains cover.
    flagged_fraction_live ... amplitude_max : float
        As of `solutions.Quality`; ``median_snr`` is the smaller of the two.
    notes : tuple of str
        What a person should know.
    """

    bandpass_path: str
    gain_path: str
    calibrator: str
    calibrator_flux_jy: float
    calibrator_apparent_jy: float
    flux_origin: str
    refant: str
    flagged_fraction_live: float
    median_snr: float
    median_snr_bandpass: float
    median_snr_gain: float
    phase_scatter_deg: float
    amplitude_scatter: float
    amplitude_min: float
    amplitude_max: float
    dead_antennas: tuple[str, ...]
    field_sources: int
    converged_fraction: float
    valid_start_mjd: float
    valid_end_mjd: float
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


def solve(options: SolveOptions, progress: Progress = silent) -> CalibrationSolution:
    """Solve bandpass and gains of an observation that has a calibrator in its beam.

    Raises
    ------
    BadInputError
        If the Measurement Set does not exist or is half written, or the named calibrator is unknown.
    DataQualityError
        If no calibrator is in the beam, everything is flagged, or no antenna could be solved.
    """
    layout = read_layout(options.ms_path)
    calibrator = choose_calibrator(layout, options.calibrator, options.min_apparent_jy)
    progress(0.02, f"calibrating on {calibrator.name}")
    observation = _Observation(layout, calibrator, options)
    bandpass, gains = observation.solve(progress)
    live = _solved(gains)
    if not live.any():
        raise DataQualityError(
            f"{options.ms_path}: not one antenna could be solved on {calibrator.name}: look at its flags and amplitudes"
        )
    reference = solutions.choose_reference(layout.antenna_names, bandpass, gains)
    bandpass, gains = _finished(bandpass, gains, layout, reference, options.min_snr)
    progress(0.9, "writing tables")
    _write(options, layout, observation.model, bandpass, gains)
    progress(1.0, f"calibrated on {calibrator.name}")
    return _summary(options, observation, calibrator, (bandpass, gains), reference)


def _solved(gains: Gains) -> Bools:
    """Tell which antennas have a solution at all."""
    return np.asarray(np.isfinite(gains.values).any(axis=(1, 2)))


def _finished(bandpass: Gains, gains: Gains, layout: Layout, reference: int, min_snr: float) -> tuple[Gains, Gains]:
    """Normalise the solutions, drop the bad ones, interpolate short gaps."""
    bandpass, gains = solutions.normalise(bandpass, gains, reference)
    bandpass = solutions.without(bandpass, (bandpass.snr < min_snr) | solutions.off_envelope(bandpass))
    gains = solutions.without(gains, gains.snr < min_snr)
    return solutions.fill_gaps(bandpass, layout.frequencies_hz), gains


def _write(options: SolveOptions, layout: Layout, model: list[ModelSource], bandpass: Gains, gains: Gains) -> None:
    """Write both tables; each appears whole."""
    history = f"dsa110-contimg calibration-solve: {model[0].name}, uv > {options.min_uv_lambda:g} wavelengths"
    middle_mjd = np.array([(layout.times_mjd[0] + layout.times_mjd[-1]) / 2])
    one_channel_hz = np.array([layout.mid_frequency_hz])
    whole_s = np.array([layout.n_times * layout.interval_s])
    each_s = np.full(layout.n_times, layout.interval_s)
    tables = (
        (options.bandpass_path, BANDPASS, bandpass, (middle_mjd, whole_s, layout.frequencies_hz)),
        (options.gain_path, GAIN, gains, (layout.times_mjd, each_s, one_channel_hz)),
    )
    axes: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    for path, kind, solved, axes in tables:
        missing = ~np.isfinite(solved.values)
        content = CalibrationTable(
            kind, solved.values, missing, solved.errors, solved.snr, *axes, layout.antenna_names, to_text(model)
        )
        with written_aside(Path(path)) as partial:
            write_table(str(partial), content, layout, history)


def _summary(
    options: SolveOptions,
    observation: "_Observation",
    calibrator: ModelSource,
    solved: tuple[Gains, Gains],
    reference: int,
) -> CalibrationSolution:
    """Put the numbers together."""
    layout, (bandpass, gains) = observation.layout, solved
    live = _solved(gains)
    quality = solutions.assess(bandpass, gains, live)
    tried = np.concatenate([one.iterations.reshape(-1) > 0 for one in solved])
    converged = np.concatenate([one.converged.reshape(-1) for one in solved])
    half_interval = layout.interval_s / 2 / 86400.0
    names = np.array(layout.antenna_names)
    return CalibrationSolution(
        bandpass_path=options.bandpass_path,
        gain_path=options.gain_path,
        calibrator=calibrator.name,
        calibrator_flux_jy=float(calibrator.spectrum_jy(np.array([layout.mid_frequency_hz]))[0]),
        calibrator_apparent_jy=observation.calibrator_apparent_jy,
        flux_origin=calibrator.origin,
        refant=layout.antenna_names[reference],
        median_snr=min(quality.median_snr_bandpass, quality.median_snr_gain),
        **asdict(quality),
        dead_antennas=tuple(names[layout.present() & ~live].tolist()),
        field_sources=len(observation.model) - 1,
        converged_fraction=float(converged[tried].mean()) if tried.any() else 0.0,
        valid_start_mjd=float(layout.times_mjd[0]) - half_interval,
        valid_end_mjd=float(layout.times_mjd[-1]) + half_interval,
        notes=tuple(observation.notes),
        files=(options.bandpass_path, options.gain_path),
        inputs=(options.ms_path,),
    )


class _Observation:
    """The visibilities that take part, and the turns of the solution."""

    def __init__(self, layout: Layout, calibrator: ModelSource, options: SolveOptions) -> None:
        self.layout = layout
        self.model = [calibrator]
        self.sources = point_sources(self.model, layout)
        self.min_baselines = options.min_baselines
        self.notes: list[str] = []
        self._interference = np.zeros((layout.n_times, len(layout.frequencies_hz)), np.bool_)
        size = layout.n_times * layout.n_baselines * len(layout.frequencies_hz) * layout.n_polarisations * 13
        self._held = list(self._read()) if size <= HELD_BYTES else None
        self.present = self._unflagged_antennas()
        self.min_uv_lambda = self._affordable_uv_limit(options.min_uv_lambda)

    def solve(self, progress: Progress) -> tuple[Gains, Gains]:
        """Return bandpass and gains after two turns."""
        layout = self.layout
        n_pols = layout.n_polarisations
        gains: Complex = np.ones((layout.n_antennas, layout.n_times, n_pols), np.complex64)
        flat: Complex = np.ones((layout.n_antennas, len(layout.frequencies_hz), n_pols), np.complex64)
        for turn in range(2):
            progress(0.1 + 0.4 * turn, f"bandpass, turn {turn + 1}")
            bandpass = self._solve_by("channel", gains, flat)
            progress(0.3 + 0.4 * turn, f"gains, turn {turn + 1}")
            solved = self._solve_by("time", np.ones_like(gains), bandpass.values)
            gains = solved.values
            if turn == 0:
                self._mark_interference(gains, bandpass.values)
                progress(0.4, "looking for other bright sources")
                self._add_field(gains, bandpass.values)
        return bandpass, solved

    def _solve_by(self, by: str, gains: Complex, bandpass: Complex) -> Gains:
        """Sum over all integrations and solve."""
        layout = self.layout
        n_problems = layout.n_times if by == "time" else len(layout.frequencies_hz)
        sums = NormalSums.zeros(layout.n_baselines, n_problems, layout.n_polarisations)
        for first, chunk in self._chunks():
            accumulate(sums, chunk, self._use(chunk), self.sources, gains, bandpass, by=by, first_time=first)
        return stefcal(sums, layout.antenna1, layout.antenna2, layout.n_antennas, minimum_baselines=self.min_baselines)

    def _add_field(self, gains: Complex, bandpass: Complex) -> None:
        """Take the bright sources of the field into the model."""
        self.model += field_sources.find(
            self._chunks(), self.layout, gains, bandpass, self.model[0], self.calibrator_apparent_jy
        )
        self.sources = point_sources(self.model, self.layout)

    @property
    def calibrator_apparent_jy(self) -> float:
        """Flux density of the calibrator through the beam, in the middle of time and band."""
        _, n_times, n_channels = self.sources.apparent_flux_jy.shape
        return float(self.sources.apparent_flux_jy[0, n_times // 2, n_channels // 2])

    def _mark_interference(self, gains: Complex, bandpass: Complex) -> None:
        """Leave out what the whole array sees beyond model and noise."""
        shape = self._interference.shape
        power, count = np.zeros(shape), np.zeros(shape)
        for first, chunk in self._chunks():
            here = slice(first, first + chunk.data.shape[0])
            power[here], count[here] = residual_power(chunk, self._use(chunk), self.sources, gains, bandpass, first)
        self._interference = rfi.array_outliers(power, count)
        for first, chunk in self._held or ():
            self._apply_interference(first, chunk)

    def _apply_interference(self, first: int, chunk: Visibilities) -> None:
        marked = self._interference[first : first + chunk.data.shape[0]]
        chunk.flags[...] |= marked[:, None, :, None]

    def _read(self) -> Iterator[tuple[int, Visibilities]]:
        with opened(self.layout.path) as rows:
            for times in time_chunks(self.layout):
                chunk = read_visibilities(rows, self.layout, times)
                self._apply_interference(times.start, chunk)
                yield times.start, chunk

    def _chunks(self) -> Iterator[tuple[int, Visibilities]]:
        """Give all integrations in order, each run with the index of its first."""
        return iter(self._held) if self._held is not None else self._read()

    def _use(self, chunk: Visibilities) -> Bools:
        """Tell which rows take part."""
        long_enough = _uv_lambda(chunk.uvw_m, self.layout) >= self.min_uv_lambda
        used: Bools = long_enough & self.layout.crosses
        return used

    def _unflagged_antennas(self) -> Bools:
        """Tell which antennas have an unflagged cross-correlation."""
        layout = self.layout
        seen = np.zeros(layout.n_antennas, np.bool_)
        for _, chunk in self._chunks():
            baselines = layout.crosses & ~chunk.flags.all(axis=(0, 2, 3))
            seen[layout.antenna1[baselines]] = seen[layout.antenna2[baselines]] = True
        if not seen.any():
            raise DataQualityError(f"{layout.path}: all cross-correlations are flagged, there is nothing to solve")
        return seen

    def _affordable_uv_limit(self, wanted: float) -> float:
        """Return the limit, halved until each antenna that has data keeps `min_baselines` and a few more."""
        layout = self.layout
        _, chunk = next(self._chunks())
        lengths = _uv_lambda(chunk.uvw_m[0], layout)
        both = layout.crosses & self.present[layout.antenna1] & self.present[layout.antenna2]
        limit = wanted
        while limit > 1.0:
            long_enough = both & (lengths >= limit)
            counts = np.bincount(layout.antenna1[long_enough], minlength=layout.n_antennas)
            counts += np.bincount(layout.antenna2[long_enough], minlength=layout.n_antennas)
            if counts[self.present].min() >= min(2 * self.min_baselines, self.present.sum() - 1):
                break
            limit /= 2.0
        else:
            limit = 0.0
        if limit != wanted:
            self.notes.append(
                f"baselines from {limit:.0f} wavelengths on took part, not {wanted:.0f}: too few are longer"
            )
        return limit


def _uv_lambda(uvw_m: NDArray[np.float64], layout: Layout) -> NDArray[np.float64]:
    """Return projected baseline lengths in wavelengths of the middle of the band."""
    return np.asarray(np.hypot(uvw_m[..., 0], uvw_m[..., 1]) * layout.mid_frequency_hz / C_M_PER_S)
