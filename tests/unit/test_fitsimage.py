"""FITS images as they are written and read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.fitsimage import ImageGeometry, celestial_wcs, read_image, write_image
from dsa110_contimg.pipeline.skymodel import direction_cosines

GEOMETRY = ImageGeometry(64, 6 / 3600, 24.42, 33.15, 1.405e9, 187.5e6, 61065.05, 309.24)
PIXELS = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
CARDS = {"OBJECT": "3C48", "BMAJ": 0.02, "BMIN": 0.01, "BPA": 30.0, "CONVERGD": True, "NITER": 111}


def test_an_image_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "images" / "a.fits"
    write_image(path, PIXELS, GEOMETRY, CARDS)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, PIXELS)
    assert {key: image.header[key] for key in CARDS} == CARDS
    assert [entry.name for entry in path.parent.iterdir()] == ["a.fits"]


def test_the_header_is_what_astronomers_expect(tmp_path: Path) -> None:
    write_image(tmp_path / "a.fits", PIXELS, GEOMETRY, CARDS)
    header = fits.getheader(tmp_path / "a.fits")
    assert [header[f"CTYPE{axis}"] for axis in (1, 2, 3, 4)] == ["RA---SIN", "DEC--SIN", "FREQ", "STOKES"]
    assert (header["BUNIT"], header["BTYPE"], header["RADESYS"]) == ("JY/BEAM", "Intensity", "ICRS")
    assert (header["CRPIX1"], header["CRVAL3"], header["CDELT3"]) == (33, 1.405e9, 187.5e6)
    assert header["CDELT1"] < 0 < header["CDELT2"]
    assert header["DATE-OBS"].startswith("2026-01-25T01:12:00")
    assert header["MJD-AVG"] == pytest.approx(61065.05 + 309.24 / 2 / 86400)
    assert WCS(header).celestial.wcs.radesys == "ICRS"


@given(st.floats(0, 360), st.floats(-80, 89), st.floats(-30, 30), st.floats(-30, 30))
def test_pixels_are_direction_cosines_west_to_the_right_and_north_up(
    ra_deg: float, dec_deg: float, west: float, north: float
) -> None:
    """The link between gridding and the sky: x - n/2 = -l / cell and y - n/2 = m / cell, to 1e-4 pixels."""
    wcs = celestial_wcs(replace(GEOMETRY, center_ra_deg=ra_deg, center_dec_deg=dec_deg))
    place_deg = wcs.pixel_to_world_values(32 + west, 32 + north)
    lmn = direction_cosines(*np.radians(place_deg), np.radians(ra_deg), np.radians(dec_deg))
    np.testing.assert_allclose(lmn[:2] / np.radians(GEOMETRY.cell_deg), [-west, north], atol=1e-4)


def test_a_truncated_image_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    write_image(path, PIXELS, GEOMETRY, CARDS)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadInputError, match=r"a\.fits cannot be read as FITS"):
        read_image(path)


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros(5, np.float32)).writeto(tmp_path / "line.fits")
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    for name in ("line.fits", "empty.fits"):
        with pytest.raises(BadInputError, match=rf"{name} holds no image"):
            read_image(tmp_path / name)
    with pytest.raises(BadInputError, match=r"absent\.fits cannot be read"):
        read_image(tmp_path / "absent.fits")
