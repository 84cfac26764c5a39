"""Digests of files and directories."""

import hashlib
from pathlib import Path

import pytest

from dsa110_contimg.pipeline.checksums import DigestOptions, digest, digest_all
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.progress import silent


def _tree(root: Path) -> Path:
    (root / "sub").mkdir(parents=True)
    (root / "a").write_bytes(b"one")
    (root / "sub" / "b").write_bytes(b"two!")
    return root


def test_a_file_has_its_size_and_sha256(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    made = digest(path)
    assert (made.size_bytes, made.sha256) == (3, hashlib.sha256(b"abc").hexdigest())


def test_a_directory_is_digested_by_content_wherever_it_lies(tmp_path: Path) -> None:
    here, there = digest(_tree(tmp_path / "x")), digest(_tree(tmp_path / "y"))
    assert here.sha256 == there.sha256
    assert here.size_bytes == 7


@pytest.mark.parametrize("change", ["content", "name", "extra"])
def test_any_change_in_a_directory_changes_its_digest(tmp_path: Path, change: str) -> None:
    root = _tree(tmp_path / "x")
    before = digest(root).sha256
    if change == "content":
        (root / "a").write_bytes(b"0ne")
    elif change == "name":
        (root / "a").rename(root / "c")
    else:
        (root / "empty").touch()
    assert digest(root).sha256 != before


def test_a_lock_file_that_readers_touch_does_not_count(tmp_path: Path) -> None:
    root = _tree(tmp_path / "x")
    before = digest(root).sha256
    (root / "table.lock").write_bytes(b"somebody read")
    assert digest(root).sha256 == before


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"gone\.fits does not exist"):
        digest_all(DigestOptions((str(tmp_path / "gone.fits"),)), silent)
