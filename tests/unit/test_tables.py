"""The column registry: every column says what it is, in words that others understand."""

import dataclasses

import pytest
from astropy import units
from astropy.io.votable.ucd import check_ucd
from sqlalchemy import Column, Double, Integer, Table

from dsa110_contimg.api import interfaces
from dsa110_contimg.api.column_kinds import Flag, Json, Number
from dsa110_contimg.api.tables import metadata

COLUMNS = [column for table in metadata.sorted_tables for column in table.columns]
NAMED = pytest.mark.parametrize("column", COLUMNS, ids=str)

# The unit that a name promises.
SUFFIXES = {
    "_deg": "deg", "_arcsec": "arcsec", "_mjd": "d", "_at": "s", "_sec": "s", "_ghz": "GHz", "_mhz": "MHz",
    "_mjy": "mJy", "_bytes": "byte", "_jyb": "Jy / beam",
}  # fmt: skip

RECORDS = {
    "jobs": interfaces.JobRecord,
    "ms_index": interfaces.MeasurementSetRecord,
    "caltables": interfaces.CalibrationTableRecord,
    "images": interfaces.ImageRecord,
    "sources": interfaces.SourceRecord,
    "photometry": interfaces.PhotometryRecord,
    "provenance": interfaces.ProvenanceRecord,
    "provenance_files": interfaces.ProductFile,
}
ELSEWHERE = {
    ("images", "ms_stage"), ("images", "cal_table"), ("images", "mask_id"), ("provenance", "files"),
    ("ms_index", "image_grade"), ("ms_index", "image_id"), ("ms_index", "cal_table"),
}  # fmt: skip


@NAMED
def test_every_column_has_a_unit_a_ucd_and_a_description(column: "Column[object]") -> None:
    assert set(column.info) == {"unit", "ucd", "description"}
    assert len(column.info["description"]) > 3
    assert units.Unit(column.info["unit"]).to_string() == column.info["unit"]
    assert check_ucd(column.info["ucd"], check_controlled_vocabulary=True), column.info["ucd"]


def test_a_name_that_promises_a_unit_keeps_it() -> None:
    promised = {"_jy": {"Jy", "Jy / beam"}} | {suffix: {unit} for suffix, unit in SUFFIXES.items()}
    kept = [(column, suffix) for column in COLUMNS for suffix in promised if column.name.endswith(suffix)]
    assert {suffix for _, suffix in kept} == set(promised)
    for column, suffix in kept:
        assert column.info["unit"] in promised[suffix], column


@NAMED
def test_only_numbers_have_units_and_every_number_with_a_point_is_a_finite_one(column: "Column[object]") -> None:
    assert not isinstance(column.type, Double), "Number keeps NaN out"
    if column.info["unit"]:
        assert isinstance(column.type, Number | Integer)


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=str)
def test_every_table_has_a_key(table: Table) -> None:
    parts = {"table_counts": 2, "idempotency_keys": 2, "event_counts": 3, "service_history": 3}
    assert len(table.primary_key) == parts.get(table.name, 1)


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_of_a_record_has_a_column(name: str) -> None:
    fields = {item.name for item in dataclasses.fields(RECORDS[name])}
    missing = {field for field in fields - set(metadata.tables[name].c.keys()) if (name, field) not in ELSEWHERE}
    assert not missing


def test_the_tables_of_the_unified_schema_have_its_columns() -> None:
    unified = {
        "ms_index": "path start_mjd end_mjd mid_mjd processed_at status stage stage_updated_at cal_applied imagename "
        "field_name pointing_ra_deg pointing_dec_deg ra_deg dec_deg group_id created_at",
        "images": "id path ms_path created_at type format beam_major_arcsec beam_minor_arcsec beam_pa_deg noise_jy "
        "dynamic_range pbcor field_name center_ra_deg center_dec_deg imsize_x imsize_y cellsize_arcsec freq_ghz "
        "bandwidth_mhz integration_sec",
        "photometry": "id source_id image_path ra_deg dec_deg nvss_flux_mjy peak_jyb peak_err_jyb measured_at snr mjd "
        "flux_jy flux_err_jy normalized_flux_jy normalized_flux_err_jy sep_from_center_deg local_rms flags",
        "caltables": "id set_name path table_type order_index cal_field refant created_at valid_start_mjd "
        "valid_end_mjd status notes source_ms_path solver_command solver_version solver_params quality_metrics",
        "jobs": "id type status ms_path run_id params logs artifacts created_at started_at finished_at",
        "batch_jobs": "id type created_at status total_items completed_items failed_items params",
        "batch_job_items": "id batch_id ms_path job_id status error started_at completed_at data_id",
        "hdf5_files": "path filename group_id subband_code subband_num timestamp_iso timestamp_mjd file_size_bytes "
        "modified_time indexed_at stored ra_deg dec_deg obs_date obs_time",
        "image_qa": "id ms_path job_id image_path rms_noise peak_flux dynamic_range beam_major beam_minor beam_pa "
        "num_sources thumbnail_path overall_quality timestamp",
        "calibration_qa": "id ms_path job_id k_metrics bp_metrics g_metrics overall_quality flags_total "
        "per_spw_stats timestamp",
    }
    for table, columns in unified.items():
        assert set(columns.split()) <= set(metadata.tables[table].c.keys()), table


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        (Number(), float("nan"), None),
        (Number(), float("-inf"), None),
        (Number(), 0.0, 0.0),
        (Number(), None, None),
        (Flag(), True, 1),
        (Flag(), False, 0),
        (Flag(), None, None),
        (Json(), {"a": float("inf"), "b": (1, 2)}, '{"a":null,"b":[1,2]}'),
        (Json(), None, None),
    ],
)
def test_values_are_kept_in_a_form_that_both_databases_have(kind: object, given: object, kept: object) -> None:
    assert kind.process_bind_param(given, None) == kept  # type: ignore[attr-defined]


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError, match="not JSON serializable: set"):
        Json().process_bind_param({"a": {1, 2}}, None)
