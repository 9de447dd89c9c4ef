r"""Training at finite width without forming a hidden weight matrix: exact in law, for widths up to tens of millions.

A width-n network whose hidden matrices start as independent Gaussians is trained by sampling only the matrix products
that training needs: those with the features and backward vectors of the samples seen, each conditioned on all earlier
ones (theory: `implicit.gaussian_matrix`; cf. 'Householder Dice', Lu 2021, arXiv:2101.07464). With N samples seen over
all steps it takes O(n N) memory and O(n N^2) work, against O(n^2) and O(n^2 N) of `dense.train`, and has the same law
for every n.

Matrix products are float32 ('highest') on every device, whatever JAX is told: telling new directions from rounding
depends on it. The sign of an eigenvector is not determined, so a GPU may draw another network from a key than a CPU
does; both have the same law.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mupjax import _checks, activations, optim
from mupjax._checks import Key, check_counts
from mupjax.activations import Activation
from mupjax.dynamics._arguments import (
    Batches,
    FirstRates,
    check_first_rate,
    check_memory,
    check_training,
    first_step_factors,
    warn_of_regime,
)
from mupjax.dynamics.dense import Bytes
from mupjax.dynamics.implicit import program
from mupjax.dynamics.implicit.passes import Shape
from mupjax.dynamics.implicit.program import Design
from mupjax.dynamics.implicit.program import Info as Info
from mupjax.dynamics.implicit.rows import capacity
from mupjax.dynamics.implicit.scalings import Scalings, scalings_of
from mupjax.network import hidden_widths
from mupjax.optim import LearningRate, Optimizer
from mupjax.parametrization import Parametrization
from mupjax.task import Task
from mupjax.trajectory import Trajectory, TrajectorySpec


def train(
    task: Task,
    parametrization: Parametrization,
    *,
    width: int | tuple[int, ...],
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    learning_rate: LearningRate,
    steps: int,
    key: Key,
    batches: Batches = None,
    optimizer: Optimizer = optim.sgd,
    initial_rates: FirstRates = None,
    centred: bool = False,
    spec: TrajectorySpec | None = None,
    max_directions: int | None = None,
    memory_gb: float | None = None,
) -> Trajectory:
    r"""Train a width-n network by SGD, exactly in law, without any n x n matrix.

    Losses, predictions and Grams have the joint law over the random initialisation that `dense.train` gives them; the
    same key does not give the same network. For inputs outside a step's batch (test inputs among them) the law is
    exact at each recorded step and jointly with step 0, not across two later steps.

    Args:
      task: data and loss.
      parametrization: exponents of width; any but those with residual branches or input weights of non-zero mean.
      width: units of every hidden layer, or one width a layer.
      depth: number of hidden layers L.
      activation: a name, an Activation or an elementwise function.
      learning_rate: the base rate eta: a number, an Optax schedule, or a tracer.
      steps: number of updates T.
      key: random key of the initial weights, an int or a JAX key.
      batches: [T, B] indices into the training set (`batch_order`), or None for the full batch.
      optimizer: `mupjax.sgd`, or a partial of it with `momentum`, `nesterov`, `weight_decay`.
      initial_rates: [L + 1] base rates of the kernels in the first step, in place of the learning rate
        (`mupjax.calibrate_initial_rates`).
      centred: train and report f - f_0, which starts at zero.
      spec: what to record; `space_time` needs full batches and Gram inputs from the training set.
      max_directions: maximum number of query directions kept per hidden matrix and side; by default as many as samples
        are seen, at most the width. Directions beyond are left out, and `info.left_out` reports their size.
      memory_gb: GB that the run may take, by default the device's memory (`devices`); a run that needs more is refused
        before it starts.

    Returns:
      A Trajectory with an Info. A run that diverges holds NaN or inf; nothing is raised.

    Raises:
      ValueError: for sizes out of range, batches of a wrong shape, another optimizer than SGD, a parametrization made
        for another depth, a run that does not fit `memory_gb`.

    Warns:
      UserWarning: where theory says that the parametrization cannot learn at large width, once for each.

    Example:
      >>> import numpy as np
      >>> from mupjax.parametrization import mup
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> run = train(task, mup(), width=100_000, depth=2, learning_rate=0.5, steps=3, key=0)
      >>> run.train_loss.shape, run.info.directions.tolist()
      ((4,), [[16], [12]])
    """
    spec = TrajectorySpec() if spec is None else spec
    widths = hidden_widths(width, depth, parametrization)
    sgd = optim.sgd_settings(optimizer)
    check_training(task, learning_rate, steps, batches)
    check_space_time(spec, task, batches)
    warn_of_regime(parametrization, depth, activation)
    check_first_rate(parametrization, learning_rate)
    room = room_for(task, widths, steps, batches, max_directions)
    bytes_ = estimate_bytes(
        task, width=widths, depth=depth, steps=steps, batches=batches, spec=spec, max_directions=max_directions
    )
    advice = "take fewer steps, samples or units, or a lower max_directions"
    check_memory(bytes_.working + bytes_.result, memory_gb, f"{room} directions at width {max(widths)}", advice)
    phi, scalings = activations.get(activation), scalings_of(parametrization, task, widths)
    design = Design(
        shape_of(task, widths, phi, scalings, room),
        steps,
        learning_rate if callable(learning_rate) else None,
        sgd,
        centred,
        spec,
        gaussians,
    )
    rate = None if callable(learning_rate) else jnp.asarray(learning_rate, task.x_train.dtype)
    batches = None if batches is None else jnp.asarray(batches)
    factors = first_step_factors(initial_rates, learning_rate, depth, task.x_train.dtype)
    return run_design(task, _checks.key(key), rate, batches, factors, design=design)


run_design = jax.jit(program.run, static_argnames="design")


def shape_of(task: Task, widths: tuple[int, ...], activation: Activation, scalings: Scalings, room: int) -> Shape:
    """Return the shape of a network with implicit hidden matrices."""
    rank = min(task.num_inputs, task.input_dim)
    return Shape(widths, rank, task.out_dim, activation, scalings.kernels, scalings.biases, room)


def gaussians(key: jax.Array, width: int, rows: int) -> Callable[[jax.Array, ArrayLike, int], jax.Array]:
    """Independent standard Gaussians: the exact law."""
    return lambda tag, before, rows: jax.random.normal(jax.random.fold_in(key, tag), (rows, width))


def room_for(task: Task, widths: tuple[int, ...], steps: int, batches: Batches, max_directions: int | None) -> int:
    """Return the maximum number of query directions per hidden matrix and side."""
    if max_directions is not None:
        check_counts(max_directions=max_directions)
    per_step = task.num_train if batches is None else np.shape(batches)[1]
    queries = task.num_inputs + steps * per_step
    return min(queries, max(widths), queries if max_directions is None else max_directions)


def check_space_time(spec: TrajectorySpec, task: Task, batches: Batches) -> None:
    """Raise ValueError where `space_time` is to be recorded for inputs that are not in every batch."""
    if spec.space_time and (batches is not None or max(spec.resolve_gram_inputs(task)) >= task.num_train):
        raise ValueError(
            "Expected full batches and `gram_inputs` from the training set where `space_time` is recorded, got "
            f"{'batches' if batches is not None else 'test inputs'}: only inputs of every step are followed in time."
        )


def estimate_bytes(
    task: Task,
    *,
    width: int | tuple[int, ...],
    depth: int,
    steps: int,
    batches: Batches = None,
    spec: TrajectorySpec | None = None,
    max_directions: int | None = None,
) -> Bytes:
    """Estimate the memory of one run before it starts, from shapes alone; arguments as in `train`."""
    spec = TrajectorySpec() if spec is None else spec
    widths, item = hidden_widths(width, depth), task.x_train.dtype.itemsize
    at_once = task.num_inputs if batches is None else max(task.num_inputs, np.shape(batches)[1])
    rows = capacity(room_for(task, widths, steps, batches, max_directions) + at_once)
    stored = sum(2 * rows * (before + after) for before, after in pairwise(widths))
    small = 8 * rows**2 * (depth - 1)  # alongs, moved weights, their gradients, updates and momentum
    explicit = 4 * (min(task.num_inputs, task.input_dim) * widths[0] + task.out_dim * widths[-1])
    grams = len({0, *spec.resolve_gram_steps(steps)}), len(spec.resolve_gram_inputs(task))
    fields = 2 + len(spec.space_time)
    features = fields * grams[0] * grams[1] * sum(widths) if spec.grams or spec.space_time else 0
    passes = task.num_inputs * (4 * sum(widths) + 8 * max(widths))
    contraction = 8 * 2 * grams[0] * grams[1] * max(widths) * (1 if spec.grams or spec.space_time else 0)
    result = len(spec.resolve_steps(steps)) * (2 + task.num_inputs * task.out_dim) * item
    result += 8 * depth * grams[1] ** 2 * (2 * len(spec.grams) * grams[0] + len(spec.space_time) * grams[0] ** 2)
    return Bytes(working=(stored + small + explicit + features + passes) * item + contraction, result=result)
