"""Stage calibration-solve: gains of the antennas from a calibrator of known flux density in the beam.

The model is the calibrator as a point source, at its catalogue flux density times the Airy beam as it drifts through,
per integration and channel (`calibration_model`), and from the second turn on the bright sources that its field was
found to hold. `joint_solution` solves bandpass and gains against it.

At the end the bandpass is normalised, so that the flux scale is in the gains, and all phases are referred to one
antenna; solutions below the minimum signal-to-noise ratio and channels that stand off their neighbours are flagged;
short gaps are interpolated (`solutions`).
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.pipeline import solutions
from dsa110_contimg.pipeline.calibration_model import ModelSource, choose_calibrator, to_text
from dsa110_contimg.pipeline.caltable import BANDPASS, GAIN, CalibrationTable, write_table
from dsa110_contimg.pipeline.choices import SolveChoices
from dsa110_contimg.pipeline.errors import DataQualityError
from dsa110_contimg.pipeline.joint_solution import JointSolution
from dsa110_contimg.pipeline.products import written_aside
from dsa110_contimg.pipeline.progress import Progress, silent
from dsa110_contimg.pipeline.solver import Gains
from dsa110_contimg.pipeline.visibilities import Bools, Layout, read_layout


@dataclass(frozen=True)
class SolveOptions(SolveChoices):
    """How to solve.

    Parameters
    ----------
    ms_path : str
        Flagged Measurement Set.
    bandpass_path, gain_path : str
        Tables to write.
    """

    ms_path: str
    bandpass_path: str
    gain_path: str


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
        If the Measurement Set does not exist or is half written.
    DataQualityError
        If no calibrator is in the beam, everything is flagged, or no antenna could be solved.
    """
    layout = read_layout(options.ms_path)
    calibrator = choose_calibrator(layout, options.calibrator, options.min_apparent_jy)
    progress(0.02, f"calibrating on {calibrator.name}")
    joint = JointSolution(layout, calibrator, options.min_baselines, options.min_uv_lambda)
    bandpass, gains = joint.solve(progress)
    live = _solved(gains)
    if not live.any():
        raise DataQualityError(
            f"{options.ms_path}: not one antenna could be solved on {calibrator.name}: look at its flags and amplitudes"
        )
    reference = solutions.choose_reference(layout.antenna_names, bandpass, gains)
    bandpass, gains = _finished(bandpass, gains, layout, reference, options.min_snr)
    progress(0.9, "writing tables")
    _write(options, layout, joint.model, bandpass, gains)
    progress(1.0, f"calibrated on {calibrator.name}")
    return _summary(options, joint, calibrator, (bandpass, gains), reference)


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
    joint: JointSolution,
    calibrator: ModelSource,
    solved: tuple[Gains, Gains],
    reference: int,
) -> CalibrationSolution:
    """Put the numbers together."""
    layout, (bandpass, gains) = joint.layout, solved
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
        calibrator_apparent_jy=joint.calibrator_apparent_jy,
        flux_origin=calibrator.origin,
        refant=layout.antenna_names[reference],
        median_snr=min(quality.median_snr_bandpass, quality.median_snr_gain),
        **asdict(quality),
        dead_antennas=tuple(names[layout.present() & ~live].tolist()),
        field_sources=len(joint.model) - 1,
        converged_fraction=float(converged[tried].mean()) if tried.any() else 0.0,
        valid_start_mjd=float(layout.times_mjd[0]) - half_interval,
        valid_end_mjd=float(layout.times_mjd[-1]) + half_interval,
        notes=tuple(joint.notes),
        files=(options.bandpass_path, options.gain_path),
        inputs=(options.ms_path,),
    )
