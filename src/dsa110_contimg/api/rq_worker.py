"""The RQ worker as a process: takes jobs one by one, and looks after accepted work as every API process does."""

import asyncio
import logging
import threading

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import Database
from dsa110_contimg.api.async_repositories import AsyncJobRepository
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.db_adapters import create_adapter
from dsa110_contimg.api.exceptions import DatabaseError
from dsa110_contimg.api.job_queue import JobQueue
from dsa110_contimg.api.services.absurd.gateway import QueueGateway
from dsa110_contimg.api.services.work_service import Means, WorkService
from dsa110_contimg.api.work_repository import AsyncWorkRepository

log = logging.getLogger(__name__)

_AGAIN_AFTER_S = 5.0


def run_worker(config: APIConfig, queue_config: AbsurdConfig) -> None:
    """Take jobs until the process is told to stop; accepted work that Redis lost is put there again meanwhile."""
    keeper = threading.Thread(target=asyncio.run, args=[look_after(config, queue_config)], name="keeper", daemon=True)
    keeper.start()
    log.info("takes jobs of %s in Redis", config.queue.name)
    JobQueue.from_config(config).work()


async def look_after(config: APIConfig, queue_config: AbsurdConfig) -> None:
    """See to it that accepted work is done, for ever."""
    adapter = create_adapter(config.database, config.timeouts)
    while True:
        try:
            await adapter.connect()
            break
        except DatabaseError as error:
            log.warning("accepted work cannot be looked after yet: %s", error)
            await asyncio.sleep(_AGAIN_AFTER_S)
    database = Database(queue_config.database_url, "dsa110 rq-worker", patience_s=0.5)
    client = AbsurdClient(queue_config, database) if queue_config.enabled else None
    means = Means(
        AsyncWorkRepository(adapter), AsyncJobRepository(adapter), JobQueue.from_config(config),
        QueueGateway(client, queue_config.queue_name),
    )  # fmt: skip
    await WorkService(means, config).run()
