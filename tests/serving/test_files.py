"""Files for a browser, read once."""

from pathlib import Path

import pytest

from serving.files import MAX_BYTES, read_files


def test_files_are_known_by_their_paths(tmp_path: Path) -> None:
    """index.html by its folder's too; hidden ones not at all."""
    (tmp_path / "sub").mkdir()
    for name in ("index.html", "a.js", "sub/index.html", ".secret", "data.bin"):
        (tmp_path / name).write_text(name)
    files = read_files(tmp_path)
    assert sorted(files) == ["/", "/a.js", "/data.bin", "/index.html", "/sub/", "/sub/index.html"]
    assert files["/sub/"].content == b"sub/index.html"
    assert files["/data.bin"].content_type == "application/octet-stream"


def test_what_changes_has_another_etag(tmp_path: Path) -> None:
    """And what does not keeps it."""
    (tmp_path / "a.js").write_text("1")
    before = read_files(tmp_path)["/a.js"].etag
    assert read_files(tmp_path)["/a.js"].etag == before
    (tmp_path / "a.js").write_text("2")
    assert read_files(tmp_path)["/a.js"].etag != before


def test_a_folder_that_is_none_or_too_large_is_told(tmp_path: Path) -> None:
    """At the start, by its name."""
    with pytest.raises(OSError, match="is no folder of files to serve"):
        read_files(tmp_path / "nothing")
    with (tmp_path / "large").open("wb") as large:
        large.truncate(MAX_BYTES + 1)
    with pytest.raises(OSError, match="which would stay in memory"):
        read_files(tmp_path)
