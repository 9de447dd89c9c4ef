r"""Updates of fixed size: gradients over their Frobenius norm, per layer or of the whole network."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from mupjax.optim.transforms import by_path, replace_leaves


def normalize_updates(per: str = "layer") -> optax.GradientTransformation:
    r"""Divide every parameter's update by its Frobenius norm, or all of them by the norm of all.

    An update of zero stays zero (a ReLU network in which every sample is dead has such gradients). Put it before
    `scale_by_parametrization`, whose multipliers it would otherwise erase.

    Args:
      per: 'layer', or 'network' for the global norm.

    Raises:
      ValueError: for another word.

    Example:
      >>> transform = normalize_updates()
      >>> updates = {"w": jnp.array([3.0, 4.0]), "v": jnp.zeros(2)}
      >>> transform.update(updates, transform.init(updates))[0]["w"].tolist()
      [0.6000000238418579, 0.800000011920929]
    """
    if per not in ("layer", "network"):
        raise ValueError(f"Expected `per` to be 'layer' or 'network', got per={per!r}.")

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        if per == "layer":
            return replace_leaves(updates, lambda _, leaf: _over_norm(leaf)), state
        leaves = jax.tree.leaves(updates)
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]))
        unit = jnp.where(largest > 0, largest, 1)
        norm = jnp.sqrt(sum(jnp.sum((leaf / unit) ** 2) for leaf in leaves))
        size = unit * jnp.where(norm > 0, norm, 1)
        return jax.tree.map(lambda leaf: leaf / size, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def normalize_where_asked(scaling: Any) -> optax.GradientTransformation:
    """Divide by their norms the updates of parameters whose scaling says so; the others pass."""
    asked = {name: leaf.normalized for name, leaf in by_path(scaling).items()}
    if not any(one is not False for one in asked.values()):
        return optax.identity()

    def one(name: str, leaf: jax.Array) -> jax.Array:
        return jnp.where(asked[name], _over_norm(leaf), leaf)  # numbers may be tracers, where widths are padded

    return optax.stateless(lambda updates, params: replace_leaves(updates, one))


def _over_norm(update: jax.Array) -> jax.Array:
    """u / ||u||_F, without underflow of small updates; zero stays zero."""
    largest = jnp.max(jnp.abs(update))
    scaled = update / jnp.where(largest > 0, largest, 1)
    norm = jnp.sqrt(jnp.sum(scaled**2))
    return scaled / jnp.where(norm > 0, norm, 1)
