"""What can go wrong in a stage, and whether trying again can help.

::

    PipelineError
    ├── PermanentError          the same input fails the same way: no retry
    │   ├── BadInputError       a file or parameter that cannot be used
    │   └── DataQualityError    readable, but nothing scientific can be made of it
    └── RetryableError          the surroundings failed (disk full, I/O error): retry with back-off

The queue reads ``retryable`` and nothing else; every other exception of a stage is retried too, because an unknown
failure may be a passing one, and ends in the dead letters after the last attempt.
"""


class PipelineError(Exception):
    """Base of what stages raise on purpose; the message names the thing, the value and the remedy."""

    retryable: bool = False


class PermanentError(PipelineError):
    """The same input will fail the same way."""


class BadInputError(PermanentError):
    """A file or a parameter that cannot be used."""


class DataQualityError(PermanentError):
    """The input is readable, but nothing scientific can be made of it."""


class RetryableError(PipelineError):
    """The surroundings failed; the same input may well succeed later."""

    retryable = True
