"""What routes are declared on.

A route is served as it was declared, below ``/api/v1``: to include a router in another one would look at the parameters
of each of its routes a second time, which took a tenth of the start.
"""

from fastapi import APIRouter
from fastapi.routing import APIRoute

from dsa110_contimg.api.middleware.bases import BASE


def router_of(prefix: str, tag: str, route_class: type[APIRoute]) -> APIRouter:
    """Return the router of a noun; ``prefix`` is what follows ``/api/v1``, ``tag`` its chapter in the description."""
    return APIRouter(
        prefix=BASE + prefix, tags=[tag], route_class=route_class, generate_unique_id_function=operation_id
    )


def operation_id(route: APIRoute) -> str:
    """Return the name of a call in generated clients: that of its function."""
    return route.name
