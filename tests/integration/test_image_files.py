"""Pictures, parts, archives and reports of images over HTTP, also of files that are broken or hostile."""

import gc
import io
import os
import resource
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image

from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.batch.cutouts import cut
from dsa110_contimg.api.batch.fits_file import Box, FitsImage, open_image
from dsa110_contimg.api.batch.fits_reports import header_report
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.interfaces import ImageRecord, Recording
from fixtures.api_server import Served
from fixtures.api_world import CREATED_AT, RUN_ID, write_image
from fixtures.hostile_fits import BROKEN, NOWHERE, PARTLY, UNREADABLE
from fixtures.live_api import add_keys

BASE = "/api/v1/images/1"


# --- pictures and parts -------------------------------------------------------------------------------------------


async def test_a_thumbnail_has_the_size_that_is_asked_for(small: Served) -> None:
    for size in (48,):
        reply = await small.get(f"{BASE}/thumbnail?size={size}")
        assert Image.open(io.BytesIO(reply.content)).size == (size, size)
    for size in (31, 2049):
        assert (await small.get(f"{BASE}/thumbnail?size={size}")).status_code == 422


async def test_a_picture_is_drawn_in_the_wanted_colours_and_scale(small: Served) -> None:
    drawn = set()
    for wish in ("", "?colormap=viridis&scale=zscale"):
        reply = await small.get(f"{BASE}/png{wish}")
        assert reply.headers["content-type"] == "image/png"
        drawn.add(reply.content)
    assert len(drawn) == 2
    for wrong in ("?scale=cubic", "?colormap=jet"):
        assert (await small.get(f"{BASE}/png{wrong}")).status_code == 422, wrong


async def test_a_cutout_has_the_right_coordinates_and_pixels(small: Served) -> None:
    whole = fits.getdata(small.image)[0, 0]
    ra, dec = WCS(fits.getheader(small.image)).celestial.pixel_to_world_values(8, 56)
    reply = await small.get(f"{BASE}/cutout?ra={ra}&dec={dec}&width=9&height=5&unit=pixel")
    assert reply.headers["content-type"] == "application/fits"
    with fits.open(io.BytesIO(reply.content)) as [unit]:
        assert unit.data.shape == (1, 1, 5, 9)
        assert unit.data[0, 0].tolist() == whole[54:59, 4:13].tolist()
        assert WCS(unit.header).celestial.world_to_pixel_values(ra, dec) == pytest.approx((4, 2), abs=1e-6)
        assert unit.header["BMAJ"] == 0.004
    assert reply.headers["etag"].startswith('"')
    by_angle = await small.get(f"{BASE}/cutout?ra={ra}&dec={dec}&width=32.4&height=0.3&unit=arcsec&format=png")
    assert Image.open(io.BytesIO(by_angle.content)).size == (9, 1)


@pytest.mark.parametrize("place", [(8.3, 55.8), (-0.4, 0.4), (62.6, 63.4)])
async def test_a_cutout_of_one_pixel_is_the_pixel_of_the_position(small: Served, place: tuple[float, float]) -> None:
    whole, column, row = fits.getdata(small.image)[0, 0], round(place[0]), round(place[1])
    ra, dec = WCS(fits.getheader(small.image)).celestial.pixel_to_world_values(*place)
    for width, height in ((1, 1), (5, 3)):
        reply = await small.get(f"{BASE}/cutout?ra={ra}&dec={dec}&width={width}&height={height}&unit=pixel")
        with fits.open(io.BytesIO(reply.content)) as [unit]:
            first_column, first_row = max(0, column - width // 2), max(0, row - height // 2)
            expected = whole[first_row : row + height // 2 + 1, first_column : column + width // 2 + 1]
            assert np.array_equal(unit.data[0, 0], expected, equal_nan=True)


def test_a_cutout_says_nothing_of_the_whole_image_and_all_its_coordinates_are_right() -> None:
    unit = fits.PrimaryHDU(np.arange(64, dtype=np.float32).reshape(8, 8))
    unit.header.update({"DATAMIN": 0.0, "DATAMAX": 63.0, "WCSAXESB": 2, "CRPIX1B": 3.0, "CRPIX2B": 4.0})
    unit.header.update({"CTYPE1B": "DETX", "CTYPE2B": "DETY", "CDELT1B": 0.5, "CRVAL1B": 10.0})
    header = fits.getheader(io.BytesIO(cut(open_image_of(unit), Box(2, 1, 6, 5), 0)))
    assert not {"DATAMIN", "DATAMAX"} & set(header)
    of_all, of_part = (WCS(one, key="B").pixel_to_world_values for one in (unit.header, header))
    assert np.array(of_part(0, 0)).tolist() == np.array(of_all(2, 1)).tolist()


def open_image_of(unit: fits.PrimaryHDU) -> FitsImage:
    file = io.BytesIO()
    unit.writeto(file)
    return open_image(file)


@pytest.mark.parametrize(("form", "known"), [("jpg", "JPEG"), ("webp", "WEBP")])
async def test_a_cutout_comes_as_a_picture_too(small: Served, form: str, known: str) -> None:
    reply = await small.get(f"{BASE}/cutout?ra=188.5&dec=0&width=1&height=1&unit=arcmin&format={form}")
    assert Image.open(io.BytesIO(reply.content)).format == known


@pytest.mark.parametrize(
    "question",
    ["ra=10&dec=0", "ra=8.5&dec=0", "ra=nan&dec=0", "ra=188.5&dec=91", "ra=188.5", "ra=188.5&dec=0&width=0"],
)
async def test_a_cutout_that_cannot_be_is_422(small: Served, question: str) -> None:
    assert (await small.get(f"{BASE}/cutout?{question}")).status_code == 422


async def test_who_asks_for_a_place_outside_an_image_hears_that_and_not_that_the_file_is_damaged(small: Served) -> None:
    told = (await small.get(f"{BASE}/cutout?ra=8.5&dec=0")).json()
    assert "not on this side of the sky" in told["message"]
    assert told["action"].startswith("Ask for what the image holds")


@pytest.mark.parametrize(("wrong", "says"), [("unit=parsec", "arcsec, arcmin, pixel"), ("format=bmp", "fits, png")])
async def test_a_cutout_of_an_unknown_unit_or_format_is_400(small: Served, wrong: str, says: str) -> None:
    reply = await small.get(f"{BASE}/cutout?ra=188.5&dec=0&{wrong}")
    assert (reply.status_code, reply.json()["details"]["field"]) == (400, wrong.partition("=")[0])
    assert says in reply.json()["message"]


async def test_a_cube_is_shown_plane_by_plane(own: Served) -> None:
    planes = np.zeros((6, 32, 32), np.float32)
    for number in range(6):
        planes[number, 4 * number, 4 * number] = 1.0
    fits.PrimaryHDU(planes).writeto(own.image, overwrite=True)
    reply = await own.get(f"{BASE}/animation?frames=3&fps=5")
    movie = Image.open(io.BytesIO(reply.content))
    assert (reply.headers["content-type"], movie.n_frames, movie.info["duration"]) == ("image/gif", 3, 200)
    assert (await own.get(f"{BASE}/animation?frames=51")).status_code == 422


async def test_an_animation_of_one_plane_is_of_one_frame(small: Served) -> None:
    reply = await small.get(f"{BASE}/animation")
    assert Image.open(io.BytesIO(reply.content)).n_frames == 1
    assert reply.headers["etag"].startswith('"')


async def test_an_image_is_shown_in_turn_with_those_that_have_its_pixels_only(own: Served) -> None:
    """A version of another size or cell was drawn over the same frame: nothing was where it had been before."""
    images = Path(own.world.image_path).parent
    like = ImageRecord(
        "", own.world.ms_path, RUN_ID, "image", CREATED_AT, center_ra_deg=188.5, center_dec_deg=0.0, imsize_x=64,
        imsize_y=64, cellsize_arcsec=2.5,
    )  # fmt: skip
    others = [like, like, replace(like, imsize_x=128, imsize_y=128), replace(like, cellsize_arcsec=1.25)]
    async with open_database(own.world.config.database) as adapter:
        for number, other in enumerate(others):
            path = images / f"{number}.fits"
            write_image(path)
            with fits.open(path, mode="update") as file:  # equal frames would be one
                file[0].data = np.roll(file[0].data, number)
            await AsyncProductRecorder(adapter).record(Recording(image=replace(other, path=str(path))))
    newest_first = (await own.json("/api/v1/images"))[:4]
    frames = {
        Path(row["path"]).name: Image.open(
            io.BytesIO((await own.get(f"/api/v1/images/{row['id']}/animation")).content)
        ).n_frames
        for row in newest_first
    }
    assert frames == {"0.fits": 2, "1.fits": 2, "2.fits": 1, "3.fits": 1}


# --- what the file says -------------------------------------------------------------------------------------------


async def test_the_header_tells_beam_frequency_and_unit(api: Served) -> None:
    told = await api.json(f"{BASE}/header")
    assert told["beam"] == {"major_arcsec": pytest.approx(14.4), "minor_arcsec": pytest.approx(10.8), "pa_deg": 30.0}
    assert (told["frequency_hz"], told["unit"], told["stokes"]) == (1.4e9, "JY/BEAM", ["I"])
    assert [axis["length"] for axis in told["axes"]] == [64, 64, 1, 1]
    assert told["cards"]["CTYPE1"] == "RA---SIN"


@pytest.mark.parametrize(
    ("cards", "frequency_hz"),
    [
        ({"CTYPE3": "FREQ", "CUNIT3": "GHz", "CRVAL3": 1.4, "CRPIX3": 1.0, "CDELT3": 0.1}, 1.5e9),  # 3 planes
        ({"CTYPE3": "VRAD", "CRVAL3": 0.0, "CRPIX3": 2.0, "CDELT3": 1e3, "RESTFRQ": 1.42e9}, 1.42e9),
        ({"CTYPE3": "WAVE", "CRVAL3": 0.2, "CRPIX3": 2.0, "CDELT3": 0.01}, 299792458.0 / 0.2),
        ({"CTYPE3": "VELO-LSR", "CRVAL3": 1e7, "CRPIX3": 2.0, "RESTFRQ": 1.42e9}, 1373398166.9),  # as WCSLIB has it
        ({"CTYPE3": "BETA", "CRVAL3": 0.1, "CRPIX3": 2.0, "RESTFRQ": 1.42e9}, 1.42e9 * (0.9 / 1.1) ** 0.5),
        ({"CTYPE3": "ZOPT", "CRVAL3": 0.1, "CRPIX3": 2.0, "RESTFRQ": 1.42e9}, 1.42e9 / 1.1),
        ({"CTYPE3": "WAVN", "CRVAL3": 5.0, "CRPIX3": 2.0}, 5.0 * 299792458.0),
        ({"CTYPE3": "BETA", "CRVAL3": -1.5, "CRPIX3": 2.0, "RESTFRQ": 1.42e9}, None),
        ({"CTYPE3": "WAVE", "CRVAL3": 0.0, "CRPIX3": 2.0}, None),
        ({"RESTFREQ": 1.4e9}, 1.4e9),
        ({"CTYPE3": "VOPT", "CRVAL3": 0.0, "CRPIX3": 2.0}, None),
        ({}, None),
    ],
)
def test_the_frequency_follows_from_the_spectral_axis(cards: dict[str, object], frequency_hz: float | None) -> None:
    unit = fits.PrimaryHDU(np.zeros((3, 8, 8), np.float32))
    unit.header.update(cards)
    unit.header["HISTORY"] = "AIPS   CLEAN BMAJ=  1.0000E-03 BMIN=  5.0000E-04 BPA=  12.00"
    told = header_report(open_image_of(unit))
    assert told["frequency_hz"] == (None if frequency_hz is None else pytest.approx(frequency_hz))
    assert told["beam"] == {"major_arcsec": pytest.approx(3.6), "minor_arcsec": pytest.approx(1.8), "pa_deg": 12.0}


async def test_the_statistics_are_those_of_the_values(small: Served) -> None:
    told = await small.json(f"{BASE}/statistics")
    values = fits.getdata(small.image).astype(np.float64)
    assert (told["n_pixels"], told["n_valid"], told["max"]) == (4096, 4080, 1.0)
    assert told["mean"] == pytest.approx(np.nanmean(values))
    assert told["std"] == pytest.approx(np.nanstd(values))
    assert told["noise"] == pytest.approx(1e-3, rel=0.1)
    assert (await small.get(f"{BASE}/statistics?plane=1")).status_code == 422


async def test_a_slice_has_the_pixels_and_null_for_what_has_no_value(small: Served) -> None:
    told = await small.json(f"{BASE}/slice?x=2&y=3&width=3&height=2")
    values = fits.getdata(small.image)[0, 0, 3:5, 2:5]
    assert told["values"][0][:2] == [None, None]
    assert told["values"][1] == pytest.approx(values[1].tolist())
    assert (await small.get(f"{BASE}/slice?x=60&width=5")).status_code == 422


async def test_a_good_file_is_valid_and_the_faults_of_another_are_told(own: Served) -> None:
    assert (await own.json(f"{BASE}/validation"))["problems"] == []
    unit = fits.PrimaryHDU(np.zeros((2, 4, 8, 8), np.float32))
    unit.header.update({"BUNIT": "furlong?", "BMAJ": -1.0, "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CDELT1": 0.0})
    unit.writeto(own.image, overwrite=True)
    with own.image.open("ab") as file:
        file.write(b"x")
    told = await own.json(f"{BASE}/validation")
    assert (told["valid"], told["shape"]) == (False, [2, 4, 8, 8])
    for word in ("multiple of 2880", "coordinates", "BUNIT", "beam"):
        assert any(word in problem for problem in told["problems"]), (word, told)


async def test_what_a_library_prints_about_a_file_is_no_part_of_a_reply(own: Served) -> None:
    """Of a distortion that CTYPE does not name, astropy tells on standard output."""
    with fits.open(own.image, mode="update") as found:
        found[0].header.update({"A_ORDER": 2, "B_ORDER": 2})
    assert (await own.json(f"{BASE}/validation"))["valid"]
    part = await own.get(f"{BASE}/cutout?ra=188.5&dec=0&width=4&height=4&unit=pixel")
    assert (part.status_code, part.content[:9]) == (200, b"SIMPLE  =")
    outside = await own.get(f"{BASE}/cutout?ra=188.5&dec=1")
    assert outside.json()["message"].endswith("the position 188.5, 1 deg lies outside the image")


# --- archives -----------------------------------------------------------------------------------------------------


async def test_an_archive_holds_the_files_and_tells_what_is_missing(api: Served) -> None:
    assert api.route == ""
    reply = await api.get("/api/images/bulk-download?ids=1,99,nonsense&format=zip")
    assert api.route.endswith("/images/bulk-download")  # not an image of that id
    assert (reply.headers["content-type"], reply.headers["x-not-included"]) == ("application/zip", "99,nonsense")
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {api.image.name: api.image.read_bytes()}
    odd = await api.get("/api/images/bulk-download?ids=1,a%1F%0D%0AX-Evil:%201,%C3%92&format=zip")
    assert odd.headers["x-not-included"] == "a%1F%0D%0AX-Evil:%201,%C3%92", "whatever was asked for stays one header"
    reply = await api.get("/api/v1/images/bulk-download?ids=1&format=tar")
    with tarfile.open(fileobj=io.BytesIO(reply.content), mode="r:gz") as archive:
        [entry] = archive.getmembers()
        member = archive.extractfile(entry)
        assert member is not None
        assert (entry.name, member.read()) == (api.image.name, api.image.read_bytes())


async def test_a_long_list_is_asked_for_in_a_body_with_a_key(own: Served) -> None:
    key = {"X-API-Key": (await add_keys(own.world.config))["read"]}
    for form, media_type in (("tar", "application/gzip"), ("zip", "application/zip")):
        body = {"image_ids": ["1", "99"], "format": form}
        reply = await own.client.post("/api/v1/images/bulk-download", json=body, headers=key)
        assert (reply.status_code, reply.headers["content-type"]) == (200, media_type)
        assert reply.headers["x-not-included"] == "99"
        assert reply.headers["content-disposition"].startswith("attachment")
        assert len(reply.content) > 1000
    reply = await own.client.post("/api/v1/images/bulk-download", json={"image_ids": ["1"]})
    assert (reply.status_code, reply.json()["message"]) == (401, "This needs an API key.")


@pytest.mark.parametrize("modified_s", [0.0, 1.0e10])  # 1970 and 2286; dates of zip go from 1980 to 2107
async def test_a_file_of_a_date_that_zip_has_not_is_archived(own: Served, modified_s: float) -> None:
    os.utime(own.image, (modified_s, modified_s))
    reply = await own.get("/api/images/bulk-download?ids=1")
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        assert archive.read(own.image.name) == own.image.read_bytes()


async def test_an_archive_of_nothing_is_refused(small: Served) -> None:
    assert (await small.get("/api/v1/images/bulk-download?ids=99")).status_code == 404
    assert (await small.get("/api/v1/images/bulk-download?ids=,")).status_code == 400
    assert (await small.get("/api/v1/images/bulk-download?ids=" + "1," * 101)).status_code == 400
    assert (await small.get("/api/v1/images/bulk-download?ids=1&format=rar")).status_code == 422
    body = {"image_ids": ["1"], "format": "zip"}
    assert (await small.client.post("/api/v1/images/bulk-download", json=body)).status_code == 401


def left_behind(state: Path) -> tuple[set[str], int]:
    gc.collect()  # what tests before this one have lost is not closed meanwhile
    return {path.name for path in state.rglob("*")}, len(list(Path("/proc/self/fd").iterdir()))


async def test_archives_and_parts_leave_no_file_and_no_descriptor_behind(own: Served) -> None:
    state = own.world.config.paths.state_dir
    await own.get("/api/v1/images/bulk-download?ids=1")
    await own.get(f"{BASE}/cutout?ra=188.5&dec=0")
    before = left_behind(state)
    for address in ("bulk-download?ids=1", "bulk-download?ids=1&format=tar", "1/cutout?ra=188.5&dec=0"):
        await own.get(f"/api/v1/images/{address}")
        await own.client.head(f"/api/v1/images/{address}")
    assert left_behind(state) == before


# --- directories of CASA ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("directory", "sibling"), [("a.img.pbcor", "a.img.pbcor.fits"), ("a.img.image", "a.img.fits")])
async def test_a_directory_of_casa_is_served_by_the_fits_file_beside_it(
    own: Served, directory: str, sibling: str
) -> None:
    own.image.with_name(directory).mkdir()
    write_image(own.image.with_name(sibling), side=32)
    path, world = str(own.image.with_name(directory)), own.world
    async with open_database(world.config.database, world.config.timeouts) as adapter:
        record = ImageRecord(path, world.ms_path, RUN_ID, "image", CREATED_AT, format="casa")
        await AsyncProductRecorder(adapter).record(Recording(image=record))
    assert (await own.get("/api/v1/images/2/fits")).content == own.image.with_name(sibling).read_bytes()
    picture = await own.get("/api/v1/images/2/thumbnail")
    assert Image.open(io.BytesIO(picture.content)).size == (32, 32)


# --- clients that leave -------------------------------------------------------------------------------------------


async def status_for_one_who_left(api: Served, address: str) -> int:
    """Ask, and be gone before there is a reply; return the status that was written down."""
    path, _, query = address.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "server": ("localhost", 80),
    }  # fmt: skip
    heard = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"", "more_body": False}]
    said = []

    async def receive() -> dict[str, Any]:
        return heard.pop() if len(heard) > 1 else heard[0]

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await api.app(scope, receive, send)
    status: int = said[0]["status"]
    return status


async def test_what_is_made_for_one_client_is_not_made_when_that_one_has_left(small: Served) -> None:
    for_one = ("cutout?ra=188.5&dec=0", "animation", "header", "validation", "statistics", "slice")
    antennas = small.address("/api/v1/ms/{ms}/antennas")
    asked = [*(f"{BASE}/{reader}" for reader in for_one), antennas]
    assert [await status_for_one_who_left(small, address) for address in asked] == [499] * len(asked)


async def test_a_picture_is_kept_for_others_when_the_one_who_asked_has_left(small: Served) -> None:
    kept = small.app.state.services.image_files.thumbnails.store.directory
    assert await status_for_one_who_left(small, f"{BASE}/thumbnail?size=33") == 200
    assert any(Image.open(picture).size == (33, 33) for picture in kept.iterdir())


# --- hostile files ------------------------------------------------------------------------------------------------


READERS = ("cutout?ra=1&dec=1", "header", "thumbnail", "statistics")


async def refused(own: Served, content: bytes, reader: str) -> None:
    own.image.write_bytes(content)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reply = await own.get(f"{BASE}/{reader}")
    assert (reply.status_code, reply.json()["error"]) == (422, "FITS_PARSING_ERROR"), (reader, reply.text)
    assert (await own.get(f"{BASE}/fits")).content == content
    assert (await own.get("/api/v1/health")).status_code == 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 128 << 10


@pytest.mark.parametrize(
    ("content", "reader"),
    [
        (UNREADABLE["gzip bomb"], "thumbnail"),
        (UNREADABLE["10^12 pixels"], "statistics"),
        (BROKEN["NaN in the coordinates"], "cutout?ra=1&dec=1"),
        (NOWHERE["distortion of order 6,000"], "cutout?ra=1&dec=1"),
        (PARTLY["a scale that is text"], "animation"),
    ],
)
async def test_a_hostile_file_is_refused_and_the_service_lives(own: Served, content: bytes, reader: str) -> None:
    await refused(own, content, reader)


@pytest.mark.slow
async def test_every_hostile_file_is_refused_by_the_service(own: Served) -> None:
    for number, content in enumerate(UNREADABLE.values()):
        await refused(own, content, READERS[number % len(READERS)])
    for content in NOWHERE.values():
        await refused(own, content, READERS[0])


async def test_what_is_no_file_or_lies_outside_is_not_found(own: Served, tmp_path: Path) -> None:
    image = own.image
    outside = tmp_path / "outside.fits"
    image.rename(outside)

    async def not_found() -> None:
        for reader in (*READERS, "fits", "png", "slice", "validation", "animation"):
            assert (await own.get(f"{BASE}/{reader}")).status_code == 404, reader
        assert (await own.get("/api/v1/images/bulk-download?ids=1")).status_code == 404

    image.symlink_to(outside)
    await not_found()
    image.unlink()
    image.mkdir()
    await not_found()
    image.rmdir()
    os.mkfifo(image)
    await not_found()


@pytest.mark.parametrize("image_id", ["99", "0", "-1", str(2**63), "9" * 50, "%31%00", "1.0", "abc", "..%2F1"])
async def test_an_id_of_no_image_is_not_found(small: Served, image_id: str) -> None:
    for reader in ("fits", "thumbnail", "header"):
        reply = await small.client.get(f"/api/v1/images/{image_id}/{reader}")
        assert reply.status_code in (400, 404), (image_id, reader, reply.text)
