"""Processes of this wing: ``python -m dsa110_contimg.api`` serves; with the word ``jobs`` it is an RQ worker."""

import sys

import uvicorn

from dsa110_contimg import logs
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.config import APIConfig, ConfigError, get_config
from dsa110_contimg.api.job_queue import run_worker

GRACEFUL_STOP_S = 5


def serve(config: APIConfig) -> None:
    """Serve the API until the process is told to stop."""
    logs.setup("api", config.log.level)
    uvicorn.run(
        create_app(config),
        host=config.server.host,
        port=config.server.port,
        proxy_headers=False,  # the gate decides which proxy is believed
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACEFUL_STOP_S,
    )


def work(config: APIConfig) -> None:
    """Take jobs from the RQ queue until the process is told to stop."""
    logs.setup("rq-worker", config.log.level)
    run_worker(config)


def main(words: list[str]) -> int:
    """Run one process; exit code 2 = wrong usage or settings."""
    program = {(): serve, ("serve",): serve, ("jobs",): work}.get(tuple(words))
    if program is None:
        sys.stderr.write(f"{' '.join(words)} is unknown; say nothing, serve or jobs\n")
        return 2
    try:
        program(get_config())
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
