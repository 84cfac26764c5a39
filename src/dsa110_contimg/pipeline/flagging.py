"""Stage flagging: mark the visibilities that cannot be trusted, in the column FLAG of a Measurement Set.

In this order:

1. samples without weight (the correlator's flags, NaN, exact zeros: conversion gave them WEIGHT_SPECTRUM 0);
2. autocorrelations;
3. all baselines of dead antennas (`antenna_health`), found before anything else looks at the data;
4. interference on single baselines (AOFlagger, `rfi`), in both polarisations where it is in either;
5. what is left of an integration or a channel of a baseline of which more than `EXTEND_FRACTION` is flagged.

The flags depend on DATA and WEIGHT_SPECTRUM alone, never on what FLAG held before: flagging again gives the same flags.
Fractions are given twice, because absent and dead antennas are no sign of interference: over all cross-correlations,
and over those of live antennas only.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.pipeline import antenna_health, rfi
from dsa110_contimg.pipeline.choices import FlagChoices
from dsa110_contimg.pipeline.errors import DataQualityError
from dsa110_contimg.pipeline.progress import Progress, silent
from dsa110_contimg.pipeline.visibilities import (
    Bools,
    Layout,
    Visibilities,
    opened,
    read_column,
    read_layout,
    read_visibilities,
    time_chunks,
    write_column,
)

#: An integration (channel) of a baseline with more than this fraction of its channels (integrations) flagged goes.
EXTEND_FRACTION = 0.6
#: Steps whose samples are counted one by one; dead antennas are counted by baselines.
STEPS = ("without_weight", "interference", "extension")
#: Gains cannot be solved with fewer antennas.
MIN_LIVE_ANTENNAS = 5


@dataclass(frozen=True)
class FlagOptions(FlagChoices):
    """What to flag.

    Parameters
    ----------
    ms_path : str
        Measurement Set as conversion made it.
    """

    ms_path: str


@dataclass(frozen=True)
class FlaggedMS:
    """What was flagged.

    Parameters
    ----------
    flagged_fraction : float
        Of all samples of cross-correlations.
    flagged_fraction_live : float
        Of the samples of cross-correlations between live antennas: the measure of interference.
    absent_antennas, dead_antennas : tuple of str
        Antennas of the station list without data; antennas with data that carry no signal.
    by_step : dict
        Fraction of all samples of cross-correlations that each step was the first to flag.
    """

    ms_path: str
    flagged_fraction: float
    flagged_fraction_live: float
    absent_antennas: tuple[str, ...]
    dead_antennas: tuple[str, ...]
    by_step: dict[str, float] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


def flag(options: FlagOptions, progress: Progress = silent) -> FlaggedMS:
    """Flag a Measurement Set in place.

    Raises
    ------
    BadInputError
        If the Measurement Set does not exist or is half written.
    DataQualityError
        If fewer than `MIN_LIVE_ANTENNAS` antennas are alive.
    """
    layout = read_layout(options.ms_path)
    progress(0.0, "looking for dead antennas")
    dead = _find_dead(layout)
    wanted = layout.crosses & ~dead[layout.antenna1] & ~dead[layout.antenna2]
    shape = (layout.n_times, layout.n_baselines, -(-len(layout.frequencies_hz) // 8))
    found = np.zeros(shape, np.uint8)
    if options.aoflagger:
        progress(0.15, f"looking for interference on {wanted.sum()} baselines")
        found = rfi.flag_baselines(layout, wanted, lambda done: progress(0.15 + 0.7 * done, "looking for interference"))
    progress(0.85, "writing flags")
    counts = _write_flags(layout, wanted, found)
    progress(1.0, "flagged")
    return _summary(layout, dead, wanted, counts)


def _find_dead(layout: Layout) -> Bools:
    """Return which antennas are absent or dead."""
    with opened(layout.path) as rows:
        statistics = antenna_health.measure(_unflagged(rows, layout))
    dead = antenna_health.find_dead(statistics, layout.antenna1, layout.antenna2, layout.n_antennas)
    if (~dead).sum() < MIN_LIVE_ANTENNAS:
        raise DataQualityError(
            f"{layout.path}: only {(~dead).sum()} of {layout.n_antennas} antennas carry a signal, "
            f"{MIN_LIVE_ANTENNAS} are needed: check the correlator's output of this observation"
        )
    return dead


def _unflagged(rows: Any, layout: Layout) -> Iterator[Visibilities]:
    """Read all integrations with the flags that follow from the weights alone."""
    for times in time_chunks(layout):
        chunk = read_visibilities(rows, layout, times)
        np.equal(chunk.weights, 0, out=chunk.flags)
        yield chunk


def extend(flags: Bools) -> Bools:
    """Flag the rest of each integration and channel of which more than `EXTEND_FRACTION` is flagged.

    Parameters
    ----------
    flags : ndarray (n_times, n_baselines, n_channels) of bool

    Returns
    -------
    ndarray of bool, the same shape
    """
    whole_times = flags.mean(axis=2, keepdims=True) > EXTEND_FRACTION
    whole_channels = flags.mean(axis=0, keepdims=True) > EXTEND_FRACTION
    extended: Bools = flags | whole_times | whole_channels
    return extended


def _extension(found: NDArray[np.uint8], n_channels: int) -> NDArray[np.uint8]:
    """Return what `extend` adds to packed flags, some baselines at a time, packed again."""
    added = np.empty_like(found)
    for first in range(0, found.shape[1], rfi.BASELINES_PER_TURN):
        some = slice(first, first + rfi.BASELINES_PER_TURN)
        flags = np.unpackbits(found[:, some], axis=-1, count=n_channels).view(np.bool_)
        added[:, some] = np.packbits(extend(flags) & ~flags, axis=-1)
    return added


def _write_flags(layout: Layout, wanted: Bools, found: NDArray[np.uint8]) -> dict[str, int]:
    """Write the flags of all steps; return how many samples of cross-correlations each step was the first to flag."""
    added = _extension(found, len(layout.frequencies_hz))
    counts = dict.fromkeys(STEPS, 0)
    with opened(layout.path, readonly=False) as rows:
        for times in time_chunks(layout):
            flags = read_column(rows, layout, "WEIGHT_SPECTRUM", times) == 0
            _flag_chunk(
                flags, layout, wanted, (found[times.start : times.stop], added[times.start : times.stop]), counts
            )
            write_column(rows, layout, "FLAG", times, flags)
            row_flags = flags.reshape(-1, flags.shape[2] * flags.shape[3]).all(axis=1)
            rows.putcol("FLAG_ROW", row_flags, times.start * layout.n_baselines, len(row_flags))
    return counts


def _flag_chunk(
    flags: Bools,
    layout: Layout,
    wanted: Bools,
    masks: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    counts: dict[str, int],
) -> None:
    """Add the steps to the flags of some integrations, in place, and count what each adds."""
    counts["without_weight"] += int(flags[:, wanted].sum())
    n_channels, n_pols = flags.shape[2:]
    flags[:, ~wanted] = True
    for step, mask in zip(("interference", "extension"), masks, strict=True):
        bits = np.unpackbits(mask, axis=-1, count=n_channels).view(np.bool_)
        before = int(flags.sum())
        for pol in range(n_pols):
            flags[..., pol] |= bits
        counts[step] += int(flags.sum()) - before


def _summary(layout: Layout, dead: Bools, wanted: Bools, counts: dict[str, int]) -> FlaggedMS:
    """Put the numbers together."""
    absent = ~layout.present()
    per_baseline = layout.n_times * len(layout.frequencies_hz) * layout.n_polarisations
    n_cross, n_live = int(layout.crosses.sum()), int(wanted.sum())
    flagged_live = sum(counts.values())
    flagged = flagged_live + (n_cross - n_live) * per_baseline
    by_step = {step: count / (n_cross * per_baseline) for step, count in counts.items()}
    by_step["dead_antennas"] = (n_cross - n_live) / n_cross
    names = np.array(layout.antenna_names)
    return FlaggedMS(
        ms_path=layout.path,
        flagged_fraction=flagged / (n_cross * per_baseline),
        flagged_fraction_live=flagged_live / (n_live * per_baseline),
        absent_antennas=tuple(names[absent].tolist()),
        dead_antennas=tuple(names[dead & ~absent].tolist()),
        by_step=by_step,
        files=(layout.path,),
        inputs=(layout.path,),
    )
