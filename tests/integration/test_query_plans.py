"""Every list and every lookup is served by an index, and a route asks few questions, however large the database is."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dsa110_contimg.api.db_adapters import SQLiteAdapter
from fixtures.api_server import Served, segments, serving
from fixtures.api_world import build, settings

#: Addresses of every hot route, and how many statements each may execute.
ROUTES = [
    ("/images", 2), ("/images?sort=-noise_jy", 1), ("/images?sort=mid_mjd", 1), ("/images?sort=dynamic_range", 1),
    ("/images?sort=-peak_flux_jy", 1), ("/images?qa_grade=good", 1), ("/images?type=5min", 2), ("/images/{image}", 1),
    ("/images/{image}/versions", 3), ("/images/{image}/children", 2),
    ("/sources", 2), ("/sources?sort=-eta", 1), ("/sources?sort=v", 1), ("/sources?sort=-num_images", 2),
    ("/sources?sort=-peak_flux_jy", 1), ("/sources?sort=ra_deg", 2), ("/sources?sort=-last_detected_mjd", 1),
    ("/sources?ra=188.5&dec=42&radius=5", 1), ("/sources/{source}", 2), ("/sources/{source}/lightcurve", 1),
    ("/sources/{source}/variability", 1), ("/sources/{source}/qa", 2), ("/sources/{source}/contributing-images", 2),
    ("/jobs", 2), ("/jobs?status=failed", 2), ("/jobs?sort=-started_at", 1), ("/jobs/{run}", 2), ("/stats", 2),
]  # fmt: skip
#: The same of routes about one thing, of which the few rows that belong to it may be sorted.
ABOUT_ONE = [
    ("/jobs/{run}/logs", 1), ("/images/{image}/provenance", 3), ("/jobs/{run}/provenance", 3),
    ("/ms/{ms}", 2), ("/ms/{ms}/calibrator-matches", 2), ("/ms/{ms}/provenance", 3), ("/cal/1", 1),
    ("/qa/image/{image}", 1), ("/qa/ms/{ms}", 2), ("/qa/job/{run}", 3),
]  # fmt: skip
ADDRESSES_OF_SOURCES = [address for address, _ in ROUTES if re.fullmatch(r"/sources(\?sort=.*)?", address)]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    world = await build(settings(tmp_path / "state", REDIS_CACHE_ENABLED="false", DSA110_REPLY_MEMORY_MB="0"))
    async with serving(world.config, names=segments(world), world=world) as served:
        yield served


class Watch:
    """Queries that the database is asked, as its reading connections tell them; background work has the writer."""

    def __init__(self, api: Served) -> None:
        self.api = api
        self.adapter: SQLiteAdapter = api.app.state.services.images.images._adapter
        self.asked: list[str] = []

    async def listen(self) -> None:
        """Listen to every reading connection, the one in the loop too, which opens with the second request."""
        for _ in range(2):
            await self.api.json("/api/v1/stats")
        prompt = self.adapter._prompt._connection
        assert prompt is not None
        prompt.set_trace_callback(self.note)
        for connection in filter(lambda each: each.read_only, self.adapter._open):
            await connection._raw.set_trace_callback(self.note)

    def note(self, statement: str) -> None:
        if statement.startswith("SELECT"):
            self.asked.append(statement)

    async def of(self, address: str) -> list[str]:
        """Return what a route asks."""
        self.asked.clear()
        await self.api.json(f"/api/v1{address}")
        return list(self.asked)

    async def plan(self, statement: str) -> str:
        rows = await self.adapter.fetch_all(f"EXPLAIN QUERY PLAN {statement}")
        return "; ".join(row[3] for row in rows)


@pytest.fixture
async def watch(api: Served) -> Watch:
    made = Watch(api)
    await made.listen()
    return made


def whole_tables(told: str) -> list[str]:
    """Return the steps of a plan that read a table from end to end or sort it."""
    reads = [step for step in told.split("; ") if step.startswith("SCAN") and " USING " not in step]
    few_rows = ("SCAN table_counts", "SCAN CONSTANT ROW", "SCAN alembic_version")
    sorts = [step for step in told.split("; ") if step.startswith("USE TEMP B-TREE FOR ORDER BY")]
    return [step for step in reads if not step.startswith(few_rows)] + sorts


async def test_no_hot_route_reads_or_sorts_a_whole_table(watch: Watch) -> None:
    for address, _ in ROUTES:
        statements = await watch.of(address)
        assert statements
        for statement in statements:
            if "caltables" not in statement:  # some thousand rows; the set of a time is chosen among them
                told = await watch.plan(statement)
                assert not whole_tables(told), (address, told)


async def test_no_route_about_one_thing_reads_a_whole_table(watch: Watch) -> None:
    for address, _ in ABOUT_ONE:
        for statement in await watch.of(address):
            told = whole_tables(await watch.plan(statement))
            assert not [step for step in told if step.startswith("SCAN ") and "anon_" not in step], (address, told)


async def test_the_next_page_begins_where_its_cursor_says(api: Served, watch: Watch) -> None:
    names = "name, ra_deg, dec_deg, detection_count, last_detected_mjd, peak_flux_jy, eta, v"
    await watch.adapter.execute("UPDATE sources SET eta = 1, v = 1")
    await watch.adapter.execute(f"INSERT INTO sources (id, {names}) SELECT id || '2', {names} FROM sources")
    for address in ADDRESSES_OF_SOURCES:
        first = await api.get(f"/api/v1{address}{'&' if '?' in address else '?'}limit=1")
        link = first.headers["link"].removeprefix("<").partition(">")[0]
        statement, *_ = await watch.of(link.removeprefix("/api/v1"))
        told = await watch.plan(statement)
        assert "SEARCH sources" in told, (address, told)


async def test_the_calibration_of_an_image_is_chosen_in_an_index_without_sorting(watch: Watch) -> None:
    [asked] = await watch.of("/images/{image}")
    assert "SCAN caltables USING COVERING INDEX ix_caltables_newest" in await watch.plan(asked)


async def test_a_light_curve_is_one_run_of_its_index(watch: Watch) -> None:
    (statement,) = await watch.of("/sources/{source}/lightcurve")
    told = await watch.plan(statement)
    assert "SEARCH photometry USING COVERING INDEX ix_photometry_curve (source_id=? AND" in told
    assert "SEARCH images USING INTEGER PRIMARY KEY" in told


async def test_a_route_asks_few_questions_however_many_rows_there_are(watch: Watch) -> None:
    for address, most in ROUTES + ABOUT_ONE:
        asked = await watch.of(address)
        assert 0 < len(asked) <= most, (address, asked)


async def test_no_table_is_counted_to_tell_how_many_rows_it_has(watch: Watch) -> None:
    services = watch.api.app.state.services
    products = (services.images.images, services.sources.sources, services.jobs.jobs)
    inputs = (services.measurement_sets.measurement_sets, services.calibration.tables)
    for rows in (*products, *inputs):
        watch.asked.clear()
        assert await rows.count() > 0
        (statement,) = watch.asked
        assert "FROM table_counts" in statement, statement


async def test_a_plan_that_reads_everything_would_be_seen(watch: Watch) -> None:
    assert whole_tables(await watch.plan("SELECT * FROM images"))
    assert whole_tables(await watch.plan("SELECT * FROM images ORDER BY beam_pa_deg"))
    assert not whole_tables(await watch.plan("SELECT * FROM images WHERE id = 1"))
