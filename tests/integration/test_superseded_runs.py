"""An observation that was run more than once counts once, on both databases: the newest completed run speaks for it."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection

from dsa110_contimg.api import database
from dsa110_contimg.api.async_repositories import (
    AsyncImageRepository,
    AsyncMSRepository,
    AsyncProductRecorder,
    AsyncSourceRepository,
)
from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters import DatabaseAdapter, DatabaseBackend
from dsa110_contimg.api.interfaces import ImageRecord, JobRecord, MeasurementSetRecord, Recording, SourceRecord
from dsa110_contimg.api.migrations.migrator import Migrator
from dsa110_contimg.api.pages import Document, Wish
from dsa110_contimg.api.queries import image_care, observations
from fixtures.api_server import segments, serving
from fixtures.api_world import CREATED_AT, SOURCE_ID, World, build, recordings, settings
from fixtures.migrated import migrate
from fixtures.observation import BRIGHT, FAINT, IMAGE, MEASUREMENT_SET, MJD, measured

SOURCES: Mapping[str, SourceRecord] = {"bright": BRIGHT, "faint": FAINT}
ERROR_JY = 0.002  # of `measured`
Fluxes = Mapping[str, float]


@pytest.fixture
async def adapter(empty_products: DatabaseConfig) -> AsyncIterator[DatabaseAdapter]:
    async with open_database(empty_products, TimeoutConfig()) as opened:
        await AsyncProductRecorder(opened).record(Recording(sources=tuple(SOURCES.values())))
        yield opened


@dataclass
class Run:
    """A run of one observation, which is named by a day; the numbers of runs are the order of their orders."""

    day: int
    number: int
    grade: str | None = None
    status: str = "running"
    fluxes: Fluxes | None = None  # of its image, once they were recorded
    imaged: bool = False

    @property
    def name(self) -> str:
        return f"day-{self.day}-run-{self.number}"

    @property
    def job(self) -> JobRecord:
        return JobRecord(self.name, f"group-{self.day}", self.status, self.ms.path, created_at=1e9 + self.number)

    @property
    def ms(self) -> MeasurementSetRecord:
        mjd = MJD + self.day
        return replace(
            MEASUREMENT_SET, path=f"/data/{self.name}.ms", run_id=self.name, group_id=f"group-{self.day}", mid_mjd=mjd
        )

    @property
    def image(self) -> ImageRecord:
        return replace(
            IMAGE, path=f"/data/{self.name}.fits", ms_path=self.ms.path, run_id=self.name, mid_mjd=MJD + self.day,
            qa_grade=self.grade,
        )  # fmt: skip

    @property
    def measurements(self) -> Recording:
        seen = (measured(SOURCES[name], flux, self.image) for name, flux in (self.fluxes or {}).items())
        return Recording(photometry=tuple(seen))


class Observatory:
    """Runs, recorded stage by stage, and what should come of them."""

    def __init__(self, adapter: DatabaseAdapter) -> None:
        self.adapter = adapter
        self.recorder = AsyncProductRecorder(adapter)
        self.sources = AsyncSourceRepository(adapter)
        self.images = AsyncImageRepository(adapter)
        self.runs: list[Run] = []

    # --- what happens ---

    async def order(self, day: int) -> Run:
        run = Run(day, len(self.runs))
        self.runs.append(run)
        await self.recorder.record(Recording(job=run.job))
        return run

    async def image(self, run: Run) -> None:
        run.imaged = True
        await self.recorder.record(Recording(measurement_set=run.ms, image=run.image))

    async def measure(self, run: Run, **fluxes: float) -> None:
        run.fluxes = fluxes
        await self.recorder.record(run.measurements)

    async def assess(self, run: Run, grade: str) -> None:
        run.grade = grade
        await self.recorder.record(Recording(image=run.image))

    async def end(self, run: Run, status: str = "completed") -> None:
        run.status = status
        await self.recorder.record(Recording(job=run.job))

    async def delete(self, run: Run) -> None:
        image = await self.images.get_by_path(run.image.path)
        assert image is not None
        assert image.id is not None
        assert await database.write(self.adapter, image_care.forget_image(image.id, image.path))
        run.imaged, run.fluxes, run.grade = False, None, None

    async def observed(self, day: int, grade: str = "good", status: str = "completed", **fluxes: float) -> Run:
        run = await self.order(day)
        await self.image(run)
        await self.measure(run, **fluxes)
        await self.assess(run, grade)
        await self.end(run, status)
        return run

    # --- what is there ---

    async def curve(self, name: str, *, superseded: bool = False) -> list[Document]:
        return (await self.sources.get_lightcurve_page(SOURCES[name].id, None, None, Wish(), superseded)).rows

    async def shown(self, name: str) -> list[tuple[float, float]]:
        return [(point["mjd"], point["flux_jy"]) for point in await self.curve(name)]

    # --- what should be ---

    def counting(self, day: int) -> Run | None:
        """Return the run that should count, by the rule in words: of four kinds the best, of these the newest."""
        there = [run for run in self.runs if run.day == day and run.imaged]
        kinds = (
            [run for run in there if run.status == "completed" and run.grade != "fail"],
            [run for run in there if run.status == "completed"],
            [run for run in there if run.fluxes],
            there,
        )
        return next((kind[-1] for kind in kinds if kind), None)

    async def agrees(self) -> None:
        """Compare sums, light curves, images and grades with what should be."""
        days = sorted({run.day for run in self.runs})
        counting = {day: run for day in days if (run := self.counting(day)) is not None}
        for run in self.runs:
            if run.imaged:
                image = await self.images.get_by_path(run.image.path)
                winner = counting[run.day]
                assert image is not None
                assert image.superseded_by == (None if run is winner else winner.name), run.name
        for name, source in SOURCES.items():
            wanted = [(MJD + d, run.fluxes[name]) for d, run in counting.items() if run.fluxes and name in run.fluxes]
            assert await self.shown(name) == wanted
            every = [run for run in self.runs if run.fluxes and name in run.fluxes]
            told = await self.curve(name, superseded=True)
            assert sorted((point["mjd"], point["flux_jy"]) for point in told) == sorted(
                (MJD + run.day, run.fluxes[name]) for run in every if run.fluxes
            )
            await self._adds_up(source, np.array([flux for _, flux in wanted]))

    async def _adds_up(self, source: SourceRecord, flux_jy: "np.ndarray[Any, Any]") -> None:
        """Compare what is kept of a source with what numpy makes of the points that count."""
        found = await self.sources.get_by_id(source.id)
        assert found is not None
        n = flux_jy.size
        assert (found.num_images, found.flux_count) == (n, n)
        assert sum((await self.sources.count_grades(source.id)).values()) == n
        assert len(await self.sources.list_contributions(source.id, 100)) == n
        assert (found.weighted_mean_jy, found.mean_flux_jy) == (
            pytest.approx((flux_jy.mean(), flux_jy.mean())) if n else (None, None)
        )
        if n > 1:
            chi_squared = ((flux_jy - flux_jy.mean()) ** 2).sum() / ERROR_JY**2
            spread = flux_jy.std(ddof=1)
            assert found.chi_squared == pytest.approx(chi_squared, rel=1e-6, abs=1e-6)
            assert found.eta == pytest.approx(chi_squared / (n - 1), rel=1e-6, abs=1e-6)
            assert found.v == pytest.approx(spread / abs(flux_jy.mean()), rel=1e-6, abs=1e-9)
        else:
            assert (found.eta, found.v) == (None, None)


@pytest.fixture
def observatory(adapter: DatabaseAdapter) -> Observatory:
    return Observatory(adapter)


async def test_a_rerun_takes_the_place_of_what_was_measured_before(observatory: Observatory) -> None:
    for day, flux in enumerate((1.0, 1.2, 0.8)):
        await observatory.observed(day, bright=flux, faint=0.05)
    first = observatory.runs[1]
    again = await observatory.observed(1, bright=3.0)  # and FAINT is not seen any more
    assert await observatory.shown("bright") == [(MJD, 1.0), (MJD + 1, 3.0), (MJD + 2, 0.8)]
    assert await observatory.shown("faint") == [(MJD, 0.05), (MJD + 2, 0.05)]
    marks = {point["flux_jy"]: point["superseded_by"] for point in await observatory.curve("bright", superseded=True)}
    assert marks == {1.0: None, 1.2: again.name, 3.0: None, 0.8: None}
    listed = await observatory.sources.list_contributions(BRIGHT.id, 100, 0, True)
    assert [row["superseded_by"] for row in listed if row["path"] == first.image.path] == [again.name]
    assert "superseded_by" not in (await observatory.curve("bright"))[0]
    await observatory.agrees()


async def test_of_several_reruns_the_last_ordered_counts_and_when_it_goes_the_one_before(
    observatory: Observatory,
) -> None:
    await observatory.observed(0, bright=1.0, faint=0.1)
    second, third = [await observatory.observed(0, bright=flux) for flux in (2.0, 3.0)]
    for gone, left in ((third, 2.0), (second, 1.0)):
        await observatory.delete(gone)
        assert await observatory.shown("bright") == [(MJD, left)]
        await observatory.agrees()
    assert await observatory.shown("faint") == [(MJD, 0.1)]


async def test_a_rerun_that_is_not_completed_or_came_out_badly_takes_nothing_away(observatory: Observatory) -> None:
    await observatory.observed(0, bright=1.0)
    for grade, status in (("good", "running"), ("good", "failed"), ("fail", "completed")):
        await observatory.observed(0, grade, status, bright=9.0)
        assert await observatory.shown("bright") == [(MJD, 1.0)]
        await observatory.agrees()


async def test_the_short_id_of_an_observation_is_that_of_the_run_that_speaks_for_it(observatory: Observatory) -> None:
    sets = AsyncMSRepository(observatory.adapter)

    async def named() -> str | None:
        found = await sets.get_metadata("group-1")
        return found.run_id if found else None

    first = await observatory.order(1)
    await observatory.recorder.record(Recording(measurement_set=first.ms))
    assert await named() == first.name, "there is no image of it yet"
    await observatory.image(first)
    await observatory.measure(first, bright=1.0)
    await observatory.assess(first, "good")
    await observatory.end(first)
    again = await observatory.order(1)
    await observatory.recorder.record(Recording(measurement_set=replace(again.ms, processed_at=CREATED_AT * 2)))
    assert await named() == first.name, "a rerun that has no image is under way"
    await observatory.image(again)
    assert await named() == first.name, "a rerun that is not completed is under way"
    await observatory.assess(again, "good")
    await observatory.end(again)
    assert await named() == again.name
    await observatory.observed(1, "fail")
    assert await named() == again.name


async def test_a_run_that_failed_late_counts_until_one_is_completed(observatory: Observatory) -> None:
    await observatory.observed(0, status="failed", bright=1.0)
    again = await observatory.order(0)
    await observatory.image(again)
    assert await observatory.shown("bright") == [(MJD, 1.0)]
    await observatory.measure(again, bright=2.0)
    assert await observatory.shown("bright") == [(MJD, 2.0)]
    await observatory.end(again)
    await observatory.agrees()


async def test_a_completed_run_that_found_nothing_speaks_too(observatory: Observatory) -> None:
    await observatory.observed(0, bright=1.0)
    await observatory.observed(0, "warn")
    assert await observatory.shown("bright") == []
    await observatory.agrees()


async def test_a_recording_that_comes_twice_changes_nothing(observatory: Observatory) -> None:
    old = await observatory.observed(0, bright=1.0, faint=0.1)
    new = await observatory.observed(0, bright=2.0, faint=0.2)
    for run in (old, new, old):
        await observatory.image(run)
        await observatory.recorder.record(run.measurements)
        await observatory.agrees()
    await observatory.measure(old, bright=1.5)  # and one that changes does not count all the same
    await observatory.agrees()
    image = await observatory.images.get_by_path(old.image.path)
    assert image is not None
    await observatory.recorder.record(Recording(image=replace(image, superseded_by="nobody")))
    await observatory.agrees()


async def test_of_reruns_that_end_at_once_the_last_ordered_counts(observatory: Observatory) -> None:
    await observatory.observed(0, bright=1.0)
    both = [await observatory.order(0) for _ in range(2)]
    for run, flux in zip(both, (2.0, 3.0), strict=True):
        await observatory.image(run)
        await observatory.measure(run, bright=flux)
    await asyncio.gather(*(observatory.end(run) for run in reversed(both)))
    assert await observatory.shown("bright") == [(MJD, 3.0)]
    await observatory.agrees()

    async def do(run: Run) -> None:
        await observatory.image(run)
        await observatory.measure(run, bright=float(run.number), faint=0.1 * run.number)
        await observatory.end(run)

    await asyncio.gather(*map(do, [await observatory.order(0) for _ in range(4)]))  # and those that do all at once
    assert await observatory.shown("bright") == [(MJD, 6.0)]
    await observatory.agrees()


async def test_another_version_of_an_image_says_nothing_for_the_observation(observatory: Observatory) -> None:
    run = await observatory.observed(0, bright=1.0)
    image = await observatory.images.get_by_path(run.image.path)
    assert image is not None
    version = replace(
        run.image, path="/data/version.fits", run_id="version-run", parent_id=image.id, root_id=image.id, version=2
    )
    job = JobRecord("version-run", "group-0", "completed", run.ms.path, created_at=2e9)
    await observatory.recorder.record(Recording(job=job, image=version))
    await observatory.agrees()
    made = await observatory.images.get_by_path("/data/version.fits")
    assert made is not None
    assert made.superseded_by is None


async def test_all_images_of_the_run_that_speaks_count_and_other_sets_without_a_group_are_other_observations(
    observatory: Observatory,
) -> None:
    """Mosaics, and Measurement Sets of programs that know no groups."""
    run = await observatory.observed(0, bright=1.0)
    second = replace(run.image, path="/data/second.fits")
    await observatory.recorder.record(Recording(image=second, photometry=(measured(BRIGHT, 2.0, second),)))
    assert [flux for _, flux in await observatory.shown("bright")] == [1.0, 2.0]
    for name in ("a", "b"):
        bare = replace(run.ms, path=f"/data/{name}.ms", run_id=name, group_id="")
        image = replace(run.image, path=f"/data/{name}.fits", ms_path=bare.path, run_id=name)
        points = (measured(BRIGHT, 5.0, image),)
        await observatory.recorder.record(Recording(measurement_set=bare, image=image, photometry=points))
    assert [flux for _, flux in await observatory.shown("bright")] == [1.0, 2.0, 5.0, 5.0]
    again = replace(run.image, path="/data/again.fits", ms_path="/data/a.ms", run_id="c")
    await observatory.recorder.record(Recording(image=again, photometry=(measured(BRIGHT, 6.0, again),)))
    assert [flux for _, flux in await observatory.shown("bright")] == [1.0, 2.0, 5.0, 6.0]


async def test_a_command_that_ends_its_run_has_it_speak(observatory: Observatory) -> None:
    """Such a run has the Measurement Set of the first."""
    first = await observatory.observed(0, bright=1.0)
    job = replace(first.job, run_id="by-command", status="running", created_at=2e9)
    image = replace(first.image, path="/data/command.fits", run_id="by-command")
    await observatory.recorder.record(Recording(job=job, image=image, photometry=(measured(BRIGHT, 4.0, image),)))
    assert await observatory.shown("bright") == [(MJD, 1.0)]
    await observatory.recorder.record(Recording(job=replace(job, status="completed")))
    assert await observatory.shown("bright") == [(MJD, 4.0)]


async def _walk(observatory: Observatory, chance: random.Random, steps: int) -> None:
    for _ in range(steps):
        runs = observatory.runs
        if not runs or (len(runs) < 9 and chance.random() < 0.2):
            await observatory.order(chance.randrange(2))
            continue
        run = chance.choice(runs)
        if not run.imaged:
            await observatory.image(run)
            continue
        await chance.choice((_measure, _measure, _assess, _end, _end, _repeat, _delete))(observatory, run, chance)


async def _measure(observatory: Observatory, run: Run, chance: random.Random) -> None:
    names = chance.choice((("bright",), ("faint",), ("bright", "faint")))
    await observatory.measure(run, **{name: round(chance.uniform(0.1, 2.0), 2) for name in names})


async def _assess(observatory: Observatory, run: Run, chance: random.Random) -> None:
    await observatory.assess(run, chance.choice(("good", "warn", "fail")))


async def _end(observatory: Observatory, run: Run, chance: random.Random) -> None:
    await observatory.end(run, chance.choice(("completed", "completed", "failed", "running")))


async def _repeat(observatory: Observatory, run: Run, chance: random.Random) -> None:
    await observatory.recorder.record(run.measurements)


async def _delete(observatory: Observatory, run: Run, chance: random.Random) -> None:
    await observatory.delete(run)


@pytest.mark.parametrize("seed", [1, pytest.param(range(2, 12), marks=pytest.mark.slow)], ids=["one", "ten"])
async def test_a_random_walk_of_runs_agrees_with_the_rule_at_every_step(
    observatory: Observatory, seed: int | Sequence[int]
) -> None:
    for one in [seed] if isinstance(seed, int) else seed:
        chance = random.Random(one)
        for _ in range(40):
            await _walk(observatory, chance, 1)
            await observatory.agrees()
        for run in observatory.runs:
            if run.imaged:
                await observatory.delete(run)
        observatory.runs = []


async def test_the_runs_of_an_observation_are_found_without_reading_all_images(tmp_path: Path) -> None:
    config = DatabaseConfig(products_path=tmp_path / "products.sqlite3")
    await asyncio.to_thread(migrate, config)
    async with open_database(config) as adapter:
        for statement in (observations._OF_GROUP, observations._OF_SET, observations._SETS_OF_RUN):
            text = statement.text(DatabaseBackend.SQLITE)
            plan = await adapter.fetch_all(f"EXPLAIN QUERY PLAN {text.sql}", ["x"] * text.sql.count("?"))
            told = "; ".join(row[3] for row in plan)
            assert "SCAN" not in told, told
            assert "ix_images_ms_path_created_at" in told or "ix_images_run_id" in told, told


# --- databases from before ---------------------------------------------------------------------------------------


async def test_what_reruns_doubled_before_is_put_right_and_back(unmigrated: DatabaseConfig) -> None:
    """Revision 0016 finds what recording would have kept; the one before counts everything, as its code did."""
    migrator = Migrator(unmigrated)
    await asyncio.to_thread(migrator.upgrade)
    async with open_database(unmigrated) as adapter:
        before = Observatory(adapter)
        await before.recorder.record(Recording(sources=tuple(SOURCES.values())))
        for day, flux in enumerate((1.0, 1.2, 0.8)):
            await before.observed(day, bright=flux, faint=0.05)
        await before.observed(1, bright=3.0)
        await before.observed(1, "fail", bright=9.0)
        await before.observed(2, bright=2.0, status="failed")
        await before.observed(3, status="failed", faint=0.5)
        await before.observed(3, status="failed", faint=0.6)
        await before.agrees()
    kept = await asyncio.to_thread(migrator.inspect, _sums)
    await asyncio.to_thread(migrator.downgrade, "0015")
    doubled = await asyncio.to_thread(migrator.inspect, _sums)
    assert [row["detection_count"] for row in doubled] == [6, 5]
    assert doubled[0]["mean_flux_jy"] == pytest.approx(np.mean([1.0, 1.2, 0.8, 3.0, 9.0, 2.0]))
    await asyncio.to_thread(migrator.upgrade)
    mended = await asyncio.to_thread(migrator.inspect, _sums)
    for now, then in zip(mended, kept, strict=True):
        assert now == pytest.approx(then, rel=1e-9)
    async with open_database(unmigrated) as adapter:
        after = Observatory(adapter)
        after.runs = before.runs
        await after.agrees()
        await after.observed(0, bright=0.5)
        await after.agrees()


def _sums(connection: Connection) -> list[dict[str, Any]]:
    rows = connection.exec_driver_sql("SELECT * FROM sources ORDER BY id").mappings()
    unknown = -1e99  # can be compared with numbers, and is far from every one
    return [
        {name: unknown if value is None else value for name, value in row.items() if not isinstance(value, str)}
        for row in rows
    ]


# --- as clients see it -------------------------------------------------------------------------------------------


async def test_clients_see_one_point_of_an_epoch_and_on_request_the_other_with_the_run_that_counts(
    tmp_path: Path,
) -> None:
    world = await build(settings(tmp_path / "state"))
    about = f"/api/v1/sources/{SOURCE_ID}"
    async with serving(world.config, names=segments(world), world=world) as api:
        number = (await api.json(about))["latest_image_id"]
        assert (await api.json(f"/api/v1/images/{number}"))["superseded_by"] is None
        async with open_database(world.config.database) as adapter:
            await AsyncProductRecorder(adapter).record(_rerun(world))
        [point] = (await api.json(f"{about}/lightcurve"))["data_points"]
        assert (point["flux_jy"], "superseded_by" in point) == (2.0, False)
        every = (await api.json(f"{about}/lightcurve?superseded=true"))["data_points"]
        assert [(one["flux_jy"], one["superseded_by"]) for one in every] == [(0.0, "again"), (2.0, None)]
        images = await api.json(f"{about}/contributing-images?superseded=true")
        assert [one["superseded_by"] for one in images] == [None, "again"]
        [shown] = await api.json(f"{about}/contributing-images")
        detail, [listed] = await api.json(about), await api.json("/api/v1/sources")
        assert detail["contributing_images"] == [shown]
        assert detail["num_images"] == listed["num_images"] == (await api.json(f"{about}/qa"))["n_images"] == 1
        assert (await api.json(f"{about}/variability"))["n_epochs"] == 1
        assert shown["image_id"] == listed["image_id"] == detail["latest_image_id"] != number
        assert (await api.json(f"/api/v1/images/{number}"))["superseded_by"] == "again"


def _rerun(world: World) -> Recording:
    """Return what another run of the observation of that world recorded."""
    [first] = recordings(world)
    assert first.job is not None
    assert first.measurement_set is not None
    assert first.image is not None
    ms, image = f"{world.ms_path}-again", f"{world.image_path}-again"
    return Recording(
        job=replace(first.job, run_id="again", ms_path=ms, created_at=CREATED_AT + 100),
        measurement_set=replace(first.measurement_set, path=ms, run_id="again"),
        image=replace(first.image, path=image, ms_path=ms, run_id="again"),
        photometry=(replace(first.photometry[0], image_path=image, flux_jy=2.0),),
    )
