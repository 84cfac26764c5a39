"""Triggers that count what happens to products, inside each write, on both databases.

A stage that runs a second time after a crash updates rows instead of inserting them, and so counts nothing twice. On
PostgreSQL a trigger runs once a statement, so that a statement of many rows changes each counter once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from alembic import op

BOUNDS: Mapping[str, tuple[float, ...]] = {
    "image_noise_jy": (1e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3),
    "image_dynamic_range": (10.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0),
    "calibration_snr": (5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0),
}
_STAGES = {
    "convert-uvh5-to-ms": "converted", "flagging": "flagged", "calibration-solve": "solved",
    "calibration-apply": "calibrated", "imaging": "imaged", "source-finding": "cataloged", "validation": "validated",
    "reimaging": "reimaged",
}  # fmt: skip
_ADD = """INSERT INTO event_counts (name, label, second_label, n, total)
SELECT name, label, second_label, count(*), sum(amount) FROM ({events}) AS events
GROUP BY name, label, second_label ORDER BY name, label, second_label
ON CONFLICT (name, label, second_label) DO UPDATE
SET n = event_counts.n + excluded.n, total = event_counts.total + excluded.total"""


@dataclass(frozen=True)
class Rows:
    """How a trigger speaks of the rows that were written."""

    sqlite: bool
    key: str
    changed: bool = False  # an update: there are rows as they were before

    def new(self, column: str) -> str:
        """Return a value of a new row."""
        return f"NEW.{column}" if self.sqlite else f"come.{column}"

    def old(self, column: str) -> str:
        """Return a value of a row as it was."""
        return f"OLD.{column}" if self.sqlite else f"gone.{column}"

    @property
    def source(self) -> str:
        """Where a SELECT finds the rows."""
        if self.sqlite:
            return ""
        return f"FROM come JOIN gone ON gone.{self.key} = come.{self.key}" if self.changed else "FROM come"

    def became(self, column: str) -> str:
        """Return whether a value is another than before."""
        return f"coalesce({self.new(column)}, '') <> coalesce({self.old(column)}, '')" if self.changed else "1 = 1"

    def metric(self, key: str) -> str:
        """Return a number of the column quality_metrics; NULL where there is none."""
        text = self.new("quality_metrics")
        if self.sqlite:
            found = f"instr({text}, '\"{key}\":')"  # JSON functions are refused in triggers: trusted_schema is off
            number = f"substr({text}, {found} + {len(key) + 3})"
            return f"CASE WHEN {found} > 0 AND {number} GLOB '[0-9-]*' THEN CAST({number} AS REAL) END"
        kind = f"jsonb_typeof({text}::jsonb -> '{key}') = 'number'"
        return f"CASE WHEN {kind} THEN ({text}::jsonb ->> '{key}')::double precision END"


def _observed(rows: Rows, name: str, value: str) -> str:
    """Return the event that puts a value into its bucket of a histogram."""
    steps = " ".join(f"WHEN {value} <= {bound!r} THEN '{bound!r}'" for bound in BOUNDS[name])
    bucket = f"CASE {steps} ELSE '+Inf' END"
    return f"SELECT '{name}', {bucket}, '', {value} {rows.source} WHERE {value} >= 0"


def _images(rows: Rows) -> Iterator[str]:
    yield (
        f"SELECT 'images_created' AS name, {rows.new('type')} AS label, '' AS second_label, 0.0 AS amount {rows.source}"
    )
    yield _observed(rows, "image_noise_jy", rows.new("noise_jy"))
    yield _observed(rows, "image_dynamic_range", rows.new("dynamic_range"))


def _ms_index(rows: Rows) -> Iterator[str]:
    """Give one event for each stage that a Measurement Set reaches."""
    yield (
        f"SELECT 'ms_processed' AS name, CASE {rows.new('status')} WHEN 'failed' THEN 'failed' ELSE 'success' END "
        f"AS label, coalesce({rows.new('stage')}, 'unknown') AS second_label, 0.0 AS amount {rows.source} "
        f"WHERE {rows.became('stage')} OR {rows.became('status')}"
    )


def _jobs(rows: Rows) -> Iterator[str]:
    """Give the failure of a run: its error begins with the task that failed. What somebody canceled is none."""
    error = rows.new("error")
    stage = " ".join(f"WHEN {error} LIKE '{task}:%' THEN '{word}'" for task, word in _STAGES.items())
    canceled = f"coalesce({error}, '') LIKE 'canceled%'"
    failed = f"{rows.new('status')} = 'failed' AND {rows.became('status')} AND NOT {canceled}"
    yield (
        f"SELECT 'ms_processed' AS name, 'failed' AS label, CASE {stage} ELSE 'unknown' END AS second_label, "
        f"0.0 AS amount {rows.source} WHERE {failed}"
    )
    for kind in ("bandpass", "gain"):  # one task solves both
        where = f"{failed} AND {error} LIKE 'calibration-solve:%'"
        yield f"SELECT 'calibrations' AS name, 'failed', '{kind}', 0.0 {rows.source} WHERE {where}"


def _caltables(rows: Rows) -> Iterator[str]:
    kind = rows.new("table_type")
    kinds = f"CASE WHEN {kind} IN ('BP', 'BA', 'B') THEN 'bandpass' WHEN {kind} IN ('GP', 'GA', 'G', '2G') THEN 'gain'"
    status = f"CASE {rows.new('status')} WHEN 'failed' THEN 'failed' ELSE 'success' END"
    yield (
        f"SELECT 'calibrations' AS name, {status} AS label, {kinds} WHEN {kind} = 'K' THEN 'delay' ELSE 'other' END "
        f"AS second_label, 0.0 AS amount {rows.source}"
    )
    own = f"{kinds} END"
    snr = (
        f"coalesce(CASE {own} WHEN 'bandpass' THEN {rows.metric('median_snr_bandpass')} "
        f"WHEN 'gain' THEN {rows.metric('median_snr_gain')} END, {rows.metric('snr_mean')})"
    )
    yield _observed(rows, "calibration_snr", snr)


def _photometry(rows: Rows) -> Iterator[str]:
    """Give each measurement by kind of source, and each detection by its extent.

    A source is extended where its flux density lies above its peak by more than a tenth and by three uncertainties.
    """
    kind = f"(SELECT source_type FROM sources WHERE sources.id = {rows.new('source_id')})"  # noqa: S608 - names of columns only
    known = f"CASE WHEN {kind} IN ('transient', 'calibrator') THEN {kind} ELSE 'known' END"
    flux, peak = rows.new("flux_jy"), rows.new("peak_jyb")
    errors = [f"coalesce({rows.new(name)}, 0)" for name in ("flux_err_jy", "peak_err_jyb")]
    variance = " + ".join(f"{error} * {error}" for error in errors)
    extended = f"{flux} > 1.1 * {peak} AND ({flux} - {peak}) * ({flux} - {peak}) > 9 * ({variance})"
    yield (f"SELECT 'photometry_records' AS name, {known} AS label, '' AS second_label, 0.0 AS amount {rows.source}")
    yield (
        f"SELECT 'sources_detected', CASE WHEN {kind} = 'transient' THEN 'transient' WHEN {extended} THEN 'extended' "
        f"ELSE 'point' END, '', 0.0 {rows.source} WHERE coalesce({rows.new('snr')}, 3) >= 3"
    )


_KEPT = {
    "images": ("id", _images, False),
    "ms_index": ("path", _ms_index, True),
    "jobs": ("id", _jobs, True),
    "caltables": ("id", _caltables, False),
    "photometry": ("id", _photometry, False),
}  # table: its key, its events, whether updates are events too
_TRANSITIONS = {"insert": "REFERENCING NEW TABLE AS come", "update": "REFERENCING OLD TABLE AS gone NEW TABLE AS come"}


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def keep(*tables: str) -> None:
    """Count what happens to these tables (default: to all) from now on; the table event_counts must be there."""
    for table in tables or _KEPT:
        key, events, updates = _KEPT[table]
        for when in ("insert", "update") if updates else ("insert",):
            rows = Rows(_is_sqlite(), key, when == "update")
            _create(table, when, _ADD.format(events=" UNION ALL ".join(events(rows))))


def _create(table: str, when: str, statement: str) -> None:
    name = f"{table}_{when}_events"
    if _is_sqlite():
        op.execute(_literal(f"CREATE TRIGGER {name} AFTER {when.upper()} ON {table} BEGIN {statement}; END"))
        return
    op.execute(
        _literal(
            f"CREATE FUNCTION dsa110_{name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {statement}; RETURN NULL; END $$"
        )
    )
    op.execute(
        f"CREATE TRIGGER {name} AFTER {when.upper()} ON {table} {_TRANSITIONS[when]} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION dsa110_{name}()"
    )


def _literal(text: str) -> str:
    """Keep colons: what executes the text takes ``:word`` for a parameter."""
    return text.replace(":", "\\:")


def release(*tables: str) -> None:
    """Count what happens to these tables (default: to all) no longer."""
    for table in tables or _KEPT:
        for when in ("insert", "update") if _KEPT[table][2] else ("insert",):
            name = f"{table}_{when}_events"
            op.execute(f"DROP TRIGGER IF EXISTS {name}" + ("" if _is_sqlite() else f" ON {table}"))
            if not _is_sqlite():
                op.execute(f"DROP FUNCTION dsa110_{name}()")
