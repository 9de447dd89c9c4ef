"""The loop over cells, with cells that are NumPy arrays: what is kept, gone on with, shared out and refused."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
import xarray as xr

from mupjax import devices, results
from mupjax.results import store
from mupjax.results.layout import Filled
from mupjax.sweeps import runner
from mupjax.sweeps.runner import Cell, Need, Running, Study


class Ran:
    """A cell's function that counts its calls; the cell `failing` fails."""

    def __init__(self, failing=None):
        self.cases, self.failing = [], failing

    def __call__(self, case):
        if case == self.failing:
            raise OSError("No space left on device")
        self.cases.append(case)
        return {"value": np.full((1, 2), float(case))}


def total(so_far):
    """A cell's function that sees the others."""
    return {"sum": np.array([[so_far["value"].sum().item()]])}


def study_of(count, compute=None, *, arguments="{}", reads=False, **options):
    """A study of `count` cells along the dim `case`, and of one along `last` that reads them."""
    attrs = {"kind": "sweep", "arguments": arguments, **results.versions()}
    known = xr.Dataset(coords={"case": np.arange(count)}, attrs=attrs)
    variables = {"value": Filled(("case", "seed"), "float64", {"units": "1"})}
    variables |= {"sum": Filled(("last", "one"), "float64", {"units": "1"})} if reads else {}
    layout = results.Layout(known, variables, {"case": count, "seed": 2, "last": 1, "one": 1}, ("case", "last"))
    compute = Ran() if compute is None else compute
    cells = [Cell(f"cell{n}", f"cell {n}", {"case": (n,)}, compute, (n,)) for n in range(count)]
    cells = [Cell("sum", "sum", {"last": (0,)}, total, (), reads=True), *cells] if reads else cells
    return Study(layout, tuple(cells), **options)


def files_of(path):
    return {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}


def test_cells_fill_their_places_and_what_derives_sees_them_all(tmp_path):
    """In memory and stored; a cell that reads is computed last, wherever it stands."""

    def doubled(data):
        return data.assign(double=2 * data["value"])

    study = study_of(3, reads=True, derive=doubled)
    alone, kept = (runner.run(study, Running(out=out)) for out in (None, tmp_path))
    np.testing.assert_array_equal(alone["value"], [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(alone["double"], 2 * alone["value"])
    assert alone["sum"].item() == 6
    assert alone.attrs["complete"] == kept.attrs["complete"] == 1
    assert kept.equals(alone)


def test_the_same_call_goes_on_from_the_cells_that_are_there(tmp_path):
    """Once finished, nothing is computed or written again."""
    first, second, third = Ran(failing=2), Ran(), Ran()
    with pytest.raises(OSError, match="No space"):
        runner.run(study_of(4, first), Running(out=tmp_path))
    assert first.cases == [0, 1]
    half = store.read(tmp_path / store.STORE)
    assert half.attrs["complete"] == 0
    np.testing.assert_array_equal(half["value"].isnull().all("seed"), [False, False, True, True])
    whole = runner.run(study_of(4, second), Running(out=tmp_path))
    assert second.cases == [2, 3]
    assert whole.equals(runner.run(study_of(4), Running()))
    before = files_of(tmp_path)
    assert runner.run(study_of(4, third), Running(out=tmp_path)).identical(whole)
    assert third.cases == []
    assert files_of(tmp_path) == before


def test_an_interrupted_study_says_how_to_go_on(tmp_path, capsys):
    def stop(case):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        runner.run(study_of(1, stop), Running(out=tmp_path, progress=True))
    assert stopped.value.__notes__ == [
        f"Interrupted: what is finished is kept in {tmp_path}; run the same again to resume."
    ]
    assert stopped.value.__notes__[0] in capsys.readouterr().err


def test_other_arguments_plans_and_versions_are_refused_by_name(tmp_path):
    """Arguments always; a plan and versions where the study is not finished, whose bits depend on them."""
    with pytest.raises(OSError, match="No space"):
        runner.run(study_of(2, Ran(failing=1), plan={"chunk": 1}), Running(out=tmp_path))
    with pytest.raises(ValueError, match="steps="):
        runner.run(study_of(2, arguments='{"steps": 3}', plan={"chunk": 1}), Running(out=tmp_path))
    with pytest.raises(ValueError, match="unfinished study of the same plan"):
        runner.run(study_of(2, plan={"chunk": 2}), Running(out=tmp_path))
    other = study_of(2, plan={"chunk": 1})
    other.layout.coords.attrs["version_jax"] = "0.0.1"
    with pytest.raises(ValueError, match=rf"the same jax, got .* with {jax.__version__}, not 0\.0\.1"):
        runner.run(other, Running(out=tmp_path))
    finished = runner.run(study_of(2, plan={"chunk": 1}), Running(out=tmp_path))
    assert json.loads(finished.attrs["plan"]) == {"chunk": 1}
    assert runner.run(study_of(2, plan={"chunk": 2}), Running(out=tmp_path)).equals(finished)


def test_the_largest_cell_must_fit_the_budget_before_anything_runs(tmp_path):
    ran = Ran()
    study = study_of(2, ran)
    cells = tuple(
        cell._replace(need=Need(n * 1e9, f"network {n}")) for n, cell in zip((1, 3), study.cells, strict=True)
    )
    message = r"fit memory_gb=2, got about 3 GB for network 3; raise `memory_gb`, or take fewer"
    with pytest.raises(ValueError, match=message):
        runner.run(study._replace(cells=cells), Running(memory_gb=2.0, out=tmp_path))
    assert not ran.cases
    assert not files_of(tmp_path)
    assert runner.run(study._replace(cells=cells), Running(memory_gb=3.0)).attrs["complete"] == 1


def test_a_study_without_cells_has_nothing_to_do(tmp_path):
    runner.check_memory([], 1.0)
    alone, kept = (runner.run(study_of(0), Running(out=out)) for out in (None, tmp_path))
    assert alone.sizes["case"] == 0
    assert alone.attrs["complete"] == kept.attrs["complete"] == 1
    assert kept.equals(alone)


def test_options_of_a_study_and_of_its_running_are_told_apart():
    own, running = runner.split("study", {"seeds": 3, "memory_gb": 2.0}, {"seeds": 1, "steps": 5}, progress=True)
    assert own == {"seeds": 3, "steps": 5}
    assert running == Running(memory_gb=2.0, progress=True)
    with pytest.raises(
        TypeError, match=r"study\(\) got an unexpected keyword argument 'sedes': it takes about, .*seeds"
    ):
        runner.split("study", {"sedes": 3}, {"seeds": 1})


# Workers


def test_workers_need_a_directory(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ValueError, match="Expected `out` where workers"):
            runner.run(study_of(1), Running(executor=pool))
        found = runner.run(study_of(3, reads=True), Running(executor=pool, out=tmp_path))
    assert found.equals(runner.run(study_of(3, reads=True), Running()))


def test_two_writers_of_one_study_leave_what_one_leaves(tmp_path):
    """Both find a cell undone and compute it: the second writes the same again, over the first."""
    both = threading.Barrier(2)

    def together(case):
        if case == 0:
            both.wait(timeout=20)
        return {"value": np.full((1, 2), float(case))}

    with pytest.raises(OSError, match="No space"):
        runner.run(study_of(3, Ran(failing=0)), Running(out=tmp_path))  # a store that is there already
    here = devices.traits().inner, jax.__version__
    cells = study_of(3, together).cells
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(runner.work, (tmp_path / store.STORE, cells[0], *here)) for _ in range(2)]
        assert [job.result() for job in jobs] == ["cell0", "cell0"]
    whole = runner.run(study_of(3), Running(out=tmp_path))
    assert whole.equals(runner.run(study_of(3), Running()))


def test_a_finished_cell_is_not_computed_again_by_a_worker(tmp_path):
    """A scheduler may ask twice for a cell whose worker died after writing it."""
    runner.run(study_of(2), Running(out=tmp_path))
    ran, here = Ran(), (devices.traits().inner, jax.__version__)
    for cell in study_of(2, ran).cells:
        assert runner.work((tmp_path / store.STORE, cell, *here)) == cell.name
    assert not ran.cases


def test_a_worker_of_another_kind_is_refused(tmp_path):
    with pytest.raises(OSError, match="No space"):
        runner.run(study_of(1, Ran(failing=0)), Running(out=tmp_path))
    with pytest.raises(ValueError, match="Expected workers with devices and JAX as planned"):
        runner.work((tmp_path / store.STORE, study_of(1).cells[0], "vmap", jax.__version__))
