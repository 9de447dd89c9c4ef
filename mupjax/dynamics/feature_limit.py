r"""The infinite-width limit of feature-learning parametrizations.

Coordinates of preactivations and backward vectors become independent copies of random variables, inner products their
expectations (Tensor Programs IV, Yang & Hu 2021, arXiv:2011.14522; Chen et al. 2025, arXiv:2503.09565). Expectations
are averages over `num_particles` copies that follow the conditional law of `matrix_free`; their Gaussians are scrambled
Sobol points (`quasi`), so that averages converge faster than random ones. f_0 is subtracted where it is 0 in the limit.
Independent scrambles give the standard error; what they do not show is a bias that falls as the inverse number of
particles and grows with the number of inputs: take several particles for each input and dimension. Matrix products are
those of `matrix_free`, float32 on every device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mupjax import activations, devices
from mupjax.activations import Activation
from mupjax.dynamics import matrix_free
from mupjax.dynamics import sobol as sobol_points
from mupjax.dynamics._arguments import (
    check_first_rate,
    check_memory,
    check_training,
    first_step_factors,
    refuse_optimizer,
)
from mupjax.dynamics.implicit.program import BACKWARD_FIELDS
from mupjax.dynamics.implicit.scalings import check_known, check_limit, limit_scalings, scalings_of
from mupjax.dynamics.runs import map_runs
from mupjax.network import hidden_widths
from mupjax.parametrization import Parametrization
from mupjax.task import Task
from mupjax.trajectory import Trajectory, TrajectorySpec

DEFAULT_PARTICLES = 4096
PILOT_RUNS = 8
MAX_RUNS = 4096


class FeatureInfo(NamedTuple):
    """What the limit knows of its own computation.

    Attributes:
      num_particles: copies that one run averages over.
      num_runs: independent runs averaged.
      directions, left_out: [num_runs, 2, L-1], as in `matrix_free.Info`.
      bytes: the estimate for all that was held at once.
    """

    num_particles: int
    num_runs: int
    directions: Any
    left_out: Any
    bytes: int


def train(
    task: Task,
    parametrization: Parametrization,
    *,
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    learning_rate: Any,
    steps: int,
    key: jax.Array,
    num_particles: int | None = None,
    num_runs: int | None = None,
    error: float | None = None,
    batches: Any = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    initial_rates: Any = None,
    centred: bool = False,
    spec: TrajectorySpec | None = None,
    force: bool = False,
    max_directions: int | None = None,
    memory_gb: float | None = None,
    max_seconds: float = 600.0,
    optimizer: Any = None,
) -> Trajectory:
    r"""Train the infinitely wide network of a parametrization that learns features, and return its trajectory.

    Args:
      task, parametrization, depth, activation, learning_rate, steps, batches, momentum, nesterov, weight_decay,
        initial_rates: as in `dense.train`.
      centred: train f - f_0; of no effect where f_0 is 0, as it is but for weights of non-zero mean.
      key: random key of the scrambles.
      num_particles: copies averaged over, 4096 by default; powers of two are best.
      num_runs: independent runs, 1 by default; with two or more their mean is returned, with standard errors.
      error: instead of `num_runs`: runs are added until the largest standard error of a recorded prediction is at most
        this.
      spec: what to record; `space_time` needs full batches and Gram inputs from the training set.
      force: compute a kernel-regime parametrization all the same, as a network of width `num_particles` whose f_0 is
        subtracted: within O(num_particles^-1/2) of `kernel_limit.train(centred=True)`.
      max_directions: as in `matrix_free.train`.
      memory_gb: what the runs may take at once, by default the device's memory (`devices`); refused before they
        start where they need more.
      max_seconds: with `error`, how long all runs may take.
      optimizer: refused, as in `matrix_free.train`.

    Returns:
      A Trajectory of NumPy arrays, the mean over runs; `stderr` a Trajectory of standard errors (None for one run),
      `info` a FeatureInfo. A run that diverges gives NaN or inf.

    Raises:
      ValueError: for a parametrization without this limit, sizes out of range, particles that do not fit `memory_gb`,
        an `error` that cannot be met in `max_seconds`.

    Example:
      >>> import jax, numpy as np
      >>> from mupjax.parametrization import mup
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> settings = {"depth": 2, "learning_rate": 0.5, "steps": 3, "key": jax.random.key(0)}
      >>> run = train(task, mup(), num_particles=256, num_runs=4, **settings)
      >>> bool(run.train_loss[0] == 0.5), run.stderr.predictions.shape
      (True, (4, 4, 1))
    """
    return average(sample(**locals()))


def sample(
    task: Task,
    parametrization: Parametrization,
    *,
    key: jax.Array,
    num_runs: int | None = None,
    error: float | None = None,
    max_seconds: float = 600.0,
    optimizer: Any = None,
    **settings: Any,
) -> Trajectory:
    """Return the independent runs themselves: a Trajectory with the runs as leading axis of every leaf.

    Arguments and errors as in `train`.
    """
    refuse_optimizer(optimizer)
    if error is None:
        return _runs(task, parametrization, key=key, num_runs=1 if num_runs is None else num_runs, **settings)
    if num_runs is not None:
        raise ValueError(f"Expected `num_runs` or `error`, got both: num_runs={num_runs}, error={error}.")
    if not (math.isfinite(error) and error > 0):
        raise ValueError(f"Expected `error` to be finite and positive, got error={error!r}.")
    if not max_seconds > 0:
        raise ValueError(f"Expected `max_seconds` to be positive, got max_seconds={max_seconds!r}.")
    return _until(error, max_seconds, key, partial(_runs, task, parametrization, **settings))


def _runs(
    task: Task,
    parametrization: Parametrization,
    *,
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    learning_rate: Any,
    steps: int,
    key: jax.Array,
    num_particles: int | None = None,
    num_runs: int,
    batches: Any = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    initial_rates: Any = None,
    centred: bool = False,
    spec: TrajectorySpec | None = None,
    force: bool = False,
    max_directions: int | None = None,
    memory_gb: float | None = None,
) -> Trajectory:
    """A given number of runs in one compiled program."""
    spec = TrajectorySpec() if spec is None else spec
    activation = activations.get(activation)
    check_training(task, learning_rate, steps, batches, momentum, weight_decay)
    matrix_free.check_space_time(spec, task, batches)
    particles = _positive("num_particles", DEFAULT_PARTICLES if num_particles is None else num_particles)
    runs = _positive("num_runs", num_runs)
    kind = check_limit(parametrization, depth, activation, force=force)
    check_first_rate(parametrization, learning_rate)
    check_known(parametrization, depth, activation, momentum)
    widths = hidden_widths(particles, depth)
    if kind == "feature":
        scalings = limit_scalings(parametrization, activation, task, widths)
    else:
        scalings = scalings_of(parametrization, task, widths)
    need = estimate_bytes(
        task, depth=depth, steps=steps, num_particles=particles, num_runs=runs, batches=batches, spec=spec,
        max_directions=max_directions,
    )  # fmt: skip
    advice = "take fewer particles, steps or samples, or a lower max_directions"
    check_memory(need, memory_gb, f"{particles} particles", advice)
    schedule = learning_rate if callable(learning_rate) else None
    static = (
        ("activation", activation),
        ("centred", centred or not any(parametrization.mean)),  # f_0 is 0, but for weights of non-zero mean
        ("momentum", momentum),
        ("nesterov", nesterov),
        ("steps", steps),
        ("room", matrix_free.room_for(task, widths, steps, batches, max_directions)),
        ("scalings", scalings),
        ("source", sobol),
        ("spec", spec),
        ("weight_decay", weight_decay),
        ("widths", widths),
    )
    factors = first_step_factors(initial_rates, learning_rate, depth, task.x_train.dtype)
    keys = jax.random.split(key, runs)
    rate = jnp.zeros(()) if schedule is not None else jnp.asarray(learning_rate, task.x_train.dtype)
    batches = None if batches is None else jnp.asarray(batches)
    found = map_runs(_runner(schedule, static), keys, task, rate, batches, factors)
    found = jax.tree.map(np.asarray, found)
    if found.space_time is not None:  # backward vectors are n dLoss/dh in the limit
        scaled = {name: getattr(found.space_time, name) for name in BACKWARD_FIELDS}
        scaled = {name: array * float(particles) ** 2 for name, array in scaled.items() if array is not None}
        found = found._replace(space_time=found.space_time._replace(**scaled))
    return found._replace(info=FeatureInfo(particles, runs, found.info.directions, found.info.left_out, need))


def average(runs: Trajectory) -> Trajectory:
    """Return the mean of a Trajectory with a runs axis, with the standard errors of all its leaves as `stderr`."""
    values = runs._replace(step=None, info=None)
    mean = jax.tree.map(lambda leaf: np.mean(leaf, axis=0, dtype=np.float64), values)
    stderr, count = None, len(runs.train_loss)
    if count > 1:
        errors = jax.tree.map(lambda leaf: np.std(leaf, axis=0, ddof=1, dtype=np.float64) / count**0.5, values)
        stderr = errors._replace(step=runs.step[0])
    return mean._replace(step=runs.step[0], info=runs.info, stderr=stderr)


def estimate_bytes(
    task: Task,
    *,
    depth: int,
    steps: int,
    num_particles: int = DEFAULT_PARTICLES,
    num_runs: int = 1,
    batches: Any = None,
    spec: TrajectorySpec | None = None,
    max_directions: int | None = None,
) -> int:
    """Estimate the memory of `train` before it starts, from shapes alone: as many runs at once as the devices take."""
    one = matrix_free.estimate_bytes(
        task,
        width=num_particles,
        depth=depth,
        steps=steps,
        batches=batches,
        spec=spec,
        max_directions=max_directions,
    )
    return one.working * devices.at_once(num_runs) + 2 * one.result * num_runs


def sobol(key: jax.Array, width: int, rows: int) -> Callable[[jax.Array, Any, int], jax.Array]:
    """A space's Gaussians: row k is dimension k of one scrambled Sobol sequence, so that rows are balanced jointly."""
    directions = sobol_points.scrambled_directions(jax.random.fold_in(key, 0), rows, width)
    shifts = jax.random.bits(jax.random.fold_in(key, 1), (rows,), jnp.uint32)

    def draw(tag: jax.Array, before: Any, count: int) -> jax.Array:
        chosen = (jax.lax.dynamic_slice_in_dim(array, before, count) for array in (directions, shifts))
        return sobol_points.normal_rows(*chosen, num_points=width)

    return draw


@lru_cache(maxsize=32)
def _runner(schedule: Any, static: tuple[tuple[str, Any], ...]) -> Callable[..., Trajectory]:
    """The same function for the same settings, so that repeated calls find their compiled program."""

    def run(key: jax.Array, task: Task, rate: jax.Array, batches: Any, factors: Any) -> Trajectory:
        rate = rate if schedule is None else schedule
        return matrix_free.train_unchecked(task, key, rate, batches, factors, **dict(static))

    return run


def _until(error: float, max_seconds: float, key: jax.Array, more: Callable[..., Trajectory]) -> Trajectory:
    """Add runs, first a pilot, until the standard error of every prediction is at most `error`."""
    started = time.perf_counter()
    parts, total, seconds = [], 0, math.inf
    while True:
        before = time.perf_counter()
        parts.append(more(key=jax.random.fold_in(key, len(parts)), num_runs=PILOT_RUNS))
        seconds = min(seconds, (time.perf_counter() - before) / PILOT_RUNS)  # the first call compiles
        total += PILOT_RUNS
        merged = _merge(parts)
        reached = float(np.max(average(merged).stderr.predictions))
        if reached <= error or not math.isfinite(reached):
            return merged
        wanted = math.ceil(1.1 * total * (reached / error) ** 2)
        left = max_seconds - (time.perf_counter() - started)
        if wanted > MAX_RUNS or left < 0 or (len(parts) > 1 and seconds * (wanted - total) > left):
            raise ValueError(
                f"Expected `error` to be within reach of {max_seconds:g} s and {MAX_RUNS} runs, got error={error:g}: "
                f"{total} runs of {merged.info.num_particles} particles reached {reached:.2g} in "
                f"{max_seconds - left:.0f} s, and it would take about {wanted} runs. Take more `num_particles` or "
                "`max_seconds`."
            )


def _merge(parts: list[Trajectory]) -> Trajectory:
    values = [part._replace(info=None) for part in parts]
    merged = jax.tree.map(lambda *leaves: np.concatenate(leaves), *values)
    infos = [part.info for part in parts]
    return merged._replace(
        info=infos[0]._replace(
            num_runs=sum(info.num_runs for info in infos),
            directions=np.concatenate([info.directions for info in infos]),
            left_out=np.concatenate([info.left_out for info in infos]),
            bytes=max(info.bytes for info in infos),
        )
    )


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"Expected `{name}` to be a positive int, got {name}={value!r}.")
    return value
