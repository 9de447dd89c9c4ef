"""Train at infinite width, in the limit that a parametrization has."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import jax

from mupjax import activations
from mupjax._checks import check_options
from mupjax.activations import Activation
from mupjax.dynamics import feature_limit, kernel_limit
from mupjax.parametrization import Parametrization
from mupjax.parametrization.classification import classify
from mupjax.task import Task
from mupjax.trajectory import Trajectory


def infinite(
    task: Task,
    parametrization: Parametrization,
    *,
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    **options: Any,
) -> Trajectory:
    """Train at infinite width: `feature_limit` or `kernel_limit`, by the classification of the parametrization.

    Args:
      task: data and loss.
      parametrization: exponents of width.
      depth: number of hidden layers L.
      activation: a name, an Activation or an elementwise function.
      **options: all that `train` of the chosen limit takes. Both take `learning_rate`, `steps`, `key`, `batches`,
        `optimizer`, `centred` and `spec`; only the feature-learning limit takes `num_particles`, `num_runs`, `error`,
        `initial_rates`, ...; only the kernel limit takes `num_draws`.

    Returns:
      A Trajectory of NumPy arrays; its `info` is the limit's FeatureInfo or KernelInfo.

    Raises:
      ValueError: for a parametrization that has neither limit, and as `train` of the chosen limit does.
      TypeError: for an option that the chosen limit does not take.

    Example:
      >>> import numpy as np
      >>> from mupjax.parametrization import mup, ntp
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> settings = {"depth": 2, "learning_rate": 0.5, "steps": 3, "key": 0}
      >>> infinite(task, mup(), num_particles=256, **settings).info.num_particles
      256
      >>> float(infinite(task, ntp(), centred=True, activation="linear", **settings).info.weights[0])
      1.0
    """
    activation = activations.get(activation)
    kind = classify(parametrization, depth, activation).kind
    limit = kernel_limit if kind == "kernel" else feature_limit
    taken = set(signature(limit.train).parameters) - {"task", "parametrization", "depth", "activation"}
    words = "the kernel limit" if limit is kernel_limit else "the feature-learning limit"
    check_options("infinite", options, taken, words)
    return limit.train(task, parametrization, depth=depth, activation=activation, **options)
