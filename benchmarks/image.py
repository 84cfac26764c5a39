"""Measure imaging and source finding, stage by stage of the way to a catalogue.

    python benchmarks/image.py --antennas 40

simulates one observation (96 antennas are the real size), takes it through all stages, each in a process of its own,
and prints for each wall and processor time, peak memory, and megabytes of the raw files and millions of visibilities a
second. Processor time includes child processes; wall time includes some three seconds of imports.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsa110_contimg.pipeline import application, calibration, conversion, extraction, flagging, imaging
from dsa110_contimg.pipeline.naming import Products
from dsa110_contimg.pipeline.recovery import RecoverOptions, recover
from dsa110_contimg.pipeline.simulation import SimulateOptions, Simulation, simulate


def stages(products: Products, raw_files: tuple[str, ...]) -> dict[str, tuple[Callable[[Any], Any], Any]]:
    """Return the stages in their order: name, function, options."""
    ms_path, calibrated_path = str(products.measurement_set), str(products.calibrated_ms)
    tables = str(products.bandpass_table), str(products.gain_table)
    flat, corrected = str(products.flat_noise_image), str(products.image)
    return {
        "convert": (conversion.convert, conversion.ConvertOptions(raw_files, ms_path)),
        "flag": (flagging.flag, flagging.FlagOptions(ms_path)),
        "solve": (calibration.solve, calibration.SolveOptions(ms_path, *tables)),
        "apply": (application.apply, application.ApplyOptions(ms_path, *tables, calibrated_path)),
        "image": (
            imaging.image,
            imaging.ImageOptions(calibrated_path, corrected, flat, str(products.residual_image)),
        ),
        "find": (extraction.extract, extraction.ExtractOptions(corrected, flat, str(products.catalogue))),
    }


def main() -> None:
    """Simulate, run each stage in its own process, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--antennas", type=int, default=40, help="4 to 96 (default 40, the size of the demonstration)")
    parser.add_argument("--directory", type=Path, default=None, help="where to put the files (default: temporary)")
    parser.add_argument("--stage", nargs=2, metavar=("NAME", "STAMP"), help="run one stage of a given directory")
    arguments = parser.parse_args()
    if arguments.stage:
        run_stage(arguments.directory, *arguments.stage)
        return
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        raw = Path(directory) / "raw"
        simulation = simulate(SimulateOptions(str(raw), n_antennas=arguments.antennas))
        for name in stages(Products(Path(directory), simulation.stamp), ()):
            measure(name, Path(directory), simulation)
        catalogue = Products(Path(directory), simulation.stamp).catalogue
        recovery = recover(RecoverOptions(str(catalogue), simulation.truth_path))
        print(f"recovered {recovery.n_recovered} of {recovery.n_detectable} detectable sources")


def run_stage(directory: Path, name: str, stamp: str) -> None:
    """Run one stage in this process."""
    raw_files = tuple(str(path) for path in sorted((directory / "raw").glob("*.hdf5")))
    function, options = stages(Products(directory, stamp), raw_files)[name]
    function(options)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(peak / 1e6)


def measure(name: str, directory: Path, simulation: Simulation) -> None:
    """Run one stage in a process of its own and print a line."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, __file__, "--directory", str(directory), "--stage", name, simulation.stamp]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    megabytes = sum(Path(path).stat().st_size for path in simulation.subband_files) / 1e6
    n_baselines = simulation.n_antennas * (simulation.n_antennas + 1) / 2
    millions = n_baselines * 24 * 768 * 2 / 1e6
    print(
        f"{name:8} {wall_s:6.1f} s wall {cpu_s:6.1f} s cpu {float(finished.stdout.split()[-1]):5.2f} GB "
        f"{megabytes / wall_s:6.0f} MB/s {millions / wall_s:6.1f} Mvis/s",
        flush=True,
    )


if __name__ == "__main__":
    main()
