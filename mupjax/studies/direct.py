"""Networks of one shape over seeds, trained by a dynamics of their own and not through a grid's shared programs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mupjax import devices, optim
from mupjax.dynamics import dense, matrix_free
from mupjax.dynamics._arguments import check_memory as check_budget
from mupjax.dynamics.runs import map_runs, run_key
from mupjax.network import hidden_widths
from mupjax.parametrization import Parametrization
from mupjax.studies.cells import Settings
from mupjax.task import Task
from mupjax.trajectory import Trajectory

DENSE, MATRIX_FREE, LINEARIZED = "dense", "matrix-free", "linearized"
_TRAIN: dict[str, Callable[..., Trajectory]] = {
    DENSE: dense.train,
    MATRIX_FREE: matrix_free.train,
    LINEARIZED: partial(dense.train, linearize=True),
}

Width = int | tuple[int, ...]


def train_runs(
    task: Task,
    preset: Parametrization,
    dynamics: str,
    width: Width,
    rate: float,
    seeds: int,
    settings: Settings,
    key: jax.Array | None = None,
) -> Trajectory:
    """Train `seeds` networks and return their Trajectory with a runs axis, as NumPy arrays.

    As many train at once as there are CPU devices, or one where these do not fit the budget.

    Args:
      task: data and loss.
      preset: the parametrization.
      dynamics: 'dense', 'matrix-free' or 'linearized' (the first-order model of a dense network).
      width: units of every hidden layer, or one width a layer.
      rate: base learning rate.
      seeds: how many networks; seed k has the key that a grid gives it.
      settings: depth, steps, batches, what to record, ...
      key: base of the keys, by default the settings'.

    Raises:
      ValueError: for a network that does not fit `settings.memory_gb`.
    """
    options: dict[str, Any] = {}
    if dynamics == MATRIX_FREE:
        options = {"memory_gb": settings.memory_gb, "max_directions": settings.max_directions}

    def run(key: jax.Array, task: Task, rate: jax.Array, batches: Any) -> Trajectory:
        return _TRAIN[dynamics](
            task,
            preset,
            width=width,
            depth=settings.depth,
            activation=settings.activation,
            learning_rate=rate,
            steps=settings.steps,
            key=key,
            batches=batches,
            optimizer=partial(optim.sgd, momentum=settings.momentum),
            centred=settings.centred,
            spec=settings.spec,
            **options,
        )

    at_once = check_memory(task, dynamics, hidden_widths(width, settings.depth, preset), seeds, settings)
    base = settings.key if key is None else key
    keys = jax.vmap(lambda seed: run_key(base, seed, width))(jnp.arange(seeds))
    size = seeds if at_once > 1 else 1
    parts = []
    for start in range(0, seeds, size):
        found = map_runs(run, keys[start : start + size], task, jnp.asarray(rate), settings.batches)
        parts.append(jax.tree.map(np.asarray, found))
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def check_memory(task: Task, dynamics: str, width: Width, seeds: int, settings: Settings) -> int:
    """Return how many networks train at once. ValueError where not even one fits the budget beside all results."""
    common: dict[str, Any] = {"width": width, "depth": settings.depth, "steps": settings.steps}
    common["spec"] = settings.spec
    if dynamics == MATRIX_FREE:
        options = {"batches": settings.batches, "max_directions": settings.max_directions}
        one = matrix_free.estimate_bytes(task, **common, **options)
    else:
        batch_size = None if settings.batches is None else settings.batches.shape[1]
        one = dense.estimate_bytes(task, batch_size=batch_size, **common)
    copies = 2 if dynamics == LINEARIZED else 1  # every vector has its tangent
    at_once = devices.at_once(seeds)
    if copies * one.working * at_once + 2 * one.result * seeds > 1e9 * settings.memory_gb:
        at_once = 1
    advice = "take fewer steps, samples, seeds or units, or raise memory_gb"
    widest = max(width) if isinstance(width, tuple) else width
    what = f"{seeds} networks of width {widest} ({dynamics}, {at_once} at once)"
    check_budget(copies * one.working * at_once + 2 * one.result * seeds, settings.memory_gb, what, advice)
    return at_once
