"""The API over a real database (SQLite and PostgreSQL), a real image file and a real queue."""

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import TypeAdapter

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api import schemas
from dsa110_contimg.api.exceptions import QueueDisabledError
from dsa110_contimg.api.route_table import route_rows
from fixtures.api_server import Served, serving
from fixtures.api_world import (
    RUN_ID,
    SOURCE_ID,
    build,
    settings,
)

#: Every documented route: its path in OpenAPI, an address that reaches it, and the schema of its reply.
CONTRACT: list[tuple[str, str, Any]] = [
    ("/images", "/images", list[schemas.ImageListItem]),
    ("/images/{image_id}", "/images/{image}", schemas.ImageDetail),
    ("/images/{image_id}/qa", "/images/{image}/qa", schemas.ImageQA),
    ("/images/{image_id}/provenance", "/images/{image}/provenance", schemas.Provenance),
    ("/images/bulk-download", "/images/bulk-download?ids={image}", None),
    ("/images/{image_id}/versions", "/images/{image}/versions", schemas.ImageVersions),
    ("/images/{image_id}/children", "/images/{image}/children", list[schemas.ImageVersion]),
    ("/images/{image_id}/fits", "/images/{image}/fits", None),
    ("/images/{image_id}/thumbnail", "/images/{image}/thumbnail", None),
    ("/images/{image_id}/png", "/images/{image}/png?scale=asinh", None),
    ("/images/{image_id}/cutout", "/images/{image}/cutout?ra=188.5&dec=0", None),
    ("/images/{image_id}/animation", "/images/{image}/animation", None),
    ("/images/{image_id}/header", "/images/{image}/header", schemas.FitsHeader),
    ("/images/{image_id}/validation", "/images/{image}/validation", schemas.FitsValidation),
    ("/images/{image_id}/statistics", "/images/{image}/statistics", schemas.FitsStatistics),
    ("/images/{image_id}/slice", "/images/{image}/slice", schemas.FitsSlice),
    ("/images/{image_id}/ratings", "/images/{image}/ratings", schemas.RatingList),
    ("/images/{image_id}/masks", "/images/{image}/masks", schemas.MaskList),
    ("/images/{image_id}/regions", "/images/{image}/regions", schemas.RegionList),
    ("/sources", "/sources", list[schemas.SourceListItem]),
    ("/sources/export", "/sources/export?ids={source}", None),
    ("/sources/{source_id}", "/sources/{source}", schemas.SourceDetail),
    ("/sources/{source_id}/lightcurve", "/sources/{source}/lightcurve", schemas.LightCurve),
    ("/sources/{source_id}/variability", "/sources/{source}/variability", schemas.Variability),
    ("/sources/{source_id}/qa", "/sources/{source}/qa", schemas.SourceQA),
    (
        "/sources/{source_id}/contributing-images",
        "/sources/{source}/contributing-images",
        list[schemas.ContributingImage],
    ),
    ("/sources/{source_id}/export", "/sources/{source}/export", None),
    ("/jobs", "/jobs", list[schemas.JobListItem]),
    ("/jobs/{run_id}", "/jobs/{run}", schemas.JobDetail),
    ("/jobs/{run_id}/provenance", "/jobs/{run}/provenance", schemas.Provenance),
    ("/jobs/{run_id}/logs", "/jobs/{run}/logs?tail=5", schemas.RunLog),
    ("/logs/{run_id}", "/logs/{run}", schemas.RunLog),
    ("/ms/{ms_id}/metadata", "/ms/{ms}/metadata", schemas.MSDetail),
    ("/ms/{ms_id}/calibrator-matches", "/ms/{ms}/calibrator-matches", schemas.CalibratorMatches),
    ("/ms/{ms_id}/provenance", "/ms/{ms}/provenance", schemas.Provenance),
    ("/ms", "/ms", list[schemas.MSListItem]),
    ("/ms/{ms_id}", "/ms/{ms}", schemas.MSDetail),
    ("/ms/{ms_id}/download", "/ms/{ms}/download", None),
    ("/ms/{ms_id}/antennas", "/ms/{ms}/antennas", schemas.Antennas),
    ("/ms/{ms_id}/raster", "/ms/{ms}/raster", None),
    ("/cal", "/cal", list[schemas.CalTableItem]),
    ("/cal/valid", "/cal/valid?mjd=61082.5", list[schemas.CalTableItem]),
    ("/cal/{table_id}", "/cal/1", schemas.CalTable),
    ("/qa/image/{image_id}", "/qa/image/{image}", schemas.ImageReport),
    ("/qa/ms/{ms_id}", "/qa/ms/{ms}", schemas.MSReport),
    ("/qa/job/{run_id}", "/qa/job/{run}", schemas.JobReport),
    ("/stats", "/stats", schemas.Stats),
    ("/health", "/health?detailed=true", schemas.HealthReply),
    ("/services/status", "/services/status", schemas.ServicesStatus),
    ("/services/status/{port}", "/services/status/8000", schemas.ServiceStatus),
    ("/services/history", "/services/history", schemas.ServicesHistory),
    ("/health/live", "/health/live", schemas.Liveness),
    ("/health/ready", "/health/ready", schemas.Readiness),
]

#: What a process of its own reads from a file, the same whatever the database is.
FROM_FILES = ("/thumbnail", "/png", "/cutout", "/animation", "/header", "/validation", "/statistics", "/slice",
              "/antennas", "/raster")  # fmt: skip

#: Nouns whose routes have tables of their own: test_queue_api, test_rerun_api and its neighbours, test_batches.
ELSEWHERE = ("/absurd/", "/queue", "/jobs/export", "/batches", "/metrics", "/cache")


# --- the contract ---------------------------------------------------------------------------------------------------


async def test_every_documented_route_is_reached_and_answers_by_its_schema(api: Served) -> None:
    for path, address, schema in CONTRACT:
        if path.endswith(FROM_FILES) and api.world.config.database.backend == "postgresql":
            continue
        reply = await api.get(f"/api/v1{address}")
        assert reply.status_code == 200, (address, reply.text)
        assert re.sub(r":\w+}", "}", api.route).endswith(path), f"{address} was answered by {api.route}"
        if schema is not None:
            TypeAdapter(schema).validate_json(reply.content)


async def test_the_contract_table_holds_every_declared_route(small: Served) -> None:
    described = small.app.openapi()["paths"]
    declared = {path.removeprefix("/api/v1") for path, methods in described.items() if "get" in methods}
    of_others = ("/images/{image_id}/masks/{mask_id}", "/images/{image_id}/regions/{region_id}")  # test_image_care
    ours = {path for path in declared.difference(of_others) if not path.startswith(ELSEWHERE)}
    assert ours == {path for path, _, _ in CONTRACT}


async def test_images_carry_the_numbers_that_people_read(api: Served) -> None:
    (item,) = await api.json("/api/v1/images")
    assert item == {
        "id": "1", "path": api.world.image_path, "qa_grade": "good", "created_at": "2025-12-01T00:01:00Z",
        "run_id": RUN_ID, "type": "5min", "noise_jy": 0.001, "dynamic_range": 1000.0, "peak_flux_jy": 1.0,
        "beam_major_arcsec": 31.25, "beam_minor_arcsec": 21.5, "beam_pa_deg": 0.0, "pointing_ra_deg": 188.5,
        "pointing_dec_deg": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("ids", ["DSA%20J123456.7+420312", "DSA%20J123456.7%2B420312,no", "DSA+J123456.7%2B420312"])
async def test_a_source_is_exported_however_its_name_is_written(api: Served, ids: str) -> None:
    """The earlier web client writes ids into the address as they are, and a + in a query is a blank."""
    _, *rows = (await api.client.get(f"/api/v1/sources/export?ids={ids}")).text.splitlines()
    assert [row.split(",")[0] for row in rows] == [SOURCE_ID]


async def test_zero_is_a_value_and_nan_is_null(api: Served) -> None:
    detail = await api.json("/api/v1/images/{image}")
    assert (detail["pointing_dec_deg"], detail["beam_pa_deg"]) == (0.0, 0.0)
    assert detail["thermal_noise_jy"] is None
    (point,) = (await api.json("/api/v1/sources/{source}/lightcurve"))["data_points"]
    assert point["flux_jy"] == 0.0
    (image,) = (await api.json("/api/v1/sources/{source}"))["contributing_images"]
    assert (image["flux_jy"], image["flux_error_jy"]) == (0.0, 0.002)


async def test_an_image_says_the_same_table_as_its_ms_and_its_run(api: Served) -> None:
    tables = [
        (await api.json("/api/v1/images/{image}"))["cal_table"],
        (await api.json("/api/v1/images/{image}/provenance"))["cal_table"],
        (await api.json("/api/v1/ms/{ms}/provenance"))["cal_table"],
        (await api.json("/api/v1/jobs/{run}/provenance"))["cal_table"],
        (await api.json("/api/v1/ms/{ms}/metadata"))["calibrator_matches"][0]["cal_table"],
    ]
    assert tables == [api.world.caltable_path] * 5


async def test_the_verdict_on_an_image_has_its_numbers(api: Served) -> None:
    qa = await api.json("/api/v1/images/{image}/qa")
    assert qa["quality_metrics"]["noise_rms_jy"] == 0.001
    assert qa["beam"] == {"major_arcsec": 31.25, "minor_arcsec": 21.5, "pa_deg": 0.0}
    assert qa["source_stats"] == {"n_sources": 1, "peak_flux_jy": 1.0}
    assert (qa["qa_grade"], qa["qa_summary"], qa["warnings"]) == ("good", "all well", [])


async def test_provenance_tells_how_each_stage_was_run(api: Served) -> None:
    told = await api.json("/api/v1/images/{image}/provenance")
    (stage,) = told["stages"]
    assert (stage["stage"], stage["code_version"], stage["host"]) == ("imaging", "0.1.0+abc", "host1")
    assert (stage["started_at"], stage["duration_s"]) == ("2025-12-01T00:01:00Z", 12.25)
    assert stage["params"] == {"cell": 3.6}
    assert stage["inputs"][0]["sha256"] == "0" * 64
    assert stage["outputs"][0]["path"] == api.world.image_path


async def test_provenance_is_told_in_both_spellings(api: Served) -> None:
    told = await api.json("/api/v1/jobs/{run}/provenance")
    assert told["run_id"] == told["runId"] == RUN_ID
    assert (told["image_url"], told["imageUrl"]) == ("/api/images/1", "/images/1")
    assert told["ms_url"] == f"/api/ms/{quote(api.world.ms_path, safe='')}/metadata"
    assert told["qa_grade"] == told["qaGrade"] == "good"


async def test_addresses_in_replies_lead_somewhere(api: Served) -> None:
    told = await api.json("/api/v1/images/{image}/provenance")
    detail = await api.json("/api/v1/images/{image}")
    job = await api.json("/api/v1/jobs/{run}")
    addresses = [told[name] for name in ("qa_url", "ms_url", "image_url")]
    addresses += [detail[name] for name in ("fits_url", "thumbnail_url", "provenance_url")]
    for address in [*addresses, job["qa_url"], job["provenance_url"]]:
        assert (await api.client.get(address)).status_code == 200, address


async def test_links_of_the_earlier_web_client_lead_to_what_they_name(small: Served) -> None:
    told = await small.json("/api/v1/images/{image}/provenance")
    table = await small.json("/api/v1/cal/1")
    assert (await small.client.get(told["calUrl"])).json() == table
    for link in ("/qa/image/{image}", "/qa/ms/{ms}", "/qa/job/{run}", "/logs/{run}"):
        assert await small.json(link) == await small.json(f"/api/v1{link}"), link
        assert (await small.client.delete(small.address(link))).status_code in (401, 405)


async def test_a_measurement_set_is_found_by_its_encoded_path_decoded_once(api: Served) -> None:
    by_encoding = await api.json("/api/v1/ms/{ms}/metadata")
    assert by_encoding["path"] == api.world.ms_path
    assert by_encoding["missing_subbands"] == [3]
    assert by_encoding["qa_summary"] == "Calibrated, Stage: imaged, 12.5% flagged"
    twice = quote(api.names["ms"], safe="")
    assert (await api.client.get(f"/api/v1/ms/{twice}/metadata")).status_code == 404
    plain = await api.client.get(f"/api/v1/ms/{api.world.ms_path}/metadata")
    assert plain.json()["path"] == api.world.ms_path


async def test_a_run_is_found_by_exactly_its_id(api: Served) -> None:
    assert (await api.json("/api/v1/jobs/{run}"))["finished_at"] == "2025-12-01T00:02:00.500Z"
    for wrong in ("job-2026-02-11-999999", "job-", "job-%25", "job-2026-02-1_-030405", RUN_ID[:-1]):
        assert (await api.client.get(f"/api/v1/jobs/{wrong}")).status_code == 404, wrong


async def test_the_counts_add_up(api: Served) -> None:
    stats = await api.json("/api/v1/stats")
    assert stats["ms"]["total"] == sum(stats["ms"]["by_stage"].values()) == 1
    assert stats["jobs"]["total"] == sum(stats["jobs"]["by_status"].values()) == 1
    assert (stats["images"]["total"], stats["sources"]["total"], stats["photometry"]["total"]) == (1, 1, 1)
    assert stats["cal_tables"]["total"] == 1
    assert stats["recent_images"][0]["path"] == api.world.image_path


async def test_a_light_curve_is_cut_by_dates(api: Served) -> None:
    curve = "/api/v1/sources/{source}/lightcurve"
    assert len((await api.json(f"{curve}?start_date=2026-02-11&end_date=2026-02-12T00:00:00Z"))["data_points"]) == 1
    assert (await api.json(f"{curve}?start_date=2026-02-12"))["data_points"] == []
    refused = await api.get(f"{curve}?start_date=yesterday")
    assert (refused.status_code, refused.json()["error"]) == (400, "VALIDATION_ERROR")
    assert (await api.json("/api/v1/sources/nobody/lightcurve"))["data_points"] == []


# --- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/images", "/api/v1/sources", "/api/v1/jobs"])
async def test_lists_say_how_many_there_are(api: Served, path: str) -> None:
    reply = await api.get(f"{path}?limit=1")
    assert reply.headers["x-total-count"] == "1"
    assert "link" not in reply.headers
    beyond = await api.get(f"{path}?offset=5")
    assert (beyond.json(), beyond.headers["x-total-count"]) == ([], "1")


@pytest.mark.parametrize("query", ["limit=1001", "limit=x", "offset=-1"])
@pytest.mark.parametrize("path", ["/api/v1/images", "/api/v1/sources", "/api/v1/jobs"])
async def test_pages_out_of_bounds_are_refused(small: Served, path: str, query: str) -> None:
    reply = await small.get(f"{path}?{query}")
    assert reply.status_code == 422
    schemas.ErrorBody.model_validate_json(reply.content)
    [problem] = reply.json()["detail"]
    assert problem["loc"][0] == "query"
    name, value = problem["loc"][1], problem["input"]
    assert reply.json()["message"].startswith(f"query.{name}={value!r}: Input should be ")


async def test_no_list_takes_a_limit_out_of_its_bounds(small: Served) -> None:
    lists = []
    for path, calls in small.app.openapi()["paths"].items():
        limits = [given["schema"] for given in calls.get("get", {}).get("parameters", ()) if given["name"] == "limit"]
        for schema in limits:
            lists.append(path)
            most = next(one["maximum"] for one in schema.get("anyOf", [schema]) if "maximum" in one)
            for limit in (-1, 0, most + 1, 10**12):
                reply = await small.client.get(f"{re.sub('{[^}]+}', '1', path)}?limit={limit}")
                assert reply.status_code == 422, (path, limit, reply.text)
    assert len(lists) > 10


async def test_a_misspelt_parameter_is_refused_with_the_nearest_name(small: Served) -> None:
    reply = await small.get("/api/v1/images?limt=3")
    assert reply.status_code == 400
    assert "did you mean 'limit'" in reply.json()["message"]
    assert (await small.get("/api/v1/images/1?detailed=true")).status_code == 400


async def test_head_below_the_other_base_gives_the_headers_of_get_alone(small: Served) -> None:
    for path, address, _ in CONTRACT:
        if path.endswith(FROM_FILES) and not path.endswith(("/png", "/header")):
            continue  # what is true of one picture and of one report is true of the others
        if address.endswith(("/stats", "detailed=true", "/health", "/status", "/8000", "/history")):
            continue  # their bodies hold the time
        head, get = await small.client.head(small.address(f"/api{address}")), await small.get(f"/api/v1{address}")
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-length", "content-type", "etag"):
            assert head.headers.get(name) == get.headers.get(name), (address, name)


async def test_json_that_has_not_changed_is_not_sent_again(small: Served) -> None:
    first = await small.get("/api/v1/images")
    assert (await small.get("/api/v1/images", if_none_match=first.headers["etag"])).status_code == 304


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "status", "error", "code"),
    [
        ("/api/v1/images/99", 404, "NOT_FOUND", "IMAGE_NOT_FOUND"),
        ("/api/v1/images/abc", 404, "NOT_FOUND", "IMAGE_NOT_FOUND"),
        ("/api/v1/images/99999999999999999999999", 404, "NOT_FOUND", "IMAGE_NOT_FOUND"),
        ("/api/v1/images/1%00", 400, "BAD_PATH", "BAD_PATH"),
        ("/api/v1/images/99/fits", 404, "NOT_FOUND", "IMAGE_NOT_FOUND"),
        ("/api/v1/images/99/thumbnail", 404, "NOT_FOUND", "IMAGE_NOT_FOUND"),
        ("/api/v1/images/99/provenance", 404, "NOT_FOUND", "IMAGE_NOT_FOUND"),
        ("/api/v1/sources/nobody", 404, "NOT_FOUND", "SOURCE_NOT_FOUND"),
        ("/api/v1/jobs/job-x", 404, "NOT_FOUND", "NOT_FOUND"),
        ("/api/v1/ms/%2Fnone.ms/metadata", 404, "NOT_FOUND", "MS_NOT_FOUND"),
        ("/api/v1/ms/%2Fnone.ms/provenance", 404, "NOT_FOUND", "MS_NOT_FOUND"),
        ("/api/v1/nothing", 404, "NOT_FOUND", "NOT_FOUND"),
        ("/api/v1/absurd/tasks", 503, "ABSURD_DISABLED", "ABSURD_DISABLED"),
        ("/api/v1/absurd/tasks/not-a-uuid", 422, "VALIDATION_ERROR", "VALIDATION_ERROR"),
    ],
)
async def test_every_error_has_the_one_body(small: Served, address: str, status: int, error: str, code: str) -> None:
    reply = await small.get(address, x_request_id="req-7")
    body = schemas.ErrorBody.model_validate_json(reply.content)
    assert (reply.status_code, body.http_status, body.error, body.code) == (status, status, error, code)
    assert body.ref_id == reply.headers["x-request-id"] == "req-7"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    if status in (404, 422, 503):
        assert body.detail is not None


@pytest.mark.parametrize(
    "address",
    [
        "/api/v1/queue/jobs/job_none",
        "/api/queue/jobs?status=strange",
        "/api/v1/services/status/1",
        "/api/services/status/1",
    ],
)
async def test_clients_find_the_words_about_a_job_of_the_queue_or_a_service_where_they_look_for_them(
    small: Served, address: str
) -> None:
    body = schemas.ErrorBody.model_validate_json((await small.get(address)).content)
    assert body.detail == {"error": body.message}


async def test_a_method_that_a_path_does_not_know_is_405(small: Served) -> None:
    reply = await small.client.post("/api/v1/images")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")
    body = schemas.ErrorBody.model_validate_json(reply.content)
    told = "POST cannot be asked of /api/v1/images, only GET, HEAD"
    assert (body.message, body.detail) == (told, "Method Not Allowed")
    reply = await small.client.put("/api/v1/images/1")  # its methods are those of two routes
    assert reply.headers["allow"] == "DELETE, GET, HEAD"


async def test_a_path_that_there_is_not_is_named_with_the_page_that_shows_those_that_there_are(small: Served) -> None:
    reply = await small.get("/api/source/x%20y")
    body = schemas.ErrorBody.model_validate_json(reply.content)
    assert (reply.status_code, body.message, body.detail) == (404, "There is nothing at /api/source/x y", "Not Found")
    assert "/api/docs" in body.action
    assert (await small.get("/api/docs")).status_code == 200


@pytest.mark.parametrize("query", ["min_created_at=yesterday", "run_id=a%00b"])
async def test_a_condition_that_cannot_be_used_is_named(small: Served, query: str) -> None:
    body = (await small.get(f"/api/v1/images?{query}")).json()
    assert body["details"]["field"] == query.partition("=")[0]
    assert body["message"].startswith(query.partition("=")[0])


async def test_a_slash_too_many_leads_to_the_address_without_it(small: Served) -> None:
    for row in route_rows(small.app):
        if row.method != "WebSocket":
            address = re.sub(r"\{\w+\}", "x", row.path)
            reply = await small.client.request(row.method, f"{address}/?limit=1")
            led_to = reply.headers.get("location")
            assert (reply.status_code, led_to) == (307, f"{address}?limit=1"), f"{row}: no host that a client has named"


async def test_an_unforeseen_failure_is_a_500_with_the_common_body_and_no_detail_of_ours(
    small: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError("secret text")

    small.app.add_api_route("/api/v1/broken", broken)
    reply = await small.get("/api/v1/broken")
    body = schemas.ErrorBody.model_validate_json(reply.content)
    assert (reply.status_code, body.error) == (500, "INTERNAL_ERROR")
    assert "secret" not in reply.text
    assert reply.headers["x-content-type-options"] == "nosniff"
    (logged,) = [record for record in caplog.records if record.exc_info]
    assert vars(logged)["request_id"] == body.ref_id


async def test_an_error_of_ours_is_one_line_of_the_log_unless_something_else_failed(
    small: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """Pages ask every few seconds, also for a queue that is not there."""

    async def refused() -> None:
        raise QueueDisabledError

    async def failed() -> None:
        raise QueueDisabledError from OSError("the cable")

    small.app.add_api_route("/api/v1/refused", refused)
    small.app.add_api_route("/api/v1/failed", failed)
    for path in ("refused", "failed"):
        assert (await small.get(f"/api/v1/{path}")).status_code == 503
    told = [record for record in caplog.records if "the task queue is not enabled" in record.getMessage()]
    assert [bool(record.exc_info) for record in told] == [False, True]


async def test_a_database_that_is_missing_is_503_and_what_does_not_need_it_goes_on(tmp_path: Path) -> None:
    async with serving(settings(tmp_path / "state")) as served:
        reply = await served.get("/api/v1/images")
        body = schemas.ErrorBody.model_validate_json(reply.content)
        assert (reply.status_code, body.code) == (503, "PRODUCTS_DB_UNAVAILABLE")
        assert reply.headers["retry-after"]
        assert (await served.get("/api/v1/health/live")).status_code == 200
        assert (await served.get("/api/v1/health/ready")).status_code == 503
        reply = await served.get("/api/v1/health?detailed=true")
        detailed = reply.json()
        assert (reply.status_code, detailed["status"]) == (503, "degraded")
        assert detailed["databases"]["products"].startswith("error")
        assert not served.world.config.database.products_path.exists()  # reading creates nothing


async def test_a_database_that_comes_up_later_is_used(tmp_path: Path) -> None:
    config = settings(tmp_path / "state")
    async with serving(config) as served:
        await build(config)
        for _ in range(100):
            if (await served.get("/api/v1/images")).status_code == 200:
                return
            await asyncio.sleep(0.1)
        raise AssertionError("it was not used within 10 s")


async def test_a_queue_that_is_down_is_503_at_once_and_the_rest_goes_on(tmp_path: Path) -> None:
    world = await build(settings(tmp_path / "state"))
    nowhere = AbsurdConfig(enabled=True, database_url="postgresql://nobody:secret@127.0.0.1:9/none")
    async with serving(world.config, nowhere) as served:
        started = asyncio.get_running_loop().time()
        reply = await served.get("/absurd/tasks")
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        assert "secret" not in reply.text
        assert (await served.get("/absurd/health")).json()["status"] == "error"
        assert (await served.get("/api/v1/images")).status_code == 200
        assert asyncio.get_running_loop().time() - started < 2.0
        detailed = await served.json("/api/health?detailed=true")
        assert (detailed["status"], detailed["absurd"]["status"]) == ("degraded", "error")


async def test_an_unmigrated_database_is_not_ready(tmp_path: Path) -> None:
    config = settings(tmp_path / "state")
    config.database.products_path.touch()
    async with serving(config) as served:
        reply = await served.get("/api/v1/health/ready")
        assert (reply.status_code, reply.json()["error"]) == (503, "DATABASE_SCHEMA_ERROR")


# --- health, queue, page --------------------------------------------------------------------------------------------


async def test_detailed_health_tells_the_state_of_each_part(api: Served) -> None:
    told = await api.json("/api/v1/health?detailed=true")
    ingest = "ok" if "task" in api.names else "not_found"
    assert told["databases"] == {"products": "ok", "cal_registry": "ok", "hdf5": "ok", "ingest": ingest}
    assert told["disk"][str(api.world.config.paths.products_dir)]["free_gb"] > 0
    assert told["redis"]["status"] in ("ok", "unavailable")
    assert told["absurd"]["status"] == ("healthy" if "task" in api.names else "disabled")
    assert told["timestamp"].endswith("Z")


async def test_plain_health_asks_nobody(small: Served) -> None:
    told = await small.json("/api/health")
    assert set(told) == {"status", "service", "version", "api_version", "timestamp"}
    assert (told["status"], told["service"], told["api_version"]) == ("healthy", "dsa110-contimg-api", "v1")


async def test_the_page_asks_nothing_of_the_outside(small: Served) -> None:
    page = await small.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert links
    for link in links:
        assert link.startswith("/"), link
        assert (await small.client.get(link)).status_code == 200, link
    script = (await small.get("/web/app.js")).text
    assert "http://" not in script and "https://" not in script and "innerHTML" not in script
    assert (await small.get("/web/../app.py")).status_code == 404
