"""Lists: whichever way one walks through them, each row comes once, in order, and the conditions hold."""

import asyncio
import csv
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.config import DatabaseConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters import DatabaseBackend, QueryBuilder
from dsa110_contimg.api.interfaces import Recording, SourceRecord
from dsa110_contimg.api.pages import write_cursor
from fixtures.api_server import Served, serving
from fixtures.api_world import settings
from fixtures.databases import environ_of
from fixtures.migrated import migrate
from fixtures.observation import IMAGE, JOB, MEASUREMENT_SET, MJD, measured

DAY = 1770779100.0  # 2026-02-11
STATUSES = ("completed", "failed", "running")
SOURCES = [SourceRecord(f"S{number:02}", f"S{number:02}", 10.0 * number, 40.0 + number) for number in range(9)]


async def fill(config: DatabaseConfig) -> None:
    """Record 23 images with runs (two of each time), the first 9 with one more source each."""
    async with open_database(config) as adapter:
        recorder = AsyncProductRecorder(adapter)
        await recorder.record(Recording(measurement_set=MEASUREMENT_SET, sources=tuple(SOURCES)))
        for number in range(23):
            image = replace(
                IMAGE, path=f"/data/images/{number:02}.fits", created_at=DAY + number // 2, mid_mjd=MJD + number,
                noise_jy=None if number % 5 == 0 else 0.001 * (number % 7), qa_grade=("good", "warn")[number % 2],
                type=("5min", "mosaic")[number % 3 == 0],
            )  # fmt: skip
            seen = tuple(measured(source, 1.0 + 0.5 * (number % 2), image) for source in SOURCES[: number + 1])
            job = replace(JOB, run_id=f"job-{number:02}", created_at=DAY + number // 2, status=STATUSES[number % 3])
            await recorder.record(Recording(job=job, image=image, photometry=seen))


@pytest.fixture(scope="module")
def config(each_database_of_a_module: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Settings of a filled database of each kind."""
    made = settings(tmp_path_factory.mktemp("lists"), **each_database_of_a_module)
    migrate(made.database)
    asyncio.run(fill(made.database))
    return made


@pytest.fixture
async def lists(config: Any) -> AsyncIterator[Served]:
    async with serving(config) as served:
        yield served


def settings_of(config: DatabaseConfig) -> dict[str, str]:
    if config.backend == "sqlite":
        return {"PRODUCTS_DB_PATH": str(config.products_path)}
    return environ_of(config.pg_url)


async def walk(api: Served, address: str) -> list[Any]:
    """Follow the links of a list from page to page."""
    rows: list[Any] = []
    for _ in range(100):
        reply = await api.client.get(address)
        assert reply.status_code == 200, reply.text
        rows += reply.json()
        if "link" not in reply.headers:
            return rows
        address = reply.headers["link"].removeprefix("<").partition(">")[0]
    raise AssertionError("the list does not end")


ORDERS = [
    *(("images", f"{way}{name}", name) for name in ("created_at", "mid_mjd", "noise_jy") for way in ("", "-")),
    *(("jobs", f"{way}{name}", name) for name in ("created_at", "started_at") for way in ("", "-")),
    *(("sources", f"{way}{name}", name) for name in ("id", "ra_deg", "num_images", "eta", "v") for way in ("", "-")),
]  # fmt: skip
KEYS = {"images": "id", "jobs": "run_id", "sources": "id"}


async def test_a_cursor_with_a_number_beyond_its_column_is_behind_every_row(lists: Served) -> None:
    cursor = write_cursor("num_images", 3 << 40, "S08")
    reply = await lists.client.get(f"/api/v1/sources?sort=num_images&cursor={cursor}")
    assert (reply.status_code, reply.json()) == (200, [])


async def test_a_cursor_holds_what_its_columns_hold_and_nothing_else(lists: Served) -> None:
    """SQLite's driver takes no whole number of 64 bits, not even for a time."""
    asked = [("id", 2**64 - 1, 1, 400), ("-created_at", 1.0, 2**64 - 1, 400), ("-created_at", 2**64 - 1, 1, 200)]
    asked += [("-created_at", odd, 1, 400) for odd in ("x", "\0", None, True, [[]], {})]
    for order, value, key, status in asked:
        cursor = write_cursor(order, value, key)
        reply = await lists.client.get(f"/api/v1/images?sort={order}&cursor={cursor}")
        assert reply.status_code == status, (order, value, key, reply.text)


@pytest.mark.parametrize("noun", KEYS)
@pytest.mark.parametrize("limit", [1, 4, 1000])
async def test_following_the_links_gives_every_row_once_in_the_order_of_the_list(
    lists: Served, noun: str, limit: int
) -> None:
    whole = (await lists.client.get(f"/api/v1/{noun}?limit=1000")).json()
    assert len(whole) == (9 if noun == "sources" else 23)
    assert await walk(lists, f"/api/v1/{noun}?limit={limit}") == whole
    by_offset = [(await lists.client.get(f"/api/v1/{noun}?limit=5&offset={5 * part}")).json() for part in range(6)]
    assert list(itertools.chain(*by_offset)) == whole


async def test_rows_that_come_in_meanwhile_make_no_other_be_skipped_or_told_twice(
    empty_products: DatabaseConfig, tmp_path: Path
) -> None:
    chance, names, count = random.Random(28), itertools.count(), 1000
    builder = QueryBuilder(DatabaseBackend(empty_products.backend))
    statement = builder.insert("images", ["path", "ms_path", "created_at", "type", "noise_jy"])

    def rows(number: int) -> list[tuple[Any, ...]]:
        """Anywhere in the order, many of them beside rows of the same value."""
        ms_path, places = MEASUREMENT_SET.path, [(chance.randrange(50), chance.randrange(9)) for _ in range(number)]
        return [(f"/data/{next(names)}", ms_path, DAY + late, "5min", 1e-3 * noise) for late, noise in places]

    made = settings(tmp_path / "state", **settings_of(empty_products))
    async with open_database(empty_products) as adapter, serving(made) as served:
        await AsyncProductRecorder(adapter).record(Recording(measurement_set=MEASUREMENT_SET))
        old = rows(count)
        await adapter.execute_many(statement, old)
        for order in ("-created_at", "noise_jy"):
            seen: list[str] = []
            address = f"/api/v1/images?sort={order}&limit={count // 10}"
            while address:
                reply = await served.client.get(address)
                seen += [row["path"] for row in reply.json()]
                address = reply.headers.get("link", "").removeprefix("<").partition(">")[0]
                if len(seen) < 2 * count:  # else the list would not end
                    await adapter.execute_many(statement, rows(count // 10))
            assert len(seen) == len(set(seen)) > count
            assert {row[0] for row in old} <= set(seen)


@pytest.mark.parametrize(("noun", "sort", "name"), ORDERS)
async def test_every_order_is_kept_over_pages_and_has_the_rows_that_have_its_value(
    lists: Served, noun: str, sort: str, name: str
) -> None:
    whole = (await lists.client.get(f"/api/v1/{noun}?limit=1000")).json()
    rows = await walk(lists, f"/api/v1/{noun}?limit=4&sort={sort}")
    if name in whole[0]:
        values = [row[name] for row in rows]
        assert values == sorted(values, reverse=sort.startswith("-"))
        known = [row for row in whole if row[name] is not None]
    else:
        known = whole
    assert {row[KEYS[noun]] for row in rows} == {row[KEYS[noun]] for row in known}
    assert len(rows) == len(known)


async def test_an_order_holds_rows_of_equal_value_by_their_number(lists: Served) -> None:
    rows = (await lists.client.get("/api/v1/images?limit=1000")).json()
    assert [int(row["id"]) for row in rows] == list(range(23, 0, -1))


@pytest.mark.parametrize(
    ("noun", "query", "holds"),
    [
        ("images", "qa_grade=warn", lambda row: row["qa_grade"] == "warn"),
        ("images", "type=mosaic", lambda row: row["type"] == "mosaic"),
        ("images", "min_noise_jy=0.003&max_noise_jy=0.005", lambda row: 0.003 <= (row["noise_jy"] or 0) <= 0.005),
        ("images", "max_noise_jy=0&qa_grade=good", lambda row: row["noise_jy"] == 0.0 and row["qa_grade"] == "good"),
        ("images", "min_created_at=2026-02-11T03:05:05Z", lambda row: row["created_at"] >= "2026-02-11T03:05:05Z"),
        ("images", "max_created_at=2026-02-11", lambda row: False),
        ("jobs", "status=failed", lambda row: row["status"] == "failed"),
        ("sources", "min_num_images=20", lambda row: row["num_images"] >= 20),
        ("sources", "min_num_images=19.5&max_num_images=3.8e16", lambda row: row["num_images"] >= 20),
        ("sources", "max_num_images=-3e9", lambda row: False),
        ("sources", "min_ra_deg=20&max_ra_deg=50&max_dec_deg=44", lambda row: 20 <= row["ra_deg"] <= 40),
        ("sources", "min_eta=1&sort=-eta", lambda row: (row["eta"] or 0) >= 1),
    ],
)
async def test_conditions_choose_rows_over_pages(lists: Served, noun: str, query: str, holds: Any) -> None:
    whole = (await lists.client.get(f"/api/v1/{noun}?limit=1000")).json()
    chosen = await walk(lists, f"/api/v1/{noun}?limit=3&{query}")
    assert sorted(row[KEYS[noun]] for row in chosen) == sorted(row[KEYS[noun]] for row in whole if holds(row))


@pytest.mark.parametrize(
    ("address", "total"),
    [
        ("images", "23"), ("images?type=mosaic", "8"), ("images?type=other", "0"), ("images?sort=created_at", "23"),
        ("images?min_noise_jy=0.003", None), ("images?sort=noise_jy", None), ("jobs?status=failed", "8"),
        ("jobs?status=failed&min_created_at=2026-01-01", None), ("sources", "9"), ("sources?limit=2&offset=8", "9"),
    ],
)  # fmt: skip
async def test_the_number_of_all_is_said_where_it_was_counted(lists: Served, address: str, total: str | None) -> None:
    assert (await lists.client.get(f"/api/v1/{address}")).headers.get("x-total-count") == total


async def test_the_statistics_name_the_ten_newest_images(lists: Served) -> None:
    told = (await lists.client.get("/api/v1/stats")).json()
    newest = (await lists.client.get("/api/v1/images?limit=10")).json()
    names = ("id", "path", "created_at", "type")
    assert told["recent_images"] == [{name: image[name] for name in names} for image in newest]
    assert (told["_meta"]["cache_hint_seconds"], told["_meta"]["generated_at"][-1]) == (30, "Z")
    assert {"imaged", "calibrated", "ingested", "pending"} <= set(told["ms"]["by_stage"])
    assert {"completed", "running", "pending", "failed"} <= set(told["jobs"]["by_status"])


async def test_fields_are_chosen(lists: Served) -> None:
    rows = (await lists.client.get("/api/v1/images?fields=id,noise_jy&sort=-mid_mjd&limit=2")).json()
    assert [list(row) for row in rows] == [["id", "noise_jy"]] * 2
    assert len(await walk(lists, "/api/v1/images?fields=id&limit=5")) == 23
    times = (await lists.client.get("/api/v1/jobs?fields=created_at&limit=1")).json()
    assert times == [{"created_at": "2026-02-11T03:05:11Z"}]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("fields=id,noize_jy", "did you mean 'noise_jy'"), ("sort=path", "known are: created_at"),
        ("cursor=xyz", "none of ours"), ("cursor=" + "A" * 9, "none of ours"), ("min_noize_jy=1", "min_noise_jy"),
        ("min_created_at=yesterday", "is no date"), ("run_id=%00", "NUL"), ("sort=-", "no order"),
    ],
)  # fmt: skip
async def test_what_a_list_does_not_know_is_refused_with_what_it_knows(lists: Served, query: str, says: str) -> None:
    reply = await lists.client.get(f"/api/v1/images?{query}")
    assert reply.status_code == 400, reply.text
    assert says in reply.json()["message"]


@pytest.mark.parametrize("query", ["qa_grade=excellent", "min_noise_jy=nan", "min_noise_jy=x", "max_noise_jy=inf"])
async def test_values_that_no_row_can_have_are_refused(lists: Served, query: str) -> None:
    assert (await lists.client.get(f"/api/v1/images?{query}")).status_code == 422


async def test_a_cursor_belongs_to_its_order_and_to_no_offset(lists: Served) -> None:
    cursor = (await lists.client.get("/api/v1/images?limit=2")).headers["x-next-cursor"]
    for query in (f"cursor={cursor}&sort=noise_jy", f"cursor={cursor}&offset=1"):
        assert (await lists.client.get(f"/api/v1/images?{query}")).status_code == 400
    forged = [quote(text) for text in ("WzEsMiwzXQ", "bnVsbA", "WyItY3JlYXRlZF9hdCIsInh4IiwieCJd", "e30")]
    for text in forged:  # [1, 2, 3]; null; ["-created_at", "xx", "x"]; {}
        assert (await lists.client.get(f"/api/v1/images?cursor={text}")).status_code == 400, text


# --- sources ---------------------------------------------------------------------------------------------------------


async def test_a_cone_gives_its_sources_nearest_first(lists: Served) -> None:
    reply = await lists.client.get("/api/v1/sources?ra=40&dec=44.1&radius=600")
    assert [row["id"] for row in reply.json()] == ["S04", "S05", "S03"]
    assert reply.headers["x-total-count"] == "3"
    second = await lists.client.get("/api/v1/sources?ra=40&dec=44.1&radius=600&limit=1&offset=1&fields=id")
    assert second.json() == [{"id": "S05"}]
    seldom = await lists.client.get("/api/v1/sources?ra=40&dec=44.1&radius=600&max_num_images=18")
    assert [row["id"] for row in seldom.json()] == ["S05"]


@pytest.mark.parametrize("query", ["ra=1", "ra=1&dec=2", "ra=1&dec=2&radius=3&sort=eta"])
async def test_half_a_cone_is_refused(lists: Served, query: str) -> None:
    assert (await lists.client.get(f"/api/v1/sources?{query}")).status_code == 400


@pytest.mark.parametrize("query", ["ra=1&dec=91&radius=1", "ra=1&dec=2&radius=0", "ra=1&dec=2&radius=601"])
async def test_a_cone_out_of_the_sky_is_refused(lists: Served, query: str) -> None:
    assert (await lists.client.get(f"/api/v1/sources?{query}")).status_code == 422


async def test_a_light_curve_is_read_in_parts(lists: Served) -> None:
    address = "/api/v1/sources/S00/lightcurve"
    whole = (await lists.client.get(address)).json()
    assert (len(whole["data_points"]), whole["truncated"], whole["next_cursor"]) == (23, False, None)
    points: list[Any] = []
    cursor = ""
    for _ in range(10):
        reply = await lists.client.get(f"{address}?limit=10&start_date=2026-02-12{cursor}")
        points += reply.json()["data_points"]
        if not reply.json()["truncated"]:
            break
        assert f"cursor={reply.json()['next_cursor']}" in reply.headers["link"]
        cursor = f"&cursor={reply.json()['next_cursor']}"
    assert points == whole["data_points"][1:]
    assert (await lists.client.get(f"{address}?limit=10001")).status_code == 422
    assert (await lists.client.get(f"{address}?cursor=xyz")).status_code == 400


async def test_a_long_light_curve_is_whole_however_many_parts_it_is_read_in(lists: Served, config: Any) -> None:
    numbers = range(1300)  # the first part is of 256, the next of 1,000
    build = QueryBuilder(DatabaseBackend(config.database.backend))
    sign = [build.placeholder(number) for number in range(4)]
    async with open_database(config.database) as adapter:
        await adapter.execute_many(
            f"INSERT INTO images (path, ms_path, created_at, type) VALUES ({sign[1]}, {sign[2]}, {sign[3]}, 'long')",
            [(f"/data/long/{number}.fits", MEASUREMENT_SET.path, DAY) for number in numbers],
        )
        await adapter.execute("INSERT INTO sources (id, name, ra_deg, dec_deg) VALUES ('long', 'long', 1, 2)")
        await adapter.execute_many(
            "INSERT INTO photometry (source_id, image_path, image_id, ra_deg, dec_deg, mjd, flux_jy, measured_at) "
            f"SELECT 'long', path, id, 1, 2, {sign[1]}, {sign[2]}, 0 FROM images WHERE path = {sign[3]}",
            [(MJD + number // 2, float(number), f"/data/long/{number}.fits") for number in numbers],
        )
    try:
        for limit in (255, 256, 257, 1255, 1256, 1257, 1299, 1300, 1301):
            told = (await lists.client.get(f"/api/v1/sources/long/lightcurve?limit={limit}")).json()
            assert [point["flux_jy"] for point in told["data_points"]] == [float(n) for n in numbers[:limit]]
            assert told["truncated"] is (limit < len(numbers))
    finally:
        async with open_database(config.database) as adapter:
            for table, condition in (
                ("photometry", "source_id = 'long'"),
                ("sources", "id = 'long'"),
                ("images", "type = 'long'"),
            ):
                await adapter.execute(f"DELETE FROM {table} WHERE {condition}")


async def test_contributing_images_are_those_of_the_detail_and_come_in_parts(lists: Served) -> None:
    detail = (await lists.client.get("/api/v1/sources/S03")).json()
    listed = (await lists.client.get("/api/v1/sources/S03/contributing-images")).json()
    assert listed == detail["contributing_images"]
    assert [image["qa_grade"] for image in listed[:2]] == ["good", "warn"]  # of each image, not of all
    assert len(listed) == detail["num_images"] == 20
    part = await lists.client.get("/api/v1/sources/S03/contributing-images?limit=3&offset=2")
    assert part.json() == listed[2:5]
    assert (await lists.client.get("/api/v1/sources/S03/contributing-images?limit=1001")).status_code == 422


async def test_variability_is_weighed_and_knows_noise(lists: Served) -> None:
    told = (await lists.client.get("/api/v1/sources/S01/variability")).json()
    assert (told["n_epochs"], told["is_variable"]) == (22, True)
    assert told["flux_stats"]["mean_jy"] == pytest.approx(1.25)
    assert told["chi_squared_reduced"] == told["eta"] == pytest.approx(told["chi_squared"] / 21)
    assert told["eta"] == pytest.approx(22 * 0.25**2 / 0.002**2 / 21)
    assert told["variability_index"] == pytest.approx(told["flux_stats"]["std_jy"] / 1.25)


async def test_the_quality_of_a_source_is_that_of_its_images(lists: Served) -> None:
    told = (await lists.client.get("/api/v1/sources/S00/qa")).json()
    assert (told["n_images"], told["qa_grades"], told["overall_grade"]) == (23, ["good", "warn"], "good")
    assert (told["metrics"]["n_good"], told["metrics"]["n_warn"], told["metrics"]["n_fail"]) == (12, 11, 0)
    assert told["flags"] == ["11 of 23 images are graded warn"]


@pytest.mark.parametrize("what", ["variability", "qa", "contributing-images", "export"])
async def test_of_a_source_that_is_not_there_nothing_is_told(lists: Served, what: str) -> None:
    reply = await lists.client.get(f"/api/v1/sources/nobody/{what}")
    assert (reply.status_code, reply.json()["error"]) == (404, "NOT_FOUND")


async def test_sources_are_exported_as_a_table(lists: Served) -> None:
    reply = await lists.client.get("/api/v1/sources/export?ids=S08,nobody,S00")
    known = {"If-None-Match": reply.headers["etag"]}
    assert (await lists.client.get("/api/v1/sources/export?ids=S08,nobody,S00", headers=known)).status_code == 304
    assert reply.headers["content-type"].startswith("text/csv")
    assert "attachment" in reply.headers["content-disposition"]
    head, *rows = csv.reader(reply.text.splitlines())
    assert head[:6] == [
        "id",
        "name",
        "ra_deg",
        "dec_deg",
        "num_images",
        "latest_image_id",
    ]  # as earlier clients read it
    assert [row[:6] for row in rows] == [
        ["S08", "S08", "80.0", "48.0", "15", "23"],
        ["S00", "S00", "0.0", "40.0", "23", "23"],
    ]
    kept = {row["id"]: row for row in (await lists.client.get("/api/v1/sources")).json()}
    for row in rows:
        numbers = {name: float(value) if value else None for name, value in zip(head[6:], row[6:], strict=True)}
        assert numbers.items() <= kept[row[0]].items()
        assert {"flux_jy", "peak_flux_jy", "eta", "v", "first_detected_mjd", "last_detected_mjd"} == numbers.keys()
    single = await lists.client.get("/api/v1/sources/S00/export")
    assert single.text.splitlines() == [reply.text.splitlines()[0], reply.text.splitlines()[2]]
    nothing = await lists.client.get("/api/v1/sources/export?ids=")
    assert (nothing.status_code, nothing.text.splitlines()) == (200, reply.text.splitlines()[:1])
    many = ",".join(str(number) for number in range(1001))
    assert (await lists.client.get(f"/api/v1/sources/export?ids={many}")).status_code == 400
