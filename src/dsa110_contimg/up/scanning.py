"""Find the observations of a directory. Runs in a child process: it needs numpy and h5py, the entrance does not."""

from dataclasses import dataclass

from dsa110_contimg.pipeline.progress import Progress, silent
from dsa110_contimg.pipeline.uvh5 import scan


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """Where to look."""

    directory: str


@dataclass(frozen=True, slots=True)
class Observation:
    """The usable files of one observation, by rising subband."""

    stamp: str
    files: tuple[str, ...]
    missing_subbands: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What a directory holds: observations, and (path, reason) of each file that is left out."""

    observations: tuple[Observation, ...]
    rejected: tuple[tuple[str, str], ...]


def find_observations(options: ScanOptions, progress: Progress = silent) -> Found:
    """Return the observations of a directory; every file is looked into, none is changed.

    Raises
    ------
    BadInputError
        The directory cannot be listed, or holds no file ``*.hdf5``.
    """
    progress(0.0, f"reading headers in {options.directory}")
    found = scan(options.directory)
    observations = (Observation(group.stamp, tuple(group.files.values()), group.missing) for group in found.groups)
    return Found(tuple(observations), found.rejected)
