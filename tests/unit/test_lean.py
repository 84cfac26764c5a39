"""The short way to an endpoint gives what the framework's way gives, to good requests and to bad ones."""

from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel, Field

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.authorization import declared_scope, writing_routes
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.lean import shortened
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.validation import StrictRoute


class Asked(BaseModel):
    limit: int = Field(10, ge=1, le=20)
    name: str | None = None


async def service(request: Request) -> str:
    return f"service of {request.url.path}"


async def plain(
    thing: str, request: Request, found: Annotated[str, Depends(service)], size: int = 3, word: str | None = None
) -> Response:
    return json_reply([thing, request.method, found, size, word])


async def needed(number: Annotated[int, Query(ge=0)]) -> Response:
    return json_reply(number)


async def modelled(asked: Annotated[Asked, Query()]) -> Response:
    return json_reply([asked.model_dump(), sorted(asked.model_fields_set)])


async def numbered(number: int) -> Response:
    return json_reply(number)


async def headed(user_agent: Annotated[str, Header()]) -> Response:
    return json_reply(user_agent)


async def modelled_reply(name: str = "x") -> dict[str, str]:
    return {"name": name}


async def several(ids: Annotated[list[int], Query()]) -> Response:
    return json_reply(ids)


ENDPOINTS: dict[str, Any] = {
    "/plain/{thing}": plain, "/needed": needed, "/modelled": modelled, "/numbered/{number}": numbered,
    "/headed": headed, "/reply": modelled_reply, "/several": several,
}  # fmt: skip
LEAN = {"/plain/{thing}", "/needed", "/modelled", "/numbered/{number}", "/several"}


def application(kind: type[APIRoute]) -> FastAPI:
    app = FastAPI()
    app.router.route_class = kind
    for path, endpoint in ENDPOINTS.items():
        app.add_api_route(path, endpoint)
    return app


async def ask(app: FastAPI, address: str) -> tuple[int, Any]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        reply = await client.get(address)
        return reply.status_code, reply.json()


@pytest.mark.parametrize(
    "address",
    [
        "/plain/a%2Bb", "/plain/x?size=7&word=w%20w", "/plain/x?size=7&size=8", "/plain/x?size=seven", "/plain/x?word=",
        "/needed?number=4", "/needed", "/needed?number=-1", "/needed?number=", "/modelled", "/modelled?limit=20",
        "/modelled?limit=21&name=n", "/modelled?name=", "/numbered/12", "/numbered/twelve", "/headed", "/reply?name=y",
        "/several?ids=1&ids=2", "/several?ids=1", "/several?ids=x", "/several",
    ],
)  # fmt: skip
async def test_both_ways_answer_the_same(address: str) -> None:
    assert await ask(application(StrictRoute), address) == await ask(application(APIRoute), address)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_only_a_route_that_asks_for_little_goes_the_short_way(path: str) -> None:
    async def usual(request: Request) -> Response:
        raise AssertionError

    dependant = APIRoute(path, ENDPOINTS[path], methods=["GET"]).dependant
    assert (shortened(dependant, usual) is not usual) == (path in LEAN)


async def test_a_service_that_was_replaced_is_asked_instead() -> None:
    app = application(StrictRoute)
    app.dependency_overrides[service] = lambda: "another"
    assert (await ask(app, "/plain/x"))[1][2] == "another"


def test_no_route_that_asks_for_a_scope_is_served_without_its_judgement() -> None:
    app = create_app(APIConfig.from_env({}), AbsurdConfig(enabled=False))
    direct = [route for route in iter_route_contexts(app.routes) if getattr(route.original_route, "direct", None)]
    assert len(direct) > 30
    assert all(declared_scope(route) is None and route.methods == {"GET"} for route in direct)
    assert all(route.original_route.direct is None for _, route in writing_routes(app))  # type: ignore[attr-defined]


async def test_an_unknown_parameter_is_refused_on_the_short_way_too() -> None:
    app = application(StrictRoute)
    with pytest.raises(Exception, match="did you mean 'size'"):
        await ask(app, "/plain/x?sise=3")
