"""Figures for Prometheus."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from dsa110_contimg.api.dependencies import Exporter
from dsa110_contimg.api.metrics import EXPOSITION
from dsa110_contimg.api.routers import operation_id
from dsa110_contimg.api.validation import StrictRoute

router = APIRouter(tags=["health"], route_class=StrictRoute, generate_unique_id_function=operation_id)


@router.get("/metrics", response_class=PlainTextResponse)
async def scrape_metrics(exporter: Exporter) -> Response:
    """Return what Prometheus scrapes: products, requests of all processes, this process."""
    return Response(await exporter.exposition(), media_type=EXPOSITION)
