"""Processes of this wing: ``python -m dsa110_contimg.api`` serves; with the word ``jobs`` it is an RQ worker."""

import gc
import sys

if __name__ == "__main__":
    gc.disable()  # all that is imported stays; looking for garbage among it takes a sixth of the start

from dsa110_contimg import logs
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.config import ConfigError as QueueConfigError
from dsa110_contimg.api.app import server_settings
from dsa110_contimg.api.config import APIConfig, ConfigError, get_config
from dsa110_contimg.api.rq_worker import run_worker
from dsa110_contimg.api.server import Server, inherited_sockets


def serve(config: APIConfig) -> int:
    """Serve the API until the process is told to stop; exit code 3 = it could not start."""
    logs.setup("api", config.log.level, secrets=config.secrets())
    server = Server(server_settings(config))
    _settle()
    server.run(sockets=inherited_sockets(config.server))
    return 0 if server.started else 3


def work(config: APIConfig) -> int:
    """Take jobs from the RQ queue until the process is told to stop."""
    logs.setup("rq-worker", config.log.level, secrets=config.secrets())
    queue_config = AbsurdConfig.from_env()
    _settle()
    run_worker(config, queue_config)
    return 0


def _settle() -> None:
    """Collect garbage from now on, but never among what is there now."""
    gc.freeze()
    gc.enable()


def main(words: list[str]) -> int:
    """Run one process; exit code 2 = wrong usage or settings, else its own."""
    program = {(): serve, ("serve",): serve, ("jobs",): work}.get(tuple(words))
    if program is None:
        sys.stderr.write(f"{' '.join(words)} is unknown; say nothing, serve or jobs\n")
        return 2
    try:
        return program(get_config())
    except (ConfigError, QueueConfigError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
