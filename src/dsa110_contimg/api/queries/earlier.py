"""Databases of the earlier pipeline, seen as ours: views with the names and columns of ``tables.py``.

Five dialects of the earlier tables are in use, and files in the field were grown by ``ALTER TABLE``, so which columns
there are is asked of each file (its ``Layout``). Every table of ours becomes a temporary view of that name, which hides
the earlier table from all other statements; what a file has not got is NULL, and a value of the wrong kind too. What
the earlier tables do not say is derived here:

* a flux density is ``flux_jy``, else ``peak_flux_jy``, else ``peak_jyb`` (0 is a value); a signal-to-noise ratio that
  is not given is flux density over uncertainty;
* the time of a measurement is the mid time of the Measurement Set of its image, else its ``mjd``, else the time at
  which it was made (``measured_at``);
* an image that was measured as ``x.fits`` may be known as the CASA image ``x`` or ``x.image``; a measurement in an
  image that is in no list has the negative of its own number for that of the image;
* sources are the distinct ``source_id`` of the measurements, at the position of the first one;
* the grade of an image is that of its newest assessment (``image_qa``);
* a run is a Measurement Set with ``processed_at``; its id follows from the path, and a second path with the same id
  gets a checksum behind it.

What is too slow to derive with each question is derived once per state of the file, into tables of a database in
memory (``derived``): ids of runs, links from measurements to images, sources, counts.
"""

# ruff: noqa: S608 - the names in these statements stand in tables.py and in this file; no value is put into a text
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import Column, Table, Text

from dsa110_contimg.api.column_kinds import Identifier, Json, Number
from dsa110_contimg.api.tables import SCHEMA_REVISION, metadata, sources
from dsa110_contimg.pipeline.naming import run_id

Layout = Mapping[tuple[str, str], frozenset[str]]
"""Columns of each (schema, table): ``main`` is the products file, ``registry`` the calibration registry beside it."""

NAMES_OF_TABLES = "SELECT name FROM {schema}.sqlite_schema WHERE type = 'table'"
NAMES_OF_COLUMNS = "SELECT name FROM pragma_table_info(?, ?)"
PATHS_OF_SETS = "SELECT path FROM temp.ms_paths ORDER BY path"
KEEP_RUN = "INSERT INTO derived.ms_runs VALUES (?, ?, ?)"

_MARKS = ("ms_index", "images", "photometry", "caltables")
_OURS = "provenance_files"
_LISTS = ("artifacts", "missing_subbands", "scopes")
_LARGEST = "1.7976931348623157e308"
_CALENDAR = {"Unix time": ("0", "253402300799"), "MJD": ("-678575", "2973483")}  # to the end of the year 9999
_TO_MJD = "86400.0 + 40587.0"


def is_earlier(tables: Iterable[str]) -> bool:
    """Tell from the names of its tables whether a database was made by the earlier pipeline."""
    names = set(tables)
    return _OURS not in names and not names.isdisjoint(_MARKS)


@dataclass(frozen=True)
class _Rule:
    """How a table of ours comes out of an earlier one, called ``e`` in the expressions.

    ``places`` are the (schema, table) where it may be, the first that is there counts; ``reads`` are columns that the
    expressions need beside those of our table.
    """

    places: tuple[tuple[str, str], ...]
    values: Mapping[str, str] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    joins: str = ""
    where: str = ""


def _stem(path: str) -> str:
    """Return the expression of what the names of an image and of its FITS file have in common."""
    bare = f"CASE WHEN {path} GLOB '*.fits' THEN substr({path}, 1, length({path}) - 5) ELSE {path} END"
    return f"CASE WHEN {path} GLOB '*.image' THEN substr({path}, 1, length({path}) - 6) ELSE {bare} END"


def _turned(angle: str) -> str:
    """Return the expression of a right ascension in [0, 360)."""
    return f"CASE WHEN {angle} < 0 THEN {angle} + 360.0 ELSE {angle} END"


_GROUP = "coalesce(CASE WHEN typeof(e.group_id) = 'text' THEN e.group_id END, r.group_id)"
_MS_RUN = "LEFT JOIN derived.ms_runs AS r ON r.path = e."
_FLUX = "coalesce(e.flux_jy, e.peak_flux_jy, e.peak_jyb)"
_ERROR = "coalesce(e.flux_err_jy, e.peak_err_jyb)"
_LATEST_JOB = """LEFT JOIN (SELECT ms_path, max(id), status, params, logs, artifacts, started_at, finished_at
    FROM {jobs} GROUP BY ms_path) AS j ON j.ms_path = e.path"""
_STATE = """CASE
    WHEN coalesce(j.status, e.status) IN ('failed', 'error', 'skipped_no_caltables') THEN 'failed'
    WHEN coalesce(j.status, e.status) IN ('running', 'in_progress', 'started') THEN 'running'
    WHEN coalesce(j.status, e.status) IN ('pending', 'queued', 'discovered') THEN 'pending'
    ELSE 'completed' END"""
_GRADE = """CASE overall_quality WHEN 'excellent' THEN 'good' WHEN 'good' THEN 'good' WHEN 'marginal' THEN 'warn'
    WHEN 'poor' THEN 'fail' END"""
# As `flux_sums` adds up, in two passes, the second about the means of the first; f is the flux density, w its weight.
_SUMS = """(WITH epochs AS (
        SELECT *, CASE WHEN flux_err_jy > 0 THEN flux_jy END AS f,
            CASE WHEN flux_err_jy > 0 AND flux_jy IS NOT NULL THEN 1.0 / flux_err_jy / flux_err_jy END AS w
        FROM temp.photometry
    ), means AS (
        SELECT source_id AS id, min(id) AS first_id, count(DISTINCT image_path) AS detection_count,
            min(mjd) AS first_detected_mjd, max(mjd) AS last_detected_mjd, max(peak_jyb) AS peak_flux_jy,
            count(f) AS flux_count, min(f) AS min_flux_jy, max(f) AS max_flux_jy, avg(f) AS mean_flux_jy,
            sum(w) AS weight_sum, sum(w * f) / sum(w) AS weighted_mean_jy
        FROM epochs GROUP BY source_id
    ), spreads AS (
        SELECT source_id, sum((f - mean_flux_jy) * (f - mean_flux_jy)) AS deviation_sum,
            sum(w * (f - weighted_mean_jy) * (f - weighted_mean_jy)) AS chi_squared
        FROM epochs JOIN means ON means.id = source_id GROUP BY source_id
    ), latest AS (
        SELECT source_id, image_id AS latest_image_id, max(mjd) FROM epochs
        WHERE image_id > 0 GROUP BY source_id
    )
    SELECT means.*, deviation_sum, chi_squared, latest_image_id, chi_squared / nullif(flux_count - 1, 0) AS eta,
        sqrt(deviation_sum / nullif(flux_count - 1, 0)) / nullif(abs(mean_flux_jy), 0) AS v
    FROM means LEFT JOIN spreads ON spreads.source_id = means.id LEFT JOIN latest ON latest.source_id = means.id
    ) AS p"""

_RULES: Mapping[str, _Rule] = {
    "ms_index": _Rule(
        (("main", "ms_index"),),
        {
            "run_id": "r.run_id",
            "group_id": _GROUP,
            "mid_mjd": "coalesce(e.mid_mjd, (e.start_mjd + e.end_mjd) / 2)",
            "created_at": "coalesce(e.created_at, e.processed_at, e.stage_updated_at)",
            "ra_deg": _turned("e.ra_deg"),
            "pointing_ra_deg": _turned("coalesce(e.pointing_ra_deg, e.ra_deg)"),
            "pointing_dec_deg": "coalesce(e.pointing_dec_deg, e.dec_deg)",
        },
        joins=f"{_MS_RUN}path",
    ),
    "images": _Rule(
        (("main", "images"),),
        {
            "run_id": "r.run_id",
            "mid_mjd": "coalesce(m.mid_mjd, (m.start_mjd + m.end_mjd) / 2)",
            "qa_grade": "q.grade",
            "format": "coalesce(e.format, CASE WHEN e.path GLOB '*.fits' THEN 'fits' ELSE 'casa' END)",
            "center_ra_deg": _turned("e.center_ra_deg"),
            "superseded_by": "NULL",
        },
        joins=f"{_MS_RUN}ms_path LEFT JOIN {{ms_index}} AS m ON m.path = e.ms_path "
        "LEFT JOIN derived.grades AS q ON q.path = e.path",
    ),
    "photometry": _Rule(
        (("main", "photometry"),),
        {
            "image_path": "coalesce(l.path, e.image_path)",
            "image_id": "coalesce(l.id, -e.row_number)",
            "peak_jyb": "coalesce(e.peak_jyb, e.peak_flux_jy)",
            "flux_jy": _FLUX,
            "flux_err_jy": _ERROR,
            "snr": f"coalesce(e.snr, {_FLUX} / nullif({_ERROR}, 0))",
            "local_rms": "coalesce(e.local_rms, e.rms_jy)",
            "mjd": f"coalesce(l.mid_mjd, e.mjd, e.measured_at / {_TO_MJD})",
        },
        ("peak_flux_jy", "rms_jy"),
        f"LEFT JOIN derived.image_links AS l ON l.stem = {_stem('e.image_path')}",
    ),
    "caltables": _Rule((("registry", "caltables"), ("main", "caltables"))),
    "jobs": _Rule(
        (("main", "ms_index"),),
        {
            "id": "e.row_number",
            "type": "'pipeline'",
            "ms_path": "e.path",
            "run_id": "r.run_id",
            "group_id": _GROUP,
            "status": _STATE,
            "created_at": "e.processed_at",
            "started_at": "coalesce(j.started_at, e.processed_at)",
            "finished_at": "j.finished_at",
            **{name: f"j.{name}" for name in ("params", "logs", "artifacts")},
        },
        ("path", "status", "processed_at"),
        f"{_MS_RUN}path {_LATEST_JOB}",
        "e.processed_at IS NOT NULL",
    ),
    "batch_jobs": _Rule(
        (("main", "batch_jobs"),), {"status": "CASE e.status WHEN 'completed' THEN 'done' ELSE e.status END"}
    ),
    "batch_job_items": _Rule((("main", "batch_job_items"),)),
    "hdf5_files": _Rule((("main", "hdf5_files"), ("main", "hdf5_file_index"))),
    "image_qa": _Rule((("main", "image_qa"),)),
    "calibration_qa": _Rule((("main", "calibration_qa"),)),
}
# Columns that the joins read: they are NULL in a file that has not got them.
_JOINED = {
    "ms_index": ("path", "mid_mjd", "start_mjd", "end_mjd"),
    "image_qa": ("image_path", "overall_quality", "timestamp"),
    "jobs": ("id", "ms_path", "status", "params", "logs", "artifacts", "started_at", "finished_at"),
    "sources": ("id", "name", "catalog_match", "source_type"),
}
#: The column by whose values the rows of a table are counted apart.
BUCKETS = {
    "ms_index": "stage", "images": "type", "caltables": "status", "jobs": "status", "batch_jobs": "status",
    "batch_job_items": "status",
}  # fmt: skip
_MADE_APART = ("sources", "table_counts", "table_generations")


def schema_views(layout: Layout) -> Iterator[str]:
    """Give the statements that make the temporary views of one connection; ``derived`` must be attached."""
    yield f"CREATE TEMP VIEW alembic_version AS SELECT '{SCHEMA_REVISION}' AS version_num"
    for table in metadata.sorted_tables:
        if table.name not in _MADE_APART:
            yield _view(table, layout)
    for name in _MADE_APART:
        yield f"CREATE TEMP VIEW {name} AS SELECT * FROM derived.{name}"


def derived_tables(layout: Layout) -> Iterator[str]:
    """Give the statements that make the tables of ``derived`` that the views need, without the ids of runs."""
    sets = _subquery("ms_index", layout)
    images = _columns(("id", "path", "ms_path"), layout, ("main", "images"))
    yield (
        f"CREATE TEMP VIEW ms_paths AS SELECT path FROM {sets} WHERE typeof(path) = 'text' "
        f"UNION SELECT ms_path FROM {images} WHERE typeof(ms_path) = 'text'"
    )
    yield "CREATE TABLE derived.ms_runs (path TEXT PRIMARY KEY, run_id TEXT UNIQUE, group_id TEXT) WITHOUT ROWID"
    yield "CREATE TABLE derived.grades (path TEXT PRIMARY KEY, grade TEXT) WITHOUT ROWID"
    yield "CREATE TABLE derived.image_links (stem TEXT PRIMARY KEY, path TEXT, id INTEGER, mid_mjd REAL) WITHOUT ROWID"
    assessed = _subquery("image_qa", layout)
    yield (
        f"INSERT OR REPLACE INTO derived.grades SELECT image_path, {_GRADE} FROM {assessed} "
        "WHERE image_path IS NOT NULL ORDER BY timestamp"
    )
    for key, condition in ((_stem("i.path"), "i.path IS NOT NULL"), ("i.path", "i.path GLOB '*.image'")):
        yield (
            f"INSERT OR IGNORE INTO derived.image_links SELECT {key}, i.path, i.id, "
            f"coalesce(m.mid_mjd, (m.start_mjd + m.end_mjd) / 2) FROM {images} AS i LEFT JOIN {sets} AS m "
            f"ON m.path = i.ms_path WHERE {condition} ORDER BY i.path GLOB '*.fits' DESC, i.id"
        )


def derived_sums(layout: Layout) -> Iterator[str]:
    """Give the statements that make what adds up over all rows; the other views must be there."""
    yield _sources(layout)
    yield "CREATE UNIQUE INDEX derived.ix_sources ON sources (id)"
    yield "CREATE INDEX derived.ix_sources_dec ON sources (dec_deg)"
    counted = " UNION ALL ".join(_count(name) for name in sorted(metadata.tables) if name not in _MADE_APART[1:])
    yield f"CREATE TABLE derived.table_counts AS {counted}"
    yield "CREATE TABLE derived.table_generations AS SELECT name, sum(n) AS value FROM derived.table_counts GROUP BY 1"


def runs_of(paths: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Give path, run id and stamp of each Measurement Set; the first of equal ids in order of path keeps it bare."""
    taken: set[str] = set()
    for path in sorted(paths):
        found = run_id(path)
        if found in taken:
            found += "-" + hashlib.sha256(path.encode(errors="replace")).hexdigest()[:8]
        taken.add(found)
        yield path, found, PurePosixPath(path).name.rsplit(".", 1)[0]


# --- parts of views -----------------------------------------------------------------------------------------------


def _view(table: Table, layout: Layout) -> str:
    rule = _RULES.get(table.name, _Rule(()))
    place = next((place for place in rule.places if place in layout), None)
    wanted = dict.fromkeys((*(column.name for column in table.c), *rule.reads))
    source = _columns(tuple(wanted), layout, place)
    joined = {name: _subquery(name, layout) for name in _JOINED}
    given = {column.name: rule.values.get(column.name, f'e."{column.name}"') for column in table.c}
    expressions = {column.name: _guarded(column, given[column.name]) for column in table.c}
    selected = ", ".join(f'{text} AS "{name}"' for name, text in expressions.items())
    needed = [_needed(column, expressions[column.name]) for column in table.c if _is_needed(column)]
    where = " AND ".join([rule.where] * bool(rule.where) + needed) or "1"
    joins = rule.joins.format(**joined)
    return f'CREATE TEMP VIEW "{table.name}" AS SELECT {selected} FROM {source} AS e {joins} WHERE {where}'


def _subquery(name: str, layout: Layout) -> str:
    """Return what stands for an earlier table in joins."""
    return _columns(_JOINED[name], layout, ("main", name))


def _columns(names: tuple[str, ...], layout: Layout, place: tuple[str, str] | None) -> str:
    """Return a subquery that has these columns, NULL where the table has not got them, and ``row_number``."""
    if place is None or place not in layout:
        return f"(SELECT NULL AS row_number, {', '.join(f'NULL AS {name}' for name in names)} WHERE 0)"
    listed = ", ".join(f'"{name}"' if name in layout[place] else f'NULL AS "{name}"' for name in names)
    return f'(SELECT rowid AS row_number, {listed} FROM {place[0]}."{place[1]}")'


def _is_needed(column: Column[Any]) -> bool:
    """Tell whether a row without a value here is no record."""
    return not column.nullable and (column.primary_key or column.type is Identifier)


def _needed(column: Column[Any], expression: str) -> str:
    """Return the condition that a record has its name."""
    return f"typeof({expression}) = 'text'" if column.type is Identifier else f"{expression} IS NOT NULL"


def _guarded(column: Column[Any], expression: str) -> str:
    """Return an expression that is the default, else NULL, where the value is not of the kind of the column."""
    kind = column.type
    if column.primary_key or (kind is Identifier and (not column.nullable or "e." not in expression)):
        return expression  # indexes are found by it; rows where it is of another kind are left out
    if isinstance(kind, Json):
        shape = "array" if column.name in _LISTS else "object"
        tests = f"typeof({expression}) = 'text' AND json_valid({expression}) AND json_type({expression}) = '{shape}'"
    elif isinstance(kind, Number):
        words = column.info["description"]
        low, high = next((ends for word, ends in _CALENDAR.items() if word in words), (f"-{_LARGEST}", _LARGEST))
        tests = f"typeof({expression}) IN ('integer', 'real') AND {expression} BETWEEN {low} AND {high}"
    else:
        tests = f"typeof({expression}) = '{'text' if isinstance(kind, Text) else 'integer'}'"
    guarded = f"CASE WHEN {tests} THEN {expression} END"
    return guarded if column.nullable else f"coalesce({guarded}, {_default(column)})"


def _default(column: Column[Any]) -> str:
    given = getattr(column.server_default, "arg", None)
    if isinstance(column.type, Text):
        return f"'{given or 'unknown'}'"
    return "NULL" if given is None else str(given)


def _sources(layout: Layout) -> str:
    values = {
        "name": "coalesce(s.name, p.id)",
        "ra_deg": _turned("f.ra_deg"),
        "dec_deg": "f.dec_deg",
        "catalog_match": "s.catalog_match",
        "source_type": "s.source_type",
    }
    selected = ", ".join(f'{values.get(column.name, f"p.{column.name}")} AS "{column.name}"' for column in sources.c)
    return (
        f"CREATE TABLE derived.sources AS SELECT {selected} FROM {_SUMS} JOIN temp.photometry AS f "
        f"ON f.id = p.first_id LEFT JOIN {_subquery('sources', layout)} AS s ON s.id = p.id "
        "WHERE f.ra_deg IS NOT NULL AND f.dec_deg IS NOT NULL ORDER BY p.id"
    )


def _count(name: str) -> str:
    bucket = f"coalesce({BUCKETS[name]}, '')" if name in BUCKETS else "''"
    return f"SELECT '{name}' AS name, {bucket} AS bucket, count(*) AS n FROM temp.\"{name}\" GROUP BY 2"
