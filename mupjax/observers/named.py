"""What a sweep can observe of its networks, beside losses: by name, with the variables that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mupjax.dynamics.dense import Observer
from mupjax.observers import curvature
from mupjax.optim import later_rates
from mupjax.task import Task

NAMES = ("sharpness", "cosines", "update_sizes", "preactivations")
INPUTS = 64  # whose preactivations are followed
PRODUCTS = 16  # Hessian-vector products of a measured sharpness, each a copy of the parameters
VARIABLES = {  # dims after the runs', and words
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
_OF = {
    "sharpness": ("sharpness", "sharpness_residual"),
    "cosines": ("cosine", "cosine_layer"),
    "update_sizes": ("update_size", "weight_size"),
    "preactivations": ("preactivation_change",),
}


def variables(names: Sequence[str]) -> dict[str, tuple[tuple[str, ...], str]]:
    """Return dims and words of the variables that these observables become."""
    return {variable: VARIABLES[variable] for name in names for variable in _OF[name]}


def observed_steps(steps: int, every: int) -> range:
    """Return the steps that are observed."""
    return range(0, steps + 1, every)


def observers(
    names: Sequence[str], every: int, features: Callable[[Any, Any], Any], scaling: Any, task: Task, centred: bool
) -> tuple[tuple[str, Observer], ...]:
    """Return observers by name.

    Args:
      names: drawn from NAMES.
      every: steps between observations.
      features: a function of parameters and inputs that returns Features.
      scaling: its scaling tree; numbers may be tracers.
      task: data and loss.
      centred: whether f - f_0 is trained.
    """

    def network(params: Any, x: Any) -> Any:
        return features(params, x).f

    options: dict[str, Any] = {"scaling": later_rates(scaling), "centred": centred, "num_products": PRODUCTS}
    made = {
        "sharpness": lambda: curvature.sharpness(network, task, **options),
        "cosines": curvature.update_cosines,
        "update_sizes": curvature.update_sizes,
        "preactivations": lambda: curvature.preactivation_changes(features, task.x_train[:INPUTS]),
    }
    return tuple((name, Observer(made[name](), every)) for name in names)


def arrays(observed: Any) -> dict[str, np.ndarray]:
    """Return the variables of what was observed, runs axes first."""
    found = {}
    for name in observed or {}:
        whole = observed[name]
        parts = [np.asarray(part) for part in (whole if isinstance(whole, tuple) else (whole,))]
        if name == "sharpness":
            parts = [part[..., 0] for part in parts]
        found |= dict(zip(_OF[name], parts, strict=True))
    return found
