"""Files that lie, are broken or want too much: every reader refuses them in our words, or tells what is honest."""

import io
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import orjson
from astropy.io import fits
from casacore.tables import table
from PIL import Image

from dsa110_contimg.api.batch.fits_reports import report
from fixtures.hostile_fits import BROKEN, NOWHERE, ODD, PARTLY, UNREADABLE, image
from fixtures.hostile_ms import DAMAGES
from fixtures.measurement_sets import write_ms
from fixtures.reader_processes import Answer, read_all

BATCH = "dsa110_contimg.api.batch."
PART = {"ra": 1.0, "dec": 1.0, "width": 1.0, "height": 1.0, "unit": "pixel"}
PICTURE = {"picture": {"side": 64}}
ASKED = {
    "header": ("fits_reports", {"report": "header"}),
    "statistics": ("fits_reports", {"report": "statistics", "plane": 0}),
    "slice": ("fits_reports", {"report": "slice", "plane": 0, "x": 0, "y": 0, "width": 1, "height": 1}),
    "validation": ("fits_validation", {}),
    "thumbnail": ("thumbnails", PICTURE),
    "animation": ("thumbnails", {**PICTURE, "frames": 3, "fps": 2}),
    "cutout": ("cutouts", {"cutout": {**PART, "format": "fits"}}),
    "cutout as png": ("cutouts", {"cutout": {**PART, "format": "png"}, **PICTURE}),
}
READERS = {name: (BATCH + module, ["--ask", orjson.dumps(ask).decode()]) for name, (module, ask) in ASKED.items()}
CUTTERS = {"cutout", "cutout as png"}
PIXELS = {"statistics", "slice", "thumbnail", "animation", *CUTTERS}
SLOWEST_S = 5.0
#: Who refuses what can be used in part.
REFUSED_BY = {
    "a scale that is text": PIXELS,
    "a scale that is infinite": PIXELS - {"slice", "cutout"},
    "a frequency that is text": CUTTERS,
    "all pixels are NaN": PIXELS - {"slice", "cutout"},
    "a row of 4 GB": PIXELS,
}
#: Who needs a card that cannot be read.
NEEDED_BY = {
    "a card that nobody needs": set(),
    "a scale of NaN": PIXELS,
    "a blank of NaN": PIXELS,
    "an alternate reference of NaN": CUTTERS,
    "NaN in the coordinates": CUTTERS,
    "a pole that is nowhere": CUTTERS,
    "projection parameters of NaN": CUTTERS,
    "a continuation of nothing": {"thumbnail", "animation", *CUTTERS},
    "a value that never ends": {"statistics", "slice"},
    "a card beyond ASCII": set(),
    "a beam of NaN": set(),
}
#: Coordinates that keep the standard, out of which nothing is cut all the same: nobody asks by them.
KEEP_THE_STANDARD = {"a frame that nobody knows", "ecliptic coordinates"}
#: Odd images out of which nothing can be cut, since their coordinates are as odd.
PLACELESS = {
    "keywords that are there twice", "a unit that is none", "a unit that takes for ever", "Stokes without end",
    "records",
}  # fmt: skip


def read(directory: Path, contents: Mapping[str, bytes]) -> dict[tuple[str, str], Answer]:
    """Write files and let every reader read them."""
    files = {}
    for number, (name, content) in enumerate(contents.items()):
        files[name] = directory / f"{number}.fits"
        files[name].write_bytes(content)
        if name == "a row of 4 GB":
            os.truncate(files[name], 40 << 30)
    told = read_all(files, READERS)
    missing = [(name, reader) for name in contents for reader in READERS if (name, reader) not in told]
    assert not missing, "the process ended at this one"
    return told


def is_refused(answer: Answer) -> bool:
    """Tell whether a reader refused a file as it should: with one line of ours, soon, and having said nothing else."""
    one_line = answer.reason.count("\n") == 1 and "Traceback" not in answer.reason and len(answer.reason) > 20
    return answer.code == 2 and one_line and answer.written == b"" and answer.cpu_s < SLOWEST_S


def is_answered(reader: str, answer: Answer) -> bool:
    """Tell whether a reader answered in its format."""
    assert answer.cpu_s < SLOWEST_S, (reader, answer)
    if answer.code != 0:
        return False
    if reader == "cutout":
        with fits.open(io.BytesIO(answer.written)) as [unit]:
            return unit.data.size == 1
    if ASKED[reader][0].startswith("fits"):
        return isinstance(orjson.loads(answer.written), dict)
    with Image.open(io.BytesIO(answer.written)) as picture:
        return max(picture.size) <= 64


def problems(answer: Answer) -> str:
    """Return what validation said is wrong; nothing for a valid file."""
    told = orjson.loads(answer.written)
    assert told["valid"] == (not told["problems"])
    return "\n".join(told["problems"])


def test_a_file_that_nobody_can_read_is_refused_by_every_reader(tmp_path: Path) -> None:
    told = read(tmp_path, UNREADABLE)
    assert {place: answer for place, answer in told.items() if not is_refused(answer)} == {}


def test_an_image_with_a_card_that_nobody_can_read_is_refused_by_those_who_need_it_and_its_card_is_named(
    tmp_path: Path,
) -> None:
    unreadable = re.compile(r"the card [A-Z0-9_]+ holds no value of the standard")
    for (name, reader), answer in read(tmp_path, BROKEN).items():
        if reader in NEEDED_BY[name]:
            assert is_refused(answer), (name, reader, answer)
            assert unreadable.match(answer.reason), (name, reader, answer)
        else:
            assert is_answered(reader, answer), (name, reader, answer)
        if reader in ("header", "validation"):
            assert any(map(unreadable.match, orjson.loads(answer.written)["problems"])), (name, reader, answer)


def test_a_part_of_an_image_says_which_card_it_leaves_out_and_the_header_lists_it(tmp_path: Path) -> None:
    told = read(tmp_path, BROKEN)
    [unit] = fits.open(io.BytesIO(told["a card that nobody needs", "cutout"].written))
    assert "SIGMA" not in unit.header
    assert list(unit.header["COMMENT"]) == ["SIGMA held no value of the standard and was left out"]
    listed = orjson.loads(told["a card that nobody needs", "header"].written)
    assert (listed["cards"]["SIGMA"], listed["cards"]["CRVAL1"], listed["axes"][0]["reference_value"]) == (None, 1, 1)
    assert [problem[:14] for problem in listed["problems"]] == ["the card SIGMA"]
    placeless = orjson.loads(told["NaN in the coordinates", "header"].written)
    assert placeless["axes"][0]["reference_value"] is None, "the default would be taken for what the file says"
    unitless = orjson.loads(told["a value that never ends", "header"].written)
    assert (unitless["unit"], orjson.loads(told["a beam of NaN", "header"].written)["beam"]) == (None, None)


def test_nothing_is_cut_out_of_an_image_that_lies_nowhere(tmp_path: Path) -> None:
    for (name, reader), answer in read(tmp_path, NOWHERE).items():
        if reader in CUTTERS:
            assert is_refused(answer), (name, reader, answer)
        elif reader == "validation":
            assert bool(problems(answer)) == (name not in KEEP_THE_STANDARD), (name, answer)
        else:
            assert is_answered(reader, answer) or is_refused(answer), (name, reader, answer)


def test_what_can_be_told_of_an_image_that_is_bad_in_part_is_told(tmp_path: Path) -> None:
    for (name, reader), answer in read(tmp_path, PARTLY).items():
        if reader in REFUSED_BY[name]:
            assert is_refused(answer), (name, reader, answer)
        else:
            assert is_answered(reader, answer), (name, reader, answer)


def test_an_image_that_is_only_odd_is_read_by_every_reader(tmp_path: Path) -> None:
    for (name, reader), answer in read(tmp_path, {"good": image(), **ODD}).items():
        if reader in CUTTERS and name in PLACELESS:
            assert is_refused(answer), (name, reader, answer)
        else:
            assert is_answered(reader, answer), (name, reader, answer)


def test_validation_names_what_is_odd(tmp_path: Path) -> None:
    named = {
        "keywords that are there twice": "CRVAL1 is there 2 times",
        "a scale that is text": "BSCALE is 'x'",
        "a unit that takes for ever": "is no unit",
        "a card without a value": "there is no BUNIT",
        "a beam that is less than none": "both must be numbers above 0",
    }
    told = read(tmp_path, {"good": image(), **{name: {**PARTLY, **ODD}[name] for name in named}})
    assert problems(told["good", "validation"]) == ""
    for name, word in named.items():
        assert word in problems(told[name, "validation"]), name


def test_the_memory_for_statistics_does_not_grow_with_the_plane(tmp_path: Path) -> None:
    path = tmp_path / "large.fits"
    path.write_bytes(image(NAXIS1=6144, NAXIS2=6144))
    os.truncate(path, 160 << 20)  # holes: zeros
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            assert report(file, {"report": "statistics", "plane": 0})["n_valid"] == 6144**2
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 250 << 20  # all of it takes 300 MB as double


# --- Measurement Sets -------------------------------------------------------------------------------------------------

TABLE_READERS = {what: ("dsa110_contimg.pipeline.ms_reports", [what]) for what in ("antennas", "raster")}


def test_a_measurement_set_that_is_broken_or_lies_is_refused_by_those_whom_it_concerns(tmp_path: Path) -> None:
    good = write_ms(tmp_path / "good.ms", 20)
    paths = {name: tmp_path / str(number) / "x.ms" for number, name in enumerate(DAMAGES)}
    for name, (damage, _) in DAMAGES.items():
        shutil.copytree(good, paths[name])
        damage(paths[name])
    told = read_all({"good": good, **paths}, TABLE_READERS)
    for name, (_, concerned) in {"good": (None, frozenset()), **DAMAGES}.items():
        for reader in TABLE_READERS:
            answer = told[name, reader]
            if reader in concerned:
                assert is_refused(answer), (name, reader, answer)
                assert "/proc/" not in answer.reason
            else:
                assert (answer.code, answer.reason) == (0, ""), (name, reader, answer)


def test_no_column_of_a_table_is_worked_out_of_another(tmp_path: Path) -> None:
    path = write_ms(tmp_path / "x.ms", 20)
    DAMAGES["names that are worked out of another table"][0](path)
    told = read_all({"x": path}, TABLE_READERS)
    for answer in told.values():
        assert "not stored in it, but come from VirtualTaQLColumn" in answer.reason


def test_a_measurement_set_that_was_copied_without_its_locks_is_refused_and_gets_none(tmp_path: Path) -> None:
    path = write_ms(tmp_path / "x.ms", 20)
    for lock in path.rglob("table.lock"):
        lock.unlink()
    for answer in read_all({"x": path}, TABLE_READERS).values():
        assert is_refused(answer), answer
        assert "table.lock" in answer.reason
    assert list(path.rglob("table.lock")) == []


LARGEST_PICTURE = """
import numpy as np
from dsa110_contimg.pipeline import confinement, ms_raster
class Rows:
    def colnames(self):
        return ["DATA"]
    def getcol(self, name, first, length):
        kind = {"FLAG": np.bool_, "FLAG_ROW": np.bool_, "DATA": np.complex64}[name]
        return np.ones((length, 768, 2)[: 1 if name == "FLAG_ROW" else 3], kind)
confinement.confine()
for bins, channels in ((ms_raster._MOST_VALUES, 1), (ms_raster._MOST_VALUES // 768, 768)):
    sums, length = ms_raster._Sums(bins, channels), ms_raster.SAMPLES_AT_ONCE // 1536
    sums.add(Rows(), (0, length), np.ones(length, np.bool_), np.arange(length))
    assert sums.means("phase").size == bins * channels
    del sums
print("drawn")
"""


def test_the_largest_picture_of_a_measurement_set_is_worked_out_in_the_memory_that_readers_of_images_have() -> None:
    assert subprocess.check_output([sys.executable, "-c", LARGEST_PICTURE], text=True) == "drawn\n"


def test_rows_of_a_time_each_make_no_picture_larger_than_the_service_can_hold(tmp_path: Path) -> None:
    path = write_ms(tmp_path / "x.ms")
    with table(str(path), readonly=False, ack=False) as rows:
        rows.putcol("TIME", rows.getcol("TIME") + np.arange(rows.nrows()))
    [answer] = read_all({"x": path}, {"raster": TABLE_READERS["raster"]}).values()
    assert is_refused(answer), (answer.code, answer.reason, len(answer.written))
    assert "too many for a picture" in answer.reason
