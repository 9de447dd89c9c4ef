"""Run a study's cells: check memory, show progress, store, resume and distribute them.

This is the only loop over cells. A study declares its Dataset (a Layout) and its cells: pure functions with their
arguments. With `out` every cell is written when it is done, and the same call again computes only what is missing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypedDict, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from mupjax import _checks, devices
from mupjax.results import layout as layouts
from mupjax.results import store
from mupjax.results.layout import Layout
from mupjax.sweeps import executors
from mupjax.sweeps.progress import Progress, progress_of

if TYPE_CHECKING:
    import xarray as xr

Arrays = dict[str, np.ndarray]


@runtime_checkable
class Compute(Protocol):
    """Function of a cell's arguments that returns its arrays by variable, with one leading axis for its positions."""

    def __call__(self, *args: Any, **so_far: Any) -> Arrays: ...


class Need(NamedTuple):
    """A cell's estimated peak memory, with a description for error messages.

    Attributes:
      bytes: at its peak.
      what: the description.
    """

    bytes: float = 0.0
    what: str = ""


class Cell(NamedTuple):
    """The unit of computation, storage and resumption.

    Attributes:
      name: unique, usable in a file's name.
      label: for the progress display.
      where: the positions that it fills along every dim of cells that its variables have.
      compute: a module-level function, so that workers can import it.
      args: its arguments.
      work: its weight in the progress.
      need: its peak memory.
      reads: whether it is computed after the others and sees the Dataset of these as `so_far`.
    """

    name: str
    label: str
    where: Mapping[str, tuple[int, ...]]
    compute: Compute
    args: tuple[object, ...]
    work: float = 1.0
    need: Need = Need()
    reads: bool = False


class Study(NamedTuple):
    """A study ready to run.

    Attributes:
      layout: of its Dataset, arguments and versions among the attributes.
      cells: in the order in which they run, of different names.
      plan: settings beyond the arguments on which bit-identical resumption depends; JSON-serializable.
      derive: adds variables computed from all cells together.
    """

    layout: Layout
    cells: tuple[Cell, ...]
    plan: Mapping[str, object] | None = None
    derive: Callable[[xr.Dataset], xr.Dataset] | None = None


class Options(TypedDict, total=False):
    """Keyword arguments that every study accepts; see `Running`."""

    key: int | jax.Array
    memory_gb: float | None
    out: str | os.PathLike[str] | None
    executor: Executor | None
    about: Mapping[str, object]
    derive: Callable[[xr.Dataset], xr.Dataset] | None
    progress: bool


class Running(NamedTuple):
    """How a study is run; nothing but `key` changes a number.

    Attributes:
      key: seed of the random keys, or a JAX key.
      memory_gb: memory budget of the largest cell, by default the device's memory (`devices`); a larger one is refused
        before anything runs.
      out: directory of results.zarr; an unfinished study of the same arguments there is resumed.
      executor: any `concurrent.futures.Executor`: cells go to its workers, which write into `out`, a directory that
        all of them see. Process pools must use 'spawn'.
      about: further attributes stored with the arguments, such as a data set's settings.
      derive: adds variables to the finished Dataset.
      progress: whether to show progress: a bar on a terminal, in a log a line for every cell.
    """

    key: int | jax.Array = 0
    memory_gb: float | None = None
    out: str | os.PathLike[str] | None = None
    executor: Executor | None = None
    about: Mapping[str, object] = {}
    derive: Callable[[xr.Dataset], xr.Dataset] | None = None
    progress: bool = False

    def base(self) -> jax.Array:
        """Return the base of all random keys, a typed JAX key. ValueError where `key` is none."""
        base = _checks.key(self.key)
        typed = jnp.issubdtype(base.dtype, jax.dtypes.prng_key)
        return base if typed else jax.random.wrap_key_data(base)


def split(
    study: str, options: Mapping[str, Any], own: Mapping[str, Any], **defaults: Any
) -> tuple[dict[str, Any], Running]:
    """Return a study's own options, those not given at their defaults, and how it is run.

    Args:
      study: the name of its function.
      options: what the call gave.
      own: the study's own options with their defaults.
      **defaults: of Running's fields, where they are others than its own.

    Raises:
      TypeError: for an option that is neither.
    """
    _checks.check_options(study, options, {*own, *Running._fields})
    mine = {name: options.get(name, default) for name, default in own.items()}
    return mine, Running(**(defaults | {name: value for name, value in options.items() if name not in own}))


def run(study: Study, running: Running) -> xr.Dataset:
    """Compute a study's cells and return its Dataset; with `out`, stored cells are read and the rest computed.

    Under `jax.distributed`, processes share the cells out.

    Raises:
      ValueError: for cells that do not fit `memory_gb`, an `out` of other arguments, workers without `out`.
      RuntimeError: where workers were lost; what is finished is kept.
      OSError: where the disk is full; likewise.
    """
    if running.out is None and (running.executor is not None or jax.process_count() > 1):
        raise ValueError("Expected `out` where workers or several processes share the cells out, got None.")
    check_memory(study.cells, devices.memory_budget(running.memory_gb))
    if study.plan is not None:
        attrs = study.layout.coords.attrs | {"plan": json.dumps(study.plan)}
        study = study._replace(layout=study.layout._replace(coords=study.layout.coords.assign_attrs(attrs)))
    derive = _both(study.derive, running.derive)
    if running.out is None:
        return _in_memory(study, derive, running.progress)
    out = Path(running.out).absolute()
    try:
        return _stored(study, derive, out, running)
    except KeyboardInterrupt as stop:
        words = f"Interrupted: what is finished is kept in {running.out}; run the same again to resume."
        stop.add_note(words)
        if running.progress:
            print(f"\n{words}", file=sys.stderr)
        raise


def check_memory(cells: Sequence[Cell], budget: float) -> None:
    """Raise ValueError where a cell takes more than `budget` GB."""
    largest = max((cell.need for cell in cells), key=lambda need: need.bytes, default=Need())
    if largest.bytes > 1e9 * budget:
        raise ValueError(
            f"Expected the runs to fit memory_gb={budget:g}, got about {largest.bytes / 1e9:.2g} GB for "
            f"{largest.what}; raise `memory_gb`, or take fewer seeds, inputs, recorded steps or units."
        )


def work(job: tuple[Path, Cell, str, str]) -> str:
    """Compute and store one cell, unless it is stored already, and return its name; runs in a worker.

    Raises:
      ValueError: where the worker's devices or its JAX are not those that the study was planned for.
    """
    path, cell, *wanted = job
    if store.is_done(path, cell.name):
        return cell.name
    here = [devices.traits().inner, jax.__version__]
    if here != wanted:
        raise ValueError(f"Expected workers with devices and JAX as planned, {tuple(wanted)}, got {tuple(here)}.")
    start = time.perf_counter()
    arrays = _compute(cell, store.read(path) if cell.reads else None)
    return store.put(path, cell.name, cell.where, arrays, time.perf_counter() - start)


def _compute(cell: Cell, so_far: xr.Dataset | None) -> Arrays:
    return cell.compute(*cell.args, so_far=so_far) if cell.reads else cell.compute(*cell.args)


def _in_memory(study: Study, derive: Callable[[xr.Dataset], xr.Dataset], shown: bool) -> xr.Dataset:
    dataset = layouts.empty(study.layout)
    with progress_of(study.cells, shown) as progress:
        for cell in _in_order(study.cells):
            progress.start(cell)
            layouts.put(dataset, cell.where, _compute(cell, dataset))
            progress.done(cell)
    return derive(dataset).assign_attrs(complete=1)


def _stored(study: Study, derive: Callable[[xr.Dataset], xr.Dataset], out: Path, running: Running) -> xr.Dataset:
    path = _open(study.layout, out)
    _wait_for_processes("created")
    finished = store.attributes(path)["complete"]
    todo = [] if finished else [cell for cell in study.cells if not store.is_done(path, cell.name)]
    _wait_for_processes("listed")  # the same list for all, before one of them finishes a cell
    planned = devices.traits().inner, store.attributes(path)["version_jax"]
    with progress_of(study.cells, running.progress, [cell for cell in study.cells if cell not in todo]) as progress:
        for wave in (False, True):
            jobs = [(cell, (path, cell, *planned)) for cell in todo if cell.reads == wave]
            if running.executor is not None:
                executors.run_cells(running.executor, work, jobs, progress.done)
            else:
                _raise_everywhere(_run_share(jobs[jax.process_index() :: jax.process_count()], progress))
    if jax.process_index() == 0 and not store.attributes(path)["complete"]:
        dataset = store.read(path)
        found = derive(dataset)
        store.finish(path, [cell.name for cell in study.cells], found.drop_vars(list(dataset.variables)))
    _wait_for_processes("complete")
    return store.read(path)


def _in_order(cells: Sequence[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: cell.reads)


def _both(*steps: Callable[[xr.Dataset], xr.Dataset] | None) -> Callable[[xr.Dataset], xr.Dataset]:
    def derive(dataset: xr.Dataset) -> xr.Dataset:
        for step in steps:
            dataset = dataset if step is None else step(dataset)
        return dataset

    return derive


def _run_share(jobs: Sequence[tuple[Cell, tuple[Path, Cell, str, str]]], progress: Progress) -> Exception | None:
    """Run jobs in this process; under `jax.distributed` a failure waits until the others have heard of it."""
    for cell, job in jobs:
        progress.start(cell)
        try:
            work(job)
        except Exception as error:
            if jax.process_count() == 1:
                raise
            return error
        progress.done(cell)
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


def _open(layout: Layout, out: Path) -> Path:
    """The store in `out`: a new one, or one of the same arguments, plan and versions."""
    attrs = layout.coords.attrs
    path = store.check_directory(out, attrs["arguments"])
    if path is None:
        if jax.process_index() == 0:
            store.create(layout, out)
        return out / store.STORE
    stored = store.attributes(path)
    if not stored["complete"]:
        for name in ("plan", "version_jax", "device"):  # bit-identical resumption depends on them
            if stored.get(name) != attrs.get(name):
                raise ValueError(
                    f"Expected `out` to hold an unfinished study of the same {name.removeprefix('version_')}, got "
                    f"{path} with {stored.get(name)}, not {attrs.get(name)}."
                )
    return path


def _wait_for_processes(name: str) -> None:
    """Wait until every process of `jax.distributed` is here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
