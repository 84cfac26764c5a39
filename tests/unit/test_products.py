"""A product is whole under its final name, or not there."""

import errno
from pathlib import Path

import pytest

from dsa110_contimg.pipeline.errors import PermanentError, RetryableError
from dsa110_contimg.pipeline.products import require_space, storage_error, written_aside
from fixtures.disk_calls import disk_calls


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "image.fits"
    with written_aside(final) as partial:
        partial.write_text("pixels")
        assert not final.exists()
    assert final.read_text() == "pixels"
    assert list(final.parent.iterdir()) == [final]


def test_a_failure_leaves_the_old_product_and_nothing_else(tmp_path: Path) -> None:
    final = tmp_path / "image.fits"
    final.write_text("old")
    with pytest.raises(ZeroDivisionError), written_aside(final) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_a_directory_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    final = tmp_path / "observation.ms"
    for content in ("old", "new"):
        with written_aside(final) as partial:
            (partial / "sub").mkdir(parents=True)
            (partial / content).write_text(content)
    assert sorted(p.name for p in final.iterdir()) == ["new", "sub"]
    assert list(tmp_path.iterdir()) == [final]


def test_a_product_is_on_the_disk_before_it_has_its_name_and_the_name_before_anybody_is_told(tmp_path: Path) -> None:
    with disk_calls() as calls, written_aside(tmp_path / "image.fits") as partial:
        partial.write_text("pixels")
    assert calls == [f"fsync {partial.name}", "rename", f"fsync {tmp_path.name}"]


def test_what_a_killed_process_left_of_this_product_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a.ms.partial-dead").mkdir()
    (tmp_path / "a.ms.replaced-dead").mkdir()
    (tmp_path / "b.ms.partial-alive").mkdir()
    with written_aside(tmp_path / "a.ms") as partial:
        partial.mkdir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ms", "b.ms.partial-alive"]


def test_a_stage_that_writes_nothing_is_a_defect(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"image\.fits.*without writing"), written_aside(tmp_path / "image.fits"):
        pass


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("TiledStMan: No space left on device")]
)
def test_a_full_disk_is_worth_a_retry_and_says_what_to_do(tmp_path: Path, error: Exception) -> None:
    expected = r"image\.fits: No space left.*MB free.*free space"
    with pytest.raises(RetryableError, match=expected), written_aside(tmp_path / "image.fits") as partial:
        partial.write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_forbidden_path_is_not_tried_again(tmp_path: Path) -> None:
    error = storage_error(PermissionError(errno.EACCES, "Permission denied"), tmp_path / "image.fits")
    assert isinstance(error, PermanentError)
    assert "write access" in str(error)


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "products").write_text("")
    with pytest.raises(PermanentError, match="products is not a dir"), written_aside(tmp_path / "products" / "a.fits"):
        pytest.fail("the block must not be entered")


def test_too_little_space_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(RetryableError, match="MB will be written but only"):
        require_space(tmp_path / "not" / "there", 10**18)
    require_space(tmp_path, 1)
