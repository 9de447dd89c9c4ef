r"""Normalized updates: gradients divided by their Frobenius norm, per layer or over the whole network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from mupjax.optim.transforms import by_path, replace_leaves


def normalize_updates(per: str = "layer") -> optax.GradientTransformation:
    r"""Divide every parameter's update by its Frobenius norm, or all updates by their joint norm.

    An update of zero stays zero (a ReLU network in which every sample is dead has such gradients). Put it before
    `scale_by_parametrization`; after it, it would erase the multipliers.

    Args:
      per: 'layer' for one norm per parameter, 'network' for the joint norm.

    Raises:
      ValueError: if `per` is another word.

    Example:
      >>> transform = normalize_updates()
      >>> updates = {"w": jnp.array([3.0, 4.0]), "v": jnp.zeros(2)}
      >>> transform.update(updates, transform.init(updates))[0]["w"].tolist()
      [0.6000000238418579, 0.800000011920929]
    """
    if per not in ("layer", "network"):
        raise ValueError(f"Expected `per` to be 'layer' or 'network', got per={per!r}.")

    def update(updates: PyTree, state: PyTree, params: PyTree | None = None) -> tuple[PyTree, PyTree]:
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


def normalize_where_asked(scaling: PyTree) -> optax.GradientTransformation:
    """Divide the updates of parameters with `ParamScaling.normalized` by their norms; others pass unchanged.

    Args:
      scaling: a scaling tree.
    """
    normalized = {name: leaf.normalized for name, leaf in by_path(scaling).items()}
    if not any(flag is not False for flag in normalized.values()):
        return optax.identity()

    def normalize(name: str, leaf: jax.Array) -> jax.Array:
        return jnp.where(normalized[name], _over_norm(leaf), leaf)  # flags may be tracers when widths are padded

    return optax.stateless(lambda updates, params: replace_leaves(updates, normalize))


def _over_norm(update: Float[Array, ...]) -> Float[Array, ...]:
    """Return u / ||u||_F without underflow of small updates; zero stays zero."""
    largest = jnp.max(jnp.abs(update))
    scaled = update / jnp.where(largest > 0, largest, 1)
    norm = jnp.sqrt(jnp.sum(scaled**2))
    return scaled / jnp.where(norm > 0, norm, 1)
