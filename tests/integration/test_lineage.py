"""Versions of images, on both databases: families, children, numbers, what is left when one is deleted."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from dsa110_contimg.api import schemas
from dsa110_contimg.api.async_repositories import AsyncProductRecorder, AsyncStatsRepository
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters.backend import DatabaseAdapter
from dsa110_contimg.api.exceptions import InvalidRecordError, RecordAlreadyExistsError
from dsa110_contimg.api.image_care_repository import AsyncImageCareRepository
from dsa110_contimg.api.interfaces import ImageRecord, JobRecord, Recording
from dsa110_contimg.api.lineage_repository import AsyncLineageRepository
from dsa110_contimg.api.queries.image_care import RegionRecord
from fixtures.api_server import Served, segments, serving
from fixtures.api_world import GROUP_ID, RUN_ID, World, build, recordings, settings
from fixtures.live_api import add_keys
from fixtures.work_bench import WorkBench

#: For tests that share one application over the family.
shared = pytest.mark.asyncio(loop_scope="module")

PARAMS = {"imsize": [256, 256], "cell": "10arcsec", "niter": 20000, "robust": 0.5, "weighting": "briggs"}


def version_of(first: ImageRecord, number: int, parent_id: int) -> ImageRecord:
    """Return another version of the world's image, by a run of its own."""
    path = first.path.replace("/images/", f"/reimages/{number}/")
    return replace(
        first, path=path, run_id=f"{RUN_ID}_reimage_{number}", created_at=first.created_at + number,
        parent_id=parent_id, root_id=1, version=number, imaging_params=PARAMS, qa_grade="fail",
    )  # fmt: skip


def first_of(world: World) -> ImageRecord:
    """Return the image of a world."""
    [known] = recordings(world)
    assert known.image is not None
    return known.image


async def add(database: DatabaseAdapter, world: World, number: int, parent_id: int) -> None:
    """Record another version as a run does."""
    image = version_of(first_of(world), number, parent_id)
    job = JobRecord(image.run_id, GROUP_ID, "completed", image.ms_path, started_at=1.0, finished_at=2.0)
    await AsyncProductRecorder(database).record(Recording(job=job, image=image))


@dataclass(frozen=True)
class Family:
    """A world with versions 2 and 3 after image 1, and version 4 after version 2; keys to it."""

    world: World
    keys: dict[str, str]


async def build_family(config: APIConfig) -> Family:
    world = await build(config)
    async with open_database(config.database, config.timeouts) as adapter:
        for number, parent_id in ((2, 1), (3, 1), (4, 2)):
            await add(adapter, world, number, parent_id)
    return Family(world, await add_keys(config))


@pytest.fixture(scope="module")
def family(each_database_of_a_module: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A family in each kind of database; what one test deletes, no other asks for."""
    return asyncio.run(build_family(settings(tmp_path_factory.mktemp("family"), **each_database_of_a_module)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(family: Family) -> AsyncIterator[WorkBench]:
    async with serving(family.world.config, names=segments(family.world), world=family.world) as served:
        yield WorkBench({}, served, family.keys)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(family: Family) -> AsyncIterator[DatabaseAdapter]:
    """The database of the application, opened once more."""
    config = family.world.config
    async with open_database(config.database, config.timeouts) as adapter:
        yield adapter


async def test_an_image_alone_is_its_own_family(api: Served) -> None:
    told = await api.json("/api/v1/images/1/versions")
    schemas.ImageVersions.model_validate(told)
    assert (told["current_id"], told["root_id"], told["total_versions"]) == ("1", "1", 1)
    assert await api.json("/api/v1/images/1/children") == []
    detail = await api.json("/api/v1/images/1")
    assert [detail[name] for name in ("parent_id", "version", "imaging_params", "mask_path")] == [None, 1, None, None]
    for address in ("/images/77/versions", "/images/77/children", "/images/x/versions"):
        assert (await api.get(f"/api/v1{address}")).status_code == 404


@shared
async def test_a_family_is_told_whole_and_in_order_from_each_of_its_members(bench: WorkBench) -> None:
    """The earlier backend always told version 1, and its children were an error."""
    for image_id in ("1", "2", "3", "4"):
        told = await bench.done("GET", f"/images/{image_id}/versions")
        schemas.ImageVersions.model_validate(told)
        assert (told["current_id"], told["root_id"], told["total_versions"]) == (image_id, "1", 4)
        chain = [(one["id"], one["version"], one["parent_id"]) for one in told["chain"]]
        assert chain == [("1", 1, None), ("2", 2, "1"), ("3", 3, "1"), ("4", 4, "2")]
    for image_id, expected in {"1": ["2", "3"], "2": ["4"], "4": []}.items():
        children = await bench.done("GET", f"/images/{image_id}/children")
        assert [schemas.ImageVersion.model_validate(child).id for child in children] == expected
    detail = await bench.done("GET", "/images/4")
    schemas.ImageDetail.model_validate(detail)
    assert (detail["parent_id"], detail["version"], detail["imaging_params"]) == ("2", 4, PARAMS)


@shared
async def test_a_version_is_no_verdict_on_the_observation_and_no_product_of_its_first_run(bench: WorkBench) -> None:
    ms = GROUP_ID
    assert (await bench.done("GET", f"/ms/{ms}"))["qa_grade"] == "good"
    assert [row["qa_grade"] for row in await bench.done("GET", "/ms")] == ["good"]
    report = await bench.done("GET", f"/qa/ms/{ms}")
    assert (report["qa_grade"], report["image_id"]) == ("good", "1")
    assert (await bench.done("GET", f"/ms/{ms}/provenance"))["image_url"] == "/api/images/1"
    for run_id, image_id in ((RUN_ID, "1"), (f"{RUN_ID}_reimage_3", "3")):
        assert (await bench.done("GET", f"/jobs/{run_id}"))["image_ids"] == [image_id]
        assert (await bench.done("GET", f"/jobs/{run_id}/provenance"))["image_url"] == f"/api/images/{image_id}"
        assert (await bench.done("GET", f"/qa/job/{run_id}"))["image_ids"] == [image_id]
        exported = (await bench.ask("GET", f"/jobs/export?ids={run_id}")).text.splitlines()[1]
        assert exported.endswith(f",{image_id}")


@shared
async def test_numbers_of_versions_are_given_once_each(database: DatabaseAdapter) -> None:
    lineage = AsyncLineageRepository(database)
    numbers = await asyncio.gather(*(lineage.next_version(77) for _ in range(8)))
    assert sorted(numbers) == list(range(2, 10))
    assert await lineage.next_version(78) == 2


@shared
async def test_the_database_takes_no_number_of_a_family_twice(family: Family, database: DatabaseAdapter) -> None:
    twice = replace(version_of(first_of(family.world), 3, 1), path="/data/another.fits")
    with pytest.raises(RecordAlreadyExistsError):
        await AsyncProductRecorder(database).record(Recording(image=twice))


@shared
async def test_an_image_tells_its_newest_mask_at_once(bench: WorkBench, database: DatabaseAdapter) -> None:
    care, stats = AsyncImageCareRepository(database), AsyncStatsRepository(database)
    for number, kind in enumerate(("mask", "mask", "region")):
        before = await stats.get_generations()
        await care.add_region(RegionRecord(f"m{number}", 4, kind, "ds9", "circle", 1, "anna", 1000.0 + number))
        assert before["image_regions"] != (await stats.get_generations())["image_regions"], "kept replies are outdated"
    assert (await bench.done("GET", "/images/4"))["mask_path"] == "/api/v1/images/4/masks/m1"
    assert (await bench.done("GET", "/images/4/masks/m1"))["region_count"] == 1
    await care.forget_region(4, "mask", "m1")
    assert (await bench.done("GET", "/images/4"))["mask_path"] == "/api/v1/images/4/masks/m0"


async def test_what_descends_from_a_deleted_image_stays_what_it_is(own: Served) -> None:
    """SQLite gives the number of the last row again: a version must not become one of a foreign image."""
    config = own.world.config
    bench = WorkBench({}, own, await add_keys(config))
    async with open_database(config.database, config.timeouts) as database:
        for number, parent_id in ((2, 1), (3, 1), (4, 2)):
            await add(database, own.world, number, parent_id)
        for image_id in ("2", "1"):
            reply = await bench.ask("DELETE", f"/images/{image_id}", **{"X-API-Key": bench.keys["ops"]})
            assert reply.status_code == 200
        told = await bench.done("GET", "/images/4/versions")
        assert (told["root_id"], told["total_versions"]) == ("1", 2)
        chain = [(one["id"], one["version"], one["parent_id"]) for one in told["chain"]]
        assert chain == [("3", 3, "1"), ("4", 4, "2")]
        assert (await bench.done("GET", "/images/4"))["parent_id"] == "2"
        assert (await bench.ask("GET", "/images/2/children")).status_code == 404
        await add(database, own.world, 5, 4)
        assert (await bench.done("GET", "/images/3/versions"))["total_versions"] == 3


@shared
async def test_a_version_of_an_image_that_is_gone_is_not_recorded(family: Family, database: DatabaseAdapter) -> None:
    with pytest.raises(InvalidRecordError, match=r"image 99, of which .* is a version, was deleted"):
        await add(database, family.world, 9, 99)
    foreign = replace(version_of(first_of(family.world), 9, 1), ms_path="/data/ms/other.ms")
    with pytest.raises(InvalidRecordError, match="image 1, of which"):
        await AsyncProductRecorder(database).record(Recording(image=foreign))
