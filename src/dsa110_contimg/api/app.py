"""The application: routes, gate, error handlers, and what is opened at its start and closed at its end."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Response
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from dsa110_contimg import __version__
from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import Database
from dsa110_contimg.api import documentation, websocket
from dsa110_contimg.api.authorization import require_scopes
from dsa110_contimg.api.config import APIConfig, get_config
from dsa110_contimg.api.db_adapters import create_adapter
from dsa110_contimg.api.db_adapters.backend import DatabaseAdapter
from dsa110_contimg.api.exceptions import DatabaseError
from dsa110_contimg.api.middleware import exception_handler
from dsa110_contimg.api.middleware.admission import Admission, AdmissionRules
from dsa110_contimg.api.middleware.bases import BASE, Bases
from dsa110_contimg.api.middleware.busy import BusyReply
from dsa110_contimg.api.middleware.connection import patient
from dsa110_contimg.api.middleware.cross_origin import CrossOriginRule
from dsa110_contimg.api.middleware.exchange import ExchangeLimits
from dsa110_contimg.api.middleware.gate import Gate
from dsa110_contimg.api.middleware.judge import GateRules
from dsa110_contimg.api.middleware.meter import RequestMeter
from dsa110_contimg.api.middleware.socket_connection import patient_socket
from dsa110_contimg.api.route_index import RouteIndex, Shortcut, without_last_slash
from dsa110_contimg.api.routes import (
    absurd,
    batches,
    cache,
    cal,
    health,
    image_care,
    image_files,
    images,
    jobs,
    lineage,
    logs,
    metrics,
    ms,
    qa,
    queue,
    reruns,
    services,
    sources,
    stats,
    tickets,
)
from dsa110_contimg.api.security import ClientAddressRule, HostRule, NetworkSet, OriginRule
from dsa110_contimg.api.services.access_service import warn_of_settings
from dsa110_contimg.api.services.composition import compose
from dsa110_contimg.api.services.rate_limiter import RateLimiter
from dsa110_contimg.api.tally import Tally

log = logging.getLogger(__name__)

_ROUTERS = (
    image_files.router,
    image_care.router,
    lineage.router,
    images.router,
    sources.router,
    reruns.router,
    jobs.router,
    queue.router,
    logs.router,
    ms.router,
    cal.router,
    qa.router,
    batches.router,
    stats.router,
    cache.router,
    services.router,
    tickets.router,
    health.router,
    *absurd.routers,
    websocket.router,
    metrics.router,
)
_WEB = Path(__file__).parent.parent / "web"
_QUEUE_PATIENCE_S = 0.5  # a person waits for the reply
_START_PATIENCE_S = 2.0  # what is not there by then is waited for in the background
_AGAIN_AFTER_S = 1.0


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(config: APIConfig | None = None, queue_config: AbsurdConfig | None = None) -> "GuardedAPI":
    """Return the application.

    Parameters
    ----------
    config : APIConfig, optional
        Settings; those of the environment unless given.
    queue_config : AbsurdConfig, optional
        Settings of the durable queue; those of the environment unless given.
    """
    config = config or get_config()
    limiter = RateLimiter(config.rates, config.redis.url)
    tally = Tally(config.paths.state_dir / "metrics")
    app = GuardedAPI(
        routes=[route for router in _ROUTERS for route in router.routes],
        title="DSA-110 Continuum Imaging Pipeline API",
        version=__version__,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours is the meter; this costs each request
        openapi_url=None,  # documentation.py describes the API, and has the pages that show it
        redirect_slashes=False,
        lifespan=_lifespan(config, queue_config or AbsurdConfig.from_env(), limiter, tally),
    )
    app.add_api_route("/", front_page, include_in_schema=False)
    app.mount("/web", StaticFiles(directory=_WEB))
    documentation.install(app)
    require_scopes(app)
    index = RouteIndex(app.routes, BASE)
    app.router.routes.insert(0, index)
    app.router.default = without_last_slash(app.router)
    exception_handler.install(app)
    behind = Bases(Shortcut(partial(FastAPI.__call__, app), index))
    rules, meter = gate_rules(config), RequestMeter(tally)
    app.gate = Gate(behind, rules, Admission(admission_rules(config), limiter), meter)
    app.busy = BusyReply(config.access.max_in_flight, rules.cross_origin, meter)
    return app


class GuardedAPI(FastAPI):
    """The framework's application, with the gate before all of it: what the gate answers needs none of its layers.

    Attributes
    ----------
    gate : Gate
    busy : BusyReply
        For the server, where more is asked than can be served.
    """

    gate: Gate
    busy: BusyReply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        scope["app"] = self
        await self.gate(scope, receive, send)


async def front_page() -> Response:
    """Return the page for people."""
    return FileResponse(_WEB / "index.html")


def gate_rules(config: APIConfig) -> GateRules:
    """Return what the gate lets pass by the settings."""
    access = config.access
    allowed, origins = NetworkSet.of(access.allowed_ips), frozenset(access.allowed_origins)
    names = {name.lower().rstrip(".") for name in (*access.allowed_hosts, socket.gethostname())}
    return GateRules(
        clients=ClientAddressRule(allowed, NetworkSet.of(access.trusted_proxies)),
        hosts=HostRule(frozenset(names), allowed),
        origins=OriginRule(origins),
        cross_origin=CrossOriginRule(origins, config.auth.api_key_header),
        limits=ExchangeLimits(access.max_body_bytes, access.idle_timeout_s, access.request_timeout_s),
        max_header_bytes=access.max_header_bytes,
        max_headers=access.max_headers,
    )


def admission_rules(config: APIConfig) -> AdmissionRules:
    """Return how many the gate lets in at once; a developer's own machine is not counted."""
    return AdmissionRules(
        key_header=config.auth.api_key_header,
        max_in_flight=config.access.max_in_flight,
        max_websockets_per_address=config.access.max_websockets_per_address,
        read_needs_key=config.auth.read_needs_key and not config.auth.disabled,
        spare_loopback=config.auth.environment in ("development", "testing"),
    )


def _lifespan(config: APIConfig, queue_config: AbsurdConfig, limiter: RateLimiter, tally: Tally) -> Lifespan:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for warning in warn_of_settings(config.auth):
            log.warning(warning)
        tally.open()
        adapter = create_adapter(config.database, config.timeouts)
        tried = asyncio.Event()
        opening = asyncio.create_task(_open(adapter, tried))
        with contextlib.suppress(TimeoutError):  # it goes on in the background
            async with asyncio.timeout(_START_PATIENCE_S):
                await tried.wait()
        database = Database(
            queue_config.database_url, "dsa110 api", patience_s=_QUEUE_PATIENCE_S,
            command_timeout_s=config.timeouts.db_statement, watched=True,
        )  # fmt: skip
        client = AbsurdClient(queue_config, database) if queue_config.enabled else None
        services = compose(config, adapter, client, queue_config.queue_name, tally)
        app.state.services = services
        keeping = asyncio.create_task(services.work.run())
        watching = asyncio.create_task(services.monitor.watch())
        try:
            yield
        finally:
            for task in (opening, keeping, watching):
                task.cancel()
            await asyncio.wait({opening, keeping, watching})
            await services.monitor.close()
            await services.cache.close()
            await services.absurd.gateway.close()
            await services.rq.close()
            await adapter.disconnect()
            await limiter.close()
            tally.close()

    return lifespan


async def _open(adapter: DatabaseAdapter, tried: asyncio.Event) -> None:
    """Open the database, now or when it comes up; what does not need it is served meanwhile."""
    while True:
        try:
            await adapter.connect()
        except DatabaseError as error:
            log.warning("the products database cannot be used yet: %s", error)
        else:
            return
        finally:
            tried.set()
        await asyncio.sleep(_AGAIN_AFTER_S)


def server_settings(config: APIConfig, queue_config: AbsurdConfig | None = None) -> uvicorn.Config:
    """Return how uvicorn serves: it rewrites no address (the gate does), names no software, bounds what it buffers."""
    app = create_app(config, queue_config)
    return uvicorn.Config(
        app,
        host=config.server.host,
        port=config.server.port,
        loop="uvloop",
        http=patient(
            config.access.header_timeout_s,
            config.access.idle_timeout_s,
            2 * config.access.max_header_bytes,
            config.access.max_in_flight,
            app.busy,
        ),
        proxy_headers=False,
        server_header=False,
        access_log=False,  # the gate writes one line per request
        log_config=None,
        ws=patient_socket(config.timeouts.websocket_pong),
        ws_max_size=64 << 10,
        ws_per_message_deflate=False,  # its buffers cost more memory than small messages save time on a line
        ws_ping_interval=config.timeouts.websocket_ping,
        ws_ping_timeout=config.timeouts.websocket_pong,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=10,
    )
