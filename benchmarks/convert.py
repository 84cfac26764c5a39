"""Measure how fast subband files become a Measurement Set.

    python benchmarks/convert.py --antennas 96 --directory /a/disk/with/6/GB

simulates one observation (96 antennas are the real size: 2.3 GB), converts it a few times and prints megabytes of
UVH5 and millions of visibilities a second, wall and processor time, and the peak memory of the conversion. The first
conversion of a process also loads the compiled kernel and the Earth-orientation tables; it is printed apart.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

from dsa110_contimg.pipeline.conversion import ConvertedMS, ConvertOptions, convert
from dsa110_contimg.pipeline.simulation import SimulateOptions, Simulation, simulate


def main() -> None:
    """Simulate, convert, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--antennas", type=int, default=40, help="4 to 96 (default 40, the size of the demonstration)")
    parser.add_argument("--repeat", type=int, default=3, help="conversions in one process (default 3)")
    parser.add_argument("--directory", type=Path, default=None, help="where to put the files (default: temporary)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        started = time.perf_counter()
        simulation = simulate(SimulateOptions(directory, n_antennas=arguments.antennas))
        print(f"simulated {arguments.antennas} antennas in {time.perf_counter() - started:.1f} s")
        spawn = multiprocessing.get_context("spawn")  # its own memory, and no fork after parallel kernels
        child = spawn.Process(target=measure, args=(simulation, arguments.repeat, directory))
        child.start()
        child.join()
        raise SystemExit(child.exitcode)


def measure(simulation: Simulation, repeat: int, directory: str) -> None:
    """Convert several times and print a line for each."""
    for k in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        made = convert(ConvertOptions(simulation.subband_files, str(Path(directory) / "measured.ms")))
        report("first" if k == 0 else "again", made, time.perf_counter() - wall, time.process_time() - cpu)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak_gb:.2f} GB")


def report(name: str, made: ConvertedMS, wall_s: float, cpu_s: float) -> None:
    """Print one measurement."""
    megabytes, millions = made.bytes_read / 1e6, made.n_visibilities / 1e6
    print(
        f"{name}: {megabytes:.0f} MB, {millions:.1f} Mvis in {wall_s:.1f} s wall, {cpu_s:.1f} s cpu: "
        f"{megabytes / wall_s:.0f} MB/s, {millions / wall_s:.1f} Mvis/s"
    )


if __name__ == "__main__":
    main()
