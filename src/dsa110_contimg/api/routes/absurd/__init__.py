"""ABSURD, the durable task queue, by noun. Everything but its health is 503 while it is down or switched off.

It is served at ``/absurd``, ``/api/absurd`` and ``/api/v1/absurd``. The earlier web client asks at ``/api/absurd`` and
reads two replies in another shape than the documented one; there, and only there, it gets them so: ``GET queues`` is
``{"queues": [...]}`` instead of the array, and in ``GET workflows/{id}`` the key ``tasks`` holds the tasks (elsewhere
``task_list``) instead of their counts (everywhere ``counts``).
"""

from fastapi import APIRouter

from dsa110_contimg.api.routes.absurd import (
    dead_letters,
    monitoring,
    queues,
    schedules,
    tasks,
    templates,
    workers,
    workflows,
)

router = APIRouter(prefix="/absurd", tags=["task queue"])
for _noun in (tasks, queues, monitoring, workers, templates, schedules, workflows, dead_letters):
    router.include_router(_noun.router)
