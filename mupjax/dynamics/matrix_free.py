r"""Training at finite width without forming a hidden weight matrix: exact in law, for widths up to tens of millions.

A width-n network whose hidden matrices start as independent Gaussians is trained by drawing only what training asks of
them: products with the features and backward vectors of the samples seen, each conditioned on all earlier ones (theory:
`_conditioning`; cf. 'Householder Dice', Lu 2021, arXiv:2101.07464). With N samples seen over all steps it takes O(n N)
memory and O(n N^2) work, against O(n^2) and O(n^2 N) of `dense.train`, and has the same law for every n.

Matrix products are float32 ('highest') on every device, whatever JAX is told: telling new directions from rounding
depends on it. The sign of an eigenvector is not determined, so a GPU may draw another network from a key than a CPU
does; both have the same law.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mupjax import activations
from mupjax.activations import Activation
from mupjax.dynamics._arguments import (
    check_first_rate,
    check_memory,
    check_training,
    first_step_factors,
    refuse_optimizer,
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
    learning_rate: Any,
    steps: int,
    key: jax.Array,
    batches: Any = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    initial_rates: Any = None,
    centred: bool = False,
    spec: TrajectorySpec | None = None,
    max_directions: int | None = None,
    memory_gb: float | None = None,
    optimizer: Any = None,
) -> Trajectory:
    r"""Train a width-n network by SGD, exactly in law, without any n x n matrix.

    Losses, predictions and Grams have the joint law over the random initialisation that `dense.train` gives them; the
    same key does not give the same network. Inputs outside a step's batch (test inputs among them) have the right law
    at each recorded step and jointly with step 0, not between two later steps.

    Args:
      task, parametrization, width, depth, activation, learning_rate, steps, key, batches, momentum, nesterov,
        weight_decay, initial_rates, centred: as in `dense.train`; any parametrization, layers of unequal width too.
      spec: what to record; `space_time` needs full batches and Gram inputs from the training set.
      max_directions: how many directions each hidden matrix may be asked from each side; by default as many as the
        samples seen, at most the width. Directions beyond are left out, and `info.left_out` says how large they were.
      memory_gb: what the run may take, by default the device's memory (`devices`); refused before it starts where
        it needs more.
      optimizer: refused: Adam acts on entries, and a matrix that is never formed has none.

    Returns:
      A Trajectory with an Info. A run that diverges holds NaN or inf; nothing is raised.

    Raises:
      ValueError: for sizes out of range, batches of a wrong shape, a run that does not fit `memory_gb`.

    Example:
      >>> import jax, numpy as np
      >>> from mupjax.parametrization import mup
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> run = train(task, mup(), width=100_000, depth=2, learning_rate=0.5, steps=3, key=jax.random.key(0))
      >>> run.train_loss.shape, run.info.directions.tolist()
      ((4,), [[16], [12]])
    """
    spec = TrajectorySpec() if spec is None else spec
    widths = hidden_widths(width, depth, parametrization)
    refuse_optimizer(optimizer)
    check_training(task, learning_rate, steps, batches, momentum, weight_decay)
    check_space_time(spec, task, batches)
    warn_of_regime(parametrization, depth, activation)
    check_first_rate(parametrization, learning_rate)
    room = room_for(task, widths, steps, batches, max_directions)
    bytes_ = estimate_bytes(
        task, width=widths, depth=depth, steps=steps, batches=batches, spec=spec, max_directions=max_directions
    )
    advice = "take fewer steps, samples or units, or a lower max_directions"
    check_memory(bytes_.working + bytes_.result, memory_gb, f"{room} directions at width {max(widths)}", advice)
    return train_unchecked(
        task,
        key,
        learning_rate,
        batches,
        first_step_factors(initial_rates, learning_rate, depth, task.x_train.dtype),
        activation=activations.get(activation),
        scalings=scalings_of(parametrization, task, widths),
        widths=widths,
        room=room,
        steps=steps,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        centred=centred,
        spec=spec,
        source=gaussians,
    )


def train_unchecked(
    task: Task,
    key: jax.Array,
    learning_rate: Any,
    batches: Any,
    factors: Any,
    *,
    widths: tuple[int, ...],
    activation: Activation,
    scalings: Scalings,
    room: int,
    **static: Any,
) -> Trajectory:
    """Run the program in one jitted call; arguments as in `_program.Design` and `_unformed.Shape`."""
    rank = min(task.num_inputs, task.input_dim)
    schedule = learning_rate if callable(learning_rate) else None
    shape = Shape(widths, rank, task.out_dim, activation, scalings.kernels, scalings.biases, room)
    design = Design(shape, schedule=schedule, **static)
    rate = None if schedule is not None else jnp.asarray(learning_rate, task.x_train.dtype)
    return _jitted(task, key, rate, None if batches is None else jnp.asarray(batches), factors, design=design)


_jitted = partial(jax.jit, static_argnames="design")(program.run)


def gaussians(key: jax.Array, width: int, rows: int) -> Callable[[jax.Array, Any, int], jax.Array]:
    """Independent standard Gaussians: the exact law."""
    return lambda tag, before, rows: jax.random.normal(jax.random.fold_in(key, tag), (rows, width))


def room_for(task: Task, widths: tuple[int, ...], steps: int, batches: Any, max_directions: int | None) -> int:
    """Return how many directions a matrix may be asked from each side."""
    if max_directions is not None and not (isinstance(max_directions, int) and max_directions >= 1):
        raise ValueError(f"Expected `max_directions` to be a positive int, got max_directions={max_directions!r}.")
    per_step = task.num_train if batches is None else np.shape(batches)[1]
    asked = task.num_inputs + steps * per_step
    return min(asked, max(widths), asked if max_directions is None else max_directions)


def check_space_time(spec: TrajectorySpec, task: Task, batches: Any) -> None:
    """Raise ValueError where joint laws between steps are asked of inputs that are not in every batch."""
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
    batches: Any = None,
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
