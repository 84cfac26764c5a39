"""What the confined children work out, worked out here: reports, parts, animations, rasters, regions."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image
from regions.io.crtf.read import _CRTFRegionParser
from regions.io.ds9.core import ds9_params_template

from dsa110_contimg.api.batch import cutouts, fits_reports, fits_validation, rasters, region_texts, thumbnails
from dsa110_contimg.api.batch.fits_file import Box, FitsError, open_image
from dsa110_contimg.api.batch.sky_places import box_around
from dsa110_contimg.api.services.image_care_service import SHAPES

SKY = {
    "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRVAL1": 188.5, "CRVAL2": 42.0, "CRPIX1": 9.0, "CRPIX2": 9.0,
    "CDELT1": -0.01, "CDELT2": 0.01, "CUNIT1": "deg", "CUNIT2": "deg",
}  # fmt: skip
BEAM = {"BMAJ": 0.02, "BMIN": 0.01, "BPA": 30.0}


def written(path: Path, shape: tuple[int, ...] = (16, 16), **cards: Any) -> Path:
    """Write an image whose pixels are 0, 1, 2, ... and whose first is blank."""
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    values.flat[0] = np.nan
    unit = fits.PrimaryHDU(values)
    unit.header.update({**SKY, **BEAM, "BUNIT": "JY/BEAM", **cards})
    unit.writeto(path)
    return path


def told(path: Path, report: str, **asked: Any) -> dict[str, Any]:
    answer = fits_validation.report if report == "validation" else fits_reports.report
    with path.open("rb") as file:
        return answer(file, {"report": report, **asked})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.fits"


# --- reports ----------------------------------------------------------------------------------------------------------


def test_a_header_is_told_with_what_it_means(path: Path) -> None:
    spectral = {"CTYPE3": "FREQ", "CUNIT3": "GHz", "CRVAL3": 1.4, "CDELT3": 0.1, "CRPIX3": 1.0}
    polar = {"CTYPE4": "STOKES", "CRVAL4": 1.0, "CDELT4": 1.0, "CRPIX4": 1.0}
    written(path, (2, 3, 16, 16), **spectral, **polar, RESTFRQ=1.42e9, OBJECT=" 3C286 ", TELESCOP="")
    header = told(path, "header")
    assert (header["n_planes"], header["unit"], header["stokes"]) == (6, "JY/BEAM", ["I", "Q"])
    assert header["beam"] == {"major_arcsec": 72.0, "minor_arcsec": 36.0, "pa_deg": 30.0}
    assert header["frequency_hz"] == pytest.approx(1.5e9)
    assert (header["rest_frequency_hz"], header["object"], header["telescope"]) == (1.42e9, "3C286", None)
    assert [(axis["type"], axis["length"]) for axis in header["axes"]][2:] == [("FREQ", 3), ("STOKES", 2)]
    assert header["cards"]["CRVAL1"] == 188.5


def test_the_last_beam_that_aips_wrote_down_stands_for_one_that_is_missing(path: Path) -> None:
    header = fits.Header()
    assert fits_reports.beam_report(header) is None
    for beam in ("BMAJ= 9 BMIN= 9 BPA= 9", "BMAJ= 0.02 BMIN= 0.01 BPA= 30"):
        header.add_history(f"AIPS CLEAN {beam}")
    assert fits_reports.beam_report(header) == {"major_arcsec": 72.0, "minor_arcsec": 36.0, "pa_deg": 30.0}
    header.add_history("AIPS CLEAN BMAJ= x BMIN= y BPA= z")
    assert fits_reports.beam_report(header) is None


LIGHT = 299_792_458.0


@pytest.mark.parametrize(
    ("cards", "hertz"),
    [
        ({"CTYPE3": "WAVE", "CUNIT3": "m", "CRVAL3": LIGHT / 1.4e9}, 1.4e9),
        ({"CTYPE3": "WAVE", "CUNIT3": "m", "CRVAL3": 0.0}, None),
        ({"CTYPE3": "VRAD", "CUNIT3": "m/s", "CRVAL3": LIGHT / 2, "RESTFRQ": 2e9}, 1e9),
        ({"CTYPE3": "VOPT", "CUNIT3": "m/s", "CRVAL3": LIGHT, "RESTFRQ": 2e9}, 1e9),
        ({"CTYPE3": "VOPT", "CUNIT3": "m/s", "CRVAL3": -LIGHT, "RESTFRQ": 2e9}, None),
        ({"CTYPE3": "VRAD", "CUNIT3": "m/s", "CRVAL3": 1.0}, None),
        ({"CTYPE3": "FREQ", "CUNIT3": "furlong", "CRVAL3": 5.0}, 5.0),
        ({"CTYPE3": "OTHER", "CRVAL3": 5.0, "RESTFRQ": 2e9}, 2e9),
        ({"CTYPE3": "OTHER", "CRVAL3": 5.0}, None),
    ],
)
def test_a_frequency_follows_from_each_kind_of_spectral_axis(cards: dict[str, Any], hertz: float | None) -> None:
    header = fits.PrimaryHDU(np.zeros((1, 2, 2), np.float32)).header
    header.update({"CDELT3": 1.0, "CRPIX3": 1.0, **cards})
    found = fits_reports.frequency_hz(header)
    assert found == (hertz if hertz is None else pytest.approx(hertz))


def test_statistics_are_of_the_values_that_there_are(path: Path) -> None:
    written(path)
    found = told(path, "statistics", plane=0)
    values = np.arange(1, 256)
    assert (found["n_pixels"], found["n_valid"], found["min"], found["max"]) == (256, 255, 1.0, 255.0)
    assert found["mean"] == pytest.approx(values.mean())
    assert found["std"] == pytest.approx(values.std())
    assert found["median"] == 128.0
    assert found["noise"] == pytest.approx(1.4826 * 64)


def test_a_plane_without_values_has_no_statistics(path: Path) -> None:
    fits.PrimaryHDU(np.full((4, 4), np.nan, np.float32)).writeto(path)
    with pytest.raises(FitsError, match="plane 0 holds no value"):
        told(path, "statistics", plane=0)


def test_a_slice_has_its_pixels_and_lies_within_the_image(path: Path) -> None:
    written(path)
    found = told(path, "slice", plane=0, x=0, y=0, width=2, height=2)
    assert found["values"] == [[None, 1.0], [16.0, 17.0]]
    with pytest.raises(FitsError, match="columns 15 to 16, rows 0 to 0 do not all lie within 16 x 16"):
        told(path, "slice", plane=0, x=15, y=0, width=2, height=1)


def test_a_good_file_is_valid_and_each_fault_of_another_is_named(path: Path, tmp_path: Path) -> None:
    assert told(written(path), "validation") == {"valid": True, "problems": [], "shape": [16, 16], "n_bytes": 5760}
    odd = written(tmp_path / "odd.fits", BUNIT="bananas", BMAJ=-1.0, CTYPE1="LINEAR", CTYPE2="LINEAR")
    with odd.open("ab") as file:
        file.write(b"x")
    problems = "\n".join(told(odd, "validation")["problems"])
    for fault in ("no multiple of 2880", "BUNIT 'bananas' is no unit", "the beam is -1.0 x 0.01", "no axes of right"):
        assert fault in problems
    assert "there is no BUNIT" in str(told(written(tmp_path / "bare.fits", BUNIT=""), "validation"))


# --- pictures and parts -----------------------------------------------------------------------------------------------


def drawn(paths: list[Path], **asked: Any) -> bytes:
    files = [path.open("rb") for path in paths]
    try:
        return cutouts.answer(files, asked) if "cutout" in asked else thumbnails.answer(files, asked)
    finally:
        for file in files:
            file.close()


@pytest.mark.parametrize(("form", "known"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_a_picture_comes_in_the_wanted_format(path: Path, form: str, known: str) -> None:
    picture = Image.open(BytesIO(drawn([written(path)], picture={"format": form, "beam": True})))
    assert (picture.format, picture.size) == (known, (16, 16))


def test_a_cutout_is_a_fits_file_with_the_same_coordinates(path: Path) -> None:
    part = {"ra": 188.5, "dec": 42.0, "width": 4.0, "height": 4.0, "unit": "pixel", "format": "fits"}
    with fits.open(BytesIO(drawn([written(path, (2, 16, 16))], cutout=part, picture={"plane": 1}))) as found:
        assert found[0].data.shape == (1, 4, 4)
        x, y = int(found[0].header["CRPIX1"]) - 1, int(found[0].header["CRPIX2"]) - 1
        assert found[0].data[0, y, x] == 256 + 8 * 16 + 8  # the pixel of the reference position
    part["format"] = "png"
    assert Image.open(BytesIO(drawn([path], cutout=part))).size == (4, 4)


def test_what_cannot_be_cut_is_refused(path: Path) -> None:
    with written(path).open("rb") as file:
        image = open_image(file)
        for position in ((10.0, 42.0), (188.5, -80.0)):
            with pytest.raises(FitsError, match=r"not on this side of the sky|lies outside the image"):
                box_around(image, *position, 1.0, 1.0, "arcmin")


def test_a_cube_whose_sky_axes_alone_have_a_matrix_is_cut(path: Path) -> None:
    with written(path, (2, 3, 16, 16)).open("rb") as file:
        image = open_image(file)
        expected = box_around(image, 188.5, 42.0, 4.0, 4.0, "pixel")
        for axis in (1, 2):
            image.header[f"CD{axis}_{axis}"] = image.header.pop(f"CDELT{axis}")
        assert box_around(image, 188.5, 42.0, 4.0, 4.0, "pixel") == expected


def test_a_cube_whose_planes_are_not_of_the_sky_is_not_cut(path: Path) -> None:
    cards = {
        "CTYPE1": "FREQ", "CUNIT1": "Hz", "CRVAL1": 1.4e9, "CDELT1": 1e6, "CTYPE2": "RA---SIN", "CRVAL2": 188.5,
        "CDELT2": -1 / 3600, "CTYPE3": "DEC--SIN", "CUNIT3": "deg", "CRVAL3": 42.0, "CDELT3": 1 / 3600, "CRPIX3": 9.0,
    }  # fmt: skip
    with written(path, (16, 16, 16), **cards).open("rb") as file, pytest.raises(FitsError, match="celestial axes"):
        box_around(open_image(file), 188.5, 42.0, 4.0, 4.0, "pixel")


SGR_A = (266.41683708, -29.00781056)  # Reid & Brunthaler 2004, ApJ 616, 872, J2000; l and b: 359.94423, -0.04616
GALACTIC = {"CTYPE1": "GLON-SIN", "CTYPE2": "GLAT-SIN", "CRVAL1": 359.94423, "CRVAL2": -0.04616}
VLA_3C286 = (202.784533, 30.509155)  # VLA calibrators: J2000 13:31:08.288 +30:30:32.96, B1950 13:28:49.658 +30:45:58.64
B1950 = {"CRVAL1": 202.206907, "CRVAL2": 30.766289}
MEEUS = (41.054063, 49.227750)  # Meeus 1998, Astronomical Algorithms, example 21.b: theta Persei, precessed to 2028.867
J2028 = {"RADESYS": "FK5", "EQUINOX": 2028.86705, "CRVAL1": 41.547214, "CRVAL2": 49.348483}
SWAPPED = {"CTYPE1": "DEC--SIN", "CTYPE2": "RA---SIN", "CRVAL1": 42.0, "CRVAL2": 188.5}


@pytest.mark.parametrize(
    ("position", "cards"),
    [
        ((188.5, 42.0), {}), ((188.5, 42.0), {"RADESYS": "ICRS"}), ((188.5, 42.0), {"RADESYS": "FK5"}),
        ((188.5 - 360, 42.0), {}), ((188.5, 42.0), SWAPPED), (SGR_A, GALACTIC), (SGR_A, GALACTIC | {"RADESYS": "FK5"}),
        (VLA_3C286, B1950 | {"RADESYS": "FK4"}), (VLA_3C286, B1950 | {"EQUINOX": 1950.0}), (MEEUS, J2028),
    ],
)  # fmt: skip
def test_a_position_is_found_whatever_the_frame_of_the_image(
    path: Path, position: tuple[float, float], cards: dict[str, Any]
) -> None:
    second = {
        "CRPIX1": 9.0,
        "CRPIX2": 9.0,
        "CDELT1": -1 / 3600,
        "CDELT2": 1 / 3600,
    }  # the middle of a pixel of 1 arcsec
    with written(path, **{**second, **cards}).open("rb") as file:
        assert box_around(open_image(file), *position, 1.0, 1.0, "pixel") == Box(8, 8, 9, 9)


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"CTYPE1": "ELON-SIN", "CTYPE2": "ELAT-SIN"}, "ELON and ELAT"),
        ({"RADESYS": "GAPPT"}, "not known: RADESYS 'GAPPT'"),
    ],
)
def test_an_image_of_a_frame_that_nobody_knows_is_not_cut(path: Path, cards: dict[str, Any], reason: str) -> None:
    with written(path, **cards).open("rb") as file, pytest.raises(FitsError, match=reason):
        box_around(open_image(file), 188.5, 42.0, 1.0, 1.0, "arcmin")


def test_planes_or_images_become_the_frames_of_an_animation(path: Path, tmp_path: Path) -> None:
    cube = written(path, (5, 16, 16))
    assert Image.open(BytesIO(drawn([cube], frames=3, fps=2))).n_frames == 3
    with fits.open(cube, mode="update") as found:
        found[0].data[0] = np.nan  # a channel at the edge of the band
    assert Image.open(BytesIO(drawn([cube], frames=3, fps=2))).n_frames == 3
    others = [written(tmp_path / f"{number}.fits", CRVAL1=188.5 + number) for number in range(2)]
    broken = tmp_path / "broken.fits"
    broken.write_bytes(others[0].read_bytes()[:-2880])
    assert Image.open(BytesIO(drawn([*others, broken], frames=3, fps=2))).size == (16, 16)
    with pytest.raises(FitsError, match="the header claims"):
        drawn([broken, *others], frames=3, fps=2)


# --- rasters and regions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "yaxis", "ends"),
    [
        (np.arange(101.0), "amp", (1.0, 99.0)),
        (np.arange(101.0), "phase", (-180.0, 180.0)),
        (np.full(9, np.nan), "amp", (0.0, 1.0)),
        (np.full(9, 3.0), "real", (2.5, 3.5)),
    ],
)
def test_the_colours_of_a_raster_span_its_values(values: Any, yaxis: str, ends: tuple[float, float]) -> None:
    assert rasters.limits(values.astype(np.float32), yaxis) == ends


def test_a_raster_is_grey_where_there_is_nothing() -> None:
    values = np.arange(100, dtype=np.float32).reshape(10, 10)
    values[:5] = np.nan
    style = rasters.Style("time", "amp", "viridis", 400, 300)
    picture = rasters.draw(values, np.array([0.0, 9.0]), np.array([0.0, 9.0]), style)
    assert (picture.size, picture.getpixel((150, 60))) == ((400, 300), (96, 96, 96))
    assert picture.getpixel((150, 240)) != (96, 96, 96)


@pytest.mark.parametrize(
    ("last", "labels"), [(0, "0"), (2, "0 1 2"), (9, "0 2 4 7 9"), (4559, "0 1140 2280 3419 4559")]
)
def test_baselines_are_numbered_in_whole_numbers_each_at_its_middle(last: int, labels: str) -> None:
    marks = rasters.ticks(np.array([0.0, last]), counted=True)
    assert [label for _, label in marks] == labels.split()
    assert [share for share, _ in marks] == pytest.approx([(int(n) + 0.5) / (last + 1) for n in labels.split()])


def test_marks_of_a_time_are_evenly_spread() -> None:
    assert rasters.ticks(np.array([0.0, 30.0])) == [(0, "0"), (0.25, "7.5"), (0.5, "15"), (0.75, "22.5"), (1, "30")]


def test_shapes_of_a_text_are_counted_and_a_text_without_any_is_refused() -> None:
    assert region_texts.count('fk5\ncircle(188.5,42.0,10")\ncircle(188.6,42.0,10")\n', "ds9") == 2
    with pytest.raises(ValueError, match="holds no shape in the format ds9"):
        region_texts.count("", "ds9")


def test_a_text_that_is_not_parsed_names_no_shape_that_the_parser_knows() -> None:
    known = {*ds9_params_template, *_CRTFRegionParser.language_spec}
    assert len(known) >= 10
    assert {name for name in known if not SHAPES.search(name)} == set()
