"""Statements on versions of images: families, children, the next number."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import bindparam
from sqlalchemy.sql import ClauseElement

from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import ImageRecord
from dsa110_contimg.api.queries.decoding import ask, every, value
from dsa110_contimg.api.queries.images import READ, SELECTED
from dsa110_contimg.api.tables import image_families, images

_MOST = 1000
_OF = bindparam("of_image", type_=images.c.id.type)
_IN_ORDER = SELECTED.order_by(images.c.version, images.c.id).limit(_MOST)
_ROOT = Statement(SELECTED.where(images.c.id == _OF))
_DESCENDANTS = Statement(_IN_ORDER.where(images.c.root_id == _OF))
_CHILDREN = Statement(_IN_ORDER.where(images.c.parent_id == _OF))


def _counting_on(insert: Callable[..., Any]) -> ClauseElement:
    statement = insert(image_families).values(
        root_id=bindparam("root_id", type_=image_families.c.root_id.type),
        last_version=2,  # the first image has 1
    )
    built: ClauseElement = statement.on_conflict_do_update(
        index_elements=["root_id"], set_={"last_version": image_families.c.last_version + 1}
    ).returning(image_families.c.last_version)
    return built


_NEXT_VERSION = Statement(_counting_on)


def family(root_id: int) -> Steps[list[ImageRecord]]:
    """Read an image, if it is still there, and its descendants, by version; of these at most 1000."""
    root: list[ImageRecord] = yield Query(_ROOT, {"of_image": root_id}, every(READ), prompt=True)
    descendants: list[ImageRecord] = yield Query(_DESCENDANTS, {"of_image": root_id}, every(READ), prompt=True)
    return root + descendants


def children(image_id: int) -> Steps[list[ImageRecord]]:
    """Read the images that were made after an image, by version; at most 1000."""
    return ask(Query(_CHILDREN, {"of_image": image_id}, every(READ), prompt=True))


def next_version(root_id: int) -> Steps[int]:
    """Take the next number of a family; no two callers get the same."""
    return ask(Query(_NEXT_VERSION, {"root_id": root_id}, value))
