r"""Cosine of each update with the sum of all earlier ones, tracked in the optimizer's state.

.. math:: \cos_t = \frac{\langle \theta_{t+1} - \theta_t, \theta_t - \theta_0 \rangle}
                        {\|\theta_{t+1} - \theta_t\| \|\theta_t - \theta_0\|}

It is positive if training keeps its direction (ballistic), about 0 for a random walk, and negative if training turns
back (self-stabilising). Terjek 2025 (arXiv:2502.13110) explains feature learning by it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree


class UpdateCosines(NamedTuple):
    """Cosines of one update with the sum of all earlier ones; 0 in the first step.

    Attributes:
      network: scalar, over all parameters together.
      layers: scalars in a tree shaped like the parameters, for each parameter alone.
    """

    network: Float[Array, ""]
    layers: PyTree[Float[Array, ""]]


class CosineState(NamedTuple):
    """State of `track_cosines`.

    Attributes:
      params_0: the parameters at `init`, one extra copy.
      cosines: cosines of the last update.
      inner: state of the wrapped transform.
    """

    params_0: PyTree
    cosines: UpdateCosines
    inner: PyTree


def track_cosines(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Track the cosine of every update of `inner` with the sum of all earlier ones in the state.

    The updates are those of `inner`. The state holds ONE EXTRA COPY OF THE PARAMETERS, those at `init`.

    Args:
      inner: a finished chain, learning rate included.

    Raises:
      ValueError: if `update` is called without `params`.

    Example:
      >>> transform = track_cosines(optax.sgd(0.1))
      >>> params = jnp.array([1.0, 0.0])
      >>> state = transform.init(params)
      >>> for gradient in (jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), jnp.array([-1.0, -1.0])):
      ...     updates, state = transform.update(gradient, state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> round(float(state.cosines.network), 6)
      -1.0
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: PyTree) -> CosineState:
        nothing = jax.tree.map(lambda p: jnp.zeros((), p.dtype), params)
        total = jnp.zeros((), jax.tree.leaves(params)[0].dtype)
        return CosineState(jax.tree.map(jnp.copy, params), UpdateCosines(total, nothing), inner.init(params))

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None, **extra: object
    ) -> tuple[PyTree, CosineState]:
        if params is None:
            raise ValueError("Expected `params` where cosines are tracked, got None.")
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
        moved = jax.tree.map(jnp.subtract, params, state.params_0)
        return updates, CosineState(state.params_0, cosines(updates, moved), inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def cosines(updates: PyTree, moved: PyTree) -> UpdateCosines:
    """Return the cosines between two trees of equal structure, as a whole and leaf by leaf; 0 if either is zero.

    Args:
      updates: the update.
      moved: the sum of all earlier updates.

    Example:
      >>> float(cosines({"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([0.0, -2.0])}).network)
      -0.800000011920929
    """
    of_update, of_moved = (jax.tree.leaves(tree) for tree in (updates, moved))
    rows = [[_dot(u, m), _dot(u, u), _dot(m, m)] for u, m in zip(of_update, of_moved, strict=True)]
    layers = jax.tree.unflatten(jax.tree.structure(updates), [_cosine(*row) for row in rows])
    return UpdateCosines(_cosine(*(sum(column) for column in zip(*rows, strict=True))), layers)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a * b)


def _cosine(product: jax.Array | int, square: jax.Array | int, other: jax.Array | int) -> Float[Array, ""]:
    sizes = jnp.sqrt(square) * jnp.sqrt(other)
    return jnp.where(sizes > 0, product / jnp.where(sizes > 0, sizes, 1), 0)
