"""Every statement that Python sends to the queue, by noun: calls of the functions of its SQL files, and reads.

Python never changes a task's state by itself; the functions do.
"""

# Names of the channels of NOTIFY.
READY_CHANNEL = "absurd_ready"
CANCEL_CHANNEL = "absurd_cancel"
EVENT_CHANNEL = "absurd_event"
