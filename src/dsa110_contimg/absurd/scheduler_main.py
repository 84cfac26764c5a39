"""The scheduler as a process: ``python -m dsa110_contimg.absurd.scheduler_main``."""

import asyncio
import sys

from dsa110_contimg import logs
from dsa110_contimg.absurd.config import AbsurdConfig, ConfigError
from dsa110_contimg.absurd.connection import SchemaError
from dsa110_contimg.absurd.scheduling import TaskScheduler
from dsa110_contimg.absurd.service import until_stopped


def main() -> int:
    """Fire schedules until SIGTERM or SIGINT; exit code 1 = switched off or not set up, 2 = wrong settings."""
    try:
        config = AbsurdConfig.from_env()
        logs.setup("scheduler")
        if not config.enabled:
            sys.stderr.write("the queue is switched off; set ABSURD_ENABLED=true to run a scheduler\n")
            return 1
        asyncio.run(until_stopped(TaskScheduler(config)))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except SchemaError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
