"""Whatever was recorded is told as it is described, and by both databases alike."""

import asyncio
import math
import operator
import random
import types
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote

import orjson
import pytest

from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.interfaces import (
    CalibrationTableRecord,
    ImageRecord,
    JobRecord,
    MeasurementSetRecord,
    PhotometryRecord,
    Recording,
    SourceRecord,
)
from dsa110_contimg.api.quality_interfaces import CalibrationQARecord, ImageQARecord
from fixtures.api_server import Served, serving
from fixtures.api_world import settings
from fixtures.migrated import migrate

TEXTS = (
    "", " ", "a", "ü" * 50, "J1234+56", "x/y:z%41", "\u2028", '=cmd(")', "null", "\x01", "𝔘", "a" * 3000, "..", "-0",
    "é\n",
)  # fmt: skip
NUMBERS = (0.0, 1.0, -1.5, 1e-30, -1e22, 0.1 + 0.2, 1 / 3, 1e22, 123456789.123456789)
NO_NUMBERS = (math.nan, math.inf, -math.inf, None)
DOCUMENTS: tuple[Mapping[str, Any], ...] = (
    {}, {"snr_mean": 3}, {"snr_mean": None, "x": [1, None, {"y": "ü"}]},
    {"a": math.nan, "sources": 2.0}, {"reasons": ["no"]},
)  # fmt: skip
WORDS = {
    "stage": ("converted", "flagged", "calibrated", "imaged", "cataloged", "strange"),
    "status": ("pending", "running", "completed", "failed"),
    "qa_grade": ("good", "warn", "fail", None),
    "overall_quality": ("excellent", "good", "marginal", "poor", "unknown"),
    "table_type": ("BP", "GP", "K", "strange"),
    "source_type": ("calibrator", "transient", None),
}
#: Name in addresses → the list, and its key of what stands there.
LISTS = {
    "image": ("images", "id"), "source": ("sources", "id"), "run": ("jobs", "run_id"), "ms": ("ms", "path"),
    "table": ("cal", "id"),
}  # fmt: skip


class Chance:
    """Makes up records."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def some(self, kind: type[Any], **given: Any) -> Any:
        """Return a record of a kind whose fields hold anything but for what is given."""
        hints = get_type_hints(kind)
        kept = (each for each in fields(kind) if each.compare)  # the others are filled by reads
        return kind(**{each.name: self._value(each.name, hints[each.name]) for each in kept} | given)

    def _value(self, name: str, hint: Any) -> Any:
        options = get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,)
        kind = get_origin(options[0]) or options[0]
        if name in WORDS:
            return self._draw.choice(WORDS[name])
        if type(None) in options and self._draw.random() < 0.3:
            return None
        if name.endswith("mjd"):
            return self._draw.uniform(60000.0, 62000.0)
        if name.endswith("_at") or name == "timestamp":
            return self._draw.choice((0.0, 1.7e9, self._draw.uniform(1.7e9, 1.8e9)))
        if kind is float:
            return self._draw.choice(NUMBERS if type(None) not in options else NUMBERS + NO_NUMBERS)
        if kind is str:
            return self._draw.choice(TEXTS)
        if kind in (int, bool):
            return kind(self._draw.choice((0, 1, 2, 2**31 - 1)))
        return {tuple: (), Mapping: self._draw.choice(DOCUMENTS)}.get(kind, self._draw.choice(DOCUMENTS))

    def recording(self, number: int) -> Recording:
        """Return what a run recorded."""
        run, ms, image = f"job-r{number}", f"/data/m{number}%41.ms", f"/data/ü{number}.fits"
        sources = tuple(
            self.some(SourceRecord, id=f"{text[:9]}#{n}", ra_deg=n, dec_deg=-n) for n, text in enumerate(TEXTS)
        )
        measured = self._draw.sample(sources, 6)
        return Recording(
            job=self.some(JobRecord, run_id=run, ms_path=ms, workflow_id=None, created_at=1.7e9 + number),
            measurement_set=self.some(MeasurementSetRecord, path=ms, run_id=run, processed_at=1.7e9),
            calibration_tables=(self.some(CalibrationTableRecord, path=f"{ms}.b", source_ms_path=ms, status="active"),),
            image=self.some(
                ImageRecord, path=image, ms_path=ms, run_id=run, id=None, parent_id=None, root_id=None, version=1,
                superseded_by=None, ms_stage=None, cal_table=None, mask_id=None,
            ),
            sources=tuple(sources) if number == 0 else (),
            photometry=tuple(self.some(PhotometryRecord, source_id=each.id, image_path=image) for each in measured),
            image_qa=self.some(ImageQARecord, image_path=image, ms_path=ms),
            calibration_qa=self.some(CalibrationQARecord, ms_path=ms),
        )  # fmt: skip


async def replies(served: Served) -> AsyncIterator[tuple[str, int, bytes]]:
    """Ask every route that reads products, for all that the lists name; each reply is compared with its description."""
    paths = [path for path, calls in served.app.openapi()["paths"].items() if "get" in calls and path.count("{") < 2]
    for name, (things, key) in LISTS.items():
        listed = await served.get(f"/api/v1/{things}?limit=1000")
        yield things, listed.status_code, listed.content
        for item in listed.json():
            for path in paths:
                if f"{{{name}_id}}" in path and "absurd" not in path:
                    address = path.replace(f"{{{name}_id}}", quote(str(item[key]), safe=""))
                    reply = await served.client.get(address)
                    yield address, reply.status_code, reply.content if reply.status_code == 200 else b""
    counts = await served.get("/api/v1/stats")
    yield "stats", counts.status_code, orjson.dumps(counts.json() | {"_meta": None}, option=orjson.OPT_SORT_KEYS)


async def filled(config: APIConfig, seed: int, runs: int) -> None:
    """Make a database of random recordings."""
    chance = Chance(seed)
    await asyncio.to_thread(migrate, config.database)
    async with open_database(config.database, config.timeouts) as adapter:
        for number in range(runs):
            await AsyncProductRecorder(adapter).record(chance.recording(number))


async def test_both_databases_tell_whatever_was_recorded_alike_and_as_described(
    tmp_path: Path, postgres_database: str
) -> None:
    told = []
    for backend in ("sqlite", "postgresql"):
        config = settings(tmp_path / backend, DSA110_DB_BACKEND=backend, DSA110_DB_PG_URL=postgres_database)
        await filled(config, seed=1, runs=6)
        async with serving(config) as served:
            told.append([reply async for reply in replies(served)])
    assert {status for _, status, _ in told[0]} <= {200, 400, 404, 422}, [each for each in told[0] if each[1] >= 500]
    assert sum(status == 200 for _, status, _ in told[0]) > 200
    assert told[0] == told[1]


def conditions(served: Served, things: str, rows: list[dict[str, Any]]) -> Iterator[tuple[str, Callable[..., bool]]]:
    """Give questions on a list, with values that its rows tell, and what is true of the rows that are asked for."""
    for each in served.app.openapi()["paths"][f"/api/v1/{things}"]["get"]["parameters"]:
        column, holds = each["name"].removeprefix("min_").removeprefix("max_"), operator.eq
        if column != each["name"]:
            holds = operator.ge if each["name"].startswith("min_") else operator.le
        values = {row[column] for row in rows if column != "name" and row.get(column) is not None}  # name: a part of it
        for value in sorted(values)[::4]:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            yield f"{each['name']}={quote(text, safe='')}", partial(_holds, holds, column, value)


def _holds(holds: Callable[[Any, Any], bool], column: str, value: Any, row: Mapping[str, Any]) -> bool:
    return row[column] is not None and holds(row[column], value)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_every_condition_of_a_list_gives_the_rows_of_which_it_is_true_by_what_they_tell(
    tmp_path: Path, postgres_database: str, backend: str
) -> None:
    config = settings(tmp_path, DSA110_DB_BACKEND=backend, DSA110_DB_PG_URL=postgres_database)
    await filled(config, seed=7, runs=25)
    asked = 0
    async with serving(config) as served:
        for things, key in LISTS.values():
            rows = await served.json(f"/api/v1/{things}?limit=1000")
            for question, is_true in conditions(served, things, rows):
                found = await served.json(f"/api/v1/{things}?limit=1000&{question}")
                assert [row[key] for row in found] == [row[key] for row in rows if is_true(row)], (things, question)
                asked += 1
    assert asked > 200
