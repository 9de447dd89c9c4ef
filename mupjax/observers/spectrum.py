r"""Extreme eigenvalues of symmetric operators that are known by their products alone: Lanczos, through matfree.

A Ritz value :math:`\lambda` with vector v comes with the residual :math:`\|A v - \lambda v\|`: some eigenvalue lies
within it. In exact arithmetic Lanczos finds each distinct eigenvalue once, however many vectors it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

_BREAKDOWN = 100  # roundings: a smaller step has left the Krylov space, and what follows would be noise


class Eigenvalues(NamedTuple):
    """values: [k], largest first; NaN where the operator has fewer distinct ones. residuals: [k], error estimates."""

    values: Float[Array, " k"]
    residuals: Float[Array, " k"]


class Extremes(NamedTuple):
    """largest: [k] eigenvalues, descending. smallest: [k], ascending."""

    largest: Eigenvalues
    smallest: Eigenvalues


def extremes(
    product: Callable[[Any], Any], like: Any, *, num: int = 1, num_products: int = 24, key: Any = None
) -> Extremes:
    """Return the largest and smallest eigenvalues of a symmetric operator.

    Pure: may be jitted and vmapped. Holds `num_products` vectors (Lanczos with full reorthogonalisation). Products are
    computed at JAX's 'highest' precision, whatever the network trains with.

    Args:
      product: A v for v shaped like `like`.
      like: a pytree of arrays.
      num: how many from each end.
      num_products: dimension of the Krylov space, at most that of the operator; more make residuals smaller.
      key: of the start vector; by default a fixed one.

    Raises:
      ValueError: for counts that are not positive.

    Example:
      >>> found = extremes(lambda v: jnp.array([3.0, 1.0, -2.0]) * v, jnp.zeros(3))
      >>> round(float(found.largest.values[0]), 4), round(float(found.smallest.values[0]), 4)
      (3.0, -2.0)
    """
    from matfree import decomp

    flat, unravel = ravel_pytree(like)
    if num < 1 or num_products < 1:
        raise ValueError(f"Expected `num` and `num_products` to be positive, got {num} and {num_products}.")
    steps = min(num_products, flat.size)
    start = jax.random.normal(jax.random.key(0) if key is None else key, flat.shape, flat.dtype)

    def flat_product(v: jax.Array) -> jax.Array:
        return ravel_pytree(product(unravel(v)))[0].astype(flat.dtype)

    lanczos = decomp.tridiag_sym(steps, materialize=False, reortho="full", custom_vjp=False)
    with jax.default_matmul_precision("highest"):  # the operator's products too
        found = lanczos(flat_product, start)
    diagonal, off = found.J_small
    values, residuals = _ritz(diagonal, jnp.append(off, jnp.sqrt(jnp.sum(found.residual**2))))
    down = jnp.argsort(-jnp.where(jnp.isnan(values), -jnp.inf, values))
    up = jnp.argsort(jnp.where(jnp.isnan(values), jnp.inf, values))
    return Extremes(*(Eigenvalues(_first(values[row], num), _first(residuals[row], num)) for row in (down, up)))


def _ritz(diagonal: jax.Array, off: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ritz values and residuals of a tridiagonal matrix; off [k]: beside the diagonal, the last leads out of it.

    Where Lanczos breaks down the rows that follow are noise (or NaN): they are cut off, and give NaN.
    """
    size = jnp.maximum(jnp.abs(diagonal), jnp.abs(off))
    largest = jax.lax.cummax(jnp.where(jnp.isfinite(size), size, 0))
    broken = ~(off > _BREAKDOWN * jnp.finfo(off.dtype).eps * largest)
    is_start = jnp.arange(len(off)) == 0
    there = is_start | (jnp.cumsum(jnp.concatenate([jnp.zeros(1, bool), broken[:-1]])) == 0)
    far = 4 * largest[-1] + 1  # where no eigenvalue is, so that the two parts do not mix
    inside = jnp.where(there[1:] & ~broken[:-1], off[:-1], 0)
    matrix = jnp.diag(jnp.where(there, diagonal, far)) + jnp.diag(inside, 1) + jnp.diag(inside, -1)
    values, vectors = jnp.linalg.eigh(matrix)
    last = jnp.sum(there) - 1
    out = jnp.where(jnp.isfinite(off[last]), off[last], 0)
    kept = jnp.sum(jnp.where(there[:, None], vectors**2, 0), axis=0) > 0.5
    return jnp.where(kept, values, jnp.nan), jnp.where(kept, jnp.abs(out * vectors[last]), jnp.nan)


def _first(row: jax.Array, num: int) -> jax.Array:
    return jnp.concatenate([row[:num], jnp.full(max(0, num - len(row)), jnp.nan, row.dtype)])
