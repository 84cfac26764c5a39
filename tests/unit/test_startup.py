"""The API starts light: no science library, little memory. Its time is measured: ``python -m benchmarks.api``."""

import json
import subprocess
import sys

START = """
import json, pathlib, sys
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.absurd.config import AbsurdConfig
create_app(APIConfig.from_env({}), AbsurdConfig())
light = ("dsa110_contimg.pipeline", "dsa110_contimg.pipeline.naming", "dsa110_contimg.pipeline.quality")
heavy = ("numpy", "scipy", "astropy", "pandas", "matplotlib", "PIL", "h5py", "casacore",
         "dsa110_contimg.pipeline")
print(json.dumps({
    "mib": int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024,
    "heavy": [name for name in sys.modules if name.startswith(heavy) and name not in light],
}))
"""


def test_the_api_starts_without_science_and_in_little_memory() -> None:
    run = json.loads(subprocess.check_output([sys.executable, "-c", START]))
    assert run["heavy"] == []
    assert run["mib"] < 120
