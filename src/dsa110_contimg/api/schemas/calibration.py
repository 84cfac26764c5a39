"""Replies about calibration tables."""

from typing import Any

from pydantic import Field

from dsa110_contimg.api.schemas.base import Reply


class CalTableItem(Reply):
    """One calibration table of the list."""

    id: str = Field(description="short id")
    path: str
    table_type: str | None = Field(description="K, BP, GP, ...")
    set_name: str | None = Field(description="set of tables that are applied together: the run that solved them")
    order_index: int | None = Field(description="place in the order of application")
    cal_field: str | None = Field(description="calibrator")
    refant: str | None = Field(description="reference antenna")
    created_at: str | None
    valid_start_mjd: float | None = Field(description="MJD (UTC); null is no limit")
    valid_end_mjd: float | None = Field(description="MJD (UTC); null is no limit")
    source_ms_path: str | None = Field(description="Measurement Set it was solved from")
    status: str | None = Field(description="active, retired or failed")


class CalTable(CalTableItem):
    """One calibration table."""

    valid_start: str | None = Field(description="ISO 8601, UTC")
    valid_end: str | None = Field(description="ISO 8601, UTC")
    notes: str | None
    solver_command: str | None
    solver_version: str | None
    solver_params: dict[str, Any]
    quality_metrics: dict[str, Any]
    source_ms_url: str | None
