r"""Cosines of new and cumulative updates, kept beside an optimizer.

.. math:: \cos_t = \frac{\langle \theta_{t+1} - \theta_t, \theta_t - \theta_0 \rangle}
                        {\|\theta_{t+1} - \theta_t\| \|\theta_t - \theta_0\|}

Positive where training goes on in its direction (ballistic), about 0 for a random walk, negative where it turns back
(self-stabilising): Terjek 2025 (arXiv:2502.13110) explains feature learning by it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class UpdateCosines(NamedTuple):
    """network: over all parameters. layers: a tree shaped like the parameters, of each alone. 0 in the first step."""

    network: Any
    layers: Any


class CosineState(NamedTuple):
    """params_0: the parameters where `init` was called: one extra copy. cosines: of the last update."""

    params_0: Any
    cosines: UpdateCosines
    inner: Any


def track_cosines(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Keep the cosines of every update of `inner` with what all earlier ones added up to, in its state.

    COSTS ONE EXTRA COPY OF THE PARAMETERS, those at `init`. Put it around a finished chain, learning rate included.
    What `inner` does is not changed.

    Raises:
      ValueError: for an update without parameters.

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

    def init(params: Any) -> CosineState:
        nothing = jax.tree.map(lambda p: jnp.zeros((), p.dtype), params)
        total = jnp.zeros((), jax.tree.leaves(params)[0].dtype)
        return CosineState(jax.tree.map(jnp.copy, params), UpdateCosines(total, nothing), inner.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, CosineState]:
        if params is None:
            raise ValueError("Expected `params` where cosines are tracked, got None.")
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
        moved = jax.tree.map(jnp.subtract, params, state.params_0)
        return updates, CosineState(state.params_0, cosines(updates, moved), inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def cosines(updates: Any, moved: Any) -> UpdateCosines:
    """Return the cosines of an update with what was moved before, of the whole tree and of each leaf; 0 for zeros."""
    of_update, of_moved = (jax.tree.leaves(tree) for tree in (updates, moved))
    rows = [[_dot(u, m), _dot(u, u), _dot(m, m)] for u, m in zip(of_update, of_moved, strict=True)]
    layers = jax.tree.unflatten(jax.tree.structure(updates), [_cosine(*row) for row in rows])
    return UpdateCosines(_cosine(*(sum(column) for column in zip(*rows, strict=True))), layers)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a * b)


def _cosine(product: Any, square: Any, other: Any) -> jax.Array:
    sizes = jnp.sqrt(square) * jnp.sqrt(other)
    return jnp.where(sizes > 0, product / jnp.where(sizes > 0, sizes, 1), 0)
