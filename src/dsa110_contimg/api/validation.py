"""What a request may say: known query parameters, ids, pages.

The framework checks types and bounds of what a route declares. It ignores what a route does not declare; here a
parameter that nobody reads is an error, because a misspelt filter would silently answer another question.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from dsa110_contimg.api.cache import CacheRule, ReplyCache, rule_of
from dsa110_contimg.api.exceptions import DatabaseConnectionError, DatabaseError, ValidationError
from dsa110_contimg.api.generations import Generations
from dsa110_contimg.api.lean import Handler, shortened
from dsa110_contimg.api.reply_memory import ReplyMemory

MAX_PAGE = 1000

ImageId = Annotated[str, Path(max_length=100, description="id of an image")]
#: How many rows of a list.
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="most rows in the reply")]
#: How many rows of a list are left out at its beginning.
Offset = Annotated[int, Query(ge=0, le=2**62, description="rows left out at the beginning")]

_UNIX_EPOCH_MJD = 40587.0


def require_known(given: Iterable[str], known: Iterable[str], kind: str = "query parameter") -> None:
    """Refuse the first name that is not known; ``kind`` says in the message what it is a name of.

    Raises
    ------
    ValidationError
        The message gives the nearest known name, or all where none is near.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            raise ValidationError(unknown(name, names, kind), field=name)


def unknown(name: str, names: list[str], kind: str) -> str:
    """Say that a name is not known, and what is near or what there is."""
    near = difflib.get_close_matches(name, names, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(names)}" if names else "there are none"
    return f"Unknown {kind} {name[:60]!r}; {remedy}"


def _query_names(dependant: Dependant) -> Iterator[str]:
    """Give the query parameters of a route and of what it depends on."""
    for field in dependant.query_params:
        model = field.field_info.annotation
        declared = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else (field.alias,)
        yield from declared
    for needed in dependant.dependencies:
        yield from _query_names(needed)


class StrictRoute(APIRoute):
    """A route that refuses query parameters it does not declare, with 400 and the nearest name.

    Replies of a route that is marked with :func:`~dsa110_contimg.api.cache.cached` are kept, and may be kept ones.

    Attributes
    ----------
    direct : callable or None
        The handler of a route of exactly this class that asks for little: it needs nothing of the framework around it.
    """

    direct: Handler | None = None

    def get_route_handler(self) -> Handler:
        """Return the framework's handler behind the check."""
        usual = super().get_route_handler()
        handler = shortened(self.dependant, usual)
        known = frozenset(_query_names(self.dependant))
        rule = rule_of(self.endpoint)

        async def strict(request: Request) -> Response:
            if request.scope["query_string"]:
                require_known(request.query_params.keys(), known)
            if rule is None:
                return await handler(request)
            return await self._kept(rule, request, handler)

        if type(self) is StrictRoute and handler is not usual:
            self.direct = strict
        return strict

    async def _kept(self, rule: CacheRule, request: Request, handler: Handler) -> Response:
        """Return a reply of Redis, or the handler's, and keep it in this process too."""
        services = request.app.state.services
        cache: ReplyCache = services.cache
        memory: ReplyMemory = services.memory
        seen = await _seen(services.generations, request.scope) if memory.keeps or cache.keeps(rule) else {}
        still = partial(services.generations.still, request.scope, rule.tables)
        reply = await cache.answer(rule, request, handler, seen, still)
        if not memory.keeps or not await still():
            return reply
        told = {name: request.scope[name] for name in ("route", "route_template")}
        question = (request.scope["state"]["asked_path"], request.scope["query_string"])
        memory.keep(question, rule, seen, told, reply, request.scope["state"].get("witness"))
        return reply


async def _seen(generations: Generations, scope: MutableMapping[str, Any]) -> Mapping[str, int]:
    """Return the numbers of the last writes before a reply is begun, none where they cannot be known.

    Raises
    ------
    DatabaseConnectionError
        The handler would wait once more to learn the same.
    """
    try:
        return await generations.of(scope)
    except DatabaseConnectionError:
        raise
    except DatabaseError:
        return {}  # the handler will say what is wrong


def parse_time(text: str, field: str | None = None) -> float:
    """Return the Unix time of an ISO 8601 date or date-time; a time without zone is UTC.

    Raises
    ------
    ValidationError
        The text is no such time.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        named = f"{field}=" if field else ""
        message = f"{named}{text[:60]!r} is no date; write for example 2026-02-11 or 2026-02-11T03:04:05Z"
        raise ValidationError(message, field=field, value=text[:60]) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def parse_time_mjd(text: str | None, field: str) -> float | None:
    """Return the MJD (UTC) of such a time; None stays None."""
    return None if text is None else parse_time(text, field) / 86400.0 + _UNIX_EPOCH_MJD
