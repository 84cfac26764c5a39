"""Calibration tables and Measurement Sets over HTTP: names, validity, the same table everywhere (defect 11)."""

from dataclasses import replace
from urllib.parse import quote

import pytest

from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.interfaces import (
    CalibrationTableRecord,
    ImageRecord,
    JobRecord,
    MeasurementSetRecord,
    Recording,
)
from fixtures.api_server import Served
from fixtures.api_world import CREATED_AT, GROUP_ID, RUN_ID

TARGET, TARGET_GROUP, TARGET_RUN = "/data/ms/target.ms", "2026-02-12T03:00:00", "job-2026-02-12-030000"
MJD = 61083.5


def table(name: str, set_name: str, **changes: object) -> CalibrationTableRecord:
    base = CalibrationTableRecord(
        f"/data/cal/{name}", set_name, "BP", 30, "/data/ms/calibrator.ms", "3C286", "DSA-103", CREATED_AT, MJD - 1,
        MJD + 1, quality_metrics={"median_snr": 12.5}, solver_params={"min_snr": 3}, solver_version="1",
        solver_command="solve", notes="by hand",
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


async def add(served: Served, *tables: CalibrationTableRecord) -> None:
    """Record a target that nothing was solved from, with an image and a run, and some tables."""
    target = MeasurementSetRecord(
        TARGET, TARGET_RUN, TARGET_GROUP, "imaged", MJD - 0.1, MJD + 0.1, MJD, 10.0, 0.0, processed_at=CREATED_AT
    )
    config = served.world.config
    async with open_database(config.database, config.timeouts) as adapter:
        await AsyncProductRecorder(adapter).record(
            Recording(
                job=JobRecord(TARGET_RUN, TARGET_GROUP, "completed", TARGET, created_at=CREATED_AT),
                measurement_set=target,
                calibration_tables=tables,
                image=ImageRecord("/data/images/target.fits", TARGET, TARGET_RUN, "image", CREATED_AT + 1),
            )
        )


async def matched(served: Served) -> list[str]:
    told = await served.json(f"/api/v1/ms/{quote(TARGET, safe='')}/calibrator-matches")
    assert told["ms_path"] == TARGET
    return [match["cal_table"] for match in told["matches"]]


async def test_a_target_has_the_newest_active_set_that_is_valid_at_its_time_in_order(
    own: Served,
) -> None:
    await add(
        own,
        table("new.g", "new", order_index=50, table_type="GP", created_at=CREATED_AT + 10),
        table("new.b", "new", created_at=CREATED_AT + 10),
        table("old.b", "old"),
        table("retired.b", "retired", status="retired", created_at=CREATED_AT + 20),
        table("failed.b", "failed", status="failed", created_at=CREATED_AT + 30),
        table("later.b", "later", valid_start_mjd=MJD + 0.5, created_at=CREATED_AT + 40),
        table("over.b", "over", valid_end_mjd=MJD - 0.5, created_at=CREATED_AT + 50),
    )
    assert await matched(own) == ["/data/cal/new.b", "/data/cal/new.g"]


async def test_an_open_end_is_no_limit(own: Served) -> None:
    await add(own, table("open.b", "open", valid_start_mjd=None, valid_end_mjd=None, created_at=CREATED_AT + 99))
    assert await matched(own) == ["/data/cal/open.b"]


async def test_measurement_set_image_and_run_name_the_same_table(own: Served) -> None:
    await add(own, table("new.b", "new"), table("new.g", "new", order_index=50, created_at=CREATED_AT + 10))
    named = [
        (await own.json(f"/api/v1/ms/{TARGET_GROUP}/provenance"))["cal_table"],
        (await own.json("/api/v1/images/2/provenance"))["cal_table"],
        (await own.json("/api/v1/images/2"))["cal_table"],
        (await own.json(f"/api/v1/jobs/{TARGET_RUN}/provenance"))["cal_table"],
        (await matched(own))[0],
    ]
    assert named == ["/data/cal/new.b"] * 5


async def test_retired_tables_that_were_solved_from_a_measurement_set_are_not_its_matches(own: Served) -> None:
    await add(own, table("mine.b", "mine", source_ms_path=TARGET, status="retired"), table("valid.b", "valid"))
    assert await matched(own) == ["/data/cal/valid.b"]


@pytest.mark.parametrize("name", [quote("/data/cal/new.b", safe=""), "/data/cal/new.b", "2", "%2Fdata/cal%2Fnew.b"])
async def test_a_table_is_found_by_its_path_and_by_its_short_id(own: Served, name: str) -> None:
    await add(own, table("new.b", "new"))
    told = await own.json(f"/api/v1/cal/{name}")
    assert told == {
        "id": "2", "path": "/data/cal/new.b", "table_type": "BP", "set_name": "new", "order_index": 30,
        "cal_field": "3C286", "refant": "DSA-103", "created_at": "2025-12-01T00:01:00Z", "valid_start_mjd": MJD - 1,
        "valid_end_mjd": MJD + 1, "source_ms_path": "/data/ms/calibrator.ms", "status": "active",
        "valid_start": "2026-02-11T12:00:00Z", "valid_end": "2026-02-13T12:00:00Z", "notes": "by hand",
        "solver_command": "solve", "solver_version": "1", "solver_params": {"min_snr": 3},
        "quality_metrics": {"median_snr": 12.5}, "source_ms_url": "/api/v1/ms/%2Fdata%2Fms%2Fcalibrator.ms",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["%2Fdata%2Fcal%2Fother.b", "99", "-1", "%252Fdata%252Fcal%252Fnew.b", "1e0", "new.b"])
async def test_an_unknown_table_is_not_found(own: Served, name: str) -> None:
    await add(own, table("new.b", "new"))
    reply = await own.get(f"/api/v1/cal/{name}")
    assert (reply.status_code, reply.json()["details"]["entity_type"]) == (404, "CalibrationTable")


async def test_the_list_of_tables_has_the_newest_first_and_pages(own: Served) -> None:
    await add(own, table("a.b", "a", created_at=CREATED_AT + 1), table("b.b", "b", created_at=CREATED_AT + 2))
    reply = await own.get("/api/v1/cal?limit=2")
    assert [row["path"] for row in reply.json()] == ["/data/cal/b.b", "/data/cal/a.b"]
    assert reply.headers["x-total-count"] == "3"
    rest = (await own.client.get(reply.headers["link"].split(";")[0].strip("<>"))).json()
    assert [row["path"] for row in rest] == [own.world.caltable_path]


async def test_the_tables_of_a_moment_are_those_that_the_pipeline_applies(own: Served) -> None:
    await add(own, table("a.b", "a"), table("a.g", "a", order_index=50))
    rows = await own.json(f"/api/v1/cal/valid?mjd={MJD}")
    assert [row["path"] for row in rows] == ["/data/cal/a.b", "/data/cal/a.g"]
    assert await own.json("/api/v1/cal/valid?mjd=50000") == []
    for wrong in ("", "?mjd=nan", "?mjd=inf", "?mjd=-1", "?mjd=x"):
        assert (await own.get("/api/v1/cal/valid" + wrong)).status_code == 422


async def test_measurement_sets_are_listed_with_the_grades_of_their_details(own: Served) -> None:
    await add(own)
    rows = await own.json("/api/v1/ms")
    by_id = {row["id"]: row for row in rows}
    assert {name: row["qa_grade"] for name, row in by_id.items()} == {TARGET_GROUP: "good", GROUP_ID: "good"}
    assert by_id[GROUP_ID]["run_id"] == RUN_ID
    assert [row["path"] for row in rows] == sorted((row["path"] for row in rows), reverse=True)
    for row in rows:
        detail = await own.json(f"/api/v1/ms/{quote(row['path'], safe='')}")
        assert {name: detail[name] for name in row} == row


@pytest.mark.parametrize("tail", ["", "/metadata", "/provenance", "/calibrator-matches", "/antennas"])
async def test_a_measurement_set_is_found_by_its_short_id_everywhere(small: Served, tail: str) -> None:
    by_path = await small.json("/api/v1/ms/{ms}" + tail)
    assert await small.json(f"/api/v1/ms/{GROUP_ID}{tail}") == by_path
    assert (await small.get(f"/api/v1/ms/2026-02-11T03:04:06{tail}")).status_code == 404


@pytest.mark.parametrize(
    ("stage", "status", "image_grade", "grade"),
    [
        ("imaged", "completed", "warn", "warn"), ("imaged", "failed", None, "fail"),
        ("imaged", "completed", None, "good"),
        ("mosaicked", "completed", None, "good"), ("calibrated", "completed", None, "warn"),
        ("x", None, "good", "good"),
        ("converted", "completed", None, "fail"), ("cataloged", "completed", "fail", "fail"),
    ],
)  # fmt: skip
async def test_list_and_detail_of_measurement_sets_give_the_same_grade(
    own: Served, stage: str, status: str | None, image_grade: str | None, grade: str
) -> None:
    path = "/data/ms/graded.ms"
    ms = MeasurementSetRecord(path, "r", "g", stage, 1.0, 2.0, 1.5, 0.0, 0.0, status=status)  # type: ignore[arg-type]
    config = own.world.config
    async with open_database(config.database, config.timeouts) as adapter:
        image = ImageRecord("/data/i.fits", path, "r", "image", CREATED_AT, qa_grade=image_grade)
        await AsyncProductRecorder(adapter).record(Recording(measurement_set=ms, image=image))
    (row,) = await own.json("/api/v1/ms?group_id=g")
    detail = await own.json("/api/v1/ms/g")
    assert (row["qa_grade"], detail["qa_grade"]) == (grade, grade)
    assert [one["path"] for one in await own.json(f"/api/v1/ms?qa_grade={grade}&group_id=g")] == [path]


async def test_lists_of_measurement_sets_and_tables_are_asked_like_all_lists(own: Served) -> None:
    await add(own, table("a.b", "a"), table("a.g", "a", table_type="GP", status="retired"))
    assert [row["path"] for row in await own.json("/api/v1/cal?status=retired&fields=path,id")] == ["/data/cal/a.g"]
    assert await own.json("/api/v1/cal?table_type=K") == []
    assert [row["id"] for row in await own.json("/api/v1/ms?sort=mid_mjd&fields=id")] == [GROUP_ID, TARGET_GROUP]
    assert [row["id"] for row in await own.json(f"/api/v1/ms?min_mid_mjd={MJD}&fields=id")] == [TARGET_GROUP]
    assert [row["id"] for row in await own.json("/api/v1/ms?cal_applied=true&fields=id")] == [GROUP_ID]
    reply = await own.get("/api/v1/ms?stag=imaged")
    assert (reply.status_code, "did you mean 'stage'" in reply.json()["message"]) == (400, True)
