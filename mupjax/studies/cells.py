"""Settings of a study's runs, and training of one network over several seeds by any dynamics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mupjax import devices
from mupjax.activations import Activation
from mupjax.dynamics import dense, matrix_free
from mupjax.dynamics.runs import BATCHES, run_key
from mupjax.network import hidden_widths
from mupjax.optim import Optimizer
from mupjax.parametrization import Parametrization
from mupjax.sweeps.cell import in_chunks
from mupjax.sweeps.runner import Need
from mupjax.task import Task, batch_order
from mupjax.trajectory import Trajectory, TrajectorySpec

DENSE, MATRIX_FREE, LINEARIZED = "dense", "matrix-free", "linearized"
DEFAULT_LEARNING_RATE, DEFAULT_LEARNING_RATES = 1.0, {"ntp": 0.3}  # the second of the parametrizations that it names
MAX_RECORDED_STEPS = 200

Width = int | tuple[int, ...]


class Settings(NamedTuple):
    """Settings shared by every run of a study.

    Attributes:
      key: base of the random keys.
      depth: number of hidden layers.
      activation: of these.
      steps: how many updates.
      centred: whether f - f_0 is trained.
      batch_size: inputs a step sees; None is the full batch.
      optimizer: a callable (scaling, learning_rate) -> optax.GradientTransformation.
      spec: what is recorded.
      memory_gb: memory budget of the largest cell.
      max_directions: maximum number of query directions kept per implicit matrix and side (`dynamics.matrix_free`).
    """

    key: jax.Array
    depth: int
    activation: Activation
    steps: int
    centred: bool
    batch_size: int | None
    optimizer: Optimizer
    spec: TrajectorySpec
    memory_gb: float
    max_directions: int | None = None

    def batches(self, task: Task) -> jax.Array | None:
        """Return [T, B] inputs of every step, the same for all networks and limits; None for the full batch."""
        if self.batch_size is None:
            return None
        return batch_order(jax.random.fold_in(self.key, BATCHES), task.num_train, self.batch_size, self.steps)


def recorded(steps: int, gram_steps: tuple[int, ...]) -> TrajectorySpec:
    """Return a spec of about 200 evenly spaced steps (all where there are fewer), with Grams at `gram_steps`.

    Raises:
      ValueError: where the Gram steps do not begin with 0.
    """
    stride = -(-steps // MAX_RECORDED_STEPS)
    spec = TrajectorySpec(steps=tuple(sorted({*range(0, steps + 1, stride), steps})), gram_steps=gram_steps)
    if spec.resolve_gram_steps(steps)[0] != 0:
        raise ValueError(f"Expected `gram_steps` to begin with 0, got gram_steps={tuple(gram_steps)!r}.")
    return spec


def learning_rates(given: float | Mapping[str, float] | None, names: list[str]) -> list[float]:
    """Return a base rate for every parametrization. ValueError for rates that are not positive, unknown names."""
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise ValueError(f"Expected `learning_rate` to name parametrizations in {names}, got {unknown[0]!r}.")
        rates = [float(given.get(name, DEFAULT_LEARNING_RATES.get(name, DEFAULT_LEARNING_RATE))) for name in names]
    elif given is None:
        rates = [DEFAULT_LEARNING_RATES.get(name, DEFAULT_LEARNING_RATE) for name in names]
    else:
        rates = [float(given)] * len(names)
    for rate in rates:
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"Expected `learning_rate` to be finite and positive, got learning_rate={rate!r}.")
    return rates


def train_seeds(
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
      settings: depth, steps, what to record, ...
      key: base of the keys, by default the settings'.
    """
    train = partial(dense.train, linearize=dynamics == LINEARIZED)
    if dynamics == MATRIX_FREE:
        options = {"memory_gb": settings.memory_gb, "max_directions": settings.max_directions}
        train = partial(matrix_free.train, **options)

    def run(key: jax.Array, task: Task, rate: jax.Array, batches: jax.Array | None) -> Trajectory:
        return train(
            task,
            preset,
            width=width,
            depth=settings.depth,
            activation=settings.activation,
            learning_rate=rate,
            steps=settings.steps,
            key=key,
            batches=batches,
            optimizer=settings.optimizer,
            centred=settings.centred,
            spec=settings.spec,
        )

    layers = hidden_widths(width, settings.depth, preset)
    size = seeds if seeds_at_once(task, dynamics, layers, seeds, settings)[0] > 1 else 1
    base = settings.key if key is None else key
    keys = jax.vmap(lambda seed: run_key(base, seed, width))(jnp.arange(seeds))
    chunks = (keys[start : start + size] for start in range(0, seeds, size))
    return in_chunks(run, chunks, seeds, task, jnp.asarray(rate), settings.batches(task))


def need(task: Task, dynamics: str, width: Width, seeds: int, settings: Settings) -> Need:
    """Return the memory that networks of one width need."""
    at_once, needed = seeds_at_once(task, dynamics, width, seeds, settings)
    widest = max(width) if isinstance(width, tuple) else width
    return Need(needed, f"{seeds} networks of width {widest} ({dynamics}, {at_once} at once)")


def seeds_at_once(task: Task, dynamics: str, width: Width, seeds: int, settings: Settings) -> tuple[int, float]:
    """Return how many networks train at once, and the bytes that they take beside all results."""
    estimate = partial(dense.estimate_bytes, batch_size=settings.batch_size)
    if dynamics == MATRIX_FREE:
        options = {"batches": settings.batches(task), "max_directions": settings.max_directions}
        estimate = partial(matrix_free.estimate_bytes, **options)
    one = estimate(task, width=width, depth=settings.depth, steps=settings.steps, spec=settings.spec)
    copies = 2 if dynamics == LINEARIZED else 1  # every vector has its tangent
    at_once = devices.at_once(seeds)
    if copies * one.working * at_once + 2 * one.result * seeds > 1e9 * settings.memory_gb:
        at_once = 1
    return at_once, copies * one.working * at_once + 2 * one.result * seeds
