"""Pictures of images: what is drawn where, and what is refused."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from dsa110_contimg.api.batch import colours, fits_file, thumbnails
from dsa110_contimg.api.batch.beam_mark import ellipse
from dsa110_contimg.api.batch.fits_file import FitsError
from dsa110_contimg.api.batch.stretches import curve_for
from dsa110_contimg.api.exceptions import FITSParsingError
from dsa110_contimg.api.file_access import FileStore, OpenFile
from dsa110_contimg.api.picture_wish import COLOUR_MAPS, LARGEST_SIDE, PictureScale, PictureWish
from dsa110_contimg.api.services.limited_child import LimitedChild
from dsa110_contimg.api.services.picture_store import PictureStore
from dsa110_contimg.api.services.thumbnail_service import ThumbnailService
from fixtures.api_world import write_image
from fixtures.disk_calls import disk_calls


def fits_bytes(plane: Any, **header: Any) -> BytesIO:
    unit = fits.PrimaryHDU(plane)
    unit.header.update(header)
    stream = BytesIO()
    unit.writeto(stream)
    stream.seek(0)
    return stream


def test_boxes_are_averaged_over_their_valid_pixels() -> None:
    plane = np.array([[1, 3, np.nan, 8], [5, 7, 8, np.nan]], np.float32)
    assert thumbnails.shrink(plane, 2).tolist() == [[4.0, 8.0]]


def test_a_box_that_is_mostly_blank_stays_blank() -> None:
    plane = np.full((4, 4), np.nan, np.float32)
    plane[0, 0] = 1.0
    small = thumbnails.shrink(plane, 2)
    assert np.isnan(small).all()
    with pytest.raises(FitsError, match="more than half of what each shows is blank; draw it larger"):
        curve_for("linear", small)


def test_a_small_image_is_not_enlarged() -> None:
    assert thumbnails.shrink(np.zeros((3, 5), np.float32), 512).shape == (3, 5)


@pytest.mark.parametrize(
    ("header", "first"),
    [
        ({"CDELT1": -1.0, "CDELT2": 1.0}, [3, 4]),  # the usual: rows from the south, columns from the east
        ({"CDELT1": 1.0, "CDELT2": 1.0}, [4, 3]),
        ({"CDELT1": -1.0, "CDELT2": -1.0}, [1, 2]),
        ({"CD1_1": 1.0, "CD2_2": -1.0}, [2, 1]),
        ({"CDELT1": 1.0, "PC1_1": -1.0, "CDELT2": 1.0}, [3, 4]),
        ({"CDELT1": -1.0, "CDELT2": 1.0, "CROTA2": 180.0}, [2, 1]),  # as AIPS turns an image
        ({"CD1_1": -1.0, "CD2_2": 1.0, "CROTA2": 180.0}, [3, 4]),
        ({}, [3, 4]),
    ],
)
def test_north_is_up_and_east_is_left(header: dict[str, float], first: list[int]) -> None:
    assert thumbnails.north_up(np.array([[1, 2], [3, 4]], np.float32), fits.Header(header))[0].tolist() == first


def test_the_stretch_is_even_for_noise_and_keeps_the_order_of_fluxes() -> None:
    noise = np.random.default_rng(1).normal(5.0, 2.0, (200, 200)).astype(np.float32)
    noise[0, :4] = [10.0, 100.0, 1000.0, np.nan]
    shade = curve_for("asinh", noise)(noise)
    assert np.isnan(shade[0, 3])
    assert np.nanmin(shade) == 0.0
    assert np.nanmax(shade) == 1.0
    assert shade[0, 0] < shade[0, 1] <= shade[0, 2]
    # background b, noise s, top b + 20 s: asinh(2/3) / asinh(22/3); the noise of the median of 40 000 pixels is 1 %
    assert np.nanmedian(shade) == pytest.approx(np.arcsinh(2 / 3) / np.arcsinh(22 / 3), rel=0.03)


@pytest.mark.parametrize("scale", get_args(PictureScale))
def test_every_scale_goes_from_dark_to_light_and_keeps_what_has_no_value(scale: str) -> None:
    plane = np.random.default_rng(1).normal(0.0, 1.0, (50, 50)).astype(np.float32)
    plane[0, 0] = np.nan
    shade = curve_for(scale, plane)(plane)
    assert np.isnan(shade[0, 0])
    assert np.nanmin(shade) == 0.0
    assert 0.5 < np.nanmax(shade) <= 1.000001
    order = np.argsort(plane[1])
    assert (np.diff(shade[1][order]) >= -1e-6).all()
    assert np.isfinite(curve_for(scale, np.ones((4, 4), np.float32))(np.ones((4, 4), np.float32))).all()
    with pytest.raises(FitsError, match="has a value"):
        curve_for(scale, np.full((4, 4), np.nan, np.float32))


def test_a_large_image_read_in_bands_is_the_same_as_one_read_whole() -> None:
    plane = np.random.default_rng(2).normal(0.0, 1.0, (300, 210)).astype(np.float32)
    plane[10:40, 10:40] = np.nan
    image = fits_file.open_image(fits_bytes(plane))
    whole = thumbnails.shrink(plane, 50)
    assert thumbnails.read_small(image, 0, 50) == pytest.approx(whole, abs=2e-6, nan_ok=True)


@pytest.mark.parametrize("kind", ["u1", ">i2", ">i4", ">f8"])
def test_stored_numbers_are_scaled_and_blanks_have_no_value(kind: str) -> None:
    stream = fits_bytes(np.array([[1, 2], [3, 4]], kind))
    image = fits_file.open_image(stream)
    image.header.update({"BSCALE": 2.0, "BZERO": 10.0, **({} if kind == ">f8" else {"BLANK": 3})})
    blank = 16.0 if kind == ">f8" else np.nan
    assert image.rows(0, 0, 2) == pytest.approx(np.array([[12.0, 14.0], [blank, 18.0]]), nan_ok=True)


def test_the_beam_is_turned_from_north_through_east_which_is_left() -> None:
    x, y = ellipse(10.0, 2.0, 30.0)
    far = max(range(len(x)), key=lambda n: -y[n])  # the northernmost point
    assert x[far] < 0
    assert np.hypot(x, y).max() == pytest.approx(5.0)
    assert np.degrees(np.arctan2(-x[0], -y[0])) == pytest.approx(30.0)


def test_the_beam_stands_in_the_lower_left_corner_and_only_when_it_is_known() -> None:
    flat = np.random.default_rng(3).normal(0.0, 1.0, (100, 100)).astype(np.float32)
    known = {"CDELT1": -0.001, "CDELT2": 0.001, "BMAJ": 0.02, "BMIN": 0.01, "BPA": 0.0}
    pictures = []
    for header in (known, {**known, "BMAJ": "wide"}):
        image = fits_file.open_image(fits_bytes(flat, **header))
        pictures.append(np.asarray(thumbnails.render(image, PictureWish(side=100))))
    rows, columns = np.nonzero(pictures[0] != pictures[1])
    assert (rows.max() - rows.min(), columns.max() - columns.min()) == pytest.approx((20, 10), abs=2)
    assert rows.max() >= 94
    assert columns.min() <= 6


def test_lighter_means_brighter_in_even_steps() -> None:
    path = colours.path(255)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert (np.diff(path[:, 0]) > 0).all()
    assert np.ptp(steps) / steps.mean() < 0.01  # 4096 straight pieces stand for the curve
    rgb = colours.linear_rgb(path)
    assert (rgb >= 0).all()
    assert (rgb <= 1).all()


def test_white_black_and_red_are_where_oklab_has_them() -> None:
    # Oklab's published coordinates of sRGB white, black and pure red, to three decimals
    lab = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.628, 0.225, 0.126]])
    assert colours.linear_rgb(lab) == pytest.approx(np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0]]), abs=0.005)


def test_the_picture_uses_the_map_from_dark_to_light() -> None:
    image = fits_file.open_image(fits_bytes(np.eye(8, dtype=np.float32)))
    palette = thumbnails.render(image, PictureWish()).getpalette()
    assert palette is not None
    assert palette[:3] == [96, 96, 96]
    assert palette[3:768] == colours.colour_map(255).ravel().tolist()


@pytest.mark.parametrize("name", COLOUR_MAPS)
def test_every_colour_map_that_is_offered_can_be_drawn(name: str) -> None:
    colours_of = colours.named(name, 255)
    assert colours_of.shape == (255, 3)
    light = colours_of.astype(int).sum(axis=1)
    assert (light[-1] > light[0]) == (name != "gray_r")


def opened(path: Path) -> OpenFile:
    return FileStore([path.parent]).open(str(path))


async def test_a_rendering_that_takes_too_long_is_stopped_and_said(tmp_path: Path) -> None:
    image = tmp_path / "a.fits"
    write_image(image)
    service = ThumbnailService(PictureStore(tmp_path / "pictures"), LimitedChild(time_limit_s=0.02))
    with pytest.raises(FITSParsingError, match=r"after 0\.02 s"):
        await service.picture_of(opened(image), PictureWish())
    assert not (tmp_path / "pictures").exists()


async def test_the_largest_picture_of_an_image_that_is_almost_four_times_as_large_is_drawn(tmp_path: Path) -> None:
    """Of no other image are as many pixels in memory: one of four times the side is averaged in squares as it comes."""
    side, image = 4 * LARGEST_SIDE - 1, tmp_path / "a.fits"
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": side, "NAXIS2": side})
    image.write_text(header.tostring())
    os.truncate(image, (image.stat().st_size + side**2 * 4 + 2879) // 2880 * 2880)  # takes no room on the disk
    service = ThumbnailService(PictureStore(tmp_path / "pictures"), LimitedChild())
    drawn = await service.picture_of(opened(image), PictureWish(side=LARGEST_SIDE))
    assert Image.open(BytesIO(os.pread(drawn.fd, drawn.size_bytes, 0))).size == (LARGEST_SIDE, LARGEST_SIDE)


async def test_a_picture_is_on_the_disk_before_it_has_its_name(tmp_path: Path) -> None:
    async def draw() -> bytes:
        return b"picture"

    store = PictureStore(tmp_path / "pictures")
    with disk_calls() as calls:
        (await store.find("a", "png", draw)).close()
    [picture] = store.directory.iterdir()
    assert calls[0].startswith(f"fsync {picture.name}.partial-")
    assert calls[1:] == ["rename", "fsync pictures"]


async def test_a_picture_that_cannot_be_kept_is_shown_all_the_same(tmp_path: Path) -> None:
    async def draw() -> bytes:
        return b"picture" * 3

    (tmp_path / "state").write_text("no directory")
    store = PictureStore(tmp_path / "state" / "pictures")
    for _ in range(2):
        shown = await store.find("a", "png", draw)
        assert (os.pread(shown.fd, 99, 0), shown.size_bytes) == (b"picture" * 3, 21)
        assert shown.tag == '"e87f350712804cc97767304c"'
        shown.close()
    (tmp_path / "state").unlink()
    (await store.find("a", "png", draw)).close()
    assert [path.read_bytes() for path in store.directory.iterdir()] == [b"picture" * 3]


@pytest.mark.slow
async def test_the_oldest_pictures_go_when_there_are_too_many(tmp_path: Path) -> None:
    image = tmp_path / "a.fits"
    write_image(image)
    service = ThumbnailService(PictureStore(tmp_path / "pictures", most_kept=2), LimitedChild())
    for side in (32, 40, 48):
        (await service.picture_of(opened(image), PictureWish(side=side))).close()
    assert len(list((tmp_path / "pictures").iterdir())) == 2
