"""What is inside a Measurement Set, over HTTP: archive, antennas, pictures."""

import asyncio
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from casacore.tables import table
from PIL import Image

from dsa110_contimg.api.exceptions import FileNotAccessibleError
from dsa110_contimg.api.file_access import FileStore
from dsa110_contimg.api.file_trees import TarReply, list_tree
from dsa110_contimg.pipeline.ms_raster import XAXES, RasterRequest, raster
from fixtures.api_server import Served
from fixtures.api_world import GROUP_ID
from fixtures.measurement_sets import ABSENT, CHANNELS, DEAD, HALF_FLAGGED, TIMES, write_ms


def snapshot(directory: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(directory.rglob("*"))}


def files_in(directory: Path) -> set[str]:
    return {str(path.relative_to(directory.parent)) for path in directory.rglob("*") if path.is_file()}


def link(path: str, target: Path | str) -> None:
    Path(path).symlink_to(target)


def hold_lock(path: str) -> "subprocess.Popen[str]":
    """Start a process that holds the writer's lock of a table until its input ends."""
    code = (
        "import sys; from casacore.tables import table; t = table(sys.argv[1], readonly=False, ack=False, "
        "lockoptions='permanent'); print('held', flush=True); sys.stdin.read()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline().strip() == "held"
    return writer


# --- archive --------------------------------------------------------------------------------------------------------


async def test_the_archive_holds_every_file_as_it_is_and_its_length_is_known_before(small: Served) -> None:
    reply = await small.get("/api/v1/ms/{ms}/download")
    assert reply.status_code == 200
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert reply.headers["content-disposition"] == f"attachment; filename*=utf-8''{GROUP_ID.replace(':', '%3A')}.ms.tar"
    root = Path(small.world.ms_path)
    with tarfile.open(fileobj=io.BytesIO(reply.content)) as archive:
        names = {member.name for member in archive if member.isfile()}
        for member in archive:
            if member.isfile():
                held = archive.extractfile(member)
                assert held is not None
                assert held.read() == (root.parent / member.name).read_bytes()
    assert names == files_in(root)


async def test_the_archive_leaves_nothing_behind_and_a_client_that_has_it_gets_nothing(small: Served) -> None:
    before = snapshot(small.world.config.paths.state_dir)
    first = await small.get("/api/v1/ms/{ms}/download")
    again = await small.get("/api/v1/ms/{ms}/download", if_none_match=first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    after = snapshot(small.world.config.paths.state_dir)
    assert {name for name in after if "sqlite3" not in name} == {name for name in before if "sqlite3" not in name}


async def test_head_tells_the_length_without_the_archive(small: Served) -> None:
    reply = await small.client.head(small.address("/api/v1/ms/{ms}/download"))
    assert reply.status_code == 200
    assert int(reply.headers["content-length"]) > 10_000
    assert reply.content == b""


async def test_a_measurement_set_with_a_link_in_it_is_not_served(own: Served) -> None:
    link(f"{own.world.ms_path}/table.f99", "/etc/passwd")
    for what in ("download", "antennas", "raster"):
        reply = await own.get("/api/v1/ms/{ms}/" + what)
        assert (reply.status_code, reply.json()["error"]) == (404, "FILE_NOT_ACCESSIBLE")


async def test_a_measurement_set_behind_a_link_or_outside_the_roots_is_not_served(own: Served, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.ms"
    shutil.move(own.world.ms_path, elsewhere)
    link(own.world.ms_path, elsewhere)
    for what in ("download", "antennas", "raster"):
        assert (await own.get("/api/v1/ms/{ms}/" + what)).status_code == 404


async def test_a_measurement_set_whose_files_are_gone_is_not_found_but_known(own: Served) -> None:
    shutil.rmtree(own.world.ms_path)
    reply = await own.get("/api/v1/ms/{ms}/download")
    assert (reply.status_code, reply.json()["error"]) == (404, "FILE_NOT_ACCESSIBLE")
    assert reply.json()["details"]["path"] == f"ms/{Path(own.world.ms_path).name}"
    assert (await own.get("/api/v1/ms/{ms}")).status_code == 200


async def test_a_file_that_shrinks_while_it_is_sent_breaks_the_reply(tmp_path: Path) -> None:
    (tmp_path / "x.ms").mkdir()
    (tmp_path / "x.ms" / "table.f0").write_bytes(bytes(1 << 20))
    directory = FileStore([tmp_path]).open_directory(str(tmp_path / "x.ms"))
    reply = TarReply(directory, list_tree(directory), "no-store")
    os.truncate(tmp_path / "x.ms" / "table.f0", 600_000)
    sent: list[bytes] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message.get("body", b""))  # type: ignore[arg-type]

    with pytest.raises(OSError, match="ended at byte 600000"):
        await reply({"state": {}}, None, send)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(directory.fd)


@pytest.mark.parametrize("when", ["before it is sent", "while it is sent"])
async def test_a_file_that_is_written_while_its_measurement_set_is_sent_breaks_the_reply(
    tmp_path: Path, when: str
) -> None:
    """Flagging writes into the tables: half of them from before and half from after would be no Measurement Set."""
    table = tmp_path / "x.ms" / "table.f0"
    table.parent.mkdir()
    table.write_bytes(bytes(1 << 20))
    os.utime(table, (1.0, 1.0))
    directory = FileStore([tmp_path]).open_directory(str(table.parent))
    reply = TarReply(directory, list_tree(directory), "no-store")
    pieces = 0

    async def send(message: dict[str, object]) -> None:
        nonlocal pieces
        pieces += 1
        if pieces == (1 if when == "before it is sent" else 4):
            with table.open("r+b") as opened:
                opened.write(b"flags")

    with pytest.raises(OSError, match="was written while it was sent"):
        await reply({"state": {}}, None, send)  # type: ignore[arg-type]


def test_a_tree_with_a_pipe_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.ms").mkdir()
    os.mkfifo(tmp_path / "x.ms" / "pipe")
    directory = FileStore([tmp_path]).open_directory(str(tmp_path / "x.ms"))
    with pytest.raises(FileNotAccessibleError, match="neither a file nor a directory"):
        list_tree(directory)
    directory.close()


# --- antennas -------------------------------------------------------------------------------------------------------


async def test_absent_dead_and_flagged_antennas_are_told_apart(small: Served) -> None:
    told = await small.json("/api/v1/ms/{ms}/antennas")
    states = {one["id"]: one["status"] for one in told["antennas"]}
    assert {number for number, state in states.items() if state == "absent"} == set(ABSENT)
    assert told["counts"] == {"good": 94, "flagged": 1, "dead": 1, "absent": 21}
    assert (states[DEAD], states[HALF_FLAGGED]) == ("dead", "flagged")
    by_id = {one["id"]: one for one in told["antennas"]}
    # half of its own band, and all of the baseline to the dead one
    assert by_id[HALF_FLAGGED]["flagged_pct"] == pytest.approx(100 * (94 * 0.5 + 1) / 95, abs=1e-3)
    assert by_id[0]["flagged_pct"] == pytest.approx(100 * 1.5 / 95, abs=1e-3)
    assert (by_id[DEAD]["flagged_pct"], by_id[0]["baseline_count"], by_id[ABSENT[0]]["baseline_count"]) == (100, 95, 0)
    assert told["total_baselines"] == 96 * 95 // 2


async def test_antennas_stand_where_the_stations_stand(small: Served) -> None:
    told = await small.json("/api/v1/ms/{ms}/antennas")
    assert told["array_center_lon"] == pytest.approx(-118.2830, abs=1e-3)
    assert told["array_center_lat"] == pytest.approx(37.2334, abs=1e-3)
    east_west = [one for one in told["antennas"][:51] if one["status"] != "absent"]
    assert np.ptp([one["x_m"] for one in east_west]) > 100  # the east-west arm
    assert max(abs(one["y_m"]) for one in east_west) < 5


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("xaxis", ["time", "baseline", "frequency"])
@pytest.mark.parametrize("yaxis", ["amp", "phase"])
async def test_a_raster_is_a_picture_of_the_size_that_was_asked(small: Served, xaxis: str, yaxis: str) -> None:
    reply = await small.get(f"/api/v1/ms/{{ms}}/raster?xaxis={xaxis}&yaxis={yaxis}&width=400&height=300&colormap=gray")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "image/png"), reply.text
    picture = Image.open(io.BytesIO(reply.content))
    assert picture.size == (400, 300)
    assert len(picture.getcolors(1 << 20) or []) > 20


async def test_each_axis_of_a_raster_shows_other_values(small: Served) -> None:
    shown = set()
    for xaxis, yaxis in (("time", "amp"), ("baseline", "amp"), ("frequency", "amp"), ("time", "phase")):
        question = f"xaxis={xaxis}&yaxis={yaxis}&width=400&height=300&colormap=gray"
        picture = Image.open(io.BytesIO((await small.get(f"/api/v1/ms/{{ms}}/raster?{question}")).content))
        shown.add(picture.crop((120, 80, 280, 220)).tobytes())  # within the frame, without words
    assert len(shown) == 4


def test_the_values_of_a_raster_leave_out_what_is_flagged(tmp_path: Path) -> None:
    path = str(write_ms(tmp_path / "x.ms", 50))
    with table(path, ack=False) as rows:
        names = table(f"{path}/ANTENNA", ack=False).getcol("NAME")
        frequencies = np.arange(CHANNELS) * 1e6
        waterfall = raster(rows, names, frequencies, RasterRequest("frequency", "amp"))
        phases = raster(rows, names, frequencies, RasterRequest("frequency", "phase"))
        by_baseline = raster(rows, names, frequencies, RasterRequest("time", "amp"))
        turned = raster(rows, names, frequencies, RasterRequest("baseline", "amp"))
        of_dead = raster(rows, names, frequencies, RasterRequest("frequency", "amp", names[DEAD]))
    assert waterfall.values.shape == (TIMES, CHANNELS)
    assert np.allclose(waterfall.values, 1.0 + np.arange(TIMES)[:, None])
    assert np.allclose(phases.values[:, :-1], 0)
    assert np.allclose(phases.values[:, -1], 90)
    assert np.array_equal(by_baseline.values, turned.values.T, equal_nan=True)
    assert np.isnan(by_baseline.values).any(axis=1).sum() == len(set(range(50)) - set(ABSENT)) - 1  # those of the dead
    assert np.isnan(of_dead.values).all()
    assert waterfall.across.tolist() == [0.0, 7.0]


def test_a_raster_of_an_antenna_is_drawn_though_pieces_of_the_data_have_no_row_of_it(tmp_path: Path) -> None:
    """Of the whole array a picture is read in twenty pieces, and the last one has no row of the first antennas."""
    path = str(write_ms(tmp_path / "x.ms", 50))
    with table(path, ack=False) as rows:
        names = table(f"{path}/ANTENNA", ack=False).getcol("NAME")
        for xaxis in XAXES:
            request = RasterRequest(xaxis, "amp", names[0])
            whole = raster(rows, names, np.arange(CHANNELS) * 1e6, request)
            in_rows = raster(rows, names, np.arange(CHANNELS) * 1e6, request, samples_at_once=1)
            assert np.allclose(whole.values, in_rows.values, equal_nan=True)
            assert np.isfinite(whole.values).any()


async def test_a_raster_shows_the_spectral_window_that_was_asked_for_and_no_other(own: Served) -> None:
    async def ask(window: int, xaxis: str) -> bytes:
        reply = await own.get(f"/api/v1/ms/{{ms}}/raster?spw={window}&xaxis={xaxis}&width=400&height=300")
        assert reply.status_code == 200, reply.text
        return reply.content

    alone = [await ask(0, xaxis) for xaxis in XAXES]
    for name in ("", "/SPECTRAL_WINDOW", "/DATA_DESCRIPTION"):  # everything twice
        with table(own.world.ms_path + name, readonly=False, ack=False) as rows:
            half = rows.nrows()
            rows.addrows(half)
            for column in rows.colnames():  # at once: row by row takes a hundred times as long
                if rows.iscelldefined(column, 0):
                    rows.putcol(column, rows.getcol(column, 0, half), half)
            if not name:
                rows.putcol("DATA_DESC_ID", np.ones(half, np.int32), half)
                rows.putcol("DATA", rows.getcol("DATA", half) * np.arange(1, half + 1)[:, None, None], half)
            if name == "/DATA_DESCRIPTION":
                rows.putcell("SPECTRAL_WINDOW_ID", half, 1)
    assert [await ask(0, xaxis) for xaxis in XAXES] == alone
    assert all(one != other for one, other in zip([await ask(1, xaxis) for xaxis in XAXES], alone, strict=True))


async def test_a_raster_is_made_once_as_long_as_the_measurement_set_is_the_same(own: Served) -> None:
    async def ask(query: str = "") -> tuple[bytes, str]:
        reply = await own.get("/api/v1/ms/{ms}/raster?width=400&height=300" + query)
        assert reply.status_code == 200, reply.text
        return reply.content, reply.headers["etag"]

    def kept() -> int:
        return len(list((own.world.config.paths.state_dir / "thumbnails").glob("*.png")))

    first, phases = await asyncio.gather(ask(), ask("&yaxis=phase"))
    assert (await ask(), kept()) == (first, 2)
    assert first != phases
    with table(own.world.ms_path, readonly=False, ack=False) as rows:
        rows.putcol("DATA", rows.getcol("DATA") * np.arange(1, rows.nrows() + 1)[:, None, None])
    assert await ask() != first
    assert kept() == 3


async def test_an_antenna_that_is_not_there_is_a_mistake_of_the_client(small: Served) -> None:
    reply = await small.get("/api/v1/ms/{ms}/raster?antenna=--fd=0")
    assert (reply.status_code, reply.json()["error"]) == (400, "VALIDATION_ERROR")
    assert (await small.get("/api/v1/ms/{ms}/raster?spw=7")).status_code == 400
    for wrong in ("width=100", "width=4000", "xaxis=x", "colormap=jet;rm", "antenna=a%00"):
        assert (await small.get("/api/v1/ms/{ms}/raster?" + wrong)).status_code == 422


async def test_reading_takes_no_lock_and_changes_nothing(own: Served) -> None:
    path = own.world.ms_path
    writer = await asyncio.to_thread(hold_lock, path)
    try:
        before = snapshot(Path(path))
        for what in ("antennas", "raster"):
            reply = await own.get("/api/v1/ms/{ms}/" + what)
            assert reply.status_code == 200, reply.text
        assert snapshot(Path(path)) == before
    finally:
        writer.communicate()


async def test_a_broken_measurement_set_is_told_as_such(own: Served) -> None:
    (Path(own.world.ms_path) / "table.dat").write_bytes(b"\x00garbage" * 50)
    reply = await own.get("/api/v1/ms/{ms}/antennas")
    assert (reply.status_code, reply.json()["error"]) == (422, "MS_PARSING_ERROR")
    assert str(own.world.config.paths.state_dir) not in reply.text
    assert (await own.get("/api/v1/health/live")).status_code == 200


async def test_a_table_that_refers_to_another_is_refused(own: Served, tmp_path: Path) -> None:
    path = own.world.ms_path
    moved = tmp_path / "outside.ms"
    shutil.move(path, moved)
    with table(str(moved), ack=False) as rows:
        rows.query("ANTENNA1 == 0").copy(path).close()  # a reference: rows of a table outside the roots
    reply = await own.get("/api/v1/ms/{ms}/antennas")
    assert reply.status_code == 422
    assert "refers to data of other tables" in reply.json()["message"]
    assert str(tmp_path) not in reply.text
