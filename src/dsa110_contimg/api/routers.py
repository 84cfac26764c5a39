"""What routes are declared on.

A route is served as it was declared, below ``/api/v1``: to include a router in another one would look at the parameters
of each of its routes a second time, which took a tenth of the start.
"""

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor

from dsa110_contimg.api.middleware.bases import BASE


class LastPath(Convertor[str]):
    """``{name:last_path}``: a path as the last part of an address, without the slash that may follow any address.

    So a slash too many leads to the address without it here too, as it does where the last part is no path.
    """

    regex = "(?s:.*[^/])"

    def convert(self, value: str) -> str:
        """Return the path."""
        return value

    def to_string(self, value: str) -> str:
        """Return the path."""
        return value


register_url_convertor("last_path", LastPath())


def router_of(prefix: str, tag: str, route_class: type[APIRoute]) -> APIRouter:
    """Return the router of a noun; ``prefix`` is what follows ``/api/v1``, ``tag`` its chapter in the description."""
    return APIRouter(
        prefix=BASE + prefix, tags=[tag], route_class=route_class, generate_unique_id_function=operation_id
    )


def operation_id(route: APIRoute) -> str:
    """Return the name of a call in generated clients: that of its function."""
    return route.name
