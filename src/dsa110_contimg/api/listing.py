"""Lists as a client asks for them: the parameters of every list, and the reply with its ``Link``.

The parameters of a list are one model, a child of :class:`ListParameters`: its fields named ``min_x`` and ``max_x`` are
bounds of ``x``, any other is a value that ``x`` must have. So a route declares what may be asked, and everything else
is done here and in ``queries/listing.py``::

    class ImageParameters(ListParameters):
        qa_grade: QAGrade | None = None
        min_noise_jy: float | None = None

    @router.get("")
    async def list_images(request: Request, asked: Annotated[ImageParameters, Query()], service: ImageService):
        return list_reply(request, await service.list_images(wish_of(asked, schemas.ImageListItem)))
"""

import math
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Request, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema

from dsa110_contimg.api.exceptions import ValidationError
from dsa110_contimg.api.pages import Filter, Page, Wish
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.validation import MAX_PAGE, parse_time, require_known

_ROUNDED_S = 0.5e-6  # replies round times to the microsecond first
_PAGE = frozenset({"limit", "offset", "cursor", "sort", "fields"})


def _text_without_nul(text: str, info: ValidationInfo) -> str:
    if "\0" in text:
        message = f"{info.field_name}={text[:60]!r} must not hold the NUL character"
        raise ValidationError(message, info.field_name, text[:60])
    return text


def _moment(text: str, info: ValidationInfo) -> float:
    """Return a bound that holds every time that is told as this one: replies end times at the millisecond."""
    told_s = math.floor(parse_time(text, info.field_name) * 1e3 + 0.5e-3) / 1e3 - _ROUNDED_S
    return told_s + 1e-3 if str(info.field_name).startswith("max_") else told_s


#: A date or date-time (ISO 8601, UTC unless it says otherwise), as Unix seconds.
Moment = Annotated[float, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
#: A finite number.
Bound = Annotated[float, Field(allow_inf_nan=False)]
#: A text that a column must have exactly.
Exact = Annotated[str, Field(max_length=4096), AfterValidator(_text_without_nul)]


class ListParameters(BaseModel):
    """What every list may be asked."""

    model_config = ConfigDict(frozen=True)
    limit: int = Field(100, ge=1, le=MAX_PAGE, description="most rows in the reply")
    offset: int = Field(0, ge=0, le=2**62, description="rows left out at the beginning; a cursor finds them faster")
    cursor: str | None = Field(
        None, max_length=8192, description="where the page before ended, as its Link or X-Next-Cursor says"
    )
    sort: str | None = Field(
        None, max_length=64, description="name to sort by, with - in front for falling; rows without it are left out"
    )
    fields: str | None = Field(None, max_length=2048, description="names to return, with commas between")


def wish_of(asked: ListParameters, item: type[BaseModel], besides: frozenset[str] = frozenset()) -> Wish:
    """Return what a client asks of a list of ``item``; what is ``besides`` is no condition on a column.

    Raises
    ------
    ValidationError
        A field is asked for that the list does not have, or a cursor together with an offset.
    """
    given = asked.model_fields_set
    if asked.cursor is not None and asked.offset:
        raise ValidationError("give a cursor or an offset, not both", field="offset", value=asked.offset)
    fields = tuple(dict.fromkeys(part.strip() for part in asked.fields.split(","))) if asked.fields else ()
    if fields:
        require_known(fields, item.model_fields, "field")
    named = given - _PAGE - besides
    filters = tuple(_filter(name, getattr(asked, name)) for name in sorted(named)) if named else ()
    return Wish(asked.limit, asked.offset, asked.cursor, asked.sort, fields, filters)


def _filter(name: str, value: Any) -> Filter:
    for operator in ("min", "max"):
        if name.startswith(f"{operator}_"):
            return Filter(name[4:], operator, value)
    return Filter(name, "eq", value)


def list_reply(request: Request, page: Page) -> Response:
    """Return one page of a list: the bare array, how many rows there are where that is known, and where it goes on."""
    headers = next_link(request, page.next_cursor)
    if page.total is not None:
        headers["X-Total-Count"] = str(page.total)
    return json_reply(page.rows, headers)


def next_link(request: Request, cursor: str | None) -> dict[str, str]:
    """Return the headers that lead to the next page: the same question with another cursor."""
    if cursor is None:
        return {}
    kept = [pair for pair in request.query_params.multi_items() if pair[0] not in ("cursor", "offset")]
    query = urlencode([*kept, ("cursor", cursor)])
    return {"Link": f'<{request.scope["path"]}?{query}>; rel="next"', "X-Next-Cursor": cursor}
