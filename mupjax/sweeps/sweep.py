"""Grids of runs: parametrizations x depths x optimizers x widths x learning rates x seeds, losing nothing."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mupjax import devices, results
from mupjax.activations import Activation
from mupjax.dynamics._arguments import warn_of_regime
from mupjax.optim import Optimizer
from mupjax.parametrization import Parametrization
from mupjax.results import store
from mupjax.sweeps import cell as training
from mupjax.sweeps import executors, schema
from mupjax.sweeps.grid import Grid, grid_of
from mupjax.sweeps.plan import Cell, Plan, Program, describe, plan
from mupjax.sweeps.progress import progress_bar
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec

RATES = tuple(2.0**power for power in range(-4, 4))
SPEC = TrajectorySpec(steps=(0, -1), grams=(), eval_inputs=())


def sweep(
    task: Task,
    *,
    parametrizations: Sequence[str | Parametrization] = ("sp", "mup"),
    widths: Sequence[int | tuple[int, ...]] = (64, 128, 256, 512),
    depths: Sequence[int] = (3,),
    learning_rates: Sequence[float] | np.ndarray | Mapping[str, Sequence[float]] = RATES,
    seeds: int = 3,
    optimizers: Sequence[str | Optimizer] = ("sgd",),
    steps: int = 200,
    batch_size: int | None = None,
    momentum: float = 0.0,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    base_width: int = 1,
    centred: bool = False,
    spec: TrajectorySpec = SPEC,
    observe: Sequence[str] = (),
    observe_every: int | None = None,
    padding: str = "auto",
    key: int = 0,
    memory_gb: float | None = None,
    out: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    about: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Any:
    """Train every network of a grid: few compiled programs, any devices, and nothing lost when a run is killed.

    A cell is a parametrization, depth, optimizer and width, or group of widths padded to the widest; its seeds x
    learning rates are one axis of one program. With `out` every cell is written when it is done, and the same call
    again goes on where the last one stopped. Started under `jax.distributed`, processes share the cells out.

    Args:
      task: data and loss.
      parametrizations: names or Parametrizations, of different names.
      widths: units of the hidden layers; an entry may be a tuple with one width a layer.
      depths: numbers of hidden layers.
      learning_rates: base rates for all optimizers, or {optimizer: rates}.
      seeds: how many initialisations; those of one width are the same for every parametrization and rate.
      optimizers: 'sgd', 'adam', 'adamw', or callables (scaling, learning_rate) -> optax.GradientTransformation with a
        name; their scalings' numbers are traced.
      steps: how many updates.
      batch_size: inputs a step sees; None is the full batch. All runs see the same batches.
      momentum: of 'sgd', in [0, 1).
      activation: a name, an Activation or a function.
      base_width: the width at which parametrizations given by name are the standard network.
      centred: train and report f - f_0.
      spec: what to record; by default losses at the first and last step.
      observe: any of 'sharpness', 'cosines', 'update_sizes' and 'preactivations' (`curvature`), of all runs at once.
        The sharpness is that of the full training loss with the later rates in it, of the Hessian itself where updates
        are normalized; preactivations are those of the first 64 training inputs.
      observe_every: steps between observations; by default the first and the last step are observed.
      padding: whether widths share a program: 'auto' (where that costs less than compiling), 'always' or 'never'.
      key: seed of the random keys.
      memory_gb: what a cell may take in all, as it runs and as its results are written, by default the device's
        memory (`devices`).
      out: a directory for results.zarr; it may hold an unfinished sweep of the same arguments.
      executor: any `concurrent.futures.Executor`: cells go to its workers, which write into `out`, a directory that
        all of them see. Process pools must use 'spawn'.
      about: what else to keep with the arguments, as a data set's settings.
      progress: show a progress bar with the time left.

    Returns:
      An xarray.Dataset with dims parametrization, depth, optimizer, width, learning_rate, seed, step: train_loss,
      test_loss where there is a test set, and what `spec` and `observe` ask for (along observe_step, kernel, layer).
      `asked` says which rates an optimizer was run with. A diverged run is NaN or inf in its own row.

    Raises:
      ValueError: for a bad grid, a run that does not fit `memory_gb`, a store of other arguments.
      RuntimeError: where workers were lost; what is finished is kept.
      OSError: where the disk is full; likewise.

    Warns:
      UserWarning: where theory says that a parametrization cannot learn at large width, once for each.

    Example:
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> data = sweep(task, widths=(8,), depths=(2,), learning_rates=(0.1, 0.2), seeds=2, steps=3)
      >>> dict(data.train_loss.isel(parametrization=0, depth=0, optimizer=0, width=0).sizes)
      {'learning_rate': 2, 'seed': 2, 'step': 2}
    """
    settings = {k: v for k, v in locals().items() if k not in ("task", "out", "executor", "about", "progress")}
    chosen = grid_of(task, **settings)
    for preset, depth in itertools.product(chosen.parametrizations, chosen.depths):
        warn_of_regime(preset, depth, chosen.activation)
    planned = plan(task, chosen)
    attrs = {
        "arguments": arguments_of(task, chosen, settings, about or {}),
        "plan": json.dumps(describe(planned)),
        "kind": "sweep",
        **results.versions(),
    }
    if out is None and (executor is not None or jax.process_count() > 1):
        raise ValueError("Expected `out` where workers or several processes share the cells out, got None.")
    total = sum(cell.flops for cell in planned.cells)
    if out is None:
        with progress_bar(total, progress, weighted=True) as bar:
            return _in_memory(task, chosen, planned, attrs, bar)
    path = _open(task, chosen, attrs, Path(out).absolute())
    _wait_for_processes("created")
    todo = [cell for cell in planned.cells if not store.is_done(path, cell.name)]
    jobs = [(cell, (path, task, chosen, planned.programs[cell.program], cell)) for cell in todo]
    _wait_for_processes("listed")  # the same list for all, before one of them finishes a cell
    done, failure = total - sum(cell.flops for cell in todo), None
    with progress_bar(total, progress, weighted=True, initial=done) as bar:
        if executor is not None:
            executors.run_cells(executor, work, jobs, lambda cell: bar.update(cell.flops))
        else:
            failure = _run_share(jobs[jax.process_index() :: jax.process_count()], bar)
    _raise_everywhere(failure)
    if jax.process_index() == 0 and not store.attributes(path)["complete"]:
        store.finish(path, [cell.name for cell in planned.cells])
    _wait_for_processes("complete")
    return store.read(path)


def work(job: tuple[Path, Task, Grid, Program, Cell]) -> str:
    """Compute a cell and write it, unless that is done already; what a worker does. Returns the cell's name.

    Raises:
      ValueError: where the worker's devices or its JAX are not those that the sweep was planned for.
    """
    path, task, chosen, program, cell = job
    if store.is_done(path, cell.name):
        return cell.name
    here = (devices.traits().inner, jax.__version__)
    wanted = (program.inner, store.attributes(path)["version_jax"])
    if here != wanted:
        raise ValueError(f"Expected workers with devices and JAX as planned, {wanted}, got {here}.")
    run = training.run_cell(task, chosen, program, cell, training.batches_of(task, chosen))
    found = schema.arrays(schema.of_grid(task, chosen, {}), chosen, cell, run)
    return store.put(path, cell.name, schema.region(cell), found)


def _run_share(jobs: Sequence[Any], bar: Any) -> Exception | None:
    """Run jobs in this process; under `jax.distributed` a failure waits until the others have heard of it."""
    for cell, job in jobs:
        bar.set_description(cell.name)
        try:
            work(job)
        except Exception as error:
            if jax.process_count() == 1:
                raise
            return error
        bar.update(cell.flops)
    return None


def _raise_everywhere(failure: Exception | None) -> None:
    """Raise in every process where one failed: none waits for a cell that does not come."""
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    failed = multihost_utils.process_allgather(np.array(failure is not None))
    if failed.any():
        where = ", ".join(map(str, np.flatnonzero(failed)))
        words = f"Expected every process to finish its cells, got a failure in process {where}"
        raise RuntimeError(f"{words}: {failure}." if failure else f"{words}.") from failure


def arguments_of(task: Task, chosen: Grid, settings: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Return what a store is known by: settings as canonical JSON, and what stands for the task's arrays."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(task):
        digest.update(f"{leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    kept = {name: value for name, value in settings.items() if name not in ("memory_gb", "padding")}  # in the plan
    rates = {name: each for (name, _), each in zip(chosen.optimizers, chosen.rates, strict=True)}
    checked = {"widths": chosen.widths, "depths": chosen.depths, "learning_rates": rates}
    stands_for = f"{task!r}, SHA-256 {digest.hexdigest()[:16]}"
    return results.arguments_json({**about, **kept, **checked, "task": stands_for})


def _in_memory(task: Task, chosen: Grid, planned: Plan, attrs: Mapping[str, Any], bar: Any) -> Any:
    """The sweep without a store."""
    shape = schema.of_grid(task, chosen, {**attrs, "complete": 1})
    dataset, batches = schema.empty(shape), training.batches_of(task, chosen)
    for cell in planned.cells:
        bar.set_description(cell.name)
        run = training.run_cell(task, chosen, planned.programs[cell.program], cell, batches)
        schema.put(dataset, schema.region(cell), schema.arrays(shape, chosen, cell, run))
        bar.update(cell.flops)
    return dataset


def _open(task: Task, chosen: Grid, attrs: Mapping[str, Any], out: Path) -> Path:
    """The store in `out`: a new one, or one of the same arguments, plan and versions."""
    path = store.check_directory(out, attrs["arguments"])
    if path is None:
        if jax.process_index() == 0:
            store.create(schema.of_grid(task, chosen, attrs), out)
        return out / store.STORE
    stored = store.attributes(path)
    if not stored["complete"]:
        for name in ("plan", "version_jax", "device"):  # what an interrupted sweep's bits depend on
            if stored[name] != attrs[name]:
                raise ValueError(
                    f"Expected `out` to hold an unfinished sweep of the same {name.removeprefix('version_')}, got "
                    f"{path} with {stored[name]}, not {attrs[name]}."
                )
    return path


def _wait_for_processes(name: str) -> None:
    """Wait until every process of `jax.distributed` is here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
