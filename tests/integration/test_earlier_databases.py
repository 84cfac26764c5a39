"""Databases of the earlier pipeline, in every dialect: opened without a trace, served by the same routes."""

import hashlib
import importlib
import random
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.async_repositories import AsyncSourceRepository
from dsa110_contimg.api.config import APIConfig, DatabaseConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters import DatabaseAdapter
from dsa110_contimg.api.exceptions import DatabaseConnectionError, DatabaseReadOnlyError
from dsa110_contimg.api.flux_sums import Epoch, FluxSums
from dsa110_contimg.api.migrations.migrator import upgrade
from dsa110_contimg.api.queries import earlier
from dsa110_contimg.api.tables import metadata, sources
from fixtures import earlier_dialects
from fixtures.api_server import Served, serving
from fixtures.api_world import QUEUE_OFF, settings
from fixtures.writers import write_earlier_database

DIALECTS = "COMRU"
MS = "/data/ms/2025-11-30T01:02:03.ms"
TWIN = "/other/2025-11-30T01:02:03.ms"
RUN = "job-2025-11-30-010203"
MADE_AT = 1764547260.0  # 2025-12-01T00:01:00Z
IMAGE = "/data/im/2025-11-30T01:02:03.img.pbcor"
KEY = "k" * 40

ROWS: dict[str, list[dict[str, object]]] = {
    "ms_index": [
        {"path": MS, "start_mjd": 61000.4, "mid_mjd": 61000.5, "end_mjd": 61000.6, "processed_at": MADE_AT,
         "status": "completed", "stage": "imaged", "cal_applied": 1, "pointing_ra_deg": -10.0,
         "pointing_dec_deg": 0.0, "created_at": MADE_AT},
        {"path": TWIN, "processed_at": MADE_AT + 1, "status": "failed", "created_at": MADE_AT},
        {"path": "/data/ms/2025-11-30T04:05:06.ms", "status": "pending", "created_at": MADE_AT},
    ],
    "images": [
        {"path": IMAGE, "ms_path": MS, "created_at": MADE_AT, "type": "5min", "noise_jy": 0.001},
        {"path": "/data/im/b.img.image", "ms_path": "/gone.ms", "created_at": MADE_AT - 1, "type": "5min"},
    ],
    "photometry": [
        {"source_id": "A+1", "image_path": f"{IMAGE}.fits", "ra_deg": 1.0, "dec_deg": 2.0, "peak_jyb": 0.5,
         "peak_err_jyb": 0.01, "flux_jy": 0.0, "flux_err_jy": 0.02, "mjd": 60000.0, "measured_at": MADE_AT,
         "peak_flux_jy": 7.0},
        {"source_id": "A+1", "image_path": "/data/im/b.img.fits", "ra_deg": 1.1, "dec_deg": 2.1, "peak_jyb": 0.25,
         "peak_err_jyb": 0.05, "mjd": 60001.0, "measured_at": MADE_AT},
        {"source_id": "B", "image_path": "/nowhere.fits", "ra_deg": 3.0, "dec_deg": 4.0, "peak_jyb": 0.7,
         "measured_at": MADE_AT},
    ],
    "caltables": [
        {"set_name": "s", "path": "/cal/c.b", "table_type": "BP", "order_index": 30, "created_at": MADE_AT,
         "status": "active", "source_ms_path": MS, "quality_metrics": '{"snr_mean": 12.5}'},
    ],
    "batch_jobs": [
        {"type": "cal", "created_at": MADE_AT, "status": "completed", "total_items": 1, "params": "{'a': 1}"},
    ],
    "image_qa": [
        {"ms_path": MS, "job_id": 1, "image_path": IMAGE, "overall_quality": "marginal", "timestamp": MADE_AT},
    ],
    "jobs": [
        {"type": "imaging", "status": "done", "ms_path": MS, "created_at": MADE_AT, "started_at": MADE_AT + 2,
         "finished_at": MADE_AT + 60, "params": "{'not': 'json'}"},
    ],
}  # fmt: skip


def state(directory: Path) -> dict[str, str]:
    """Return the checksum of each file of a directory."""
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in sorted(directory.iterdir())}


def config_of(path: Path, directory: Path, **environ: str) -> Any:
    given = {"DSA110_ENV": "testing", "DSA110_API_KEYS": KEY, "PRODUCTS_DB_PATH": str(path)}
    return settings(directory / "state", **given, **environ)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[DatabaseAdapter]:
    async with open_database(DatabaseConfig(products_path=path, sqlite_readers=1)) as adapter:
        yield adapter


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- what is served -----------------------------------------------------------------------------------------------


async def test_the_routes_serve_a_file_of_every_dialect_and_leave_no_trace(tmp_path: Path, dialect: str) -> None:
    path = write_earlier_database(tmp_path / "earlier", dialect, ROWS)
    before = state(path.parent)
    async with serving(config_of(path, tmp_path)) as served:
        ready = await served.json("/api/v1/health/ready")
        image = await served.json("/api/v1/images/1")
        job = await served.json(f"/api/v1/jobs/{RUN}")
        curve = (await served.json("/api/v1/sources/A%2B1/lightcurve"))["data_points"]
        counts = await served.json("/api/v1/stats")
        ms = await served.json(f"/api/v1/ms/{quote(MS, safe='')}/metadata")
        listed = [item["id"] for item in await served.json("/api/v1/sources")]
    assert ready["read_only"] is True
    assert (image["run_id"], image["noise_jy"], image["created_at"]) == (RUN, 0.001, "2025-12-01T00:01:00Z")
    assert image["cal_table"] == (None if dialect == "M" and not _has_registry(path) else "/cal/c.b")
    assert (job["status"], job["ms_path"]) == ("completed", MS)
    assert [point["mjd"] for point in curve][-1] == 61000.5  # of the Measurement Set, not of the row
    first_flux = {"R": 0.5}.get(dialect, 0.0)  # R has no integrated flux density; elsewhere 0 is a value
    assert curve[-1]["flux_jy"] == first_flux
    assert curve[-1]["snr"] == pytest.approx(first_flux / (0.01 if dialect == "R" else 0.02))
    assert (counts["ms"]["total"], counts["photometry"]["total"], counts["sources"]["total"]) == (3, 3, 2)
    assert ms["pointing_ra_deg"] == 350.0
    assert ms["calibrator_matches"][0]["cal_table"] == "/cal/c.b"
    assert listed == ["A+1", "B"]
    assert state(path.parent) == before


def _has_registry(path: Path) -> bool:
    return (path.parent / "cal_registry.sqlite3").exists()


@pytest.mark.parametrize("dialect", ["C", "U"])  # without and with a table of sources
async def test_a_source_finds_its_images_whose_directory_and_fits_file_have_two_names(
    tmp_path: Path, dialect: str
) -> None:
    image = {"path": "/data/im/c.img.image", "ms_path": "/gone.ms", "created_at": MADE_AT, "type": "5min"}
    measured = {**ROWS["photometry"][0], "image_path": "/data/im/c.img.image.fits"}
    more = {"images": [*ROWS["images"], image], "photometry": [*ROWS["photometry"], measured]}
    path = write_earlier_database(tmp_path / "earlier", dialect, ROWS | more)
    async with serving(config_of(path, tmp_path)) as served:
        found = await served.json("/api/v1/sources/A%2B1/contributing-images")
        detail = await served.json("/api/v1/sources/A%2B1")
    # x.img.pbcor is measured as x.img.pbcor.fits, b.img.image as b.img.fits, c.img.image as c.img.image.fits
    assert {image["path"] for image in found} == {IMAGE, "/data/im/b.img.image", "/data/im/c.img.image"}
    assert {image["image_id"] for image in found} == {image["image_id"] for image in detail["contributing_images"]}
    assert all(image["image_id"] for image in found)


async def test_what_was_measured_in_an_image_that_is_in_no_list_stands_in_the_light_curve(
    tmp_path: Path, dialect: str
) -> None:
    measured = [
        {"source_id": "L", "image_path": path, "ra_deg": 3.0, "dec_deg": 4.0, "peak_jyb": peak_jyb,
         "peak_err_jyb": 0.1, "mjd": mjd, "measured_at": MADE_AT}
        for path, peak_jyb, mjd in (
            (f"{IMAGE}.fits", 0.6, 60000.0), ("/x.fits", 0.7, 60010.0), ("/y.fits", 0.9, 60011.0),
            ("/y.fits", 0.8, 60011.0),
        )
    ]  # fmt: skip
    path = write_earlier_database(tmp_path / "earlier", dialect, ROWS | {"photometry": measured})
    async with serving(config_of(path, tmp_path)) as served:
        whole = (await served.json("/api/v1/sources/L/lightcurve"))["data_points"]
        single, cursor = [], ""
        while cursor is not None:
            part = await served.json(f"/api/v1/sources/L/lightcurve?limit=1{cursor and '&cursor=' + cursor}")
            single, cursor = [*single, *part["data_points"]], part["next_cursor"]
        variability = await served.json("/api/v1/sources/L/variability")
        [listed] = await served.json("/api/v1/sources")
    told = [(point["image_id"], point["image_path"], point["flux_jy"], point["mjd"]) for point in whole]
    assert sorted(told[:3], key=lambda each: each[2]) == [
        (None, "/x.fits", 0.7, 60010.0), (None, "/y.fits", 0.8, 60011.0), (None, "/y.fits", 0.9, 60011.0)
    ]  # fmt: skip
    assert told[3] == ("1", IMAGE, 0.6, 61000.5)
    assert single == whole
    assert (variability["n_epochs"], listed["image_id"]) == (4, "1")


async def test_a_peak_stands_for_a_flux_density_that_was_not_measured(tmp_path: Path, dialect: str) -> None:
    path = write_earlier_database(tmp_path, dialect, ROWS)
    async with opened(path) as adapter:
        rows = await adapter.fetch_all("SELECT flux_jy, flux_err_jy, mjd FROM photometry ORDER BY id")
    first = (0.5, 0.01) if dialect == "R" else (0.0, 0.02)
    assert [tuple(row)[:2] for row in rows] == [first, (0.25, 0.05), (0.7, None)]
    assert [row["mjd"] for row in rows][:2] == [61000.5, 60001.0]
    if dialect != "M":  # which has no measured_at
        assert rows[2]["mjd"] == MADE_AT / 86400 + 40587


async def test_a_run_is_found_by_exactly_its_id_and_a_second_path_of_that_id_has_its_own(tmp_path: Path) -> None:
    path = write_earlier_database(tmp_path / "earlier", "C", ROWS)
    async with serving(config_of(path, tmp_path)) as served:
        jobs = {item["run_id"]: item for item in await served.json("/api/v1/jobs")}
        twin = next(name for name in jobs if name != RUN)
        assert len(jobs) == 2  # the Measurement Set that was not processed is none
        assert twin.startswith(f"{RUN}-")
        assert jobs[twin]["status"] == "failed"
        assert (await served.json(f"/api/v1/jobs/{twin}"))["ms_path"] == TWIN
        for unknown in ("job-2025-11-30-040506", "job-2025-11-30-999999", "job-", "job-%25", "job-2025-11-30-01020_"):
            assert (await served.get(f"/api/v1/jobs/{unknown}")).status_code == 404


async def test_the_job_table_tells_how_a_run_went(tmp_path: Path) -> None:
    jobs = [{**ROWS["jobs"][0], "status": "running", "finished_at": None}]
    path = write_earlier_database(tmp_path / "earlier", "C", ROWS | {"jobs": [*ROWS["jobs"], *jobs]})
    async with serving(config_of(path, tmp_path)) as served:
        job = await served.json(f"/api/v1/jobs/{RUN}")
    assert (job["status"], job["started_at"], job["config"]) == ("running", "2025-12-01T00:01:02Z", None)


@pytest.mark.parametrize(
    "params",
    ['{"path": "\\udcff"}', '{"flux": 1e999}', '{"deep": ' + "[" * 300 + "]" * 300 + "}"],
    ids=["half a character", "beyond double precision", "too deep to be written again"],
)
async def test_params_that_only_sqlite_takes_for_json_are_not_told(tmp_path: Path, params: str) -> None:
    jobs = [{**ROWS["jobs"][0], "params": params}]
    path = write_earlier_database(tmp_path / "earlier", "C", ROWS | {"jobs": jobs})
    async with serving(config_of(path, tmp_path)) as served:
        assert (await served.json(f"/api/v1/jobs/{RUN}"))["config"] is None


async def test_the_grade_of_an_image_is_that_of_its_assessment(tmp_path: Path) -> None:
    path = write_earlier_database(tmp_path, "U", ROWS)
    async with opened(path) as adapter:
        assert await adapter.fetch_val("SELECT qa_grade FROM images WHERE id = 1") == "warn"
        assert await adapter.fetch_val("SELECT qa_grade FROM images WHERE id = 2") is None


async def test_a_measurement_without_a_source_hides_no_other(tmp_path: Path) -> None:
    orphan = {**ROWS["photometry"][0], "source_id": None}
    path = write_earlier_database(tmp_path, "C", ROWS | {"photometry": [orphan, *ROWS["photometry"]]})
    async with opened(path) as adapter:
        assert await AsyncSourceRepository(adapter).count() == 2
        assert await adapter.fetch_val("SELECT count(*) FROM photometry") == 3


async def test_sums_of_a_source_are_those_that_recording_keeps(tmp_path: Path) -> None:
    draw = random.Random(7)
    rows = [
        {"source_id": name, "image_path": f"/i{number}.fits", "ra_deg": 1.0, "dec_deg": 2.0, "peak_jyb": draw.random(),
         "peak_err_jyb": draw.choice([None, 0.0, 0.1, 0.2]), "flux_jy": draw.choice([None, 0.0, draw.random()]),
         "flux_err_jy": draw.choice([0.1, 0.05]), "mjd": 60000.0 + number, "measured_at": 1.0}
        for name in ("a", "b") for number in range(40)
    ]  # fmt: skip
    path = write_earlier_database(tmp_path, "C", {"photometry": rows})
    names = [item.name for item in fields(FluxSums)]
    async with opened(path) as adapter:
        for name in ("a", "b"):
            epochs = await adapter.fetch_all(
                "SELECT mjd, NULL, flux_jy, flux_err_jy, peak_jyb, peak_err_jyb FROM photometry "
                "WHERE source_id = ? ORDER BY mjd", (name,),
            )  # fmt: skip
            wanted = FluxSums()
            for epoch in epochs:
                wanted = wanted.add(Epoch(*epoch))
            [found] = await adapter.fetch_all(f"SELECT {', '.join(names)} FROM sources WHERE id = ?", (name,))
            assert dict(zip(names, found, strict=True)) == pytest.approx(asdict(wanted))


def test_every_column_of_sources_is_derived_by_name() -> None:
    summed = {item.name for item in fields(FluxSums)}
    known = {"id", "name", "ra_deg", "dec_deg", "catalog_match", "source_type", *summed}
    assert {column.name for column in sources.c} == known


def test_rows_are_counted_apart_as_the_triggers_count_them() -> None:
    counted = importlib.import_module("dsa110_contimg.api.migrations.versions.0003_counts").COUNTED
    assert {name: bucket for name, bucket in counted.items() if bucket} == earlier.BUCKETS


# --- what files in the field are like -----------------------------------------------------------------------------


def values(name: str, declaration: str, draw: random.Random) -> object:
    """Return a value that may lie in a column, seldom a fitting one."""
    if name == "source_id":
        return draw.choice(["A", "J0534+2200", "NVSS J12 é", "a/b", "%"])
    if "path" in name:
        return draw.choice([MS, TWIN, IMAGE, f"{IMAGE}.fits", "/x y/z.ms", "", "/T", "/\u2028.ms", b"/x"])
    usual: list[object] = [0, 1, -1, 0.0, 1e-5, 61000.5, MADE_AT, "imaged", "done", "{}", "{'a': 1}", "[1]", "null"]
    wrong: list[object] = [None, None, "", "nan", b"\xff\x00", 1e300, -1e20, float("inf"), 2**62, "\u2028"]
    if "NOT NULL" in declaration:
        wrong = [value for value in wrong if value is not None]
    return draw.choice(draw.choice([usual, wrong]))


def random_rows(tables: Mapping[str, Mapping[str, str]], draw: random.Random) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for table, columns in tables.items():
        keys: set[object] = set()
        for number in range(draw.randrange(6)):
            row = {name: values(name, text, draw) for name, text in columns.items() if "INTEGER PRIMARY" not in text}
            unique = [name for name, text in columns.items() if "UNIQUE" in text or "TEXT PRIMARY" in text]
            for name in unique:
                row[name] = f"{row[name]!s}{number}" if row[name] in keys else row[name]
                keys.add(row[name])
            found.setdefault(table, []).append(row)
    return found


@cache
def templates() -> list[str]:
    """Return the paths of the documented routes that read."""
    paths = create_app(APIConfig.from_env({"DSA110_ENV": "testing"}), QUEUE_OFF).openapi()["paths"]
    return [path for path, calls in paths.items() if "get" in calls]


async def asked(served: Served) -> AsyncIterator[httpx.Response]:
    """Give the reply of every route that reads the products database, for each thing that the lists name."""
    ids = {"images": "id", "sources": "id", "jobs": "run_id"}
    for kind, key in ids.items():
        listed = await served.get(f"/api/v1/{kind}")
        yield listed
        for item in listed.json() if listed.status_code == 200 else ():
            name = quote(item[key], safe="")
            for template in templates():
                base, _, rest = template.partition("}")
                if base.startswith(f"/api/v1/{kind}/{{") and "{" not in rest:
                    yield await served.client.get(f"/api/v1/{kind}/{name}{rest}")
    yield await served.get("/api/v1/stats")
    for path in (MS, TWIN):
        for rest in ("metadata", "calibrator-matches", "provenance"):
            yield await served.client.get(f"/api/v1/ms/{quote(path, safe='')}/{rest}")
        yield await served.client.get(f"/api/v1/qa/ms/{quote(path, safe='')}")
    for address in ("ms", "ms?sort=mid_mjd", "cal", "cal/1", "cal/valid?mjd=61000.5", "qa/image/1", f"qa/job/{RUN}"):
        yield await served.get(f"/api/v1/{address}")
    for list_of, noun, key in (("jobs", "qa/job", "run_id"), ("images", "qa/image", "id"), ("ms", "qa/ms", "path")):
        for item in (await served.get(f"/api/v1/{list_of}")).json():
            yield await served.client.get(f"/api/v1/{noun}/{quote(item[key] or 'none', safe='')}")


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
async def test_files_that_grew_in_the_field_never_fail_and_bodies_are_as_documented(
    tmp_path: Path, dialect: str, seed: int
) -> None:
    draw = random.Random(f"{dialect}{seed}")
    tables = earlier_dialects.tables(dialect) | {"caltables": earlier_dialects.registry(dialect)}
    optional = [
        (table, name)
        for table, columns in tables.items()
        for name, text in columns.items()
        if earlier_dialects.is_optional(table, name, text)
    ]
    without = {each for each in optional if draw.random() < 0.3}
    path = write_earlier_database(
        tmp_path / "earlier", dialect, random_rows(tables, draw), without=without, shuffle=draw,
        journal_mode=draw.choice(["wal", "delete"]),
    )  # fmt: skip
    before = state(path.parent)
    async with serving(config_of(path, tmp_path)) as served:
        async for reply in asked(served):
            assert reply.status_code in (200, 400, 404, 422), (reply.url, reply.text)  # 422: a parameter is required
    assert state(path.parent) == before


async def test_a_file_without_most_tables_is_served_empty(tmp_path: Path) -> None:
    path = tmp_path / "earlier" / "products.sqlite3"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photometry (id INTEGER PRIMARY KEY, source_id TEXT)")
    async with serving(config_of(path, tmp_path)) as served:
        for kind in ("images", "sources", "jobs"):
            assert await served.json(f"/api/v1/{kind}") == []


def test_every_table_of_ours_has_a_view() -> None:
    views = "\n".join(earlier.schema_views({}))
    assert all(f"VIEW {name} " in views or f'VIEW "{name}" ' in views for name in metadata.tables)


# --- how it is opened ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
async def test_rows_of_a_pipeline_that_still_runs_are_seen(
    tmp_path: Path, journal_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsa110_contimg.api.db_adapters.adapters.earlier_file.LOOK_AGAIN_S", 0.0)
    path = write_earlier_database(tmp_path, "C", ROWS, journal_mode=journal_mode)
    add = "INSERT INTO ms_index (path, processed_at) VALUES (?, 5.0)"
    async with opened(path) as adapter:
        assert await adapter.fetch_val("SELECT count(*) FROM jobs") == 2
        with closing(sqlite3.connect(path, isolation_level=None)) as pipeline:
            for number in range(3):
                pipeline.execute(add, (f"/new/{number}.ms",))
                assert await adapter.fetch_val("SELECT count(*) FROM jobs") == 3 + number
            assert await adapter.fetch_val("SELECT n FROM table_counts WHERE name = 'ms_index' AND bucket = ''") == 5
        pipeline.close()
        assert await adapter.fetch_val("SELECT run_id FROM jobs WHERE ms_path = '/new/2.ms'") == "job-2"


async def test_a_log_that_was_never_brought_in_is_refused_and_stays(tmp_path: Path) -> None:
    path = write_earlier_database(tmp_path / "live", "C", ROWS)
    with closing(sqlite3.connect(path, isolation_level=None)) as pipeline:
        pipeline.execute("INSERT INTO ms_index (path) VALUES ('/new.ms')")
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in (path.name, f"{path.name}-wal"):
            (copy / name).write_bytes((path.parent / name).read_bytes())
    before = state(copy)
    with pytest.raises(DatabaseConnectionError, match=r"never brought in.*wal_checkpoint"):
        async with opened(copy / path.name):
            pass
    assert state(copy) == before


# --- refusals -----------------------------------------------------------------------------------------------------


async def test_changes_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write_earlier_database(tmp_path / "earlier", "C", ROWS)
    before = state(path.parent)
    async with serving(config_of(path, tmp_path)) as served:
        reply = await served.client.post(
            "/api/v1/absurd/tasks", json={"queue_name": "q", "task_name": "t"}, headers={"X-API-Key": KEY}
        )
    assert reply.status_code == 409
    body = reply.json()
    assert body["error"] == "DATABASE_READ_ONLY"
    assert "dsa110 db upgrade" in body["message"]
    assert state(path.parent) == before


async def test_no_statement_changes_the_file(tmp_path: Path) -> None:
    path = write_earlier_database(tmp_path / "earlier", "C", ROWS)
    before = state(path.parent)
    with pytest.raises(DatabaseReadOnlyError):
        async with opened(path) as adapter, adapter.transaction():
            pass
    for statement in ("DELETE FROM main.images", "CREATE TABLE main.x (a)", "DROP TABLE main.photometry"):
        async with opened(path) as adapter:
            with pytest.raises(Exception, match=r"readonly|read-only|cannot be written"):
                await adapter.fetch_all(statement)
    assert state(path.parent) == before


def test_an_upgrade_is_refused(tmp_path: Path, dialect: str) -> None:
    path = write_earlier_database(tmp_path / "earlier", dialect, ROWS)
    before = state(path.parent)
    with pytest.raises(DatabaseReadOnlyError, match="made by the earlier pipeline"):
        upgrade(DatabaseConfig(products_path=path))
    assert state(path.parent) == before


def test_a_database_of_ours_is_not_taken_for_an_earlier_one() -> None:
    assert not earlier.is_earlier(metadata.tables)
    assert not earlier.is_earlier([])
    assert all(earlier.is_earlier(earlier_dialects.tables(each)) for each in DIALECTS)
