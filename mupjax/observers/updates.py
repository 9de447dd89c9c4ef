"""Observers of updates: cosines with earlier ones, sizes, how much a step moves the preactivations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from mupjax.dynamics.observing import Batch, State
from mupjax.network import MLP, Features
from mupjax.optim import cosines

FeatureFunction = Callable[[PyTree, jax.Array], Features]


class LayerCosines(NamedTuple):
    """Cosines of the last update with the sum of all earlier ones; 0 up to step 1.

    Attributes:
      network: scalar, over all kernels and biases.
      layers: [L + 1], for the kernels of layers 1..L and the readout.
    """

    network: Float[Array, ""]
    layers: Float[Array, " layers"]


def update_cosines() -> Callable[[State, Batch], LayerCosines]:
    r"""Return an observer of the cosine of the last update with the sum of all earlier ones (`optim.cosines`).

    It uses the initial parameters that dense training keeps. For other training loops there is `optim.track_cosines`.
    """

    def observe(state: State, batch: Batch) -> LayerCosines:
        before = jax.tree.map(lambda w, u, w_0: w - u - w_0, state.params, state.last_update, state.params_0)
        found = cosines(state.last_update, before)
        earlier = state.step > 1  # before the second step w - u - w_0 is rounding
        layers = jnp.where(earlier, jnp.stack(_kernels(found.layers)), 0)
        return LayerCosines(jnp.where(earlier, found.network, 0), layers)

    return observe


class LayerSizes(NamedTuple):
    """Frobenius norms of the kernels of layers 1..L and the readout.

    Attributes:
      update: [L + 1], ||dW||_F of the last update.
      weight: [L + 1], ||W||_F before the last update.
    """

    update: Float[Array, " layers"]
    weight: Float[Array, " layers"]


def update_sizes() -> Callable[[State, Batch], LayerSizes]:
    """Return an observer of the norms of each kernel and of its last update; the latter is 0 before the first step.

    Example:
      >>> import numpy as np
      >>> tree = {"layer_1": {"kernel": np.eye(4)}, "readout": {"kernel": np.ones((4, 1))}}
      >>> state = State(1, tree, None, tree, jax.tree.map(lambda w: w / 2, tree), tree)
      >>> update_sizes()(state, Batch(None, None, None)).update.tolist()
      [1.0, 1.0]
    """

    def observe(state: State, batch: Batch) -> LayerSizes:
        rows = zip(*(_kernels(tree) for tree in (state.last_update, state.params)), strict=True)
        pairs = [(jnp.linalg.norm(update), jnp.linalg.norm(w - update)) for update, w in rows]
        return LayerSizes(*map(jnp.stack, zip(*pairs, strict=True)))

    return observe


def preactivation_changes(
    features: MLP | FeatureFunction, inputs: Float[ArrayLike, "G d"]
) -> Callable[[State, Batch], Float[Array, " L"]]:
    r"""Return an observer of :math:`\|h^k_t - h^k_{t-1}\| / \|h^k_{t-1}\|` over all inputs; 0 at step 0.

    Args:
      features: an MLP, or a function of parameters and inputs that returns `network.Features`.
      inputs: [G, d].

    Returns:
      An observer of [L].
    """
    x = jnp.asarray(inputs)

    def observe(state: State, batch: Batch) -> jax.Array:
        before = jax.tree.map(jnp.subtract, state.params, state.last_update)
        new, old = (_features(features, params, x) for params in (state.params, before))
        return jnp.stack([jnp.linalg.norm(a - b) / jnp.linalg.norm(b) for a, b in zip(new.h, old.h, strict=True)])

    return observe


def _features(of: MLP | FeatureFunction, params: PyTree, x: jax.Array) -> Features:
    features: PyTree = of.apply({"params": params}, x, method="features") if isinstance(of, MLP) else of(params, x)
    return features


def _kernels(params: PyTree) -> list[ArrayLike]:
    return [params[name]["kernel"] for name in (*(f"layer_{k}" for k in range(1, len(params))), "readout")]
