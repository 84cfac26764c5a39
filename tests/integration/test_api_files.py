"""Files and pictures over HTTP: whole, in ranges, by tag; never from outside the data directories."""

import asyncio
import logging
import re
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from dsa110_contimg.api import schemas
from fixtures.api_server import Served
from fixtures.api_world import write_image

# --- files ----------------------------------------------------------------------------------------------------------

FITS = "/api/v1/images/{image}/fits"


async def test_the_fits_file_is_served_whole_with_its_name_and_tag(api: Served) -> None:
    reply = await api.get(FITS)
    assert reply.content == api.image.read_bytes()
    assert reply.headers["content-type"] == "application/fits"
    assert reply.headers["accept-ranges"] == "bytes"
    name = quote(api.image.name)
    assert reply.headers["content-disposition"] == f"attachment; filename*=utf-8''{name}"
    assert re.fullmatch(r'"[0-9a-f-]+"', reply.headers["etag"])


@pytest.mark.parametrize(
    ("asked", "first", "last"), [("bytes=0-9", 0, 9), ("bytes=80-", 80, None), ("bytes=-80", -80, None)]
)
async def test_a_range_of_the_file_is_served(small: Served, asked: str, first: int, last: int | None) -> None:
    whole = small.image.read_bytes()
    reply = await small.get(FITS, range=asked)
    wanted = whole[first : None if last is None else last + 1]
    assert (reply.status_code, reply.content) == (206, wanted)
    start = first % len(whole)
    assert reply.headers["content-range"] == f"bytes {start}-{start + len(wanted) - 1}/{len(whole)}"
    assert reply.headers["content-length"] == str(len(wanted))


async def test_a_range_behind_the_end_is_416(small: Served) -> None:
    size = small.image.stat().st_size
    for asked in (f"bytes={size}-", f"bytes={size + 5}-{size + 9}", "bytes=-0"):
        reply = await small.get(FITS, range=asked)
        assert (reply.status_code, reply.headers["content-range"]) == (416, f"bytes */{size}")
        assert schemas.ErrorBody.model_validate(reply.json()).code == "RANGE_NOT_SATISFIABLE"


@pytest.mark.parametrize("odd", ["bytes=9-3", "bytes=a-b", "lines=0-1", "bytes=0-0,2-3", "bytes=-", "0-9"])
async def test_an_odd_range_gives_the_whole_file(small: Served, odd: str) -> None:
    reply = await small.get(FITS, range=odd)
    assert (reply.status_code, len(reply.content)) == (200, small.image.stat().st_size)


async def test_a_client_that_has_the_file_gets_304(own: Served) -> None:
    tag = (await own.get(FITS)).headers["etag"]
    again = await own.get(FITS, if_none_match=tag)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    write_image(own.image, side=32)
    assert (await own.get(FITS, if_none_match=tag)).status_code == 200


async def test_a_range_of_a_file_that_has_changed_is_not_given(small: Served) -> None:
    tag = (await small.get(FITS)).headers["etag"]
    assert (await small.get(FITS, range="bytes=0-9", if_range=tag)).status_code == 206
    assert (await small.get(FITS, range="bytes=0-9", if_range='"other"')).status_code == 200


async def test_a_missing_file_is_404_by_name_and_the_log_has_its_whole_path(
    own: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    own.image.unlink()
    for kind in ("fits", "thumbnail", "png", "cutout?ra=1&dec=1", "animation", "header", "statistics", "slice"):
        reply = await own.get(f"/api/v1/images/1/{kind}")
        assert (reply.status_code, reply.json()["error"]) == (404, "FILE_NOT_ACCESSIBLE")
        assert reply.json()["details"]["path"] == f"images/{own.image.name}"
        assert f"Cannot open {own.world.image_path}: " in caplog.text
        caplog.clear()


async def test_a_link_to_a_file_outside_is_not_followed(own: Served, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    image = own.image
    image.unlink()
    image.symlink_to(secret)
    assert (await own.get(FITS)).status_code == 404
    image.unlink()
    image.parent.rename(image.parent.with_name("moved"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / image.name).write_text("secret")
    image.parent.symlink_to(outside)
    assert (await own.get(FITS)).status_code == 404


async def test_a_directory_is_served_by_the_fits_file_beside_it(own: Served) -> None:
    image = own.image
    image.unlink()
    image.mkdir()
    assert (await own.get(FITS)).status_code == 404


# --- pictures -------------------------------------------------------------------------------------------------------


async def test_the_thumbnail_is_a_png_with_north_up_and_east_left(small: Served) -> None:
    reply = await small.get("/api/v1/images/{image}/thumbnail")
    assert reply.headers["content-type"] == "image/png"
    picture = Image.open(BytesIO(reply.content))
    assert picture.size == (64, 64)
    light = picture.convert("L")
    brightest = max((light.getpixel((x, y)), x, y) for x in range(64) for y in range(50))
    assert brightest[1:] == (8, 7)  # the source at column 8, row 56 of 64 counted from the south
    alpha = picture.convert("RGBA").getchannel("A")
    assert (alpha.getpixel((0, 63)), alpha.getpixel((32, 32))) == (0, 255)  # the blank corner of the south-east


async def test_the_thumbnail_is_made_once_and_again_when_the_image_changes(own: Served) -> None:
    tags = {(await own.get("/api/v1/images/1/thumbnail")).headers["etag"] for _ in range(3)}
    directory = own.world.config.paths.state_dir / "thumbnails"
    assert (len(tags), len(list(directory.iterdir()))) == (1, 1)
    write_image(own.image, side=32)
    assert Image.open(BytesIO((await own.get("/api/v1/images/1/thumbnail")).content)).size == (32, 32)


async def test_many_askers_share_one_rendering(own: Served) -> None:
    replies = await asyncio.gather(*(own.get("/api/v1/images/1/thumbnail") for _ in range(8)))
    assert {reply.status_code for reply in replies} == {200}
    assert len(list((own.world.config.paths.state_dir / "thumbnails").iterdir())) == 1


async def test_a_file_that_is_no_image_gives_an_error_not_a_dead_service(own: Served) -> None:
    own.image.write_bytes(b"SIMPLE  =                    T" + b" " * 5000)
    reply = await own.get("/api/v1/images/1/thumbnail")
    assert (reply.status_code, reply.json()["error"]) == (422, "FITS_PARSING_ERROR")
    assert (await own.get("/api/v1/health")).status_code == 200
