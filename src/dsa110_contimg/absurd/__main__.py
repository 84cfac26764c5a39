"""The worker as a process: ``python -m dsa110_contimg.absurd`` runs the tasks of the pipeline.

``--queues a,b``, ``--tasks x,y`` and ``--concurrency N`` say which queues it serves, which tasks it takes, and how many
at once.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from dsa110_contimg import logs
from dsa110_contimg.absurd.adapter import Adapter
from dsa110_contimg.absurd.config import AbsurdConfig, process_environment
from dsa110_contimg.absurd.config import ConfigError as QueueConfigError
from dsa110_contimg.absurd.connection import SchemaError
from dsa110_contimg.absurd.service import until_stopped
from dsa110_contimg.absurd.worker import AbsurdWorker
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.config import APIConfig, ConfigError, get_config
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.exceptions import DSA110APIError, ServiceUnavailableError
from dsa110_contimg.api.job_queue import JobQueue
from dsa110_contimg.api.run_logs import RunLogs
from dsa110_contimg.version import code_version

logger = logging.getLogger(__name__)


async def work(queue: AbsurdConfig, config: APIConfig) -> None:
    """Run the tasks of the pipeline until the process is told to stop."""
    pictures = JobQueue.from_config(config)

    async def order_picture(image_path: str) -> None:
        """Have the image's picture made in advance; without it, whoever asks for the picture first waits a second."""
        try:
            await asyncio.to_thread(pictures.enqueue_thumbnail, image_path)
        except ServiceUnavailableError as error:
            logger.warning("no picture of %s in advance: %s", image_path, error)

    async with open_database(config.database, config.timeouts) as adapter:
        recorder, logbook = AsyncProductRecorder(adapter), RunLogs(config.log.run_directory)
        tasks = Adapter(recorder, code_version(), order_picture, logbook).tasks()
        await until_stopped(AbsurdWorker(queue, tasks.handlers()))


_WORDS = {"queues": "ABSURD_WORKER_QUEUES", "tasks": "ABSURD_WORKER_TASKS", "concurrency": "ABSURD_WORKER_CONCURRENCY"}


def settings(words: Sequence[str] | None = None) -> AbsurdConfig:
    """Return the queue's settings: the environment's, and what the command line says instead."""
    parser = argparse.ArgumentParser("python -m dsa110_contimg.absurd", description=__doc__)
    for name, variable in _WORDS.items():
        parser.add_argument(f"--{name}", metavar="TEXT", help=f"instead of {variable}")
    given = vars(parser.parse_args(words))
    chosen = {variable: given[name] for name, variable in _WORDS.items() if given[name] is not None}
    return AbsurdConfig.from_env({**process_environment(), **chosen})


def main(words: Sequence[str] | None = None) -> int:
    """Work until SIGTERM or SIGINT; exit code 1 = switched off or no database, 2 = wrong settings."""
    try:
        queue, config = settings(words), get_config()
        logs.setup("worker", config.log.level)
        if not queue.enabled:
            sys.stderr.write("the queue is switched off; set ABSURD_ENABLED=true to run a worker\n")
            return 1
        asyncio.run(work(queue, config))
    except (ConfigError, QueueConfigError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (SchemaError, DSA110APIError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
