"""Train a cell of a grid: its runs as one axis, in chunks, through one compiled program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from mupjax.dynamics import padded
from mupjax.dynamics.observing import Observer
from mupjax.dynamics.padded import Family
from mupjax.dynamics.runs import BATCHES, map_runs, run_key
from mupjax.network import hidden_widths
from mupjax.observers import named
from mupjax.observers.updates import FeatureFunction
from mupjax.optim import ScalingTree
from mupjax.sweeps.grid import Grid
from mupjax.sweeps.plan import Cell, Program
from mupjax.task import Task, batch_order
from mupjax.trajectory import Trajectory


class Run(NamedTuple):
    """Numbers of one run, or arrays of many.

    Attributes:
      member: which network of the program.
      key: of the run.
      rate: base learning rate.
    """

    member: padded.Member
    key: jax.Array
    rate: Any


def batches_of(task: Task, grid: Grid) -> jax.Array | None:
    """Return [T, B] inputs of every step, the same for all runs, or None for the full batch."""
    if grid.batch_size is None:
        return None
    key = tuple(jax.random.key_data(grid.key).tolist()), str(jax.random.key_impl(grid.key))
    return _batches(*key, task.num_train, grid.batch_size, grid.steps)


@lru_cache(maxsize=8)
def _batches(data: tuple[int, ...], impl: str, num_train: int, batch_size: int, steps: int) -> jax.Array:
    base = jax.random.wrap_key_data(jnp.array(data, jnp.uint32), impl=impl)
    return batch_order(jax.random.fold_in(base, BATCHES), num_train, batch_size, steps)


def run_cell(task: Task, grid: Grid, program: Program, cell: Cell) -> Trajectory:
    """Train all runs of a cell; a Trajectory of NumPy arrays [widths, rates, seeds, ...]."""
    family = Family(
        program.widths,
        grid.activation,
        grid.optimizers[cell.optimizer][1],
        grid.steps,
        grid.centred,
        grid.spec,
        program.padded,
        program.traits,
    )
    shape = _shape(cell, grid)
    trainer = _trainer(family, grid.observe, grid.observe_every)
    chunks = _chunks(task, grid, cell, program.chunk)
    whole = in_chunks(trainer, chunks, math.prod(shape), task, batches_of(task, grid), inner=program.inner)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), whole)


def in_chunks(
    fn: Callable[..., PyTree], chunks: Iterable[PyTree], num_runs: int, *shared: PyTree, inner: str | None = None
) -> PyTree:
    """Compute `fn(run, *shared)` for every run, a chunk of runs a call (`map_runs`); a pytree of NumPy arrays.

    Args:
      fn: a pure function of one run and the shared arguments.
      chunks: pytrees of runs of equal length; what the last has beyond `num_runs` is dropped.
      num_runs: of all chunks together.
      *shared: pytrees that every run sees whole.
      inner: 'map' or 'vmap', by default the device's.
    """
    whole, start = None, 0
    for chunk in chunks:
        found = map_runs(fn, chunk, *shared, inner=inner)
        if whole is None:
            whole = jax.tree.map(lambda leaf: np.empty((num_runs, *leaf.shape[1:]), leaf.dtype), found)
        stop = min(start + jax.tree.leaves(found)[0].shape[0], num_runs)
        jax.tree.map(partial(_copy, slice(start, stop)), whole, found)
        start = stop
        del found  # before the next call's
    return whole


def _copy(here: slice, whole: np.ndarray, part: jax.Array) -> None:
    whole[here] = np.asarray(part)[: here.stop - here.start]


@lru_cache(maxsize=64)
def _trainer(family: Family, names: tuple[str, ...], every: int) -> Callable[[Run, Task, jax.Array | None], Trajectory]:
    """One function a family, so that `map_runs` finds its compiled program again."""

    def train(run: Run, task: Task, batches: jax.Array | None) -> Trajectory:
        def observe(features: FeatureFunction, scaling: ScalingTree) -> tuple[tuple[str, Observer], ...]:
            inputs = task.x_train[: named.INPUTS]
            return named.observers(names, every, named.Observed(features, scaling, task, family.centred, inputs))

        return padded.train(task, run.member, run.key, run.rate, batches, family, observe if names else None)

    return train


def _chunks(task: Task, grid: Grid, cell: Cell, size: int) -> Iterator[Run]:
    """The cell's runs in arrays of equal length; the last is filled up with copies of the last run."""
    preset, depth = grid.parametrizations[cell.parametrization], grid.depths[cell.depth]
    widths = [hidden_widths(grid.widths[i], depth) for i in cell.widths]
    members = [padded.member(preset, task, layers) for layers in widths]
    rates = np.array(grid.rates[cell.optimizer], task.x_train.dtype)
    order = np.stack(np.unravel_index(np.arange(len(widths) * len(rates) * grid.seeds), _shape(cell, grid)), axis=1)
    for start in range(0, len(order), size):
        one, rate, seed = order[np.minimum(np.arange(start, start + size), len(order) - 1)].T
        chosen = jax.tree.map(lambda *leaves, one=one: np.stack(leaves)[one], *members)
        yield Run(chosen, _keys(grid.key, seed, np.array([max(layers) for layers in widths])[one]), rates[rate])


def _shape(cell: Cell, grid: Grid) -> tuple[int, int, int]:
    return len(cell.widths), len(grid.rates[cell.optimizer]), grid.seeds


@jax.jit
def _keys(base: jax.Array, seeds: jax.Array, widths: jax.Array) -> jax.Array:
    return jax.vmap(lambda seed, width: run_key(base, seed, width))(jnp.asarray(seeds), jnp.asarray(widths))
