"""The API starts light: nothing that it does not need, little memory. How fast: ``python -m benchmarks.api``."""

import json
import subprocess
import sys
from pathlib import Path

#: Starts a process of the API as far as the moment at which it would serve, and tells what it is then.
START = """
import gc, json, pathlib, runpy, sys
from fastapi.routing import iter_route_contexts
from dsa110_contimg.api.schemas import Reply
from dsa110_contimg.api.server import Server
light = ("dsa110_contimg.pipeline", "dsa110_contimg.pipeline.calibrators", "dsa110_contimg.pipeline.choices",
         "dsa110_contimg.pipeline.crossmatch", "dsa110_contimg.pipeline.errors", "dsa110_contimg.pipeline.image_limits",
         "dsa110_contimg.pipeline.naming", "dsa110_contimg.pipeline.products", "dsa110_contimg.pipeline.quality")
heavy = ("numpy", "scipy", "astropy", "pandas", "matplotlib", "PIL", "h5py", "casacore",
         "dsa110_contimg.pipeline", "alembic", "mako", "rich", "typer", "httpx", "jwt", "cryptography.hazmat")
def kinds(model):
    return [model, *(kind for each in model.__subclasses__() for kind in kinds(each))]
def tell(server, sockets):
    server.started = True
    app = server.config.app
    print(json.dumps({
        "mib": int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024,
        "heavy": [name for name in sys.modules if name.startswith(heavy) and name not in light],
        "twice": [each.path for each in iter_route_contexts(app.routes) if each.original_route not in app.routes],
        "built": [model.__name__ for model in kinds(Reply) if model.__pydantic_complete__],
        "collects": gc.isenabled(),
        "left_alone": gc.get_freeze_count(),
    }))
Server.run = tell
sys.argv = ["dsa110_contimg.api"]
runpy.run_module("dsa110_contimg.api", run_name="__main__")
"""


def test_the_api_starts_with_what_it_needs_in_little_memory_and_collects_garbage_only_among_what_is_new(
    tmp_path: Path,
) -> None:
    environ = {"DSA110_STATE_DIR": str(tmp_path)}
    run = json.loads(subprocess.check_output([sys.executable, "-c", START], env=environ))
    assert run["heavy"] == []
    assert run["twice"] == [], "a router that is included in another one is built anew"
    assert run["built"] == [], "what checks replies is for their description only"
    assert run["mib"] < 120
    assert run["collects"]
    assert run["left_alone"] > 100_000
