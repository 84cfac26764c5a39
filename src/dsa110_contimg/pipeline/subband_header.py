"""What a raw subband file (UVH5) says of itself, checked before anything relies on it.

Nothing outside a file is ever read through it: external links, external storage and virtual datasets are refused.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from dsa110_contimg.pipeline import array
from dsa110_contimg.pipeline.errors import BadInputError, RetryableError

#: Largest difference (s) between the times of two subbands of one observation: a hundredth of an integration.
TIME_TOLERANCE_S = 0.01 * array.INTEGRATION_S
#: Datasets of the group Data, each of shape (row, 1, channel, polarisation).
DATA_ITEMS = ("visdata", "flags", "nsamples")

_HEADER_ITEMS = (
    *("Nants_data", "Nants_telescope", "Nbls", "Nblts", "Nfreqs", "Npols", "Ntimes", "ant_1_array", "ant_2_array"),
    *("antenna_numbers", "antenna_positions", "channel_width", "freq_array", "integration_time"),
    *("polarization_array", "telescope_name", "time_array", "uvw_array", "extra_keywords"),
)
_TELESCOPES = {"OVRO_MMA", "DSA_110", "DSA-110", "DSA110"}
_MAX_ROWS = 100 * array.STATION_COUNT * (array.STATION_COUNT + 1) // 2
_MAX_STATIONS = 1000
_MAX_HEADER_BYTES = 3 * 8 * _MAX_ROWS  # uvw_array, the largest
_EXTRA = "Header/extra_keywords"
_EARLIEST_JD = 2_457_388.5  # 2016: the telescope did not exist before
#: Errors of the surroundings, not of the file.
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
#: The remedy for a damaged file.
COPY_AGAIN = "copy it again from the correlator or leave it out"


@dataclass(frozen=True, slots=True)
class Header:
    """What one subband file says of itself.

    Attributes
    ----------
    path : str
    subband : int
        0 (highest frequency) to 15, from the frequencies.
    frequencies_hz : tuple of float
        Channel centres, descending.
    jd_utc : tuple of float
        Centres of the integrations.
    integration_s : float
    dec_rad : float
        Apparent declination of the phase centre, at hour angle 0.
    n_baselines : int
        With autocorrelations.
    n_antennas : int
        With data.
    size_bytes : int
    """

    path: str
    subband: int
    frequencies_hz: tuple[float, ...]
    jd_utc: tuple[float, ...]
    integration_s: float
    dec_rad: float
    n_baselines: int
    n_antennas: int
    size_bytes: int


def read_header(path: str | Path) -> Header:
    """Read and check what one subband file says of itself; the visibilities are not read.

    Raises
    ------
    BadInputError
        The file is missing, unreadable, truncated, not HDF5, not UVH5, or not of this telescope and layout; the message
        names the file, what is wrong and the remedy.
    """
    with _opened(path) as file:
        return _header(Path(path), file)


@contextmanager
def _opened(path: str | Path) -> Iterator[h5py.File]:
    with open_hdf5(Path(path)) as file:
        _check_structure(Path(path), file)
        yield file


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; every failure in the block names the file, what is wrong and the remedy."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError as error:
        raise BadInputError(f"{path}: there is no such file; give the path of a subband file") from error
    except PermissionError as error:
        raise BadInputError(f"{path}: may not be read; give the user of the worker read access") from error
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        if getattr(error, "errno", None) in _PASSING:
            raise RetryableError(f"{path}: {error}; check the disk or mount of {path.parent}") from error
        raise BadInputError(f"{path}: {_unreadable(path, error)}; {COPY_AGAIN}") from error


def _unreadable(path: Path, error: Exception) -> str:
    reason = str(error).replace("\n", " ")
    if not path.is_file():
        return "is not a file"
    if path.stat().st_size == 0:
        return "is empty (0 bytes)"
    if "truncated" in reason:
        return f"is truncated at {path.stat().st_size} bytes ({reason})"
    if not h5py.is_hdf5(path):
        return "is not an HDF5 file"
    return f"cannot be read as UVH5 ({reason})"


def _check_structure(path: Path, file: h5py.File) -> None:
    for name, items in (("Header", _HEADER_ITEMS), (_EXTRA, ()), ("Data", DATA_ITEMS)):
        _refuse_links(path, file, name)
        node = file.get(name)
        if not isinstance(node, h5py.Group):
            raise BadInputError(f"{path}: is HDF5 but not UVH5 (no group {name}); leave it out")
        absent = [item for item in items if item not in node]
        if absent:
            raise BadInputError(f"{path}: {name} lacks {', '.join(absent)}; {COPY_AGAIN}")
        for item in (*items, *node):
            _refuse_links(path, node, item)
            found = node[item]
            if item in items and item != "extra_keywords" and not isinstance(found, h5py.Dataset):
                raise BadInputError(f"{path}: {name}/{item} holds no values; {COPY_AGAIN}")
            _refuse_foreign_storage(path, found)
            if name != "Data":
                _refuse_claims(path, found)


def _refuse_links(path: Path, parent: h5py.Group, name: str) -> None:
    link = parent.get(name, getlink=True) if name in parent.keys() else None  # noqa: SIM118 - does not follow the link
    if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
        raise BadInputError(
            f"{path}: {name} is a link to {link.path}; links are not followed, store the data in the file"
        )


def _refuse_foreign_storage(path: Path, node: h5py.Dataset | h5py.Group) -> None:
    if isinstance(node, h5py.Dataset) and (node.is_virtual or node.external):
        raise BadInputError(f"{path}: {node.name} lies in another file; store the data in the file itself")


def _refuse_claims(path: Path, node: h5py.Dataset | h5py.Group) -> None:
    """Refuse an item of a header that no memory holds; those of Data are read in parts, by their shape."""
    if isinstance(node, h5py.Dataset) and (node.size or 0) * node.dtype.itemsize > _MAX_HEADER_BYTES:
        raise BadInputError(f"{path}: {node.name} has {node.size} values of {node.dtype}, too many; {COPY_AGAIN}")


def _header(path: Path, file: h5py.File) -> Header:
    header, data = file["Header"], file["Data"]
    _check_telescope(path, header)
    n_times, n_baselines, n_channels = (int(header[k][()]) for k in ("Ntimes", "Nbls", "Nfreqs"))
    _check_sizes(path, header, data, (n_times, n_baselines, n_channels))
    jd_utc = np.asarray(header["time_array"][::n_baselines], dtype=np.float64)
    integration_s = float(header["integration_time"][0])
    _check_times(path, jd_utc, integration_s)
    frequencies_hz = np.asarray(header["freq_array"][()], dtype=np.float64).ravel()
    extra = header["extra_keywords"]
    if "phase_center_dec" not in extra:
        raise BadInputError(f"{path}: extra_keywords lacks phase_center_dec, the pointing is unknown; {COPY_AGAIN}")
    dec_rad, hour_angle_rad = (
        float(extra[k][()]) if k in extra else 0.0 for k in ("phase_center_dec", "ha_phase_center")
    )
    if not abs(dec_rad) <= np.pi / 2 or hour_angle_rad != 0.0:
        raise BadInputError(
            f"{path}: phase centre at hour angle {hour_angle_rad} rad, declination {dec_rad} rad; "
            "only drift scans on the meridian can be converted, leave it out"
        )
    return Header(
        path=str(path),
        subband=_subband(path, header, frequencies_hz),
        frequencies_hz=tuple(frequencies_hz.tolist()),
        jd_utc=tuple(jd_utc.tolist()),
        integration_s=integration_s,
        dec_rad=dec_rad,
        n_baselines=n_baselines,
        n_antennas=int(header["Nants_data"][()]),
        size_bytes=path.stat().st_size,
    )


def _check_telescope(path: Path, header: h5py.Group) -> None:
    name = header["telescope_name"][()]
    name = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    if name not in _TELESCOPES:
        raise BadInputError(f"{path}: telescope is {name!r}, not {array.TELESCOPE_NAME}; leave it out")


def _check_sizes(path: Path, header: h5py.Group, data: h5py.Group, sizes: tuple[int, int, int]) -> None:
    n_times, n_baselines, n_channels = sizes
    n_rows = n_times * n_baselines
    if min(sizes) < 1 or n_rows > _MAX_ROWS or n_channels != array.SUBBAND_CHANNELS:
        raise BadInputError(
            f"{path}: {n_times} times x {n_baselines} baselines x {n_channels} channels; "
            f"a subband has {array.SUBBAND_CHANNELS} channels and at most {_MAX_ROWS} rows, leave it out"
        )
    expected = (n_rows, 1, n_channels, len(array.POLARIZATIONS))
    for name in DATA_ITEMS:
        shape = data[name].shape
        if shape not in (expected, (expected[0], *expected[2:])):
            raise BadInputError(f"{path}: Data/{name} has shape {shape}, its header says {expected}; {COPY_AGAIN}")
    for name, size in _expected_sizes(header, n_rows, n_baselines, n_channels):
        if header[name].size != size:
            raise BadInputError(f"{path}: {name} has {header[name].size} values, not {size}; {COPY_AGAIN}")
    kinds = tuple(data[name].dtype.kind for name in DATA_ITEMS)
    if kinds[0] != "c" or kinds[1] not in "bui" or kinds[2] not in "fui":
        types = ", ".join(f"{name} {data[name].dtype}" for name in DATA_ITEMS)
        raise BadInputError(f"{path}: {types} are not complex, logical and real numbers; leave it out")
    polarizations = tuple(int(p) for p in header["polarization_array"][()])
    if polarizations != array.POLARIZATIONS:
        raise BadInputError(f"{path}: polarisations {polarizations}, not XX and YY {array.POLARIZATIONS}; leave it out")


def _expected_sizes(header: h5py.Group, n_rows: int, n_baselines: int, n_channels: int) -> list[tuple[str, int]]:
    """Return how many values each array of the header must have, known before it is read: a file may claim any size."""
    n_stations = min(int(header["Nants_telescope"][()]), _MAX_STATIONS)
    by_row = ("time_array", "ant_1_array", "ant_2_array", "integration_time")
    return [
        *((name, n_rows) for name in by_row),
        ("uvw_array", 3 * n_rows),
        ("freq_array", n_channels),
        ("polarization_array", len(array.POLARIZATIONS)),
        ("antenna_numbers", n_stations),
        ("antenna_positions", 3 * n_stations),
    ]


def _check_times(path: Path, jd_utc: npt.NDArray[np.float64], integration_s: float) -> None:
    if not (np.all(np.isfinite(jd_utc)) and jd_utc[0] > _EARLIEST_JD and np.all(np.diff(jd_utc) > 0)):
        raise BadInputError(
            f"{path}: times are not ascending Julian dates after 2016 (first {jd_utc[0]}); leave it out"
        )
    if not 0.1 < integration_s < 120.0:
        raise BadInputError(f"{path}: integration time {integration_s} s is not between 0.1 and 120 s; leave it out")


def _subband(path: Path, header: h5py.Group, frequencies_hz: npt.NDArray[np.float64]) -> int:
    width_hz = float(np.asarray(header["channel_width"][()]).ravel()[0])
    even = np.allclose(np.diff(frequencies_hz), -array.CHANNEL_WIDTH_HZ, atol=1.0)
    if not even or abs(abs(width_hz) - array.CHANNEL_WIDTH_HZ) > 1.0:
        raise BadInputError(
            f"{path}: channels of {width_hz} Hz from {frequencies_hz[0]} Hz; "
            f"expected {array.SUBBAND_CHANNELS} descending ones of {array.CHANNEL_WIDTH_HZ} Hz, leave it out"
        )
    subband = array.subband_of(frequencies_hz[0])
    if subband is None:
        raise BadInputError(
            f"{path}: first channel at {frequencies_hz[0]} Hz starts no subband of the array; leave it out"
        )
    return subband
