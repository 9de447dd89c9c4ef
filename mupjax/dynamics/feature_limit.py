r"""The infinite-width limit of feature-learning parametrizations.

Coordinates of preactivations and backward vectors become independent copies of random variables, inner products their
expectations (Tensor Programs IV, Yang & Hu 2021, arXiv:2011.14522; Chen et al. 2025, arXiv:2503.09565). Expectations
are averages over `num_particles` copies that follow the conditional law of `matrix_free`; their Gaussians are scrambled
Sobol points (`dynamics.sobol`), so that averages converge faster than random ones. f_0 is subtracted where it is 0 in
the limit. Independent scrambles give the standard error; what they do not show is a bias that falls as the inverse
number of particles and grows with the number of inputs: take several particles for each input and dimension. Matrix
products are those of `matrix_free`, float32 on every device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mupjax import _checks, activations, devices, optim
from mupjax._checks import Key, check_counts, check_memory, check_positive
from mupjax.activations import Activation
from mupjax.dynamics import matrix_free
from mupjax.dynamics import sobol as sobol_points
from mupjax.dynamics._arguments import Batches, FirstRates, check_first_rate, check_training, first_step_factors
from mupjax.dynamics.dense import Bytes
from mupjax.dynamics.implicit.program import BACKWARD_FIELDS, Design
from mupjax.dynamics.implicit.scalings import check_known, check_limit, limit_scalings, scalings_of
from mupjax.dynamics.runs import map_runs
from mupjax.network import hidden_widths
from mupjax.optim import LearningRate, Optimizer
from mupjax.parametrization import Parametrization
from mupjax.task import Task
from mupjax.trajectory import Trajectory, TrajectorySpec

DEFAULT_PARTICLES = 4096
PILOT_RUNS = 8
MAX_RUNS = 4096


class FeatureInfo(NamedTuple):
    """Size and accuracy of a computation of the limit.

    Attributes:
      num_particles: copies that one run averages over.
      num_runs: independent runs averaged.
      directions, left_out: [num_runs, 2, L-1], as in `matrix_free.Info`.
      bytes: the estimate for all that was held at once.
    """

    num_particles: int
    num_runs: int
    directions: np.ndarray
    left_out: np.ndarray
    bytes: int


class _Prepared(NamedTuple):
    """Checked arguments, as the compiled program takes them.

    Attributes:
      task: data and loss.
      rate: the base learning rate, None where the design holds a schedule.
      batches: [T, B] or None.
      factors: [L + 1] of the first step's rates, or None.
      design: what is static; the width of its shape is the number of particles.
      memory: of one run.
      budget_gb: what all runs may take at once.
    """

    task: Task
    rate: jax.Array | None
    batches: jax.Array | None
    factors: jax.Array | None
    design: Design
    memory: Bytes
    budget_gb: float


def train(
    task: Task,
    parametrization: Parametrization,
    *,
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    learning_rate: LearningRate,
    steps: int,
    key: Key,
    num_particles: int | None = None,
    num_runs: int | None = None,
    error: float | None = None,
    batches: Batches = None,
    optimizer: Optimizer = optim.sgd,
    initial_rates: FirstRates = None,
    centred: bool = False,
    spec: TrajectorySpec | None = None,
    force: bool = False,
    max_directions: int | None = None,
    memory_gb: float | None = None,
    max_seconds: float = 600.0,
) -> Trajectory:
    r"""Train the infinitely wide network of a parametrization that learns features, and return its trajectory.

    Args:
      task: data and loss.
      parametrization: one that learns features at infinite width, such as `mup()`.
      depth: number of hidden layers L.
      activation: a name, an Activation or an elementwise function.
      learning_rate: the base rate eta: a number or an Optax schedule.
      steps: number of updates T.
      key: random key of the Sobol scrambles, an int or a JAX key.
      num_particles: copies averaged over, 4096 by default; powers of two are best.
      num_runs: independent runs, 1 by default; with two or more their mean is returned, with standard errors.
      error: largest standard error of a recorded prediction: runs are added until it is met. Replaces `num_runs`.
      batches: [T, B] indices into the training set (`batch_order`), or None for the full batch.
      optimizer: `mupjax.sgd`, or a partial of it with `momentum`, `nesterov`, `weight_decay`.
      initial_rates: [L + 1] base rates of the kernels in the first step, in place of the learning rate
        (`mupjax.calibrate_initial_rates`).
      centred: train f - f_0; of no effect where f_0 is 0, as it is unless weights have a non-zero mean.
      spec: what to record; `space_time` needs full batches and Gram inputs from the training set.
      force: compute a kernel-regime parametrization all the same, as a network of width `num_particles` whose f_0 is
        subtracted: within O(num_particles^-1/2) of `kernel_limit.train(centred=True)`.
      max_directions: maximum number of query directions kept per hidden matrix and side, as in `matrix_free.train`.
      memory_gb: GB that all runs may take at once, by default the device's memory (`devices`); runs that need more are
        refused before they start.
      max_seconds: with `error`, seconds that all runs may take.

    Returns:
      A Trajectory of NumPy arrays, the mean over runs; `stderr` a Trajectory of standard errors (None for one run),
      `info` a FeatureInfo. A run that diverges gives NaN or inf.

    Raises:
      ValueError: for a parametrization without this limit, sizes out of range, another optimizer than SGD, particles
        that do not fit `memory_gb`, an `error` that cannot be met in `max_seconds`.

    Example:
      >>> import numpy as np
      >>> from mupjax.parametrization import mup
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> settings = {"depth": 2, "learning_rate": 0.5, "steps": 3, "key": 0}
      >>> run = train(task, mup(), num_particles=256, num_runs=4, **settings)
      >>> bool(run.train_loss[0] == 0.5), run.stderr.predictions.shape
      (True, (4, 4, 1))
    """
    return average(sample(**locals()))


def sample(
    task: Task,
    parametrization: Parametrization,
    *,
    key: Key,
    num_runs: int | None = None,
    error: float | None = None,
    max_seconds: float = 600.0,
    **options: Any,
) -> Trajectory:
    """Return the independent runs themselves: a Trajectory with the runs as leading axis of every leaf.

    Args:
      task, parametrization, key, num_runs, error, max_seconds: as in `train`.
      **options: the other arguments of `train`.

    Raises:
      ValueError: as in `train`.

    Example:
      >>> import numpy as np
      >>> from mupjax.parametrization import mup
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> settings = {"depth": 2, "learning_rate": 0.5, "steps": 3, "key": 0}
      >>> sample(task, mup(), num_particles=256, num_runs=4, **settings).train_loss.shape
      (4, 4)
    """
    if error is not None:
        if num_runs is not None:
            raise ValueError(f"Expected `num_runs` or `error`, got both: num_runs={num_runs}, error={error}.")
        check_positive(error=error)
        if not max_seconds > 0:
            raise ValueError(f"Expected `max_seconds` to be positive, got max_seconds={max_seconds!r}.")
    num_runs = 1 if num_runs is None else num_runs
    check_counts(num_runs=num_runs)
    key, prepared = _checks.key(key), _prepare(task, parametrization, **options)
    return _runs(prepared, key, num_runs) if error is None else _until(error, max_seconds, key, prepared)


def _prepare(
    task: Task,
    parametrization: Parametrization,
    *,
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    learning_rate: LearningRate,
    steps: int,
    num_particles: int | None = None,
    batches: Batches = None,
    optimizer: Optimizer = optim.sgd,
    initial_rates: FirstRates = None,
    centred: bool = False,
    spec: TrajectorySpec | None = None,
    force: bool = False,
    max_directions: int | None = None,
    memory_gb: float | None = None,
) -> _Prepared:
    """Check the arguments of `train` that all runs share."""
    spec = TrajectorySpec() if spec is None else spec
    activation, sgd = activations.get(activation), optim.sgd_settings(optimizer)
    check_training(task, learning_rate, steps, batches)
    matrix_free.check_space_time(spec, task, batches)
    particles = DEFAULT_PARTICLES if num_particles is None else num_particles
    check_counts(num_particles=particles)
    kind = check_limit(parametrization, depth, activation, force=force)
    check_first_rate(parametrization, learning_rate)
    check_known(parametrization, depth, activation, sgd.momentum)
    widths = hidden_widths(particles, depth)
    if kind == "feature":
        scalings = limit_scalings(parametrization, activation, task, widths)
    else:
        scalings = scalings_of(parametrization, task, widths)
    room = matrix_free.room_for(task, widths, steps, batches, max_directions)
    design = Design(
        matrix_free.shape_of(task, widths, activation, scalings, room),
        steps,
        learning_rate if callable(learning_rate) else None,
        sgd,
        centred or not any(parametrization.mean),  # f_0 is 0, but for weights of non-zero mean
        spec,
        sobol,
    )
    dtype = task.x_train.dtype
    memory = {"batches": batches, "spec": spec, "max_directions": max_directions}
    return _Prepared(
        task,
        None if callable(learning_rate) else jnp.asarray(learning_rate, dtype),
        None if batches is None else jnp.asarray(batches),
        first_step_factors(initial_rates, learning_rate, depth, dtype),
        design,
        matrix_free.estimate_bytes(task, width=particles, depth=depth, steps=steps, **memory),
        devices.memory_budget(memory_gb),
    )


def _runs(prepared: _Prepared, key: jax.Array, num_runs: int) -> Trajectory:
    """Compute a given number of runs in one compiled program."""
    task, rate, batches, factors, design, memory, budget_gb = prepared
    particles, need = design.shape.widths[0], _bytes_of_runs(memory, num_runs)
    advice = "take fewer particles, steps or samples, or a lower max_directions"
    check_memory(need, budget_gb, f"{particles} particles", advice)
    keys = jax.random.split(key, num_runs)
    runs = jax.tree.map(np.asarray, map_runs(_runner(design), keys, task, rate, batches, factors))
    if runs.space_time is not None:  # backward vectors are n dLoss/dh in the limit
        scaled = {name: getattr(runs.space_time, name) for name in BACKWARD_FIELDS}
        scaled = {name: array * float(particles) ** 2 for name, array in scaled.items() if array is not None}
        runs = runs._replace(space_time=runs.space_time._replace(**scaled))
    return runs._replace(info=FeatureInfo(particles, num_runs, runs.info.directions, runs.info.left_out, need))


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
    batches: Batches = None,
    spec: TrajectorySpec | None = None,
    max_directions: int | None = None,
) -> int:
    """Estimate the memory of `train` before it starts, from shapes alone: as many runs at once as the devices take.

    Args:
      task, depth, steps, num_particles, num_runs, batches, spec, max_directions: as in `train`.

    Returns:
      Bytes that all runs take at once.

    Example:
      >>> import numpy as np
      >>> estimate_bytes(Task(np.eye(4), np.ones((4, 1))), depth=2, steps=3, num_particles=256) < 1e6
      True
    """
    one_run = matrix_free.estimate_bytes(
        task,
        width=num_particles,
        depth=depth,
        steps=steps,
        batches=batches,
        spec=spec,
        max_directions=max_directions,
    )
    return _bytes_of_runs(one_run, num_runs)


def _bytes_of_runs(one_run: Bytes, num_runs: int) -> int:
    return one_run.working * devices.at_once(num_runs) + 2 * one_run.result * num_runs


def sobol(key: jax.Array, width: int, rows: int) -> Callable[[jax.Array, ArrayLike, int], jax.Array]:
    """A space's Gaussians: row k is dimension k of one scrambled Sobol sequence, so that rows are balanced jointly."""
    directions = sobol_points.scrambled_directions(jax.random.fold_in(key, 0), rows, width)
    shifts = jax.random.bits(jax.random.fold_in(key, 1), (rows,), jnp.uint32)

    def draw(_tag: jax.Array, before: ArrayLike, count: int) -> jax.Array:
        chosen = (jax.lax.dynamic_slice_in_dim(array, before, count) for array in (directions, shifts))
        return sobol_points.normal_rows(*chosen, num_points=width)

    return draw


@lru_cache(maxsize=32)
def _runner(design: Design) -> Callable[..., Trajectory]:
    """The same function for the same design, so that repeated calls find their compiled program."""

    def run(
        key: jax.Array,
        task: Task,
        rate: jax.Array | None,
        batches: jax.Array | None,
        factors: jax.Array | None,
    ) -> Trajectory:
        return matrix_free.run_design(task, key, rate, batches, factors, design=design)

    return run


def _until(error: float, max_seconds: float, key: jax.Array, prepared: _Prepared) -> Trajectory:
    """Add runs, first a pilot, until the standard error of every prediction is at most `error`."""
    started = time.perf_counter()
    parts, total, seconds = [], 0, math.inf
    while True:
        before = time.perf_counter()
        parts.append(_runs(prepared, jax.random.fold_in(key, len(parts)), PILOT_RUNS))
        seconds = min(seconds, (time.perf_counter() - before) / PILOT_RUNS)  # the first call compiles
        total += PILOT_RUNS
        merged = _merge(parts)
        reached = float(np.max(average(merged).stderr.predictions))  # pyright: ignore[reportOptionalMemberAccess]
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
