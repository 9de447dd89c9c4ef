"""Named observers for `sweep(observe=...)`, and the Dataset variables that each of them produces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import PyTree

from mupjax.dynamics.dense import Observer
from mupjax.observers import curvature
from mupjax.optim import later_rates
from mupjax.task import Task

NAMES = ("sharpness", "cosines", "update_sizes", "preactivations")
INPUTS = 64  # number of inputs whose preactivations are observed
PRODUCTS = 16  # Hessian-vector products per sharpness; each holds a copy of the parameters
VARIABLES = {  # {variable: (dims after those of the runs, long_name)}
    "sharpness": (
        ("observe_step",),
        "largest eigenvalue of the Hessian with the rates in it (the bare one for normalized updates)",
    ),
    "sharpness_residual": (("observe_step",), "residual of that eigenvalue"),
    "cosine": (("observe_step",), "cosine of the last update with all earlier ones"),
    "cosine_layer": (("observe_step", "kernel"), "cosine of a kernel's last update with its earlier ones"),
    "update_size": (("observe_step", "kernel"), "Frobenius norm of a kernel's last update"),
    "weight_size": (("observe_step", "kernel"), "Frobenius norm of a kernel before its last update"),
    "preactivation_change": (("observe_step", "layer"), "relative change of the preactivations in the last step"),
}
_VARIABLES_OF = {  # {observer: its variables}
    "sharpness": ("sharpness", "sharpness_residual"),
    "cosines": ("cosine", "cosine_layer"),
    "update_sizes": ("update_size", "weight_size"),
    "preactivations": ("preactivation_change",),
}


def variables(names: Sequence[str]) -> dict[str, tuple[tuple[str, ...], str]]:
    """Return {variable: (dims after those of the runs, long_name)} of the named observers.

    Example:
      >>> list(variables(["cosines"]))
      ['cosine', 'cosine_layer']
    """
    return {variable: VARIABLES[variable] for name in names for variable in _VARIABLES_OF[name]}


def observed_steps(steps: int, every: int) -> range:
    """Return the observed steps: 0, every, 2 every, ... up to `steps`.

    Example:
      >>> list(observed_steps(5, every=2))
      [0, 2, 4]
    """
    return range(0, steps + 1, every)


def observers(
    names: Sequence[str],
    every: int,
    features: curvature.FeatureFunction,
    scaling: PyTree,
    task: Task,
    centred: bool,
) -> tuple[tuple[str, Observer], ...]:
    """Return the named observers as (name, Observer) pairs.

    Args:
      names: names from NAMES.
      every: steps between observations.
      features: a function of parameters and inputs that returns `network.Features`.
      scaling: the network's scaling tree; its numbers may be tracers.
      task: data and loss.
      centred: whether f - f_0 is trained.
    """

    def network(params: PyTree, x: jax.Array) -> jax.Array:
        return features(params, x).f

    rates = later_rates(scaling)
    made: dict[str, Callable[[], Callable[..., PyTree]]] = {
        "sharpness": lambda: curvature.sharpness(network, task, scaling=rates, centred=centred, num_products=PRODUCTS),
        "cosines": curvature.update_cosines,
        "update_sizes": curvature.update_sizes,
        "preactivations": lambda: curvature.preactivation_changes(features, task.x_train[:INPUTS]),
    }
    return tuple((name, Observer(made[name](), every)) for name in names)


def arrays(observed: Mapping[str, PyTree] | None) -> dict[str, np.ndarray]:
    """Return the variables of `Trajectory.observed`, runs axes first.

    Example:
      >>> list(arrays({"preactivations": np.zeros((3, 2))}))
      ['preactivation_change']
    """
    found = {}
    for name, result in (observed or {}).items():
        parts = [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]
        if name == "sharpness":
            parts = [part[..., 0] for part in parts]
        found |= dict(zip(_VARIABLES_OF[name], parts, strict=True))
    return found
