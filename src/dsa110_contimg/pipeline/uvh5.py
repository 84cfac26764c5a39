"""Raw subband files (UVH5): what a file says of itself, and which files belong to one observation.

Files of one observation carry time stamps that differ by up to 82 s, because the nodes of the correlator open them one by
one, while observations start 309 s apart. They are therefore chained: sorted by stamp, a new group starts where the
gap to the previous file exceeds 60 s. The stamp is a hint only; the key of an observation is the time in the header, which is
the same in all its subbands.

Nothing outside a file is ever read through it: external links, external storage and virtual datasets are refused.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from dsa110_contimg.pipeline import array
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.naming import STAMP_FORMAT, SUBBAND_COUNT, parse_subband_name

CHAIN_GAP_S = 60.0
#: Largest difference (s) between the times of two subbands of one observation: a hundredth of an integration.
TIME_TOLERANCE_S = 0.01 * array.INTEGRATION_S
_TOLERANCE_DAY = TIME_TOLERANCE_S / 86400.0

_HEADER_ITEMS = (
    *("Nants_data", "Nants_telescope", "Nbls", "Nblts", "Nfreqs", "Npols", "Ntimes", "ant_1_array", "ant_2_array"),
    *("antenna_numbers", "antenna_positions", "channel_width", "freq_array", "integration_time"),
    *("polarization_array", "telescope_name", "time_array", "extra_keywords"),
)
_DATA_ITEMS = ("visdata", "flags", "nsamples")
_TELESCOPES = {"OVRO_MMA", "DSA_110", "DSA-110", "DSA110"}
_MAX_ROWS = 100 * array.STATION_COUNT * (array.STATION_COUNT + 1) // 2
_EARLIEST_JD = 2_457_388.5  # 2016: the telescope did not exist before
_COPY_AGAIN = "copy it again from the correlator or leave it out"


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


@dataclass(frozen=True, slots=True)
class Group:
    """The files of one observation.

    Attributes
    ----------
    stamp : str
        The earliest stamp among its files.
    files : dict of int to str
        Path of each subband.
    duplicates : tuple of str
        Paths left out because another file of the group has the same subband number.
    """

    stamp: str
    files: dict[int, str]
    duplicates: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[int, ...]:
        """Subbands without a file."""
        return tuple(k for k in range(SUBBAND_COUNT) if k not in self.files)

    @property
    def complete(self) -> bool:
        """Whether all 16 subbands are there."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class Scan:
    """What a directory holds: observations, and each file that was left out with the reason."""

    groups: tuple[Group, ...]
    rejected: tuple[tuple[str, str], ...]


def chain(stamps: Iterable[datetime], gap_s: float = CHAIN_GAP_S) -> list[list[datetime]]:
    """Return the stamps sorted and split wherever two neighbours are more than ``gap_s`` apart."""
    chains: list[list[datetime]] = []
    for stamp in sorted(stamps):
        if chains and (stamp - chains[-1][-1]).total_seconds() <= gap_s:
            chains[-1].append(stamp)
        else:
            chains.append([stamp])
    return chains


def group(paths: Iterable[str | Path], gap_s: float = CHAIN_GAP_S) -> list[Group]:
    """Return the observations that subband files belong to, by their names alone, in order of time.

    Files whose name is not that of a subband file are passed over. Of two files with the same subband number in one group
    the earlier one stays and the other is listed in ``duplicates``.
    """
    named = sorted((*parsed, str(p)) for p in paths if (parsed := parse_subband_name(Path(p).name)))
    groups = []
    start = 0
    for stamps in chain((stamp for stamp, _, _ in named), gap_s):
        members = named[start : start + len(stamps)]
        start += len(stamps)
        files: dict[int, str] = {}
        duplicates = []
        for _, subband, path in members:
            if files.setdefault(subband, path) != path:
                duplicates.append(path)
        groups.append(Group(stamps[0].strftime(STAMP_FORMAT), dict(sorted(files.items())), tuple(duplicates)))
    return groups


def scan(directory: str | Path, gap_s: float = CHAIN_GAP_S) -> Scan:
    """Return the observations of a directory, after a look into the header of every file.

    One bad file spoils nothing else: it is listed in ``rejected`` with the reason. So is a file whose times disagree with
    the other subbands of its group, and one whose subband is there twice.

    Raises
    ------
    BadInputError
        The directory cannot be listed, or holds no file ``*.hdf5``.
    """
    rejected: list[tuple[str, str]] = []
    headers: dict[str, Header] = {}
    for path in _hdf5_files(Path(directory)):
        if parse_subband_name(path.name) is None:
            rejected.append((str(path), f"{path.name}: the name is not YYYY-MM-DDTHH:MM:SS_sbNN.hdf5; rename the file"))
            continue
        try:
            headers[str(path)] = read_header(path)
        except BadInputError as error:
            rejected.append((str(path), str(error)))
    in_step = _without_strays(headers, gap_s, rejected)
    groups = group(in_step, gap_s)
    for found in groups:
        kept = f"another file of {found.stamp} holds the same subband and is used; remove one of the two"
        rejected.extend((path, f"{Path(path).name}: {kept}") for path in found.duplicates)
    return Scan(tuple(groups), tuple(rejected))


def read_header(path: str | Path) -> Header:
    """Read and check what one subband file says of itself; the visibilities are not read.

    Raises
    ------
    BadInputError
        The file is missing, unreadable, truncated, not HDF5, not UVH5, or not of this telescope and layout; the message
        names the file, what is wrong and the remedy.
    """
    with opened(path) as file:
        return _header(Path(path), file)


@contextmanager
def opened(path: str | Path) -> Iterator[h5py.File]:
    """Open a UVH5 file for reading after a check of its structure; every failure in the block names the file."""
    with _hdf5(Path(path)) as file:
        _check_structure(Path(path), file)
        yield file


@contextmanager
def _hdf5(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError as error:
        raise BadInputError(f"{path}: there is no such file; give the path of a subband file") from error
    except PermissionError as error:
        raise BadInputError(f"{path}: may not be read; give the user of the worker read access") from error
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"{path}: {_unreadable(path, error)}; {_COPY_AGAIN}") from error


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


def _hdf5_files(directory: Path) -> list[Path]:
    try:
        paths = sorted(p for p in directory.iterdir() if p.name.endswith(".hdf5"))
    except OSError as error:
        raise BadInputError(f"{directory}: {error.strerror}; give a directory of *_sbNN.hdf5 files") from error
    if not paths:
        raise BadInputError(f"{directory}: holds no UVH5 file; give a directory of *_sbNN.hdf5 files")
    return paths


def _without_strays(headers: dict[str, Header], gap_s: float, rejected: list[tuple[str, str]]) -> list[str]:
    """Return the files whose subband and times fit their group; reject the others."""
    kept = []
    for found in group(headers, gap_s):
        members = [*found.files.values(), *found.duplicates]
        starts = [headers[p].jd_utc[0] for p in members]
        usual = max(starts, key=lambda jd: sum(abs(jd - other) < _TOLERANCE_DAY for other in starts))
        for path in members:
            header, named = headers[path], parse_subband_name(Path(path).name)
            if named is not None and named[1] != header.subband:
                reason = f"its frequencies are those of subband {header.subband:02d}; rename the file"
            elif abs(header.jd_utc[0] - usual) >= _TOLERANCE_DAY:
                late_s = (header.jd_utc[0] - usual) * 86400.0
                reason = f"starts {late_s:+.3f} s from the other subbands of {found.stamp}; leave it out"
            else:
                kept.append(path)
                continue
            rejected.append((path, f"{Path(path).name}: {reason}"))
    return kept


def _check_structure(path: Path, file: h5py.File) -> None:
    for name, items in (("Header", _HEADER_ITEMS), ("Data", _DATA_ITEMS)):
        _refuse_links(path, file, name)
        node = file.get(name)
        if not isinstance(node, h5py.Group):
            raise BadInputError(f"{path}: is HDF5 but not UVH5 (no group {name}); leave it out")
        absent = [item for item in items if item not in node]
        if absent:
            raise BadInputError(f"{path}: {name} lacks {', '.join(absent)}; {_COPY_AGAIN}")
        for item in (*items, *node):
            _refuse_links(path, node, item)
            _refuse_foreign_storage(path, node[item])


def _refuse_links(path: Path, parent: h5py.Group, name: str) -> None:
    link = parent.get(name, getlink=True) if name in parent.keys() else None  # noqa: SIM118 - does not follow the link
    if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
        raise BadInputError(
            f"{path}: {name} is a link to {link.path}; links are not followed, store the data in the file"
        )


def _refuse_foreign_storage(path: Path, node: h5py.Dataset | h5py.Group) -> None:
    if isinstance(node, h5py.Dataset) and (node.is_virtual or node.external):
        raise BadInputError(f"{path}: {node.name} lies in another file; store the data in the file itself")


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
        raise BadInputError(f"{path}: extra_keywords lacks phase_center_dec, the pointing is unknown; {_COPY_AGAIN}")
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
    for name in _DATA_ITEMS:
        shape = data[name].shape
        if shape not in (expected, (expected[0], *expected[2:])):
            raise BadInputError(f"{path}: Data/{name} has shape {shape}, its header says {expected}; {_COPY_AGAIN}")
    for name in ("time_array", "ant_1_array", "ant_2_array", "integration_time"):
        if header[name].shape != (n_rows,):
            raise BadInputError(f"{path}: {name} has shape {header[name].shape}, not ({n_rows},); {_COPY_AGAIN}")
    polarizations = tuple(int(p) for p in header["polarization_array"][()])
    if polarizations != array.POLARIZATIONS:
        raise BadInputError(f"{path}: polarisations {polarizations}, not XX and YY {array.POLARIZATIONS}; leave it out")


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


@dataclass(frozen=True, slots=True)
class Rows:
    """The baselines of a file, in the order of its rows within one integration.

    Attributes
    ----------
    antenna1, antenna2 : ndarray, int64, shape (baseline,)
        Antenna numbers as in the file.
    antenna_numbers : ndarray, int64, shape (station,)
    antenna_positions_m : ndarray, float64, shape (station, 3)
        Geocentric, relative to the file's idea of the centre of the array.
    """

    antenna1: npt.NDArray[np.int64]
    antenna2: npt.NDArray[np.int64]
    antenna_numbers: npt.NDArray[np.int64]
    antenna_positions_m: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Visibilities:
    """Some rows of a file, each array of shape (row, channel descending, polarisation)."""

    visibilities: npt.NDArray[np.complex64]
    flags: npt.NDArray[np.bool_]
    samples: npt.NDArray[np.float32]


def read_rows_of(header: Header) -> Rows:
    """Read the baselines of a file and check that all integrations have the same, in the same order.

    Raises
    ------
    BadInputError
        Times and baselines of the rows are not a regular grid with time slowest.
    """
    grid = len(header.jd_utc), header.n_baselines
    with _hdf5(Path(header.path)) as file:
        group = file["Header"]
        times = group["time_array"][()].reshape(grid)
        antennas = [group[name][()].astype(np.int64).reshape(grid) for name in ("ant_1_array", "ant_2_array")]
        numbers = group["antenna_numbers"][()].astype(np.int64)
        positions_m = group["antenna_positions"][()].astype(np.float64)
    regular = np.all(times == times[:, :1]) and all(np.all(a == a[:1]) for a in antennas)
    one, two = antennas[0][0], antennas[1][0]
    pairs = {(min(p), max(p)) for p in zip(one.tolist(), two.tolist(), strict=True)}
    if not regular or len(pairs) != one.size:
        raise BadInputError(f"{header.path}: its rows are not the same baselines at each time in turn; {_COPY_AGAIN}")
    if not np.isin(antennas, numbers).all() or positions_m.shape != (numbers.size, 3):
        raise BadInputError(f"{header.path}: its baselines name antennas that have no position; {_COPY_AGAIN}")
    return Rows(one, two, numbers, positions_m)


def read_visibilities(header: Header, first_row: int, last_row: int) -> Visibilities:
    """Read the rows from ``first_row`` up to, not including, ``last_row``."""
    with _hdf5(Path(header.path)) as file:
        data = file["Data"]
        parts = [data[name][first_row:last_row] for name in _DATA_ITEMS]
    shape = parts[0].shape[0], parts[0].shape[-2], parts[0].shape[-1]
    visibilities, flags, samples = (part.reshape(shape) for part in parts)
    return Visibilities(
        visibilities.astype(np.complex64, copy=False),
        flags.astype(np.bool_, copy=False),
        samples.astype(np.float32, copy=False),
    )
