"""Replies about Measurement Sets."""

from typing import Literal

from pydantic import Field

from dsa110_contimg.api.schemas.base import QAGrade, Reply


class CalibratorMatch(Reply):
    """One calibration table of a Measurement Set."""

    cal_table: str
    type: str
    id: str | None = Field(description="short id of the table")
    set_name: str | None
    valid_start_mjd: float | None = Field(description="MJD (UTC); null is no limit")
    valid_end_mjd: float | None = Field(description="MJD (UTC); null is no limit")
    source_ms_path: str | None = Field(description="Measurement Set it was solved from")


class CalibratorMatches(Reply):
    """All calibration tables of a Measurement Set."""

    ms_path: str
    matches: list[CalibratorMatch]


class MSListItem(Reply):
    """One Measurement Set of the list."""

    id: str | None = Field(description="short id: the stamp of its group of subband files")
    path: str
    pointing_ra_deg: float | None
    pointing_dec_deg: float | None
    qa_grade: QAGrade = Field(description="verdict on its newest image, else how far it came")
    run_id: str | None
    created_at: str | None = Field(description="conversion of the raw files, ISO 8601 (UTC)")
    group_id: str | None
    stage: str | None
    status: str | None
    start_mjd: float | None
    mid_mjd: float | None
    end_mjd: float | None
    field_name: str | None
    cal_applied: bool
    flagged_fraction: float | None
    missing_subbands: list[int]
    quality_note: str | None


class MSDetail(MSListItem):
    """One Measurement Set."""

    calibrator_matches: list[CalibratorMatch]
    qa_summary: str


class Antenna(Reply):
    """One antenna of a Measurement Set."""

    id: int
    name: str
    x_m: float = Field(description="east of the centre of the array, m")
    y_m: float = Field(description="north of the centre of the array, m")
    flagged_pct: float = Field(description="flagged part of its cross-correlations, 0 to 100; 100 without data")
    baseline_count: int
    status: Literal["good", "flagged", "dead", "absent"] = Field(
        description="absent: no rows; dead: all its data are flagged; flagged: more than is good"
    )


class AntennaCounts(Reply):
    """How many antennas are in which state."""

    good: int
    flagged: int
    dead: int
    absent: int


class Antennas(Reply):
    """The antennas of a Measurement Set."""

    antennas: list[Antenna]
    array_center_lon: float = Field(description="degrees, east positive")
    array_center_lat: float = Field(description="degrees, geodetic")
    total_baselines: int = Field(description="pairs of different antennas that have rows")
    counts: AntennaCounts
