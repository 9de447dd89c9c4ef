"""Results on disk: whole or not there, resumed only for the same arguments."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from mupjax.results import store

ARGUMENTS = '{"depth": 3, "widths": [8, 16]}'


@pytest.fixture
def dataset():
    values = np.array([[1.0, np.nan], [np.inf, 4e-310]])
    coords = {"width": [8.0, np.inf], "width_label": ("width", ["8", "infinite"])}
    return xr.Dataset({"loss": (("width", "seed"), values)}, coords, {"arguments": ARGUMENTS})


def test_what_is_written_is_read_back_to_the_bit(dataset, tmp_path):
    path = store.write(dataset, tmp_path / "out")
    back = store.read(path)
    assert back.loss.values.tobytes() == dataset.loss.values.tobytes()
    assert back.width_label.values.tolist() == ["8", "infinite"]
    assert sorted(os.listdir(tmp_path / "out")) == ["results.zarr"]


def test_the_same_arguments_resume_and_others_are_refused_by_name(dataset, tmp_path):
    assert store.check_directory(tmp_path / "new", ARGUMENTS) is None
    path = store.write(dataset, tmp_path)
    assert store.check_directory(tmp_path, ARGUMENTS) == path
    with pytest.raises(ValueError, match=r"depth=3, not 4"):
        store.check_directory(tmp_path, ARGUMENTS.replace("3", "4"))
    with pytest.raises(ValueError, match=r"no results\.zarr yet"):
        store.write(dataset, tmp_path)
    assert store.check_directory(tmp_path, ARGUMENTS) == path  # the refusals changed nothing


def test_a_failure_while_writing_leaves_nothing(dataset, tmp_path, monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        store.write(dataset, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_a_kill_while_writing_leaves_no_store_that_reads_as_complete(dataset, tmp_path):
    program = """
import os, pickle, signal, sys
from mupjax.results import store
os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
store.write(pickle.load(sys.stdin.buffer), sys.argv[1])
"""
    import pickle

    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], input=pickle.dumps(dataset), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert store.check_directory(tmp_path, ARGUMENTS) is None
    store.write(dataset, tmp_path)  # and the next run is not in its way
    assert store.read(tmp_path / "results.zarr").attrs["complete"]


@pytest.mark.parametrize("harm", ["torn", "missing"])
def test_a_harmed_chunk_is_named(dataset, tmp_path, harm):
    """zarr alone would fail in its decompressor for the one, and read fill values for the other."""
    path = store.write(dataset, tmp_path)
    chunk = path / "loss" / "c" / "0" / "0"
    if harm == "torn":
        chunk.write_bytes(chunk.read_bytes()[:-3])
    else:
        chunk.unlink()
    with pytest.raises(ValueError, match=rf"loss/c/0/0 {harm}"):
        store.read(path)
    with pytest.raises(ValueError, match=rf"loss/c/0/0 {harm}"):
        store.check_directory(tmp_path, ARGUMENTS)


def test_foreign_and_interrupted_stores_are_refused(dataset, tmp_path):
    dataset.drop_vars("width_label").to_zarr(tmp_path / "results.zarr", consolidated=False)  # no `complete`
    with pytest.raises(ValueError, match="writing was interrupted"):
        store.check_directory(tmp_path, ARGUMENTS)
    (tmp_path / "other" / "results.zarr").mkdir(parents=True)
    with pytest.raises(ValueError, match="to hold results of mupjax"):
        store.check_directory(tmp_path / "other", ARGUMENTS)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="to be a directory"):
        store.check_directory(tmp_path / "file", ARGUMENTS)
