"""The durable task queue as the API shows it, by noun."""

from dataclasses import dataclass
from typing import Self

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.api.services.absurd.dead_letters import DeadLetterService
from dsa110_contimg.api.services.absurd.events import QueueEvents
from dsa110_contimg.api.services.absurd.gateway import QueueGateway
from dsa110_contimg.api.services.absurd.monitoring import MonitoringService
from dsa110_contimg.api.services.absurd.queues import QueueService
from dsa110_contimg.api.services.absurd.schedules import ScheduleService
from dsa110_contimg.api.services.absurd.tasks import TaskService
from dsa110_contimg.api.services.absurd.templates import TemplateService
from dsa110_contimg.api.services.absurd.workflows import WorkflowService


@dataclass(frozen=True, slots=True)
class AbsurdServices:
    """Everything that the queue's routes ask."""

    gateway: QueueGateway
    tasks: TaskService
    workflows: WorkflowService
    queues: QueueService
    schedules: ScheduleService
    templates: TemplateService
    dead_letters: DeadLetterService
    monitoring: MonitoringService
    events: QueueEvents

    @classmethod
    def over(cls, client: AbsurdClient | None, queue_name: str, patience_s: float = 2.0) -> Self:
        """Return the services over a client of the queue; None: it is switched off.

        Who asks for its health waits ``patience_s`` at most.
        """
        gateway = QueueGateway(client, queue_name)
        return cls(
            gateway, TaskService(gateway), WorkflowService(gateway), QueueService(gateway), ScheduleService(gateway),
            TemplateService(gateway), DeadLetterService(gateway), MonitoringService(gateway, patience_s),
            QueueEvents(gateway),
        )  # fmt: skip
