"""Named observers, one vocabulary for every `observe=`, and the Dataset variables that each of them produces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from mupjax.dynamics.observing import Observer
from mupjax.network import MLP
from mupjax.observers import curvature, ranks, updates
from mupjax.optim import later_rates
from mupjax.task import Task

OF_FEATURES = ("sharpness", "cosines", "update_sizes", "preactivations")  # need a function of parameters alone
NAMES = (*OF_FEATURES, "ranks", "contributions", "ntk")
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
    "rank_h": (("observe_step", "layer"), "numerical rank of the preactivations"),
    "rank_x": (("observe_step", "layer"), "numerical rank of the activations"),
    "contribution": (
        ("part", "observe_step", "kernel"),
        "mean |contribution| to preactivations (kernel L + 1: to the outputs)",
    ),
    "ntk_change": (("observe_step",), "relative change of the tangent kernel since the start"),
}
_VARIABLES_OF = {  # {observer: its variables}
    "sharpness": ("sharpness", "sharpness_residual"),
    "cosines": ("cosine", "cosine_layer"),
    "update_sizes": ("update_size", "weight_size"),
    "preactivations": ("preactivation_change",),
    "ranks": ("rank_h", "rank_x"),
    "contributions": ("contribution",),
    "ntk": ("ntk_change",),
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


class Observed(NamedTuple):
    """Networks and inputs that observers look at.

    Attributes:
      features: a function of parameters and inputs that returns `network.Features`.
      scaling: the network's scaling tree; its numbers may be tracers.
      task: data and loss.
      centred: whether f - f_0 is trained.
      inputs: [P, d], whose features, ranks and kernels are observed.
      model: the network, for those names that are not of OF_FEATURES.
    """

    features: updates.FeatureFunction
    scaling: PyTree
    task: Task
    centred: bool
    inputs: jax.Array
    model: MLP | None = None


def observers(names: Sequence[str], every: int, of: Observed) -> tuple[tuple[str, Observer], ...]:
    """Return the named observers as (name, Observer) pairs.

    Args:
      names: names from NAMES.
      every: steps between observations.
      of: what they look at.

    Raises:
      ValueError: where a name needs the network and `of` has none.
    """
    if of.model is None and (missing := [name for name in names if name not in OF_FEATURES]):
        raise ValueError(f"Expected `observe` to be drawn from {', '.join(OF_FEATURES)}, got {missing[0]!r}.")

    def network(params: PyTree, x: jax.Array) -> jax.Array:
        return of.features(params, x).f

    def sharpness() -> Callable[..., PyTree]:
        rates = later_rates(of.scaling)
        return curvature.sharpness(network, of.task, scaling=rates, centred=of.centred, num_products=PRODUCTS)

    def of_model(observer: Callable[[MLP, jax.Array], Callable[..., PyTree]]) -> Callable[..., PyTree]:
        assert of.model is not None
        return observer(of.model, of.inputs)

    made: dict[str, Callable[[], Callable[..., PyTree]]] = {
        "sharpness": sharpness,
        "cosines": updates.update_cosines,
        "update_sizes": updates.update_sizes,
        "preactivations": lambda: updates.preactivation_changes(of.features, of.inputs),
        "ranks": lambda: of_model(ranks.feature_ranks),
        "contributions": lambda: of_model(ranks.contributions),
        "ntk": lambda: of_model(curvature.ntk_change),
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
        parts = result if isinstance(result, tuple) else (result,)
        parts = [np.asarray(part.numerical if name == "ranks" else part) for part in parts]
        if name == "sharpness":
            parts = [part[..., 0] for part in parts]
        if name == "contributions":
            parts = [np.stack(parts, axis=-3)]
        found |= dict(zip(_VARIABLES_OF[name], parts, strict=True))
    return found
