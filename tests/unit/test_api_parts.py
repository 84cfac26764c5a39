"""Parts of the HTTP half that need no server: replies, ranges, files, names, dates, verdicts."""

import os
import random
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from dsa110_contimg.api import schemas
from dsa110_contimg.api.exceptions import FileNotAccessibleError, RecordNotFoundError, ValidationError
from dsa110_contimg.api.file_access import FileStore
from dsa110_contimg.api.file_reply import UnsatisfiableRangeError, parse_range
from dsa110_contimg.api.interfaces import ImageRecord, MeasurementSetRecord
from dsa110_contimg.api.middleware.error_body import error_body
from dsa110_contimg.api.replies import iso_time, json_reply
from dsa110_contimg.api.routes.images import ImageParameters
from dsa110_contimg.api.services import qa_service
from dsa110_contimg.api.validation import parse_time_mjd, require_known
from fixtures.opened_files import held


def test_numbers_that_json_does_not_know_are_null() -> None:
    assert orjson.loads(json_reply({"a": float("nan"), "b": float("inf"), "c": 0.0}).body) == {
        "a": None,
        "b": None,
        "c": 0.0,
    }


def test_equal_replies_have_equal_tags_and_others_have_not() -> None:
    assert json_reply({"a": 1}).headers["etag"] == json_reply({"a": 1}).headers["etag"]
    assert json_reply({"a": 1}).headers["etag"] != json_reply({"a": 2}).headers["etag"]


@pytest.mark.parametrize(
    ("unix_s", "text"),
    [
        (None, None),
        (0.0, "1970-01-01T00:00:00Z"),
        (1764547260.5, "2025-12-01T00:01:00.500Z"),
        (253402300799.0, "9999-12-31T23:59:59Z"),
        (253402300800.0, None),
        (-62135596801.0, None),
        (1e300, None),
        (float("nan"), None),
    ],
)
def test_times_are_utc_with_z_whatever_the_zone_of_the_server(
    unix_s: float | None, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    try:
        assert iso_time(unix_s) == text
        assert parse_time_mjd("2026-02-11", "start") == 61082.0  # JD 2461082.5
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "mjd"),
    [
        ("2000-01-01T12:00:00Z", 51544.5),  # J2000.0 is JD 2451545.0
        ("2000-01-01T12:00:00", 51544.5),
        ("2000-01-01T14:00:00+02:00", 51544.5),
        ("1858-11-17", 0.0),
    ],
)
def test_dates_are_read_as_utc(text: str, mjd: float) -> None:
    assert parse_time_mjd(text, "start_date") == mjd


def test_a_bound_of_a_list_holds_every_time_that_is_told_as_this_bound_and_no_other() -> None:
    draw = random.Random(5)
    for unix_s in (0.0, 1.8e9, 1.8e9 + 0.9999996, 1.8e9 - 1e-7, *(draw.uniform(1.7e9, 1.9e9) for _ in range(1000))):
        bound = iso_time(unix_s)
        asked = ImageParameters.model_validate({"min_created_at": bound, "max_created_at": bound})
        assert asked.min_created_at is not None
        assert asked.max_created_at is not None
        assert asked.min_created_at <= unix_s <= asked.max_created_at, bound
        assert unix_s - 0.0011 < asked.min_created_at, bound
        assert unix_s + 0.0011 > asked.max_created_at, bound


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "61082"])
def test_what_is_no_date_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValidationError, match="start_date"):
        parse_time_mjd(text, "start_date")


def test_an_unknown_name_is_refused_with_the_nearest_known_one() -> None:
    require_known(["limit"], ["limit", "offset"])
    with pytest.raises(ValidationError, match="did you mean 'offset'"):
        require_known(["ofset"], ["limit", "offset"])
    with pytest.raises(ValidationError, match="known are: limit, offset"):
        require_known(["zzz"], ["limit", "offset"])
    with pytest.raises(ValidationError, match="known are: id, noise_jy"):
        require_known(["imsize_x"], ["id", "noise_jy"])  # half of the letters, and another thing
    with pytest.raises(ValidationError, match="there are none"):
        require_known(["zzz"], [])


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None), ("", None), ("bytes=0-0", (0, 0)), ("bytes=0-", (0, 99)), ("bytes=90-200", (90, 99)),
        ("bytes=-10", (90, 99)), ("bytes=-500", (0, 99)), ("bytes=5-4", None), ("bytes=0-1,5-6", None),
        ("bytes=x-", None), ("octets=0-1", None), ("bytes=-", None), ("bytes=" + "9" * 40 + "-", None),
    ],
)  # fmt: skip
def test_ranges_are_read_as_the_standard_says(header: str | None, part: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == part


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0)])
def test_ranges_outside_the_file_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, size)


def test_a_thousand_ranges_are_read_at_once() -> None:
    began = time.perf_counter()
    assert parse_range("bytes=" + "0-," * 5000, 100) is None
    assert time.perf_counter() - began < 0.01


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "top" / "deep").mkdir(parents=True)
    (tmp_path / "top" / "deep" / "file").write_text("inside")
    (tmp_path / "outside").write_text("outside")
    return tmp_path / "top"


def content(store: FileStore, path: str) -> str:
    file = store.open(path)
    try:
        return os.pread(file.fd, 100, 0).decode()
    finally:
        file.close()


def test_a_file_beneath_a_root_is_opened(root: Path) -> None:
    assert content(FileStore([root]), f"{root}/deep/file") == "inside"


def test_a_root_may_be_given_through_a_link(root: Path) -> None:
    link = root.with_name("link")
    link.symlink_to(root)
    for given in (root, link):
        assert content(FileStore([link]), f"{given}/deep/file") == "inside"


def test_what_is_not_a_plain_file_beneath_a_root_is_refused(root: Path) -> None:
    os.mkfifo(root / "fifo")
    (root / "link").symlink_to(root.parent / "outside")
    (root / "inner").symlink_to(root / "deep" / "file")
    (root / "way").symlink_to(root.parent)
    names = ["fifo", "link", "inner", "way/outside", "way/top/deep/file", "deep", "none", "deep/../../outside", "x\0y"]
    names += ["../outside", "", ".", "deep/file/x", "x" * 5000]
    paths = [f"{root}/{name}" for name in names] + ["/dev/zero", "/etc/passwd", "deep/file", "", "~", f"{root}x/deep"]
    for path in paths:
        with pytest.raises(FileNotAccessibleError):
            FileStore([root]).open(path)
    with pytest.raises(FileNotAccessibleError):
        FileStore([]).open(f"{root}/deep/file")


@pytest.mark.parametrize(
    ("how", "name", "operation", "told"),
    [
        ("open", "deep/none", "open", "deep/none"),
        ("open", "deep", "open", "deep"),
        ("open_directory", "deep/file", "open", "deep/file"),
        ("remove", "deep/none", "remove", "deep/none"),
        ("open", "../outside", "open", "outside"),
    ],
)
def test_a_refusal_says_what_was_to_be_done_with_what_and_nothing_of_the_roots(
    root: Path, how: str, name: str, operation: str, told: str
) -> None:
    with pytest.raises(FileNotAccessibleError) as refused:
        getattr(FileStore([root]), how)(f"{root}/{name}")
    assert refused.value.message.startswith(f"Cannot {operation} {told}: it ")
    assert refused.value.details == {"path": told, "operation": operation}


def test_a_refused_file_leaves_no_descriptor_open(root: Path) -> None:
    for name in ("deep", "none", "deep/file/x"):
        with pytest.raises(FileNotAccessibleError):
            FileStore([root]).open(f"{root}/{name}")
    assert held(root) == []


def test_the_tag_of_a_file_changes_with_its_content(root: Path) -> None:
    store, path = FileStore([root]), root / "deep" / "file"
    first = store.open(str(path))
    first.close()
    path.with_name("new").write_text("INSIDE")
    path.with_name("new").rename(path)
    second = store.open(str(path))
    second.close()
    assert first.tag != second.tag


def test_every_error_has_the_union_of_what_clients_read() -> None:
    body = error_body(RecordNotFoundError("Image", "7"), "req-1")
    schemas.ErrorBody.model_validate(body)
    assert (body["error"], body["code"], body["doc_anchor"]) == ("NOT_FOUND", "IMAGE_NOT_FOUND", "image_not_found")
    assert body["details"] == {"entity_type": "Image", "identifier": "7"}
    assert body["detail"] == body["message"] == "Image not found: 7"
    assert body["trace_id"] == error_body(ValidationError("x"), "req-1")["trace_id"]


def image(**known: float | None) -> ImageRecord:
    return ImageRecord("/i.fits", "/m.ms", "job-x", "5min", 0.0, id=1, **known)  # type: ignore[arg-type]


def test_an_image_without_words_is_summed_up_by_its_numbers() -> None:
    assert qa_service.image_summary(image(noise_jy=0.0012, dynamic_range=250.4, beam_major_arcsec=30.06)) == (
        'RMS 1.20 mJy, DR 250, Beam 30.1"'
    )
    assert qa_service.image_summary(image()) == "No QA metrics available"


def test_both_reports_on_an_image_give_the_same_verdict_and_name_what_is_beyond_its_limit() -> None:
    for judged, grade in ((image(dynamic_range=20.0), "fail"), (image(dynamic_range=50.0, qa_grade="good"), "good")):
        short, long = qa_service.image_qa(judged), qa_service.image_report(judged, None)
        assert short["qa_grade"] == long["qa_grade"] == grade
        assert short["flags"] == long["flags"] == ["dynamic_range"]


def test_warnings_come_from_numbers_that_are_there() -> None:
    assert qa_service.image_warnings(image(noise_jy=0.02, dynamic_range=0.0)) == [
        "High noise level detected",
        "Low dynamic range",
    ]
    assert qa_service.image_warnings(image()) == []


@pytest.mark.parametrize(
    ("stage", "status", "grade"),
    [
        ("imaged", "completed", "good"), ("cataloged", "completed", "good"), ("calibrated", "completed", "warn"),
        ("converted", "completed", "fail"), ("", "completed", "fail"), ("imaged", "failed", "fail"),
    ],
)  # fmt: skip
def test_a_measurement_set_without_a_verdict_is_graded_by_how_far_it_came(stage: str, status: str, grade: str) -> None:
    ms = MeasurementSetRecord("/m.ms", "r", "g", stage, 0.0, 0.0, 0.0, 0.0, 0.0, status=status)
    assert qa_service.ms_grade(ms) == grade
    assert qa_service.ms_grade(replace(ms, image_grade="warn")) == "warn"
