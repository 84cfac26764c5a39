"""One simulated DSA-110 observation in the telescope's own files, with its truth beside it.

A calibrator of the catalogue stands at its true place near the meridian, in a field of point sources (:mod:`sky`); the
sources drift through the fixed primary beam. The instrument adds gains, bandpass, noise and interference
(:mod:`corruption`). Visibilities are those of the centre of each integration: the loss by averaging over the 12.9 s and
over a channel is left out. The result depends on the options alone, not on the machine's number of cores.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsa110_contimg.pipeline import array, calibrators, coordinates, corruption, sky
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.naming import STAMP_FORMAT, SUBBAND_COUNT, subband_name
from dsa110_contimg.pipeline.products import require_space, written_aside
from dsa110_contimg.pipeline.progress import Progress, silent
from dsa110_contimg.pipeline.subband_file import Layout, write_subband

_DEFAULT_CALIBRATOR = "3C48"
_DEFAULT_DATE = datetime(2026, 1, 25, tzinfo=UTC)
_POINTING_OFFSET_RAD = np.radians(0.2)
_MAX_FROM_MERIDIAN_RAD = np.radians(1.0)
_RFI_FRACTION = 0.04
_UNIX_EPOCH_JD = 2_440_587.5
_BYTES_PER_SAMPLE = 13  # complex64, flag, nsamples


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What to simulate.

    Attributes
    ----------
    directory : str
        Where the subband files go.
    stamp : str or None
        Start, ``YYYY-MM-DDTHH:MM:SS`` (UTC). None: such that the calibrator transits in mid observation.
    calibrator : str or None
        Name in the catalogue. None: with a stamp the brightest near the meridian then, else 3C48.
    pointing_dec_deg : float or None
        Apparent declination of the pointing. None: 0.2 degrees south of the calibrator.
    n_antennas, n_times, n_sources : int
        Size; sources without the calibrator.
    seed : int
        Of everything that is random.
    gains, bandpass, rfi, noise : bool
        Switches of the corruptions.
    dead_antennas : int
        Antennas that receive nothing but noise.
    missing_subbands : tuple of int
        Subbands without a file.
    """

    directory: str
    stamp: str | None = None
    calibrator: str | None = None
    pointing_dec_deg: float | None = None
    n_antennas: int = 40
    n_times: int = array.INTEGRATION_COUNT
    n_sources: int = 24
    seed: int = 1
    gains: bool = True
    bandpass: bool = True
    rfi: bool = True
    noise: bool = True
    dead_antennas: int = 1
    missing_subbands: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Simulation:
    """What was simulated; ``files`` are the subband files and the truth."""

    stamp: str
    subband_files: tuple[str, ...]
    truth_path: str
    calibrator: str
    n_sources: int
    n_antennas: int
    files: tuple[str, ...]
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Scene:
    """Everything that is random or derived, fixed before the first file is written."""

    stamp: datetime
    layout: Layout
    sources: list[sky.Source]
    gains: corruption.Gains
    rfi_jy: npt.NDArray[np.float64]
    dead: tuple[int, ...]

    @property
    def drift(self) -> sky.Drift:
        return sky.Drift(self.layout.jd_utc, self.layout.dec_rad)


def simulate(options: SimulateOptions, progress: Progress = silent) -> Simulation:
    """Write the subband files of one observation and ``{stamp}_truth.json``.

    Raises
    ------
    BadInputError
        A size, name, stamp or subband that cannot be simulated.
    RetryableError
        The disk cannot hold the files.
    """
    scene = _scene(options)
    directory = Path(options.directory)
    stamp = scene.stamp.strftime(STAMP_FORMAT)
    wanted = [k for k in range(SUBBAND_COUNT) if k not in options.missing_subbands]
    rows = scene.layout.baselines()[0].size * options.n_times
    require_space(directory, rows * array.SUBBAND_CHANNELS * 2 * _BYTES_PER_SAMPLE * len(wanted))
    path_m = sky.paths_m(scene.sources, scene.drift, scene.layout.positions_m())
    names = []
    for done, subband in enumerate(wanted):
        progress(done / len(wanted), f"simulating subband {subband:02d} of {stamp}")
        name = subband_name(_file_stamp(scene.stamp, subband), subband)
        frequencies_hz = array.subband_frequencies_hz(subband)
        write_subband(directory / name, scene.layout, frequencies_hz, _observe(scene, options, subband, path_m))
        names.append(str(directory / name))
    truth_path = directory / f"{stamp}_truth.json"
    with written_aside(truth_path) as partial:
        partial.write_text(json.dumps(_truth(scene, options)), encoding="ascii")
    progress(1.0, f"simulated {len(names)} subbands of {stamp}")
    return Simulation(
        stamp=stamp,
        subband_files=tuple(names),
        truth_path=str(truth_path),
        calibrator=scene.sources[0].name,
        n_sources=len(scene.sources),
        n_antennas=options.n_antennas,
        files=(*names, str(truth_path)),
    )


def station_numbers(n_antennas: int) -> tuple[int, ...]:
    """Return the numbers of the stations of a simulated array of this size, ascending.

    They are evenly spaced in the list of active stations: a smaller array has the whole one's mixture of the two arms
    and the outriggers, and with it about its synthesised beam.

    Raises
    ------
    BadInputError
        Fewer than 4 or more than 96.
    """
    if not 4 <= n_antennas <= len(array.ACTIVE_STATIONS):
        raise BadInputError(f"n_antennas is {n_antennas}; 4 to {len(array.ACTIVE_STATIONS)} can be simulated")
    places = np.linspace(0, len(array.ACTIVE_STATIONS) - 1, n_antennas).astype(int)
    return tuple(array.ACTIVE_STATIONS[place] for place in places)


def _file_stamp(start: datetime, subband: int) -> str:
    """Return the stamp in a file's name: the nodes of the correlator open their files up to a second apart."""
    return (start + timedelta(seconds=subband % 3 == 1)).strftime(STAMP_FORMAT)


def _scene(options: SimulateOptions) -> _Scene:
    _check(options)
    rng = np.random.default_rng(options.seed)
    start, calibrator = _start_and_calibrator(options)
    seconds = (np.arange(options.n_times, dtype=np.float64) + 0.5) * array.INTEGRATION_S
    jd_utc = np.asarray(_jd(start) + seconds / 86400.0, dtype=np.float64)
    mid_jd = float(jd_utc.mean())
    dec_rad = _pointing_dec_rad(options, calibrator, mid_jd)
    layout = Layout(station_numbers(options.n_antennas), jd_utc, dec_rad)
    first = sky.Source(
        calibrator.name,
        calibrator.ra_deg,
        calibrator.dec_deg,
        calibrator.flux_jy(array.BAND_CENTRE_HZ),
        calibrator.spectral_index,
    )
    ra_deg, dec_deg = np.degrees(coordinates.meridian_icrs(mid_jd, dec_rad))
    field = sky.random_field(rng, (float(ra_deg), float(dec_deg)), options.n_sources, first)
    shape = options.n_times, options.n_antennas, array.CHANNEL_COUNT
    gains = corruption.random_gains(rng, shape, gains=options.gains, bandpass=options.bandpass)
    rfi_jy = np.zeros((shape[0], shape[2]))
    if options.rfi:
        rfi_jy = corruption.random_rfi_jy(rng, shape[0], shape[2], _RFI_FRACTION)
    dead = rng.choice(options.n_antennas, options.dead_antennas, replace=False)
    return _Scene(start, layout, [first, *field], gains, rfi_jy, tuple(int(a) for a in sorted(dead)))


def _check(options: SimulateOptions) -> None:
    station_numbers(options.n_antennas)
    if options.n_times < 1 or options.n_sources < 0:
        raise BadInputError(f"n_times is {options.n_times} and n_sources {options.n_sources}; ask for 1 and 0 at least")
    if not 0 <= options.dead_antennas <= options.n_antennas - 3:
        raise BadInputError(f"dead_antennas is {options.dead_antennas}; at least 3 of {options.n_antennas} must live")
    unknown = set(options.missing_subbands) - set(range(SUBBAND_COUNT))
    if unknown or len(set(options.missing_subbands)) == SUBBAND_COUNT:
        raise BadInputError(f"missing_subbands is {options.missing_subbands}; name some of 0 to 15, not all")


def _jd(time: datetime) -> float:
    return time.timestamp() / 86400.0 + _UNIX_EPOCH_JD


def _start_and_calibrator(options: SimulateOptions) -> tuple[datetime, calibrators.Calibrator]:
    half = timedelta(seconds=options.n_times * array.INTEGRATION_S / 2)
    if options.stamp is None:
        calibrator = calibrators.find(options.calibrator or _DEFAULT_CALIBRATOR)
        nearest_second = _transit(calibrator, _DEFAULT_DATE) - half + timedelta(milliseconds=500)
        return nearest_second.replace(microsecond=0), calibrator
    try:
        start = datetime.strptime(options.stamp, STAMP_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise BadInputError(
            f"stamp {options.stamp!r} is not YYYY-MM-DDTHH:MM:SS, such as 2026-01-25T02:00:00"
        ) from error
    return start, _near_meridian(options.calibrator, start + half)


def _transit(calibrator: calibrators.Calibrator, day: datetime) -> datetime:
    """Return when the calibrator crosses the meridian on this day."""
    time = day
    for _ in range(3):  # the first step is right to the sidereal rate times half a day, the third to under 1 ms
        hour_angle_rad = _hour_angle_rad([calibrator], time)[0]
        if time is day:
            hour_angle_rad = hour_angle_rad % (2 * np.pi) - 2 * np.pi
        time -= timedelta(days=float(hour_angle_rad / (2 * np.pi)) * 0.99726957)
    return time


def _hour_angle_rad(sources: list[calibrators.Calibrator], time: datetime) -> npt.NDArray[np.float64]:
    ra_rad, dec_rad = np.radians([[s.ra_deg, s.dec_deg] for s in sources]).T
    return coordinates.hour_angle_dec(ra_rad, dec_rad, _jd(time))[0]


def _near_meridian(name: str | None, mid: datetime) -> calibrators.Calibrator:
    """Return the named calibrator, or the brightest, if it is within a degree of the meridian."""
    choice = [calibrators.find(name)] if name else [c for c in calibrators.load() if -20.0 < c.dec_deg < 75.0]
    hour_angle_rad = _hour_angle_rad(choice, mid)
    cosine = np.cos(np.radians([c.dec_deg for c in choice]))
    near = [c for c, h in zip(choice, np.abs(hour_angle_rad) * cosine, strict=True) if h < _MAX_FROM_MERIDIAN_RAD]
    if not near:
        what = name or "no calibrator"
        transit = f"; {name} transits at {_transit(choice[0], mid):%Y-%m-%dT%H:%M:%S}" if name else ""
        raise BadInputError(
            f"{what} within 1 degree of the meridian at {mid:%Y-%m-%dT%H:%M:%S}{transit}; move the stamp"
        )
    return max(near, key=lambda c: c.flux_1400_jy)


def _pointing_dec_rad(options: SimulateOptions, calibrator: calibrators.Calibrator, jd_utc: float) -> float:
    if options.pointing_dec_deg is not None:
        return float(np.radians(options.pointing_dec_deg))
    apparent = coordinates.hour_angle_dec(np.radians(calibrator.ra_deg), np.radians(calibrator.dec_deg), jd_utc)
    return float(apparent[1][0] - _POINTING_OFFSET_RAD)


def _observe(
    scene: _Scene, options: SimulateOptions, subband: int, path_m: npt.NDArray[np.float64]
) -> npt.NDArray[np.complex64]:
    """Return the visibilities of one subband, shape (time, baseline, channel descending, polarisation)."""
    frequencies_hz = array.subband_frequencies_hz(subband)
    channels = array.CHANNEL_COUNT - 1 - np.arange(subband * 48, subband * 48 + frequencies_hz.size)
    rng = np.random.default_rng([options.seed, 1 + subband])
    flux_jy = sky.apparent_flux_jy(scene.sources, scene.drift, frequencies_hz)
    voltage = sky.voltages(path_m, flux_jy, frequencies_hz)
    rfi = corruption.rfi_voltages(rng, scene.rfi_jy[:, channels], options.n_antennas)
    voltage = np.concatenate([voltage, rfi], axis=1)
    voltage[:, :, list(scene.dead)] = 0.0
    one, two = scene.layout.baselines()
    shape = (options.n_times, one.size, frequencies_hz.size, 2)
    noise = np.zeros(shape, dtype=np.complex64)
    if options.noise:
        noise = rng.standard_normal((*shape[:3], 4), dtype=np.float32).view(np.complex64)
    noise_jy = array.sample_noise_jy() if options.noise else 0.0
    system_jy = array.SEFD_JY if options.noise else 0.0
    out = np.empty(shape, dtype=np.complex64)
    corruption.observe(voltage, scene.gains.at(channels), noise, one, two, noise_jy, system_jy, out)
    return out


def _truth(scene: _Scene, options: SimulateOptions) -> dict[str, object]:
    """Return what was put in; gains are those of the Measurement Set: DATA_pq = g_p conj(g_q) model."""
    mid = scene.layout.jd_utc.size // 2
    apparent_jy = sky.apparent_flux_jy(scene.sources, scene.drift, np.array([array.BAND_CENTRE_HZ]))[:, :, 0]
    names = array.stations().names
    antennas = [names[n - 1] for n in scene.layout.station_numbers]
    gain, bandpass = np.conj(scene.gains.gain), np.conj(scene.gains.bandpass)
    return {
        "options": asdict(options),
        "stamp": scene.stamp.strftime(STAMP_FORMAT),
        "jd_utc": scene.layout.jd_utc.tolist(),
        "pointing_dec_apparent_deg": float(np.degrees(scene.layout.dec_rad)),
        "calibrator": scene.sources[0].name,
        "sources": [
            {**asdict(s), "apparent_flux_jy": float(a[mid]), "mean_apparent_flux_jy": float(a.mean())}
            for s, a in zip(scene.sources, apparent_jy, strict=True)
        ],
        "noise_per_sample_jy": array.sample_noise_jy() if options.noise else 0.0,
        "antennas": antennas,
        "dead_antennas": [antennas[a] for a in scene.dead],
        "gain_amplitude": np.abs(gain).round(6).tolist(),
        "gain_phase_deg": np.degrees(np.angle(gain)).round(4).tolist(),
        "drift_deg": np.degrees(-scene.gains.drift_rad).round(4).tolist(),
        "bandpass_amplitude": np.abs(bandpass).round(5).tolist(),
        "bandpass_phase_deg": np.degrees(np.angle(bandpass)).round(3).tolist(),
        "rfi_fraction": float(np.mean(scene.rfi_jy > 0)),
        "rfi_jy": scene.rfi_jy.round(1).tolist(),
    }
