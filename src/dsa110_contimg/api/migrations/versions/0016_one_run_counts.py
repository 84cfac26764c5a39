"""One run speaks for an observation: what reruns measured a second time is marked, and counts no longer."""

import math
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels: Any = None
depends_on: Any = None

IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")
# The run that speaks for an observation is completed and not graded fail, else completed, else measured; the last one.
SUPERSEDED = sa.text("""
WITH claims AS (
    SELECT CASE WHEN m.group_id <> '' THEN 'group ' || m.group_id ELSE 'path ' || m.path END AS observation, i.run_id,
        CASE WHEN max(j.status) = 'completed' THEN 3 - max(CASE WHEN i.qa_grade = 'fail' THEN 1 ELSE 0 END)
            ELSE max(CASE WHEN EXISTS (SELECT 1 FROM photometry AS p WHERE p.image_path = i.path) THEN 1 ELSE 0 END)
        END AS claim, max(coalesce(j.created_at, 0)) AS ordered_at, max(coalesce(j.id, 0)) AS place
    FROM images AS i JOIN ms_index AS m ON m.path = i.ms_path LEFT JOIN jobs AS j ON j.run_id = i.run_id
    WHERE i.parent_id IS NULL AND i.run_id IS NOT NULL
    GROUP BY 1, 2
), speakers AS (
    SELECT observation, run_id, first_value(run_id) OVER (
        PARTITION BY observation ORDER BY claim DESC, ordered_at DESC, place DESC, run_id DESC
    ) AS speaker
    FROM claims
)
SELECT i.id AS image_id, s.speaker
FROM speakers AS s JOIN images AS i ON i.run_id = s.run_id JOIN ms_index AS m ON m.path = i.ms_path
WHERE s.run_id <> s.speaker AND i.parent_id IS NULL
    AND s.observation = CASE WHEN m.group_id <> '' THEN 'group ' || m.group_id ELSE 'path ' || m.path END
""")
MARK = sa.text("UPDATE images SET superseded_by = :speaker WHERE id = :image_id")
TOUCHED = sa.text(
    "SELECT DISTINCT p.source_id FROM images AS i JOIN photometry AS p ON p.image_path = i.path "
    "WHERE i.superseded_by IS NOT NULL ORDER BY p.source_id"
)
# In two passes, the second about the means of the first; f is the flux density and w its weight, where both are known.
SUMS = """
WITH pairs AS (
    SELECT p.mjd, p.image_id, peak_jyb, CASE WHEN flux_jy IS NULL THEN peak_jyb ELSE flux_jy END AS flux,
        CASE WHEN flux_jy IS NULL THEN peak_err_jyb ELSE flux_err_jy END AS error
    FROM photometry AS p JOIN images AS i ON i.id = p.image_id WHERE p.source_id = :source_id {counts}
), epochs AS (
    SELECT mjd, image_id, peak_jyb, CASE WHEN error > 0 THEN flux END AS f,
        CASE WHEN error > 0 AND flux IS NOT NULL THEN 1.0 / error / error END AS w
    FROM pairs
), means AS (
    SELECT count(*) AS detection_count, min(mjd) AS first_detected_mjd, max(mjd) AS last_detected_mjd,
        max(peak_jyb) AS peak_flux_jy, count(f) AS flux_count, min(f) AS min_flux_jy, max(f) AS max_flux_jy,
        avg(f) AS mean_flux_jy, sum(w) AS weight_sum, sum(w * f) / sum(w) AS weighted_mean_jy
    FROM epochs
)
SELECT means.*,
    (SELECT sum((f - mean_flux_jy) * (f - mean_flux_jy)) FROM epochs) AS deviation_sum,
    (SELECT sum(w * (f - weighted_mean_jy) * (f - weighted_mean_jy)) FROM epochs) AS chi_squared,
    (SELECT image_id FROM epochs WHERE mjd IS NOT NULL ORDER BY mjd DESC, image_id DESC LIMIT 1) AS latest_image_id
FROM means
"""
COUNTING = sa.text(SUMS.format(counts="AND i.superseded_by IS NULL"))
ALL = sa.text(SUMS.format(counts=""))
KEEP = sa.text("""
UPDATE sources SET detection_count = :detection_count, first_detected_mjd = :first_detected_mjd,
    last_detected_mjd = :last_detected_mjd, latest_image_id = :latest_image_id, peak_flux_jy = :peak_flux_jy,
    flux_count = :flux_count, min_flux_jy = :min_flux_jy, max_flux_jy = :max_flux_jy, mean_flux_jy = :mean_flux_jy,
    deviation_sum = :deviation_sum, weight_sum = :weight_sum, weighted_mean_jy = :weighted_mean_jy,
    chi_squared = :chi_squared, eta = :eta, v = :v
WHERE id = :source_id
""")


def upgrade() -> None:
    """Add the mark, set it where an observation was run more than once, and add up what counts."""
    op.add_column("images", sa.Column("superseded_by", IDENTIFIER))
    connection = op.get_bind()
    marks = [dict(row) for row in connection.execute(SUPERSEDED).mappings()]
    if marks:
        connection.execute(MARK, marks)
    _add_up(COUNTING)


def downgrade() -> None:
    """Let every measurement count again."""
    _add_up(ALL)
    op.drop_column("images", "superseded_by")


def _add_up(sums: sa.TextClause) -> None:
    """Make the sums anew of the sources that were measured in an image that is superseded."""
    connection = op.get_bind()
    for source_id in connection.execute(TOUCHED).scalars().all():
        row = connection.execute(sums, {"source_id": source_id}).mappings().one()
        connection.execute(KEEP, {**_with_indices(dict(row)), "source_id": source_id})


def _with_indices(sums: dict[str, Any]) -> dict[str, Any]:
    degrees, mean = sums["flux_count"] - 1, sums["mean_flux_jy"]
    sums["eta"] = sums["chi_squared"] / degrees if degrees > 0 else None
    sums["v"] = math.sqrt(sums["deviation_sum"] / degrees) / abs(mean) if degrees > 0 and mean else None
    return sums
