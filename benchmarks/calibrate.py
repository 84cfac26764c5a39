"""Measure flagging, solving and applying: processor time, wall time and peak memory of each, and how true they are.

    python benchmarks/calibrate.py --antennas 96 --directory /a/disk/with/10/GB

simulates and converts one observation (96 antennas are the real size), then runs each stage in a process of its own, as
the worker does, twice: the first run of a machine also compiles the kernels. Children of a stage (the processes of
AOFlagger) are counted in its processor time; the peak memory is that of the stage and, after the slash, of its largest
child.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg.pipeline.application import ApplyOptions, CalibratedMS, apply
from dsa110_contimg.pipeline.calibration import CalibrationSolution, SolveOptions, solve
from dsa110_contimg.pipeline.conversion import ConvertOptions, convert
from dsa110_contimg.pipeline.flagging import FlaggedMS, FlagOptions, flag
from dsa110_contimg.pipeline.simulation import SimulateOptions, simulate
from dsa110_contimg.pipeline.visibilities import opened, read_column, read_layout


def main() -> None:
    """Simulate, convert, run the stages, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--antennas", type=int, default=40, help="6 to 96 (default 40, the size of the demonstration)")
    parser.add_argument("--integrations", type=int, default=24, help="default 24, a whole tile")
    parser.add_argument("--directory", type=Path, default=None, help="where to put the files (default: temporary)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        size = {"n_antennas": arguments.antennas, "n_times": arguments.integrations}
        simulation = simulate(SimulateOptions(f"{directory}/raw", **size))
        ms_path = f"{directory}/observation.ms"
        converted = convert(ConvertOptions(simulation.subband_files, ms_path))
        print(f"{arguments.antennas} antennas, {converted.n_visibilities / 1e6:.1f} Mvis")
        tables = f"{directory}/observation.b", f"{directory}/observation.g"
        calls = (
            ("flag", flag, FlagOptions(ms_path)),
            ("solve", solve, SolveOptions(ms_path, *tables)),
            ("apply", apply, ApplyOptions(ms_path, *tables, f"{directory}/observation_cal.ms")),
        )
        for name, stage, options in calls:
            for run in ("first", "again"):
                product = _in_own_process(name, run, stage, options, converted.n_visibilities)
            _print_product(product, simulation.truth_path)


def _in_own_process(name: str, run: str, stage: Callable[..., Any], options: Any, n_visibilities: int) -> Any:
    """Run a stage in a new process, print what it cost, return its product."""
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_measure, args=(stage, options, sender))
    child.start()
    sender.close()  # else the end of the child would not end the pipe
    product, wall_s, cpu_s, peak_mb, child_peak_mb = receiver.recv()
    child.join()
    rate = n_visibilities / 1e6 / cpu_s
    cost = f"{wall_s:6.1f} s wall {cpu_s:6.1f} s cpu {rate:6.1f} Mvis/cpu-s {peak_mb:6.0f}/{child_peak_mb:.0f} MB"
    print(f"{name:6}{run:6} {cost}")
    return product


def _measure(stage: Callable[..., Any], options: Any, sender: Any) -> None:
    """Run a stage and send its product and cost."""
    started = time.perf_counter()
    product = stage(options)
    wall_s = time.perf_counter() - started
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = sum(usage.ru_utime + usage.ru_stime for usage in (own, children))
    sender.send((product, wall_s, cpu_s, own.ru_maxrss / 1e3, children.ru_maxrss / 1e3))


def _print_product(product: FlaggedMS | CalibrationSolution | CalibratedMS, truth_path: str) -> None:
    """Print what the stage says of its product, and of flags how true they are."""
    if isinstance(product, CalibrationSolution):
        model = (
            f"{product.calibrator} {product.calibrator_flux_jy:.2f} Jy, {product.field_sources} sources of its field"
        )
        print(f"       {model}, median SNR {product.median_snr:.0f}, converged {product.converged_fraction:.3f}")
        return
    recall, false = _flag_truth(product.ms_path, truth_path)
    print(
        f"       flagged {product.flagged_fraction_live:.4f} of live baselines: {recall:.4f} of the interference, "
        f"{false:.4f} of the rest"
    )


def _flag_truth(ms_path: str, truth_path: str) -> tuple[float, float]:
    """Return which fraction of the interference is flagged, and of everything else, on live cross-correlations."""
    truth = json.loads(Path(truth_path).read_text())
    interference = np.array(truth["rfi_jy"]) > 0
    layout = read_layout(ms_path)
    dead = [layout.antenna_names.index(name) for name in truth["dead_antennas"]]
    live = layout.crosses & ~np.isin(layout.antenna1, dead) & ~np.isin(layout.antenna2, dead)
    flagged = np.zeros(interference.shape)
    with opened(ms_path) as rows:
        for time_index in range(layout.n_times):
            flags = read_column(rows, layout, "FLAG", range(time_index, time_index + 1))[0, live]
            flagged[time_index] = flags.any(axis=-1).mean(axis=0)
    return float(flagged[interference].mean()), float(flagged[~interference].mean())


if __name__ == "__main__":
    main()
