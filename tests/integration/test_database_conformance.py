"""One suite for both products databases: whatever holds on SQLite holds on PostgreSQL."""

import asyncio
import dataclasses
import math
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from dsa110_contimg.api.async_repositories import (
    AsyncCalibrationRepository,
    AsyncImageRepository,
    AsyncJobRepository,
    AsyncMSRepository,
    AsyncProductRecorder,
    AsyncProvenanceRepository,
    AsyncReportRepository,
    AsyncSchemaRepository,
    AsyncSourceRepository,
    AsyncStatsRepository,
)
from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.database import BlockingDatabase, open_database, read
from dsa110_contimg.api.db_adapters import DatabaseAdapter, DatabaseBackend, QueryBuilder
from dsa110_contimg.api.exceptions import (
    DatabaseBusyError,
    DatabaseQueryError,
    InvalidRecordError,
    RecordAlreadyExistsError,
    ValidationError,
)
from dsa110_contimg.api.interfaces import Recording, RunOrigin, SourceRecord, StageSummary
from dsa110_contimg.api.quality_interfaces import CalibrationQARecord, ImageQARecord
from dsa110_contimg.api.queries.sources import near
from dsa110_contimg.api.report_interfaces import ImageFacts, MSFacts, RunFacts
from dsa110_contimg.api.repositories import ImageRepository, JobRepository, ProductRecorder
from dsa110_contimg.api.tables import SCHEMA_REVISION, metadata
from dsa110_contimg.up.servers import EmbeddedPostgres
from fixtures.databases import new_database
from fixtures.migrated import migrate
from fixtures.observation import (
    BANDPASS,
    BRIGHT,
    FAINT,
    GAINS,
    IMAGE,
    IMAGE_PATH,
    JOB,
    MEASUREMENT_SET,
    MJD,
    MS_PATH,
    PROVENANCE,
    RUN_ID,
    WHOLE,
    light_curve,
    measured,
)

TIMEOUTS = TimeoutConfig(db_connection=10.0, db_lock=10.0)


@pytest.fixture(scope="module")
def migrated_postgres(postgres: EmbeddedPostgres) -> Iterator[DatabaseConfig]:
    """A PostgreSQL database, to be emptied."""
    with new_database(postgres) as url:
        config = DatabaseConfig(backend="postgresql", pg_url=url)
        migrate(config)
        yield config


async def execute(url: str, statement: str) -> None:
    """Execute a statement in PostgreSQL."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(params=list(DatabaseBackend))
def config(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseConfig:
    """A migrated, empty database of each kind."""
    if request.param is DatabaseBackend.SQLITE:
        made = DatabaseConfig(products_path=tmp_path / "products.sqlite3")
        migrate(made)
        return made
    found: DatabaseConfig = request.getfixturevalue("migrated_postgres")
    asyncio.run(execute(found.pg_url, f"truncate {', '.join(metadata.tables)} restart identity"))
    return found


@pytest.fixture
async def adapter(config: DatabaseConfig) -> AsyncIterator[DatabaseAdapter]:
    """The database, connected."""
    async with open_database(config, TIMEOUTS) as opened:
        yield opened


@pytest.fixture
async def recorder(adapter: DatabaseAdapter) -> AsyncProductRecorder:
    return AsyncProductRecorder(adapter)


async def contents(adapter: DatabaseAdapter) -> dict[str, list[dict[str, object]]]:
    """Return all rows of all tables, without what says when or how often a row was touched."""
    builder = QueryBuilder(adapter.backend)
    found = {}
    for table in metadata.sorted_tables:
        if table.name in ("table_counts", "table_generations", "event_counts", "audit_head"):
            continue
        rows = await adapter.fetch_all(builder.select(table.name, order_by=next(iter(table.primary_key)).name))
        found[table.name] = [{key: row[key] for key in row.keys() if key != "stage_updated_at"} for row in rows]  # noqa: SIM118
    return found


# --- records ------------------------------------------------------------------------------------------------------


async def test_a_run_comes_back_as_it_was_recorded(adapter: DatabaseAdapter, recorder: AsyncProductRecorder) -> None:
    await recorder.record(WHOLE)
    jobs = AsyncJobRepository(adapter)
    assert await jobs.get_by_run_id(RUN_ID) == JOB
    assert await jobs.get_status(RUN_ID) == JOB.status
    assert await recorder.get_job(RUN_ID) == JOB
    assert await jobs.list_all() == [JOB]
    assert await jobs.count() == 1


@pytest.mark.parametrize("run_id", ["job-2026-02-11-030406", "job-2026-02-11", "job-%", "job-2026-02-11-03040_", ""])
async def test_a_run_is_found_by_exactly_its_id(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder, run_id: str
) -> None:
    await recorder.record(WHOLE)
    assert await AsyncJobRepository(adapter).get_by_run_id(run_id) is None
    assert await AsyncJobRepository(adapter).get_status(run_id) is None


async def test_a_measurement_set_comes_back_as_it_was_recorded(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.record(WHOLE)
    repository = AsyncMSRepository(adapter)
    assert await repository.get_metadata(MS_PATH) == MEASUREMENT_SET
    assert await repository.get_by_run_id(RUN_ID) == MEASUREMENT_SET
    assert await repository.get_metadata("/data/ms/other.ms") is None
    assert await repository.list_all() == [MEASUREMENT_SET]
    assert await repository.count() == 1


async def test_an_image_comes_back_with_its_number_and_the_stage_of_its_measurement_set(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.record(WHOLE)
    repository = AsyncImageRepository(adapter)
    [image] = await repository.list_all()
    assert image == replace(IMAGE, id=image.id, ms_stage="converted")
    assert await repository.get_by_id(str(image.id)) == replace(image, cal_table=BANDPASS.path)
    assert await repository.get_by_path(IMAGE_PATH) == image
    assert await repository.list_for_ms(MS_PATH) == [image]
    assert await repository.count() == 1


@pytest.mark.parametrize("image_id", ["0", "-1", "x", "", "1.0", "9" * 18, "9" * 30, "\0", "١"])
async def test_an_id_that_no_image_has_finds_none(adapter: DatabaseAdapter, image_id: str) -> None:
    assert await AsyncImageRepository(adapter).get_by_id(image_id) is None


async def test_images_are_listed_newest_first_and_in_parts(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.record(WHOLE)
    for number in range(4):  # two pairs of the same time: the later number comes first
        await recorder.record(
            Recording(image=replace(IMAGE, path=f"/data/images/{number}.fits", created_at=2e9 + number // 2))
        )
    repository = AsyncImageRepository(adapter)
    paths = [image.path for image in await repository.list_all()]
    assert paths == [*(f"/data/images/{number}.fits" for number in (3, 2, 1, 0)), IMAGE_PATH]
    assert [image.path for image in await repository.list_all(limit=2, offset=1)] == paths[1:3]
    assert await repository.list_all(limit=0) == []
    assert await repository.list_all(offset=10**12) == []


async def test_calibration_tables_come_back_as_they_were_recorded(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.record(WHOLE)
    repository = AsyncCalibrationRepository(adapter)
    found = await repository.get_by_id(BANDPASS.path)
    assert found == BANDPASS
    assert await repository.get_by_id(str(found.id)) == found
    assert [await repository.get_by_id(other) for other in ("/data/other", "999", "-1", "")] == [None] * 4
    assert await repository.list_all() == [BANDPASS, GAINS]
    assert await repository.count() == 2


async def test_tables_that_were_solved_from_a_measurement_set_are_its_matches(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.record(replace(WHOLE, calibration_tables=(GAINS, BANDPASS)))
    assert await AsyncMSRepository(adapter).get_calibrator_matches(MS_PATH) == [BANDPASS, GAINS]


async def test_a_target_matches_the_newest_active_set_that_is_valid_at_its_time(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    def table(name: str, **changes: object) -> object:
        return replace(BANDPASS, path=f"/cal/{name}", set_name=name, source_ms_path="/data/ms/cal.ms", **changes)

    tables = (
        table("always", created_at=0.5, valid_start_mjd=None, valid_end_mjd=None),
        table("old", created_at=1.0),
        table("right", created_at=2.0, valid_end_mjd=None),
        table("retired", created_at=3.0, status="retired"),
        table("later", created_at=4.0, valid_start_mjd=MJD + 0.1),
        table("earlier", created_at=5.0, valid_end_mjd=MJD - 0.1),
    )
    recording = Recording(measurement_set=MEASUREMENT_SET, calibration_tables=tables, image=IMAGE)  # type: ignore[arg-type]
    await recorder.record(recording)
    matches = await AsyncMSRepository(adapter).get_calibrator_matches(MS_PATH)
    assert [match.set_name for match in matches] == ["right"]
    assert matches == await AsyncCalibrationRepository(adapter).list_active(MJD)
    before = await AsyncCalibrationRepository(adapter).list_active(MJD - 1.0)
    assert [match.set_name for match in before] == ["always"]
    [image] = await AsyncImageRepository(adapter).list_all()
    shown = await AsyncImageRepository(adapter).get_by_id(str(image.id))
    assert shown == replace(image, cal_table="/cal/right")
    assert await AsyncMSRepository(adapter).get_calibrator_matches("/data/ms/unknown.ms") == []


async def test_sources_come_with_what_their_measurements_add_up_to(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.record(WHOLE)
    later = replace(IMAGE, path="/data/images/later.fits", mid_mjd=MJD + 1)
    await recorder.record(Recording(image=later, sources=(BRIGHT,), photometry=(measured(BRIGHT, 2.0, later),)))
    repository = AsyncSourceRepository(adapter)
    bright, faint = await repository.list_all()
    assert (bright.id, bright.num_images, faint.id, faint.num_images) == (BRIGHT.id, 2, FAINT.id, 1)
    assert (bright.first_detected_mjd, bright.last_detected_mjd) == (MJD, MJD + 1)
    newest = await AsyncImageRepository(adapter).get_by_path(later.path)
    assert newest is not None
    assert bright.latest_image_id == newest.id
    assert await repository.get_by_id(BRIGHT.id) == bright
    assert await repository.get_by_id("nobody") is None
    assert await repository.count() == 2


async def test_sources_are_listed_by_their_ids_in_byte_order(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    names = ["b", "a", "B", "a b", "a+b", "é", "Z9"]
    await recorder.record(Recording(sources=tuple(SourceRecord(name, name, 1.0, 2.0) for name in names)))
    listed = [source.id for source in await AsyncSourceRepository(adapter).list_all()]
    assert listed == sorted(names, key=str.encode)


async def test_a_light_curve_is_in_order_of_time_and_its_range_includes_both_ends(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.record(Recording(measurement_set=MEASUREMENT_SET, sources=(BRIGHT,)))
    for day in (2, 0, 1):
        image = replace(IMAGE, path=f"/data/images/day{day}.fits", mid_mjd=MJD + day)
        await recorder.record(Recording(image=image, photometry=(measured(BRIGHT, 0.0 if day == 1 else 1.0, image),)))
    curve = await light_curve(adapter, BRIGHT.id)
    assert [point["mjd"] for point in curve] == [MJD, MJD + 1, MJD + 2]
    assert [point["flux_jy"] for point in curve] == [1.0, 0.0, 1.0]  # 0 is a value
    assert [point["image_path"] for point in curve] == [f"/data/images/day{day}.fits" for day in range(3)]
    assert await light_curve(adapter, BRIGHT.id, MJD + 1, MJD + 2) == curve[1:]
    assert await light_curve(adapter, BRIGHT.id, end_mjd=MJD) == curve[:1]
    assert await light_curve(adapter, "nobody") == []


@pytest.mark.parametrize(
    ("centre", "radius_deg", "expected"),
    [
        ((0.0, 30.0), 0.1, ["east", "west"]),  # across RA 0
        ((359.95, 30.0), 0.09, ["west", "east"]),  # 0.1 * cos(30 deg) apart
        ((0.0, 90.0), 0.2, ["pole0", "pole180"]),  # at the pole every right ascension is near
        ((90.0, 89.95), 0.2, ["pole0", "pole180"]),
        ((0.0, 30.0), 0.001, []),
        ((123.0, -45.0), 0.01, ["here"]),
        ((483.0, -45.0), 1e-9, ["here"]),  # one turn more
        ((200.0, 0.0), 180.0, ["here", "west", "east", "pole180", "pole0"]),
    ],
)
async def test_sources_near_a_position_are_found_across_the_origin_and_at_the_pole(
    adapter: DatabaseAdapter,
    recorder: AsyncProductRecorder,
    centre: tuple[float, float],
    radius_deg: float,
    expected: list[str],
) -> None:
    places = {
        "east": (0.05, 30.0), "west": (-0.05 % 360 - 1e-9, 30.0), "pole0": (0.0, 89.9), "pole180": (180.0, 89.88),
        "here": (123.0, -45.0),
    }  # fmt: skip
    await recorder.record(Recording(sources=tuple(SourceRecord(name, name, *at) for name, at in places.items())))
    found = await read(adapter, near(*centre, radius_deg))
    assert sorted(source.id for source in found) == sorted(expected)
    if radius_deg < 1 and centre[1] < 80:
        assert [source.id for source in found] == expected


async def test_right_ascensions_are_kept_between_0_and_360(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.record(Recording(sources=(SourceRecord("s", "s", -1.0, 0.0),)))
    source = await AsyncSourceRepository(adapter).get_by_id("s")
    assert source is not None
    assert source.ra_deg == 359.0


async def test_provenance_comes_back_with_its_files(adapter: DatabaseAdapter, recorder: AsyncProductRecorder) -> None:
    earlier = replace(PROVENANCE, stage="flagging", started_at=1.0, files=PROVENANCE.files[:1])
    await recorder.record(Recording(provenance=PROVENANCE))
    await recorder.record(Recording(provenance=earlier))
    repository = AsyncProvenanceRepository(adapter)
    assert await repository.list_for_run(RUN_ID) == [earlier, PROVENANCE]
    assert await repository.list_for_file(IMAGE_PATH) == [PROVENANCE]
    assert await repository.list_for_file(MS_PATH) == [earlier, PROVENANCE]
    assert await repository.list_for_run("job-other") == []


async def test_what_a_product_comes_from_and_is_judged_by_is_read_with_it(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    seen = ImageQARecord(MS_PATH, IMAGE_PATH, 4e-4, 4.9, 12250.0, 14.5, 11.0, 0.0, 12, "good", 2e9)
    solved = CalibrationQARecord(MS_PATH, "good", 0.05, 2e9, bp_metrics={"avg_snr": 60.0})
    graded = replace(IMAGE, qa_grade="warn", qa_metrics={"sources": 12})
    await recorder.record(replace(WHOLE, image=graded, image_qa=seen, calibration_qa=solved))
    first = await AsyncImageRepository(adapter).get_by_path(IMAGE_PATH)
    assert first is not None
    later = replace(IMAGE, path="/data/images/2.fits", created_at=IMAGE.created_at + 1)
    version = replace(
        IMAGE, path="/data/images/3.fits", created_at=IMAGE.created_at + 2, run_id="job-reimage", qa_grade="good",
        parent_id=first.id, root_id=first.id, version=2,
    )  # fmt: skip
    for image in (later, version):
        await recorder.record(Recording(image=image))
    _, newest, assessed = await AsyncImageRepository(adapter).list_for_ms(MS_PATH)
    assert assessed == first

    reports = AsyncReportRepository(adapter)
    of_image, of_ms, of_run = (
        await reports.get_image(str(first.id)), await reports.get_ms(MS_PATH), await reports.get_run(RUN_ID)
    )  # fmt: skip
    stages = [StageSummary(PROVENANCE.stage, PROVENANCE.summary)]
    bare = [replace(image, ms_stage=None) for image in (newest, assessed)]
    assert of_image == ImageFacts(bare[1], seen)
    assert of_ms == MSFacts(MEASUREMENT_SET, bare[1], solved, stages)
    assert of_run == RunFacts(JOB, BANDPASS.path, bare, stages)
    assert await reports.get_image(str(newest.id)) == ImageFacts(bare[0], None)

    ms, run = (
        await AsyncMSRepository(adapter).get_origin(MS_PATH),
        await AsyncProvenanceRepository(adapter).get_run_origin(RUN_ID),
    )
    assert ms is not None
    assert (ms.image_grade, ms.image_id, ms.cal_table) == ("warn", newest.id, BANDPASS.path)
    pointing = (MEASUREMENT_SET.pointing_ra_deg, MEASUREMENT_SET.pointing_dec_deg)
    assert run == RunOrigin(RUN_ID, MS_PATH, JOB.started_at, *pointing, BANDPASS.path, newest.id, None, None)
    assert await AsyncImageRepository(adapter).list_ids_of_run(RUN_ID, MS_PATH) == [newest.id, first.id]


async def test_what_is_not_known_has_no_origin_and_no_report(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.save_job(replace(JOB, run_id="alone", ms_path="/data/ms/gone.ms"))
    alone = await AsyncJobRepository(adapter).get_by_run_id("alone")
    reports, origins = AsyncReportRepository(adapter), AsyncProvenanceRepository(adapter)
    assert await reports.get_run("alone") == RunFacts(alone, None, [], [])  # type: ignore[arg-type]
    assert await origins.get_run_origin("alone") == RunOrigin(
        "alone", "/data/ms/gone.ms", JOB.started_at, None, None, None, None, None, None
    )
    for unknown in ("", "7", "x", "\0", "9" * 30):
        assert await reports.get_image(unknown) is None
    for unknown in ("", "/data/ms/gone.ms", "2026-02-11"):
        assert await reports.get_ms(unknown) is None
        assert await AsyncMSRepository(adapter).get_path(unknown) is None
        assert await reports.get_run(unknown) is await origins.get_run_origin(unknown) is None


async def test_a_measurement_set_is_found_by_its_short_id_too(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.record(WHOLE)
    sets = AsyncMSRepository(adapter)
    for ms_id in (MS_PATH, MEASUREMENT_SET.group_id):
        assert await sets.get_path(ms_id) == MS_PATH
        assert await sets.get_metadata(ms_id) == await sets.get_origin(ms_id) == MEASUREMENT_SET
        facts = await AsyncReportRepository(adapter).get_ms(ms_id)
        assert facts is not None
        assert facts.ms == MEASUREMENT_SET


async def test_statistics_count_everything_and_their_parts_add_up(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    empty = await AsyncStatsRepository(adapter).get_statistics()
    assert (empty.ms_total, empty.images_total, empty.jobs_total, empty.recent_images) == (0, 0, 0, ())
    await recorder.record(WHOLE)
    await recorder.record(Recording(measurement_set=replace(MEASUREMENT_SET, path="/data/ms/2.ms", stage="imaged")))
    counted = await AsyncStatsRepository(adapter).get_statistics()
    assert counted.ms_by_stage == {"converted": 1, "imaged": 1}
    assert counted.jobs_by_status == {"running": 1}
    totals = (
        counted.ms_total, counted.images_total, counted.photometry_total, counted.sources_total, counted.jobs_total,
        counted.cal_tables_total,
    )  # fmt: skip
    assert totals == (2, 1, 2, 2, 1, 2)
    [image] = await AsyncImageRepository(adapter).list_all()
    shown = {"id": str(image.id), "path": image.path, "created_at": image.created_at, "type": image.type}
    assert counted.recent_images == (shown,)


async def test_a_migrated_database_has_the_revision_of_this_version(adapter: DatabaseAdapter) -> None:
    assert await AsyncSchemaRepository(adapter).get_revision() == SCHEMA_REVISION
    await AsyncSchemaRepository(adapter).require_current()


# --- recording again ----------------------------------------------------------------------------------------------


async def test_recording_twice_leaves_the_same_rows(adapter: DatabaseAdapter, recorder: AsyncProductRecorder) -> None:
    await recorder.record(WHOLE)
    once = await contents(adapter)
    await recorder.record(WHOLE)
    assert await contents(adapter) == once
    assert {name: len(rows) for name, rows in once.items() if rows} == {
        "ms_index": 1, "images": 1, "sources": 2, "photometry": 2, "caltables": 2, "jobs": 1, "provenance": 1,
        "provenance_files": 2,
    }  # fmt: skip


async def test_a_repeated_extraction_replaces_the_measurements_of_its_image(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.record(WHOLE)
    await recorder.record(Recording(image=IMAGE, sources=(BRIGHT,), photometry=(measured(BRIGHT, 3.0),)))
    bright, faint = await AsyncSourceRepository(adapter).list_all()
    assert (bright.num_images, faint.num_images) == (1, 0)
    assert faint.last_detected_mjd is None
    [point] = await light_curve(adapter, BRIGHT.id)
    assert point["flux_jy"] == 3.0
    assert await light_curve(adapter, FAINT.id) == []


async def test_what_a_later_record_does_not_say_stays_known(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.record(replace(WHOLE, image=replace(IMAGE, qa_metrics={"rms": 1.5})))
    graded = dataclasses.replace(
        type(IMAGE)(IMAGE_PATH, MS_PATH, RUN_ID, "5min", IMAGE.created_at), qa_grade="good", qa_summary="fine"
    )
    await recorder.record(Recording(image=graded))
    image = await AsyncImageRepository(adapter).get_by_path(IMAGE_PATH)
    assert image == replace(
        IMAGE, id=image and image.id, ms_stage="converted", qa_grade="good", qa_summary="fine", qa_metrics={"rms": 1.5}
    )
    flagged = replace(
        MEASUREMENT_SET, stage="calibrated", cal_applied=True, missing_subbands=(), field_name=None, processed_at=None
    )
    await recorder.record(Recording(measurement_set=flagged))
    await recorder.record(Recording(measurement_set=replace(flagged, stage="imaged", cal_applied=False)))
    known = await AsyncMSRepository(adapter).get_metadata(MS_PATH)
    assert known == replace(MEASUREMENT_SET, stage="imaged", cal_applied=True)


async def test_a_new_conversion_starts_afresh(adapter: DatabaseAdapter, recorder: AsyncProductRecorder) -> None:
    await recorder.record(Recording(measurement_set=replace(MEASUREMENT_SET, stage="imaged", cal_applied=True)))
    again = replace(MEASUREMENT_SET, missing_subbands=(), cal_applied=False)
    await recorder.record(Recording(measurement_set=again))
    assert await AsyncMSRepository(adapter).get_metadata(MS_PATH) == again


async def test_a_run_that_begins_again_has_no_end_and_no_error(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    await recorder.save_job(replace(JOB, status="failed", finished_at=1770779500.0, error="no calibrator in the beam"))
    failed = await recorder.get_job(RUN_ID)
    assert failed is not None
    assert (failed.finished_at, failed.error) == (1770779500.0, "no calibrator in the beam")
    await recorder.save_job(replace(JOB, status="running", created_at=None, params={}))
    assert await recorder.get_job(RUN_ID) == JOB
    await recorder.save_job(replace(JOB, status="completed", finished_at=1770779600.0))
    await recorder.save_job(replace(JOB, status="completed"))
    assert await recorder.get_job(RUN_ID) == replace(JOB, status="completed", finished_at=1770779600.0)


async def test_a_run_without_a_time_gets_the_time_of_its_first_record(recorder: AsyncProductRecorder) -> None:
    await recorder.save_job(replace(JOB, created_at=None))
    first = await recorder.get_job(RUN_ID)
    await recorder.save_job(replace(JOB, created_at=None))
    again = await recorder.get_job(RUN_ID)
    assert first is not None
    assert again is not None
    assert first.created_at == again.created_at is not None


async def test_repeated_provenance_replaces_its_files(adapter: DatabaseAdapter, recorder: AsyncProductRecorder) -> None:
    await recorder.record(WHOLE)
    again = replace(PROVENANCE, attempt=3, files=PROVENANCE.files[1:])
    await recorder.record(Recording(provenance=again))
    assert await AsyncProvenanceRepository(adapter).list_for_run(RUN_ID) == [again]


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_numbers_that_are_none_are_kept_as_null(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder, number: float
) -> None:
    measurement = replace(measured(BRIGHT), peak_err_jyb=number, flux_jy=number)
    await recorder.record(
        replace(
            WHOLE,
            image=replace(IMAGE, noise_jy=number, qa_metrics={"rms": number, "n": 3}),
            photometry=(measurement,),
        )
    )
    image = await AsyncImageRepository(adapter).get_by_path(IMAGE_PATH)
    assert image is not None
    assert image.noise_jy is None
    assert image.qa_metrics == {"rms": None, "n": 3}
    [point] = await adapter.fetch_all("SELECT flux_jy, peak_err_jyb, peak_jyb FROM photometry")
    assert tuple(point) == (None, None, measurement.peak_jyb)


async def test_json_values_make_the_round_trip(recorder: AsyncProductRecorder) -> None:
    params = {"text": "ü'\"\\", "deep": [{"a": [1, 2.5, None, True]}], "large": 2**53 - 1, "tiny": 5e-324, "empty": {}}
    await recorder.save_job(replace(JOB, params=params))
    job = await recorder.get_job(RUN_ID)
    assert job is not None
    assert job.params == params


@pytest.mark.parametrize("number", [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 61082.127835648148])
async def test_numbers_keep_every_bit(adapter: DatabaseAdapter, recorder: AsyncProductRecorder, number: float) -> None:
    await recorder.record(replace(WHOLE, image=replace(IMAGE, peak_flux_jy=number)))
    image = await AsyncImageRepository(adapter).get_by_path(IMAGE_PATH)
    assert image is not None
    assert image.peak_flux_jy == number


async def test_a_text_with_a_nul_character_is_refused(adapter: DatabaseAdapter, recorder: AsyncProductRecorder) -> None:
    with pytest.raises(ValidationError, match="NUL"):
        await recorder.save_job(replace(JOB, error="a\0b"))
    with pytest.raises(ValidationError, match="NUL"):
        await AsyncSourceRepository(adapter).get_by_id("a\0b")


@pytest.mark.parametrize("text", ["'; DROP TABLE images; --", "%", "_", "\\", "$1", "?", ":x", "{}", "日本"])
async def test_any_text_is_only_a_text(adapter: DatabaseAdapter, recorder: AsyncProductRecorder, text: str) -> None:
    await recorder.record(Recording(sources=(SourceRecord(text, text, 1.0, 2.0),)))
    source = await AsyncSourceRepository(adapter).get_by_id(text)
    assert source is not None
    assert source.name == text
    assert await AsyncSourceRepository(adapter).count() == 1


# --- refusals -----------------------------------------------------------------------------------------------------


async def test_an_image_of_an_unknown_measurement_set_is_refused_and_nothing_of_its_recording_stays(
    adapter: DatabaseAdapter, recorder: AsyncProductRecorder
) -> None:
    with pytest.raises(InvalidRecordError):
        await recorder.record(replace(WHOLE, measurement_set=None))
    assert not any((await contents(adapter)).values())


async def test_a_job_of_an_unknown_status_is_refused(recorder: AsyncProductRecorder) -> None:
    with pytest.raises(InvalidRecordError):
        await recorder.save_job(replace(JOB, status="asleep"))


async def test_inserting_the_same_key_again_says_that_it_exists(adapter: DatabaseAdapter) -> None:
    builder = QueryBuilder(adapter.backend)
    insert = builder.insert("sources", ["id", "name", "ra_deg", "dec_deg"])
    assert await adapter.execute(insert, ("s", "s", 1.0, 2.0)) == 1
    with pytest.raises(RecordAlreadyExistsError):
        await adapter.execute(insert, ("s", "s", 1.0, 2.0))


async def test_a_statement_that_is_none_is_refused_without_a_trace_of_the_connection(adapter: DatabaseAdapter) -> None:
    with pytest.raises(DatabaseQueryError):
        await adapter.fetch_all("SELEKT 1")
    assert await adapter.fetch_val("SELECT 1") == 1


# --- transactions -------------------------------------------------------------------------------------------------


async def add_source(connection: object, builder: QueryBuilder, name: str) -> None:
    await connection.execute(  # type: ignore[attr-defined]
        builder.insert("sources", ["id", "name", "ra_deg", "dec_deg"]), (name, name, 1.0, 2.0)
    )


async def test_a_transaction_is_kept_as_a_whole_or_not_at_all(adapter: DatabaseAdapter) -> None:
    builder = QueryBuilder(adapter.backend)
    async with adapter.transaction() as connection:
        await add_source(connection, builder, "a")
        await add_source(connection, builder, "b")
    with pytest.raises(KeyError):
        async with adapter.transaction() as connection:
            await add_source(connection, builder, "c")
            raise KeyError("c")
    assert await AsyncSourceRepository(adapter).count() == 2


async def test_a_cancelled_transaction_leaves_nothing_open_and_nothing_behind(adapter: DatabaseAdapter) -> None:
    builder = QueryBuilder(adapter.backend)
    for number in range(20):
        begun = asyncio.Event()

        async def work(name: str, begun: asyncio.Event) -> None:
            async with adapter.transaction() as connection:
                await add_source(connection, builder, name)
                begun.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(work(f"s{number}", begun))
        if number % 2:
            await begun.wait()  # cancelled at rest, else wherever it is
        else:
            await asyncio.sleep(number * 1e-4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with adapter.transaction() as connection:
        await add_source(connection, builder, "after")
    assert [source.id for source in await AsyncSourceRepository(adapter).list_all()] == ["after"]


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
async def test_transactions_that_are_cancelled_among_others_take_nothing_of_these_and_leave_nothing_open(
    config: DatabaseConfig, count: int
) -> None:
    """Each writes two rows; half of them are cancelled, wherever they are."""
    chance, in_flight = random.Random(22), asyncio.Semaphore(20)  # twice the connections
    builder = QueryBuilder(DatabaseBackend(config.backend))

    async def write(adapter: DatabaseAdapter, number: int) -> None:
        async with in_flight, adapter.transaction() as connection:
            await add_source(connection, builder, f"{number}-first")
            await add_source(connection, builder, f"{number}-second")

    async def give_up(task: "asyncio.Task[None]") -> None:
        await asyncio.sleep(chance.random() * count * 5e-4)
        task.cancel()

    async with open_database(config, TIMEOUTS) as adapter:
        tasks = [asyncio.create_task(write(adapter, number)) for number in range(count)]
        await asyncio.gather(*(give_up(task) for task in tasks[::2]))
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled = [number for number, end in enumerate(ends) if isinstance(end, asyncio.CancelledError)]
        assert cancelled and [end for end in ends if end is not None] == [ends[number] for number in cancelled]
        await write(adapter, count)
        async with open_database(config, replace(TIMEOUTS, db_lock=0.5)) as other:
            await write(other, count + 1)  # nobody holds a lock
            found = {source.id for source in await AsyncSourceRepository(other).list_all(limit=3 * count)}
    wholes = {name.partition("-")[0] for name in found}
    assert found == {f"{number}-{row}" for number in wholes for row in ("first", "second")}, "half a transaction"
    assert wholes >= {str(number) for number in range(count + 2)} - {str(number) for number in cancelled}


async def test_eight_writers_that_read_and_then_write_lose_nothing(adapter: DatabaseAdapter) -> None:
    builder = QueryBuilder(adapter.backend)
    sign = builder.placeholder
    row_lock = " FOR UPDATE" if adapter.backend is DatabaseBackend.POSTGRESQL else ""
    await adapter.execute(
        builder.insert("batch_jobs", ["type", "created_at", "status", "total_items"]), ("x", 1.0, "running", 0)
    )
    read = builder.select("batch_jobs", ["total_items"]) + row_lock
    change = builder.update("batch_jobs", ["total_items"], f"type = {sign(2)}")

    async def writer() -> None:
        for _ in range(25):
            async with adapter.transaction() as connection:
                count = await connection.fetch_val(read)
                await connection.execute(change, (count + 1, "x"))

    await asyncio.gather(*(writer() for _ in range(8)))
    assert await adapter.fetch_val(builder.select("batch_jobs", ["total_items"])) == 200


async def test_recordings_at_once_from_two_processes_worth_of_connections_lose_nothing(config: DatabaseConfig) -> None:
    async with open_database(config, TIMEOUTS) as one, open_database(config, TIMEOUTS) as two:
        await AsyncProductRecorder(one).record(Recording(measurement_set=MEASUREMENT_SET, sources=(BRIGHT, FAINT)))

        async def record(adapter: DatabaseAdapter, number: int) -> None:
            image = replace(IMAGE, path=f"/data/images/{number}.fits", mid_mjd=MJD + number)
            both = (BRIGHT, FAINT) if number % 2 else (FAINT, BRIGHT)
            seen = tuple(measured(source, 1.0, image) for source in both)
            await AsyncProductRecorder(adapter).record(Recording(image=image, sources=both, photometry=seen))

        await asyncio.gather(*(record((one, two)[number % 2], number) for number in range(24)))
        assert await AsyncImageRepository(two).count() == 24
        bright, faint = await AsyncSourceRepository(one).list_all()
        assert (bright.num_images, faint.num_images) == (24, 24)


async def test_readers_do_not_wait_for_a_writer_and_do_not_see_its_open_work(adapter: DatabaseAdapter) -> None:
    builder = QueryBuilder(adapter.backend)
    async with adapter.transaction() as connection:
        await add_source(connection, builder, "open")
        assert await asyncio.wait_for(AsyncSourceRepository(adapter).count(), 1.0) == 0
    assert await AsyncSourceRepository(adapter).count() == 1


async def test_no_free_connection_ends_in_a_busy_error_in_time(config: DatabaseConfig) -> None:
    narrow = replace(config, sqlite_readers=1, pg_pool_max=1)
    async with open_database(narrow, TimeoutConfig(db_connection=0.5)) as adapter, adapter.acquire():
        with pytest.raises(DatabaseBusyError, match="became free"):
            await adapter.fetch_val("SELECT 1")


async def test_who_asks_after_a_wait_in_vain_does_not_wait_too_until_a_connection_comes_back(
    postgres_database: str,
) -> None:
    """A request reads several times: each would wait as long, one after the other."""
    config = DatabaseConfig(backend="postgresql", pg_url=postgres_database, pg_pool_max=1)
    async with open_database(config, TimeoutConfig(db_connection=0.5)) as adapter:
        async with adapter.acquire():
            with pytest.raises(DatabaseBusyError, match="became free"):
                await adapter.fetch_val("SELECT 1")
            begun = time.monotonic()
            for _ in range(100):
                with pytest.raises(DatabaseBusyError, match="became free"):
                    await adapter.fetch_val("SELECT 1")
            assert time.monotonic() - begun < 25  # half of what one wait after the other takes
        async with adapter.acquire():
            waiting = asyncio.create_task(adapter.fetch_val("SELECT 2"))
            await asyncio.sleep(0.1)
            assert not waiting.done(), "one has come back: it is waited for again"
        assert await waiting == 2


async def test_who_gives_up_between_two_steps_of_a_read_leaves_no_lock(postgres_database: str) -> None:
    """Each statement is another one, which is prepared before it is executed; a migration would wait for its locks."""
    chance, count = (
        random.Random(35),
        "SELECT count(*) FROM pg_locks JOIN pg_class c ON c.oid = relation WHERE relname = 't'",
    )
    config = DatabaseConfig(backend="postgresql", pg_url=postgres_database)
    async with open_database(config, TIMEOUTS) as adapter, open_database(config, TIMEOUTS) as other:
        await adapter.execute("CREATE TABLE t (a integer)")
        for number in range(1200):
            reading = asyncio.create_task(adapter.fetch_all(f"SELECT a AS c{number} FROM t"))
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert await other.fetch_val(count) == 0, number


# --- the blocking twins -------------------------------------------------------------------------------------------


def test_blocking_repositories_read_what_blocking_recorders_keep(config: DatabaseConfig) -> None:
    with BlockingDatabase(config, TIMEOUTS) as database:
        ProductRecorder(database).record(WHOLE)
        assert JobRepository(database).get_by_run_id(RUN_ID) == JOB
        [image] = ImageRepository(database).list_all()
        assert image.path == IMAGE_PATH
        with pytest.raises(InvalidRecordError):
            ProductRecorder(database).save_job(replace(JOB, status="asleep"))
        assert JobRepository(database).count() == 1
