"""Replies about Measurement Sets."""

from dsa110_contimg.api.schemas.base import QAGrade, Reply


class CalibratorMatch(Reply):
    """One calibration table of a Measurement Set."""

    cal_table: str
    type: str


class CalibratorMatches(Reply):
    """All calibration tables of a Measurement Set."""

    ms_path: str
    matches: list[CalibratorMatch]


class MSDetail(Reply):
    """One Measurement Set."""

    path: str
    pointing_ra_deg: float | None
    pointing_dec_deg: float | None
    calibrator_matches: list[CalibratorMatch]
    qa_grade: QAGrade
    qa_summary: str
    run_id: str | None
    created_at: str | None
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
