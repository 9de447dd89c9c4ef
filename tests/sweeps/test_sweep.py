"""Sweeps: every run is the network it says it is, in few programs, and nothing is lost or computed twice."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

import mupjax
from mupjax import optim
from mupjax.dynamics import dense, padded, runs
from mupjax.results import store
from mupjax.sweeps import cell as training
from mupjax.sweeps import plan as planning
from mupjax.sweeps.plan import describe, plan
from mupjax.sweeps.sweep import sweep
from mupjax.task import batch_order
from mupjax.trajectory import TrajectorySpec
from tests import sweep_case
from tests.sweep_case import GRID, RATES, TASK

pytestmark = pytest.mark.xdist_group("sweep")  # one process: its programs are shared by the tests

CASE = Path(sweep_case.__file__)


@pytest.fixture(scope="module")
def whole():
    return sweep(TASK, **GRID)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "out"
    return out, sweep(TASK, out=out, **GRID)


def same_bits(a, b):
    """Whether two Datasets hold the same numbers, to the bit, NaN included."""
    return a.equals(b) and all(a[name].values.tobytes() == b[name].values.tobytes() for name in a.data_vars)


# What it computes


def test_dataset_has_the_agreed_names_units_and_rates(whole):
    dims = ("parametrization", "depth", "optimizer", "width", "learning_rate", "seed", "step")
    assert whole.train_loss.dims == whole.test_loss.dims == dims
    assert whole.step.values.tolist() == [0, 3]
    assert whole.width.dtype == np.float64
    assert whole.width_label.values.tolist() == ["4", "8"]
    assert whole.was_run.sel(optimizer="adam").values.tolist() == [True, True, False]
    loss = whole.train_loss
    assert np.isfinite(loss.where(whole.was_run, 0)).all()
    assert loss.sel(optimizer="adam", learning_rate=1.0).isnull().all()
    assert {"units", "long_name"} <= loss.attrs.keys()
    assert {"arguments", "plan", "version_jax", "device"} <= whole.attrs.keys()
    assert whole.attrs["complete"] == 1


@pytest.mark.parametrize(("name", "optimizer"), [("sgd", optim.sgd), ("adam", optim.adam)])
def test_every_run_is_the_network_it_says_it_is(whole, name, optimizer):
    batches = batch_order(jax.random.fold_in(jax.random.key(0), runs.BATCHES), 8, 4, 3)
    rate, seed, width = RATES[name][1], 1, 8
    key = runs.run_key(jax.random.key(0), seed, width)
    settings = {"width": width, "depth": 2, "learning_rate": rate, "steps": 3, "key": key, "batches": batches}
    run = dense.train(TASK, mupjax.mup(), optimizer=optimizer, spec=TrajectorySpec((0, -1), grams=()), **settings)
    chosen = {"parametrization": "mup", "optimizer": name, "width": width, "learning_rate": rate, "seed": seed}
    row = whole.sel(chosen).isel(depth=0)
    np.testing.assert_allclose(row.train_loss, run.train_loss, rtol=1e-5)  # two programs: float32 rounding
    np.testing.assert_allclose(row.test_loss, run.test_loss, rtol=1e-5)
    other = whole.sel(chosen | {"seed": 0}).isel(depth=0)
    assert np.abs(other.train_loss / run.train_loss - 1).max() > 1e-3  # control


def test_a_diverged_rate_leaves_every_other_number_to_the_bit(whole):
    diverged = sweep(TASK, **(GRID | {"learning_rates": RATES | {"sgd": (0.25, 0.5, 1e38)}}))
    assert not np.isfinite(diverged.train_loss.sel(optimizer="sgd", learning_rate=1e38)[..., -1]).any()
    kept = {"learning_rate": [0.25, 0.5]}
    assert same_bits(diverged.sel(kept).drop_vars("was_run"), whole.sel(kept).drop_vars("was_run"))


def test_one_trace_a_program_whatever_the_calls(whole, monkeypatch):
    """Cells of several parametrizations share a program, and so do the calls of a cell; bits do not see the calls."""
    training._trainer.cache_clear()
    chex.clear_trace_counter()
    monkeypatch.setattr(padded, "train", chex.assert_max_traces(padded.train, n=4))  # one an optimizer and width

    def in_calls_of_four(task, chosen):
        planned = plan(task, chosen)
        return planned._replace(programs=tuple(program._replace(chunk=4) for program in planned.programs))

    monkeypatch.setattr(planning, "plan", in_calls_of_four)
    assert same_bits(sweep(TASK, **GRID), whole)


def test_padded_widths_equal_their_own_programs(whole):
    padded_together = sweep(TASK, **(GRID | {"padding": "always"}))
    assert json.loads(padded_together.attrs["plan"])["programs"][0]["padded"]
    np.testing.assert_allclose(padded_together.train_loss, whole.train_loss, rtol=1e-5)  # float32 rounding


def test_grams_and_predictions_are_kept_where_asked():
    spec = TrajectorySpec(steps=(0, -1), grams=("h",), eval_inputs=(0, 9))
    small = {"optimizers": ("sgd",), "learning_rates": (0.5,), "seeds": 1, "parametrizations": ("mup",)}
    data = sweep(TASK, **(GRID | small | {"spec": spec, "depths": (1, 2), "widths": (4,)}))
    assert data.predictions.sizes["input"] == 2
    assert data.h_gram.isel(depth=0, layer=1).isnull().all()  # one hidden layer has no second
    assert (data.feature_change_h.isel(gram_step=-1, depth=1) > 0).all()
    assert "x_gram" not in data


# The store


def test_what_is_stored_is_what_is_computed(whole, stored):
    out, data = stored
    assert same_bits(data, whole)
    assert data.attrs["complete"] == 1
    assert not [path for path in (out / "results.zarr").rglob("*") if path.suffix == ".tmp"]


def test_the_same_call_reads_and_computes_nothing(stored, monkeypatch):
    out, data = stored
    monkeypatch.setattr(training, "run_cell", lambda *arguments: pytest.fail("it ran"))
    assert sweep(TASK, out=out, **GRID).identical(data)


def test_other_arguments_are_refused_by_name(stored):
    out, _ = stored
    with pytest.raises(ValueError, match="steps=3, not 4"):
        sweep(TASK, out=out, **(GRID | {"steps": 4}))
    with pytest.raises(ValueError, match=r"task=.*SHA-256"):
        sweep(mupjax.Task(TASK.x_train + 1, TASK.y_train, TASK.x_test, TASK.y_test), out=out, **GRID)


def test_functions_are_known_by_what_they_do(tmp_path):
    def with_decay(decay):
        def decayed(scaling, learning_rate):
            return optim.sgd(scaling, learning_rate, weight_decay=decay)

        return decayed

    small = GRID | {"widths": (4,), "parametrizations": ("mup",), "learning_rates": (0.5,), "seeds": 1}
    sweep(TASK, out=tmp_path, **(small | {"optimizers": (with_decay(0.1),)}))
    with pytest.raises(ValueError, match="optimizers="):
        sweep(TASK, out=tmp_path, **(small | {"optimizers": (with_decay(0.2),)}))
    again = sweep(TASK, out=tmp_path, **(small | {"optimizers": (with_decay(0.1),), "learning_rates": np.array([0.5])}))
    assert again.attrs["complete"] == 1


def test_finishing_without_a_cell_is_refused(stored, tmp_path):
    shutil.copytree(stored[0], tmp_path / "out")
    path = tmp_path / "out" / store.STORE
    with pytest.raises(RuntimeError, match="to be done, got none for absent"):
        store.finish(path, ["absent"])


def test_an_unfinished_sweep_reads_as_nan_and_goes_on_without_touching_what_is_done(whole, tmp_path, monkeypatch):
    path = tmp_path / store.STORE

    def interrupted(path, cell, *arguments):
        if cell.startswith("sp-depth2-adam"):
            raise OSError("No space left on device")
        return put(path, cell, *arguments)

    put = store.put
    with monkeypatch.context() as patch:
        patch.setattr(store, "put", interrupted)
        with pytest.raises(OSError, match="No space"):
            sweep(TASK, out=tmp_path, **GRID)
    data = store.read(path)
    assert data.attrs["complete"] == 0
    done = dict(parametrization="sp", optimizer="sgd")
    assert same_bits(data.sel(done).drop_vars("was_run"), whole.sel(done).drop_vars("was_run"))
    assert data.train_loss.sel(optimizer="adam").isnull().all()
    before = {file: file.stat().st_mtime_ns for file in path.glob("*_loss/c.*")}
    assert len(before) == 2 * 4
    harmed = path / "train_loss" / "c.0.0.1.0.0.0.0"  # of a cell that is not done: a worker died while it wrote
    harmed.write_bytes(b"torn")
    assert store.read(path).train_loss.sel(optimizer="adam").isnull().all()
    with monkeypatch.context() as patch:
        patch.setattr(planning, "describe", lambda planned: describe(planned) | {"programs": []})
        with pytest.raises(ValueError, match="unfinished study of the same plan"):
            sweep(TASK, out=tmp_path, **GRID)
    again = sweep(TASK, out=tmp_path, **GRID)
    assert same_bits(again, whole)
    assert again.attrs["complete"] == 1
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.parametrize("harm", ["torn", "missing"])
def test_a_harmed_chunk_of_a_finished_cell_is_named(stored, tmp_path, harm):
    shutil.copytree(stored[0], tmp_path / "out")
    chunk = tmp_path / "out" / store.STORE / "train_loss" / "c.1.0.0.1.0.0.0"
    if harm == "torn":
        chunk.write_bytes(chunk.read_bytes()[:-3])
    else:
        chunk.unlink()
    with pytest.raises(ValueError, match=rf"train_loss/c\.1\.0\.0\.1\.0\.0\.0 {harm}"):
        sweep(TASK, out=tmp_path / "out", **GRID)


def test_all_nan_is_written_and_not_taken_for_absent(tmp_path):
    """zarr by itself writes nothing for a chunk of fill values, and reads a missing one as such."""
    diverging = GRID | {"optimizers": ("sgd",), "learning_rates": (1e38,), "parametrizations": ("mup",), "widths": (4,)}
    data = sweep(TASK, out=tmp_path, **(diverging | {"spec": TrajectorySpec((-1,), grams=(), eval_inputs=())}))
    assert not np.isfinite(data.train_loss).any()
    chunk = tmp_path / store.STORE / "train_loss" / "c.0.0.0.0.0.0.0"
    chunk.unlink()
    with pytest.raises(ValueError, match="missing"):
        store.read(tmp_path / store.STORE)


def test_killed_at_any_moment_it_resumes_to_the_same_bits(whole, tmp_path):
    """Three kills at random moments after the imports (`benchmarks/sweep.py` does fifty)."""
    pauses = random.Random(0)
    for _ in range(3):
        process = case(tmp_path)
        assert process.stdout.readline() == "start\n"
        time.sleep(pauses.uniform(0.5, 6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = case(tmp_path)
    words, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    assert words == "start\nend\n"
    assert same_bits(store.read(tmp_path / store.STORE), whole)


def test_eight_devices_share_the_runs(whole, tmp_path):
    process = case(tmp_path, "8")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert same_bits(store.read(tmp_path / store.STORE), whole)


def case(out, *words):
    command = [sys.executable, str(CASE), str(out), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=CASE.parent, **pipes)


# What is refused


def test_bad_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`out` to be a directory"):
        sweep(TASK, out=tmp_path / "file", **GRID)
    (tmp_path / "foreign" / store.STORE).mkdir(parents=True)
    with pytest.raises(ValueError, match="results of mupjax"):
        sweep(TASK, out=tmp_path / "foreign", **GRID)
