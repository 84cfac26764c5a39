"""The way from the API to the durable queue.

When the queue is switched off or its database is down, every question is answered with 503 and the rest of the API
goes on; the connection is tried again with the next question.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.connection import AbsurdError, ChangedError, QueueUnavailableError, SchemaError
from dsa110_contimg.absurd.schedules import ScheduleExistsError
from dsa110_contimg.absurd.specs import UnknownTaskError
from dsa110_contimg.absurd.templates import TemplateExistsError
from dsa110_contimg.api.exceptions import (
    InvalidRecordError,
    PreconditionFailedError,
    QueueDisabledError,
    RecordAlreadyExistsError,
    RecordNotFoundError,
    ServiceUnavailableError,
    ValidationError,
)
from dsa110_contimg.api.preconditions import require_match

Row = dict[str, Any]
Answer = TypeVar("Answer")

_CONNECT_LIMIT_S = 1.5
_AGAIN_AFTER_S = 1.0
_TIMES = ("_at", "timestamp", "_updated")


class QueueGateway:
    """Asks the queue, over a connection that is opened when it is first needed.

    Parameters
    ----------
    client : AbsurdClient, optional
        Client of the queue; None when the queue is switched off.
    queue_name : str
        The queue of the pipeline.
    """

    def __init__(self, client: AbsurdClient | None, queue_name: str) -> None:
        self.client = client
        self.queue_name = queue_name
        self._connected = False
        self._failed: tuple[float, str] = (float("-inf"), "")
        self._connecting = asyncio.Lock()

    async def ask(self, question: Callable[[AbsurdClient], Awaitable[Answer]]) -> Answer:
        """Return what the queue answers.

        Raises
        ------
        ServiceUnavailableError
            The queue is switched off or cannot be asked.
        ValidationError, InvalidRecordError, RecordAlreadyExistsError, PreconditionFailedError
            The queue refuses what it is asked to do.
        """
        if self.client is None:
            raise QueueDisabledError
        try:
            await self._connect(self.client)
            return await question(self.client)
        except (QueueUnavailableError, SchemaError, TimeoutError) as error:
            self._failed = (time.monotonic(), str(error) or "no answer in time")
            raise ServiceUnavailableError("ABSURD", self._failed[1]) from error
        except UnknownTaskError as error:
            raise InvalidRecordError(str(error)) from error
        except (ScheduleExistsError, TemplateExistsError) as error:
            raise RecordAlreadyExistsError(str(error)) from error
        except ChangedError as error:
            raise PreconditionFailedError(str(error)) from error
        except AbsurdError as error:
            raise ValidationError(str(error)) from error

    async def find(
        self, entity_type: str, identifier: object, question: Callable[[AbsurdClient], Awaitable[Answer | None]]
    ) -> Answer:
        """Return what the queue answers when that is something.

        Raises
        ------
        RecordNotFoundError
            The answer is None or False.
        """
        answer = await self.ask(question)
        if answer is None or answer is False:
            raise RecordNotFoundError(entity_type, str(identifier))
        return answer

    async def seen(
        self, if_match: str | None, entity_type: str, identifier: object,
        read: Callable[[AbsurdClient], Awaitable[Row | None]], view: Callable[[Row], Row],
    ) -> int | None:  # fmt: skip
        """Return the version that an edit must find, when the client says what it has read.

        Parameters
        ----------
        if_match : str or None
            The header of that name; None asks for nothing.
        entity_type, identifier : str, object
            What is to be edited.
        read, view : callable
            Give its row, and of the row what a ``GET`` answers.

        Raises
        ------
        RecordNotFoundError, PreconditionFailedError
            There is none, or none that the client has read.
        """
        if if_match is None:
            return None
        row = await self.find(entity_type, identifier, read)
        return int(row["version"]) if require_match(if_match, view(row)) else None

    async def close(self) -> None:
        """Close the connection."""
        if self.client is not None:
            await self.client.close()

    async def _connect(self, client: AbsurdClient) -> None:
        """Open the connection; when that has just failed, say so at once instead of making everybody wait."""
        async with self._connecting:
            if self._connected:
                return
            if time.monotonic() - self._failed[0] < _AGAIN_AFTER_S:
                raise ServiceUnavailableError("ABSURD", self._failed[1])
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                await client.connect()
            self._connected = True


def utc(row: Mapping[str, Any]) -> Row:
    """Return a row whose times are written with Z, as everywhere in the API."""
    return {key: with_z(value) if key.endswith(_TIMES) else value for key, value in row.items()}


def with_z(moment: Any) -> Any:
    """Write UTC as Z."""
    return moment.replace("+00:00", "Z") if isinstance(moment, str) else moment


def next_after(rows: list[Row], limit: int, key: str = "task_id") -> str | None:
    """Return what the next page of a list is asked for with; None when this was the last."""
    return str(rows[-1][key]) if rows and len(rows) == limit else None
