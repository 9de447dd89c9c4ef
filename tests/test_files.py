"""Files in place whole or not at all."""

import pytest

from mupjax import _files as files


def test_a_file_is_put_in_place_whole_or_not_at_all(tmp_path, monkeypatch):
    target = files.write_whole(tmp_path / "file", b"before")

    def fail(source, destination):
        raise OSError("no space left")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        files.write_whole(target, b"after")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"before"}
