"""Radio-frequency interference: AOFlagger per baseline before calibration, and a test over the whole array after it.

`flag_baselines` runs AOFlagger (Offringa, van de Gronde & Roerdink 2012, A&A 539, A95: SumThreshold and the
scale-invariant rank operator) on the amplitudes of each baseline's dynamic spectrum, with the strategy
``data/interference.lua``. AOFlagger holds the interpreter's lock, so baselines are shared out among processes; they are
spawned, because a fork after a parallel kernel hangs.

`array_outliers` looks at all baselines together: the mean power of what is left after calibration and subtraction of
the model, per integration and channel. Interference too weak for any one baseline stands out there.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from multiprocessing import get_context, parent_process

import aoflagger
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from dsa110_contimg.pipeline.visibilities import Layout, opened

Bools = NDArray[np.bool_]
#: Baselines that one process takes at a time: some tens of MB.
BASELINES_PER_TURN = 64
#: With fewer baselines than this the start of processes costs more than it saves.
BASELINES_WORTH_A_PROCESS = 200
#: Channels of the running median that smooths the band's shape: three subbands.
SHAPE_CHANNELS = 145


@dataclass(frozen=True)
class _Turn:
    """A run of baselines of one Measurement Set, for one process."""

    layout: Layout
    first: int
    last: int


def _end_with_parent() -> None:
    """End this process when its parent has ended, however that happened: a killed stage must leave nothing running."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _watch_parent() -> None:
    """Start the watch of `_end_with_parent`."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def run_aoflagger(data: NDArray[np.complex64], bad: Bools) -> Bools:
    """Flag the dynamic spectrum of each baseline.

    Parameters
    ----------
    data, bad : ndarray (n_times, n_baselines, n_channels, n_polarisations)
        Visibilities in any unit; True where a sample is known to be bad and must not be looked at.

    Returns
    -------
    ndarray (n_times, n_baselines, n_channels) of bool
        Newly found interference; AOFlagger judges the polarisations together.
    """
    n_times, n_baselines, n_channels, n_pols = data.shape
    flagger = aoflagger.AOFlagger()
    with as_file(files("dsa110_contimg.pipeline").joinpath("data/interference.lua")) as path:
        strategy = flagger.load_strategy_file(str(path))
    images = flagger.make_image_set(n_times, n_channels, 2 * n_pols)
    known = flagger.make_flag_mask(n_times, n_channels, False)
    found = np.zeros((n_times, n_baselines, n_channels), np.bool_)
    for baseline in range(n_baselines):
        masked = bad[:, baseline].all(axis=-1)
        if masked.all():
            continue
        known.set_buffer(np.ascontiguousarray(masked.T))
        for pol in range(n_pols):
            spectrum = np.where(masked, 0, data[:, baseline, :, pol]).T
            images.set_image_buffer(2 * pol, np.ascontiguousarray(spectrum.real))
            images.set_image_buffer(2 * pol + 1, np.ascontiguousarray(spectrum.imag))
        found[:, baseline] = strategy.run(images, known).get_buffer().T & ~masked
    return found


def _flag_turn(turn: _Turn) -> NDArray[np.uint8]:
    """Flag some baselines of a Measurement Set; return packed bits (n_times, n_baselines, n_channels / 8)."""
    layout, n_rows = turn.layout, turn.last - turn.first
    shape = (layout.n_times, n_rows, len(layout.frequencies_hz), layout.n_polarisations)
    data, bad = np.empty(shape, np.complex64), np.empty(shape, np.bool_)
    with opened(layout.path) as rows:
        for time in range(layout.n_times):
            first_row = time * layout.n_baselines + turn.first
            data[time] = rows.getcol("DATA", first_row, n_rows)
            bad[time] = rows.getcol("WEIGHT_SPECTRUM", first_row, n_rows) == 0
    return np.packbits(run_aoflagger(data, bad), axis=-1)


def _turns(layout: Layout, wanted: Bools) -> Iterator[_Turn]:
    """Divide the rows from the first to the last wanted baseline into turns."""
    for first in range(0, layout.n_baselines, BASELINES_PER_TURN):
        last = min(first + BASELINES_PER_TURN, layout.n_baselines)
        if wanted[first:last].any():
            yield _Turn(layout, first, last)


def _process_count(n_wanted: int) -> int:
    """Return how many processes share the work: those that this process may run on, one for little work."""
    return len(os.sched_getaffinity(0)) if n_wanted >= BASELINES_WORTH_A_PROCESS else 1


def flag_baselines(
    layout: Layout, wanted: Bools, report: Callable[[float], None], n_processes: int | None = None
) -> NDArray[np.uint8]:
    """Run AOFlagger on the baselines of a Measurement Set.

    Parameters
    ----------
    wanted : ndarray (n_baselines,) of bool
        Baselines worth looking at.
    report : callable
        Told the finished fraction.
    n_processes : int or None
        How many processes share the work; None takes as many as there are cores, if there is work enough.

    Returns
    -------
    ndarray (n_times, n_baselines, n_channels / 8) of uint8
        Bits along the channels (``numpy.packbits``), set where there is interference.
    """
    turns = list(_turns(layout, wanted))
    n_bytes = -(-len(layout.frequencies_hz) // 8)
    found = np.zeros((layout.n_times, layout.n_baselines, n_bytes), np.uint8)
    with _mapper(n_processes or _process_count(int(wanted.sum()))) as mapped:
        for index, (turn, bits) in enumerate(zip(turns, mapped(_flag_turn, turns), strict=True)):
            found[:, turn.first : turn.last] = bits
            report((index + 1) / len(turns))
    found[:, ~wanted] = 0
    return found


@contextmanager
def _mapper(n_processes: int) -> Iterator[Callable[..., Iterable[NDArray[np.uint8]]]]:
    """Give a ``map`` over spawned processes, or the built-in one if a single process will do."""
    if n_processes == 1:
        yield map
        return
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn"), initializer=_watch_parent) as pool:
        yield pool.map


def array_outliers(power: NDArray[np.float64], count: NDArray[np.float64], *, threshold_sigma: float = 6.0) -> Bools:
    """Find integrations and channels where the whole array sees more power than it usually does.

    What is usual is a product: the median over the channels of each integration, which a burst over less than half the
    band does not move, times the shape of the band, the median over time smoothed by a running median over
    `SHAPE_CHANNELS`, which lasting interference in narrow channels does not move. The excess over it, in units of its
    expected error (the usual power over the square root of the number of samples), is compared with the robust scatter
    of the excesses of the typical integration.

    Parameters
    ----------
    power : ndarray (n_times, n_channels)
        Mean residual power of many samples (`normal_sums.residual_power`), NaN where there are none.
    count : ndarray (n_times, n_channels)
        Samples in each mean.

    Returns
    -------
    ndarray (n_times, n_channels) of bool
    """
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # medians of integrations and channels without any samples
        level = np.nanmedian(power, axis=1, keepdims=True)
        shape = np.nanmedian(power / level, axis=0)
        shape = median_filter(np.where(np.isfinite(shape), shape, 1.0), size=SHAPE_CHANNELS, mode="nearest")
        excess = (power / (level * shape) - 1.0) * np.sqrt(count)
        middle = np.nanmedian(excess, axis=1, keepdims=True)
        scatter = 1.4826 * np.nanmedian(np.nanmedian(np.abs(excess - middle), axis=1))
        outliers: Bools = excess - middle > threshold_sigma * scatter
    return outliers
