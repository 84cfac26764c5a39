"""From subband files to one Measurement Set.

The correlator stopped the fringes of every integration on the meridian, a direction that drifts through the sky. Here
all integrations are brought to one phase centre: the ICRS direction of the meridian at mid time. A visibility V of
antennas 1 and 2 becomes

    V exp(-2 pi i (w_new - w_old) nu / c),    w = (r_2 - r_1) . s

with s the apparent unit vector towards the phase centre and towards hour angle 0, respectively; then it is
conjugated, to the sign of CASA. Subbands are put together in ascending frequency; one that is missing leaves a gap.
Nothing is averaged.

Weights are the correlator's sample counts, and zero where it flagged a sample or where the visibility is not a
number. Those samples, and all autocorrelations, are flagged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
from casacore.tables import table

from dsa110_contimg.pipeline import array, coordinates, measurementset
from dsa110_contimg.pipeline.baselines import Baselines, check_together, shared_baselines
from dsa110_contimg.pipeline.choices import ConvertChoices
from dsa110_contimg.pipeline.compiled import compiled
from dsa110_contimg.pipeline.errors import BadInputError, DataQualityError
from dsa110_contimg.pipeline.naming import SUBBAND_COUNT
from dsa110_contimg.pipeline.products import require_space, written_aside
from dsa110_contimg.pipeline.progress import Progress, silent
from dsa110_contimg.pipeline.subband_data import read_visibilities
from dsa110_contimg.pipeline.subband_header import Header, read_header

_BYTES_PER_SAMPLE = 8 + 4 + 1
_N_POLS = len(array.POLARIZATIONS)
_LONGEST_BASELINE_M = 2707.0


@dataclass(frozen=True, slots=True)
class ConvertOptions(ConvertChoices):
    """Which files become which Measurement Set.

    Attributes
    ----------
    files : tuple of str
        Subband files of one observation, in any order.
    ms_path : str
        The Measurement Set to make; one that exists is replaced.
    """

    files: tuple[str, ...]
    ms_path: str


@dataclass(frozen=True, slots=True)
class ConvertedMS:
    """The Measurement Set that was made.

    Attributes
    ----------
    start_mjd, end_mjd, mid_mjd : float
        Beginning of the first, end of the last integration, and their middle (UTC).
    pointing_ra_deg, pointing_dec_deg : float
        ICRS phase centre: the meridian at mid time.
    n_baselines : int
        With autocorrelations.
    n_visibilities : int
        Samples of all baselines, times, channels and polarisations.
    nan_fraction : float
        Share of them that is not a number in the files.
    notes : tuple of str
        What the reader of the product's quality should know.
    """

    ms_path: str
    start_mjd: float
    end_mjd: float
    mid_mjd: float
    pointing_ra_deg: float
    pointing_dec_deg: float
    field_name: str
    n_antennas: int
    n_baselines: int
    n_times: int
    n_channels: int
    missing_subbands: tuple[int, ...]
    n_visibilities: int
    bytes_read: int
    nan_fraction: float
    notes: tuple[str, ...]
    files: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known before the first visibility is read.

    Attributes
    ----------
    headers : list of Header
        In ascending frequency.
    contents : Contents
    turned : ndarray, bool, shape (baseline,)
        Stored with the higher antenna first.
    turn_m : ndarray, float64, shape (time, baseline)
        w_new - w_old from the lower to the higher antenna, m.
    """

    headers: list[Header]
    contents: measurementset.Contents
    turned: npt.NDArray[np.bool_]
    turn_m: npt.NDArray[np.float64]


def convert(options: ConvertOptions, progress: Progress = silent) -> ConvertedMS:
    """Make the Measurement Set of one observation.

    Raises
    ------
    BadInputError
        A file cannot be used, or the files do not belong together.
    DataQualityError
        Not one usable cross-correlation.
    RetryableError
        The disk is full or failed.
    """
    if not options.files:
        raise BadInputError(f"{options.ms_path}: no subband file was given; name those of one observation")
    progress(0.0, f"reading {len(options.files)} headers")
    headers = sorted((read_header(path) for path in options.files), key=lambda h: -h.subband)
    check_together(headers)
    baselines, notes = shared_baselines(headers)
    plan = _plan(headers, baselines)
    contents = plan.contents
    final = Path(options.ms_path)
    n_samples = contents.n_rows * contents.frequencies_hz.size * _N_POLS
    require_space(final.parent, n_samples * _BYTES_PER_SAMPLE)
    with written_aside(final) as partial:
        n_nan, n_usable = _write(partial, plan, options.chunk_bytes, progress)
        if not n_usable:
            raise DataQualityError(
                f"{final.name}: no usable cross-correlation ({n_nan} of {n_samples} samples are not a number, the "
                "others are flagged); check the correlator at this time"
            )
        progress(0.98, "writing to disk")
    missing = _missing(headers)
    if missing:
        notes.append(f"subbands without a file: {', '.join(f'{k:02d}' for k in missing)}; they are a gap in frequency")
    if n_nan:
        notes.append(f"{n_nan} of {n_samples} visibilities are not a number; they are flagged")
    progress(1.0, f"converted {n_samples / 1e6:.1f} M visibilities")
    return _product(options, contents, headers, n_nan / n_samples, notes)


def _product(
    options: ConvertOptions,
    contents: measurementset.Contents,
    headers: list[Header],
    nan_fraction: float,
    notes: list[str],
) -> ConvertedMS:
    return ConvertedMS(
        ms_path=options.ms_path,
        start_mjd=contents.start_mjd,
        end_mjd=contents.end_mjd,
        mid_mjd=(contents.start_mjd + contents.end_mjd) / 2,
        pointing_ra_deg=float(np.degrees(contents.ra_rad)),
        pointing_dec_deg=float(np.degrees(contents.dec_rad)),
        field_name=contents.field_name,
        n_antennas=len(contents.antenna_names),
        n_baselines=contents.antenna1.size,
        n_times=contents.times_mjd.size,
        n_channels=contents.frequencies_hz.size,
        missing_subbands=_missing(headers),
        n_visibilities=contents.n_rows * contents.frequencies_hz.size * _N_POLS,
        bytes_read=sum(h.size_bytes for h in headers),
        nan_fraction=nan_fraction,
        notes=tuple(notes),
        files=(options.ms_path,),
        inputs=tuple(h.path for h in reversed(headers)),
    )


def _missing(headers: list[Header]) -> tuple[int, ...]:
    present = {h.subband for h in headers}
    return tuple(k for k in range(SUBBAND_COUNT) if k not in present)


def _plan(headers: list[Header], baselines: Baselines) -> _Plan:
    jd_utc = np.array(headers[0].jd_utc)
    dec_rad = headers[0].dec_rad
    mid_jd = float(jd_utc[0] + jd_utc[-1]) / 2
    ra_rad, icrs_dec_rad = coordinates.meridian_icrs(mid_jd, dec_rad)
    antenna_uvw_m = coordinates.antenna_uvw_m(baselines.positions_m, ra_rad, icrs_dec_rad, jd_utc)
    meridian_m = coordinates.local_equatorial_m(baselines.positions_m) @ coordinates.direction(0.0, dec_rad)
    one, two = baselines.antenna1, baselines.antenna2
    uvw_m = antenna_uvw_m[:, two] - antenna_uvw_m[:, one]
    longest_m = float(np.linalg.norm(uvw_m, axis=-1).max())
    if longest_m > 1.1 * _LONGEST_BASELINE_M:
        raise BadInputError(
            f"{headers[0].path}: a baseline of {longest_m:.0f} m is longer than the array; leave it out"
        )
    contents = measurementset.Contents(
        antenna_names=baselines.antenna_names,
        positions_m=baselines.positions_m,
        antenna1=one,
        antenna2=two,
        uvw_m=-uvw_m,
        times_mjd=np.array([coordinates.jd_to_mjd(jd) for jd in jd_utc]),
        integration_s=headers[0].integration_s,
        frequencies_hz=np.concatenate([h.frequencies_hz[::-1] for h in headers]),
        ra_rad=ra_rad,
        dec_rad=icrs_dec_rad,
        field_name="meridian_icrs",
        history=tuple(f"converted from {Path(h.path).name}" for h in reversed(headers)),
    )
    turn_m = uvw_m[..., 2] - (meridian_m[two] - meridian_m[one])
    return _Plan(headers, contents, baselines.turned, turn_m)


def _chunks(contents: measurementset.Contents, chunk_bytes: int) -> Iterator[tuple[int, int]]:
    """Return first integration, and the one after the last, of the parts that are held in memory in turn."""
    row_bytes = contents.frequencies_hz.size * _N_POLS * _BYTES_PER_SAMPLE
    step = max(1, chunk_bytes // (row_bytes * contents.antenna1.size))
    for first in range(0, contents.times_mjd.size, step):
        yield first, min(first + step, contents.times_mjd.size)


def _write(path: Path, plan: _Plan, chunk_bytes: int, progress: Progress) -> tuple[int, int]:
    """Write the Measurement Set; return the number of samples that are NaN, and of usable cross-correlations."""
    contents, headers = plan.contents, plan.headers
    auto = contents.antenna1 == contents.antenna2
    n_baselines, n_times = auto.size, contents.times_mjd.size
    n_nan = n_usable = 0
    with measurementset.create(path, contents) as main:
        for first, last in _chunks(contents, chunk_bytes):
            shape = (last - first) * n_baselines, contents.frequencies_hz.size, _N_POLS
            data, weight = np.empty(shape, dtype=np.complex64), np.empty(shape, dtype=np.float32)
            rows = first * n_baselines, last * n_baselines
            require_space(path.parent, data.size * _BYTES_PER_SAMPLE)
            for k, header in enumerate(headers):
                fraction = (first + (last - first) * k / len(headers)) / n_times
                progress(0.02 + 0.95 * fraction, f"converting integrations {first + 1}-{last} of {n_times}")
                raw = read_visibilities(header, *rows)
                n_nan += bring_to_phase_centre(
                    raw.visibilities,
                    raw.flags,
                    raw.samples,
                    np.array(header.frequencies_hz),
                    plan.turn_m[first:last].ravel(),
                    plan.turned,
                    k * array.SUBBAND_CHANNELS,
                    data,
                    weight,
                )
            n_usable += _put(main, rows[0], data, weight, np.tile(auto, last - first))
    return n_nan, n_usable


def _put(
    main: table,
    first_row: int,
    data: npt.NDArray[np.complex64],
    weight: npt.NDArray[np.float32],
    auto: npt.NDArray[np.bool_],
) -> int:
    """Put a part of the rows; return the number of usable cross-correlations in it."""
    flag = weight == 0
    n_usable = int(np.count_nonzero(~flag[~auto]))
    mean = weight.mean(axis=1)
    flag[auto] = True
    columns = {
        "DATA": data,
        "FLAG": flag,
        "WEIGHT_SPECTRUM": weight,
        "WEIGHT": mean,
        "SIGMA": 1.0 / np.sqrt(np.where(mean > 0, mean, 1.0)),
    }
    for name, values in columns.items():
        main.putcol(name, values, startrow=first_row, nrow=len(auto))
    return n_usable


@compiled(parallel=True)
def bring_to_phase_centre(
    visibilities: npt.NDArray[np.complex64],
    flags: npt.NDArray[np.bool_],
    samples: npt.NDArray[np.float32],
    frequencies_hz: npt.NDArray[np.float64],
    turn_m: npt.NDArray[np.float64],
    turned: npt.NDArray[np.bool_],
    first_channel: int,
    data: npt.NDArray[np.complex64],
    weight: npt.NDArray[np.float32],
) -> int:
    """Turn one subband to the phase centre, reverse its channels, conjugate it, and put it in its place.

    Parameters
    ----------
    visibilities, flags, samples : (row, channel, polarisation)
        As in the file, channels descending; rows are time-major.
    frequencies_hz : (channel,)
        Descending, evenly spaced.
    turn_m : (row,)
        w_new - w_old of the baseline from the lower to the higher antenna, m.
    turned : (baseline,)
        True where the file has the higher antenna first.
    first_channel : int
        Where the subband begins in the output.
    data, weight : (row, output channel, polarisation)
        Filled for the channels of this subband; both 0 where the sample is flagged or not a number.

    Returns
    -------
    int
        Number of samples that are not a number.
    """
    n_rows, n_channels, n_pols = visibilities.shape
    n_baselines = turned.size
    n_nan = 0
    for row in numba.prange(n_rows):
        phase = 2.0 * np.pi * turn_m[row] / 299792458.0
        phasor = np.exp(1j * phase * frequencies_hz[0])
        step = np.exp(1j * phase * (frequencies_hz[1] - frequencies_hz[0]))
        as_stored = turned[row % n_baselines]
        for c in range(n_channels):
            target = first_channel + n_channels - 1 - c
            for p in range(n_pols):
                value = visibilities[row, c, p]
                count = samples[row, c, p]
                finite = np.isfinite(value.real) and np.isfinite(value.imag)
                n_nan += not finite
                if finite and count > 0 and not flags[row, c, p]:
                    data[row, target, p] = phasor * (value if as_stored else np.conj(value))
                    weight[row, target, p] = count
                else:
                    data[row, target, p] = 0
                    weight[row, target, p] = 0
            phasor *= step
    return int(n_nan)
