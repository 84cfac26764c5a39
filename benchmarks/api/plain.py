"""A plain implementation of the same routes: what one writes first, and what the earlier backend did.

Four decorator middlewares and CORS, a plain function per dependency, one connection for each query with a WAL pragma,
a query for each row of a list, sorting without an index, full scans for counts, replies through models. Its database
has the tables of the earlier pipeline (``generator.write_earlier``), its queries are those that the earlier backend is
known to have made.

DATABASE=earlier.sqlite3 python -m benchmarks.api.plain 8080
"""

import os
import sqlite3
import statistics
import sys
from contextlib import closing
from typing import Any

import aiosqlite
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel

app = FastAPI()
DATABASE = os.environ.get("DATABASE", "")
NEWEST = "SELECT * FROM images ORDER BY created_at DESC LIMIT ?"


class ImageItem(BaseModel):
    """One image of the list."""

    id: str
    path: str
    qa_grade: str | None
    created_at: float | None
    run_id: str | None


class SourceItem(BaseModel):
    """One source of the list."""

    id: str
    name: str | None
    ra_deg: float
    dec_deg: float
    num_images: int


class JobItem(BaseModel):
    """One run of the list."""

    run_id: str
    status: str
    started_at: float | None


async def query(sql: str, *arguments: Any) -> list[dict[str, Any]]:
    """Answer one query in a connection of its own."""
    async with aiosqlite.connect(DATABASE) as connection:
        connection.row_factory = aiosqlite.Row
        await connection.execute("PRAGMA journal_mode=WAL")
        cursor = await connection.execute(sql, arguments)
        return [dict(row) for row in await cursor.fetchall()]


async def one(sql: str, *arguments: Any) -> dict[str, Any]:
    """Answer the first row of a query; 404 without one."""
    rows = await query(sql, *arguments)
    if not rows:
        raise HTTPException(404)
    return rows[0]


def repository() -> str:
    """Stand for a plain function that the framework calls in a thread."""
    return DATABASE


def service(found: str = Depends(repository)) -> str:
    """Stand for the one that depends on it."""
    return found


Service = Depends(service)


async def _passes(request: Request, call_next: Any) -> Any:
    response = await call_next(request)
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


for _ in range(4):
    app.middleware("http")(_passes)
app.add_middleware(CORSMiddleware, allow_origins=["http://localhost:3000"], allow_credentials=True)


@app.get("/api/v1/images", response_model=list[ImageItem])
async def list_images(limit: int = 100, offset: int = 0, _: str = Service) -> Any:
    """List images, asking the verdict for each row."""
    images = await query("SELECT * FROM images ORDER BY created_at DESC LIMIT ? OFFSET ?", limit, offset)
    for image in images:
        found = await query("SELECT stage FROM ms_index WHERE path = ?", image["ms_path"])
        image |= {"id": str(image["id"]), "run_id": image["ms_path"], "qa_grade": found[0]["stage"] if found else None}
    return images


@app.get("/api/v1/images/{image_id}")
async def get_image(image_id: int, _: str = Service) -> Any:
    """Return one image."""
    image = await one("SELECT * FROM images WHERE id = ?", image_id)
    ms = await query("SELECT * FROM ms_index WHERE path = ?", image["ms_path"])
    return {**image, "qa_grade": ms[0]["stage"] if ms else None}


@app.get("/api/v1/sources", response_model=list[SourceItem])
async def list_sources(limit: int = 100, offset: int = 0, _: str = Service) -> Any:
    """List sources by grouping all measurements."""
    return await query(
        "SELECT source_id AS id, source_id AS name, ra_deg, dec_deg, COUNT(*) AS num_images FROM photometry "
        "GROUP BY source_id ORDER BY source_id LIMIT ? OFFSET ?", limit, offset,
    )  # fmt: skip


@app.get("/api/v1/sources/{source_id}")
async def get_source(source_id: str, _: str = Service) -> Any:
    """Return one source and its images."""
    found = await one("SELECT source_id AS id, ra_deg, dec_deg FROM photometry WHERE source_id = ? LIMIT 1", source_id)
    images = await query(
        "SELECT DISTINCT images.* FROM images JOIN photometry ON images.path = photometry.image_path "
        "WHERE photometry.source_id = ? ORDER BY images.created_at DESC", source_id,
    )  # fmt: skip
    return found | {"contributing_images": images}


@app.get("/api/v1/sources/{source_id}/lightcurve")
async def get_lightcurve(source_id: str, _: str = Service) -> Any:
    """Return all measurements of a source."""
    return {"source_id": source_id, "data_points": await _points(source_id)}


@app.get("/api/v1/sources/{source_id}/variability")
async def get_variability(source_id: str, _: str = Service) -> Any:
    """Compute indices from all measurements of a source."""
    fluxes = [point["flux_jy"] or point["peak_jyb"] for point in await _points(source_id)]
    mean, deviation = statistics.fmean(fluxes), statistics.stdev(fluxes)
    chi2 = sum(((flux - mean) / 0.001) ** 2 for flux in fluxes)
    return {"source_id": source_id, "variability_index": deviation / mean, "chi_squared": chi2}


async def _points(source_id: str) -> list[dict[str, Any]]:
    return await query(
        "SELECT mjd, flux_jy, flux_err_jy, peak_jyb, snr, image_path FROM photometry WHERE source_id = ? ORDER BY mjd",
        source_id,
    )


@app.get("/api/v1/jobs", response_model=list[JobItem])
async def list_jobs(limit: int = 100, offset: int = 0, _: str = Service) -> Any:
    """List Measurement Sets as runs."""
    return await query(
        "SELECT path AS run_id, 'completed' AS status, processed_at AS started_at FROM ms_index "
        "WHERE processed_at IS NOT NULL ORDER BY processed_at DESC LIMIT ? OFFSET ?", limit, offset,
    )  # fmt: skip


@app.get("/api/v1/stats")
async def get_stats(_: str = Service) -> Any:
    """Count everything by looking at it."""
    stages = await query("SELECT stage, COUNT(*) AS n FROM ms_index GROUP BY stage")
    counted = {
        "images": "SELECT COUNT(*) AS n FROM images",
        "photometry": "SELECT COUNT(*) AS n FROM photometry",
        "sources": "SELECT COUNT(DISTINCT source_id) AS n FROM photometry",
    }
    totals = {name: (await one(sql))["n"] for name, sql in counted.items()}
    recent = await query("SELECT path, created_at, type FROM images ORDER BY created_at DESC LIMIT 10")
    return {"ms": stages, **totals, "recent_images": recent}


@app.get("/threads/health")
def health_in_a_thread() -> Any:
    """Answer without asking anybody, in a thread."""
    return {"status": "healthy"}


@app.get("/api/v1/health")
async def health() -> Any:
    """Answer without asking anybody, on the loop."""
    return {"status": "healthy"}


@app.get("/threads/images")
def list_images_in_a_thread(limit: int = 100) -> Any:
    """List images without verdicts, in a thread, in a connection of its own."""
    with closing(sqlite3.connect(DATABASE)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(NEWEST, (limit,))]


@app.get("/async/images")
async def list_images_on_the_loop(limit: int = 100) -> Any:
    """List images without verdicts, awaited, in a connection of its own."""
    return await query(NEWEST, limit)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning", lifespan="off")
