"""The infinite-width limit of a parametrization, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from mupjax import activations, classification
from mupjax.activations import Activation
from mupjax.dynamics import feature_limit, kernel_limit
from mupjax.parametrization import Parametrization
from mupjax.task import Task
from mupjax.trajectory import Trajectory, TrajectorySpec


def infinite(
    task: Task,
    parametrization: Parametrization,
    *,
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    learning_rate: Any,
    num_steps: int,
    key: jax.Array,
    centred: bool = False,
    batches: Any = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    spec: TrajectorySpec | None = None,
    **options: Any,
) -> Trajectory:
    """Train at infinite width: `feature_limit` or `kernel_limit`, by the classification of the parametrization.

    Args:
      task, parametrization, depth, activation, learning_rate, num_steps, key, batches, momentum, nesterov, spec: as in
        both.
      centred: train f - f_0; of no effect in the feature-learning limit where f_0 = 0, as it is but for means.
      **options: of the one that is picked: `num_particles`, `num_runs`, `error`, `weight_decay`, `memory_gb`, ... for
        the feature-learning limit, `num_draws` for the kernel limit.

    Raises:
      ValueError: for a parametrization that has neither limit, an option of the other limit, and as they do.

    Example:
      >>> import jax, numpy as np
      >>> from mupjax.parametrization import mup, ntp
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> settings = {"depth": 2, "learning_rate": 0.5, "num_steps": 3, "key": jax.random.key(0)}
      >>> infinite(task, mup(), num_particles=256, **settings).info.num_particles
      256
      >>> float(infinite(task, ntp(), centred=True, activation="linear", **settings).info.weights[0])
      1.0
    """
    activation = activations.get(activation)
    kind = classification.classify(parametrization, depth, activation).kind
    limit, others = (kernel_limit, {"num_draws"}) if kind == "kernel" else (feature_limit, _FEATURE_OPTIONS)
    unknown = sorted(set(options) - others)
    if unknown:
        raise ValueError(
            f"Expected options of the {kind} limit of {parametrization.name} ({', '.join(sorted(others))}), "
            f"got {unknown[0]}."
        )
    options["centred"] = centred
    return limit.train(
        task,
        parametrization,
        depth=depth,
        activation=activation,
        learning_rate=learning_rate,
        num_steps=num_steps,
        key=key,
        batches=batches,
        momentum=momentum,
        nesterov=nesterov,
        spec=spec,
        **options,
    )


_FEATURE_OPTIONS = {
    "num_particles",
    "num_runs",
    "error",
    "weight_decay",
    "force",
    "max_directions",
    "memory_gb",
    "max_seconds",
}
