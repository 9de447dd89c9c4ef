"""Cells on workers: processes, a Dask cluster, `jax.distributed`; what is finished stays when a worker dies."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jax
import numpy as np
import pytest

from mupjax.results import store
from mupjax.sweeps import executors
from mupjax.sweeps.runner import Cell
from mupjax.sweeps.sweep import sweep
from tests.sweep_case import GRID, TASK

pytestmark = pytest.mark.xdist_group("sweep")  # with test_sweep.py: their programs are the same
SMALL = GRID | {"optimizers": ("sgd",), "learning_rates": (0.25, 0.5), "parametrizations": ("mup", "sp")}


def jobs(folder, *names):
    return [(Cell(name, name, {}, dict, ()), folder / name) for name in names]


def touch_or_die(path):
    """A worker's job that needs no JAX; 'fatal' takes its process along."""
    if path.name == "fatal":
        os.kill(os.getpid(), signal.SIGKILL)
    if path.name == "full":
        raise OSError("No space left on device")
    path.write_text("")
    return path.name


def test_a_process_pool_computes_the_same_bits(tmp_path):
    one_cell = SMALL | {"parametrizations": ("mup",), "widths": (4,)}
    with spawned_pool() as pool:
        data = sweep(TASK, out=os.path.relpath(tmp_path), executor=pool, **one_cell)
    whole = sweep(TASK, **SMALL).sel(parametrization=["mup"], width=[4])
    np.testing.assert_array_equal(data.train_loss, whole.train_loss)


def spawned_pool():
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def test_a_failing_cell_does_not_stop_the_others(tmp_path):
    done = []
    message = r"got OSError: No space left on device for full\. Finished cells"
    with spawned_pool() as pool, pytest.raises(RuntimeError, match=message):
        executors.run_cells(pool, touch_or_die, jobs(tmp_path, "a", "full", "b"), done.append)
    assert sorted(cell.name for cell in done) == sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_broken_pool_keeps_what_is_finished_and_names_the_rest(tmp_path):
    message = r"got BrokenProcessPool: .* for fatal, c, d\. Finished cells are kept"
    with spawned_pool() as pool, pytest.raises(RuntimeError, match=message):
        executors.run_cells(pool, touch_or_die, jobs(tmp_path, "a", "b", "fatal", "c", "d"), lambda cell: None)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_dask_cluster_loses_a_worker_and_nothing_else(tmp_path, monkeypatch):
    """Two worker processes on loopback; one is killed once a cell is done: its cells move to the other."""
    from distributed import Client, LocalCluster

    whole = sweep(TASK, **SMALL)
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "host": "127.0.0.1"}
    written = []

    def kill_once(executor, work, todo, on_done):
        def after(cell):
            if not written:
                written.extend(sorted((tmp_path / store.STORE / "done").glob("*-*.json")))
                workers = client.run(os.getpid)
                os.kill(next(iter(workers.values())), signal.SIGKILL)
                times.update({file: file.stat().st_mtime_ns for file in written})
            on_done(cell)

        run_cells(executor, work, todo, after)

    times, run_cells = {}, executors.run_cells
    with LocalCluster(dashboard_address=None, silence_logs=50, **options) as cluster, Client(cluster) as client:
        monkeypatch.setattr(executors, "run_cells", kill_once)
        data = sweep(TASK, out=tmp_path, executor=client.get_executor(), **SMALL)
    assert data.equals(whole)
    assert data.train_loss.values.tobytes() == whole.train_loss.values.tobytes()
    assert times
    assert {file: file.stat().st_mtime_ns for file in written} == times  # no finished cell was written again


def test_two_processes_of_jax_distributed_share_the_cells(tmp_path):
    program = """
import sys
import jax
number, address, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(address, num_processes=2, process_id=number)
from tests.sweeps import test_executors as t
assert jax.process_count() == 2
from mupjax.sweeps import runner
mine = []
work = runner.work
runner.work = lambda job: mine.append(work(job))
data = t.sweep(t.TASK, out=out, **t.SMALL)
assert data.attrs["complete"] == 1
print(len(mine))
"""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": root}
    processes = [subprocess.Popen([*command, str(n), address, str(tmp_path)], **pipes) for n in range(2)]
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert [words.split()[-1] for words, _ in ends] == ["2", "2"]  # of four cells
    data, whole = store.read(tmp_path / store.STORE), sweep(TASK, **SMALL)
    np.testing.assert_array_equal(data.train_loss, whole.train_loss)


def test_a_key_is_an_int_or_a_jax_key_and_known_by_a_store(tmp_path):
    by_int, by_key = (sweep(TASK, key=key, **SMALL) for key in (3, jax.random.key(3)))
    assert by_int.equals(by_key)
    assert not by_int.equals(sweep(TASK, **SMALL))  # the control
    sweep(TASK, key=jax.random.key(3), out=tmp_path, **SMALL)
    with pytest.raises(ValueError, match=r"key=\[0, 3\], not \[0, 4\]"):
        sweep(TASK, key=jax.random.key(4), out=tmp_path, **SMALL)
    with pytest.raises(ValueError, match=r"`key` to be an int in 0\.\.2\*\*32 - 1"):
        sweep(TASK, key=2**40, **SMALL)
