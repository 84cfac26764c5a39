"""Which subband files belong to one observation, and which cannot be used.

Files of one observation carry time stamps that differ by up to 82 s, because the nodes of the correlator open them
one by one, while observations start 309 s apart. They are therefore chained: sorted by stamp, a new group starts
where the gap to the previous file exceeds 60 s. The stamp is a hint only; the key of an observation is the time in
the header, which is the same in all its subbands.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.naming import STAMP_FORMAT, SUBBAND_COUNT, parse_subband_name
from dsa110_contimg.pipeline.subband_header import TIME_TOLERANCE_S, Header, read_header

__all__ = ["Group", "Header", "Scan", "chain", "group", "read_header", "scan"]

CHAIN_GAP_S = 60.0
_TOLERANCE_DAY = TIME_TOLERANCE_S / 86400.0


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


def chain(stamps: Iterable[datetime]) -> list[list[datetime]]:
    """Return the stamps sorted and split wherever two neighbours are more than ``CHAIN_GAP_S`` apart."""
    chains: list[list[datetime]] = []
    for stamp in sorted(stamps):
        if chains and (stamp - chains[-1][-1]).total_seconds() <= CHAIN_GAP_S:
            chains[-1].append(stamp)
        else:
            chains.append([stamp])
    return chains


def group(paths: Iterable[str | Path]) -> list[Group]:
    """Return the observations that subband files belong to, by their names alone, in order of time.

    Files whose name is not that of a subband file are passed over. Of two files with the same subband number in one
    group the earlier one stays and the other is listed in ``duplicates``.
    """
    named = sorted((*parsed, str(p)) for p in paths if (parsed := parse_subband_name(Path(p).name)))
    groups = []
    start = 0
    for stamps in chain((stamp for stamp, _, _ in named)):
        members = named[start : start + len(stamps)]
        start += len(stamps)
        files: dict[int, str] = {}
        duplicates = []
        for _, subband, path in members:
            if files.setdefault(subband, path) != path:
                duplicates.append(path)
        groups.append(Group(stamps[0].strftime(STAMP_FORMAT), dict(sorted(files.items())), tuple(duplicates)))
    return groups


def scan(directory: str | Path) -> Scan:
    """Return the observations of a directory, after a look into the header of every file.

    One bad file spoils nothing else: it is listed in ``rejected`` with the reason. So is a file whose times disagree
    with the other subbands of its group, and one whose subband is there twice, in its group or in another.

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
    in_step = _without_strays(headers, rejected)
    groups = group(_without_copies(in_step, headers, rejected))
    for found in groups:
        kept = f"another file of {found.stamp} holds the same subband and is used; remove one of the two"
        rejected.extend((path, f"{Path(path).name}: {kept}") for path in found.duplicates)
    return Scan(tuple(groups), tuple(rejected))


def _hdf5_files(directory: Path) -> list[Path]:
    try:
        paths = sorted(p for p in directory.iterdir() if p.name.endswith(".hdf5"))
    except OSError as error:
        raise BadInputError(f"{directory}: {error.strerror}; give a directory of *_sbNN.hdf5 files") from error
    if not paths:
        raise BadInputError(f"{directory}: holds no UVH5 file; give a directory of *_sbNN.hdf5 files")
    return paths


def _without_strays(headers: dict[str, Header], rejected: list[tuple[str, str]]) -> list[str]:
    """Return the files whose subband and times fit their group; reject the others."""
    kept = []
    for found in group(headers):
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


def _without_copies(paths: list[str], headers: dict[str, Header], rejected: list[tuple[str, str]]) -> list[str]:
    """Return the files without those that repeat another one's data, perhaps under a stamp hours away."""
    first: dict[tuple[int, float], str] = {}
    for path in sorted(paths, key=lambda p: Path(p).name):
        header = headers[path]
        original = first.setdefault((header.subband, header.jd_utc[0]), path)
        if original != path:
            reason = f"holds the same subband and times as {Path(original).name}; remove one of the two"
            rejected.append((path, f"{Path(path).name}: {reason}"))
    return list(first.values())
