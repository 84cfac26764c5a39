"""ABSURD, the durable task queue, by noun. Everything but its health is 503 while it is down or switched off.

It is served at ``/absurd``, ``/api/absurd`` and ``/api/v1/absurd``. The earlier web client asks at ``/api/absurd`` and
reads two replies in another shape than the documented one; there, and only there, it gets them so: ``GET queues`` is
``{"queues": [...]}`` instead of the array, and in ``GET workflows/{id}`` the key ``tasks`` holds the tasks (elsewhere
``task_list``) instead of their counts (everywhere ``counts``).
"""

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

routers = tuple(
    noun.router for noun in (tasks, queues, monitoring, workers, templates, schedules, workflows, dead_letters)
)
