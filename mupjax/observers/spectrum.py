r"""Extreme eigenvalues of implicit symmetric operators by Lanczos, through matfree.

Every Ritz value :math:`\lambda` with vector v has a residual :math:`\|A v - \lambda v\|`; some eigenvalue lies within
this distance. In exact arithmetic Lanczos finds each distinct eigenvalue once, whatever its multiplicity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

_BREAKDOWN = 100  # in units of eps: a smaller off-diagonal entry ends the Krylov space, and noise follows


class Eigenvalues(NamedTuple):
    """Eigenvalues with error estimates.

    Attributes:
      values: [k]; NaN in place of eigenvalues beyond the number of distinct ones.
      residuals: [k], error estimates.
    """

    values: Float[Array, " k"]
    residuals: Float[Array, " k"]


class Extremes(NamedTuple):
    """Eigenvalues at both ends of a spectrum.

    Attributes:
      largest: [k], descending.
      smallest: [k], ascending.
    """

    largest: Eigenvalues
    smallest: Eigenvalues


def extremes(
    product: Callable[[PyTree], PyTree],
    like: PyTree,
    *,
    num: int = 1,
    num_products: int = 24,
    key: jax.Array | None = None,
) -> Extremes:
    """Return the largest and smallest eigenvalues of a symmetric operator.

    Pure: may be jitted and vmapped. It stores `num_products` vectors (Lanczos with full reorthogonalisation). Products
    use JAX's 'highest' precision, whatever precision the network trains with.

    Args:
      product: the function v -> A v of pytrees shaped like `like`.
      like: a pytree of arrays.
      num: number of eigenvalues at each end.
      num_products: dimension of the Krylov space, cut at that of the operator; more products lower the residuals.
      key: random key of the start vector; fixed by default.

    Raises:
      ValueError: if `num` or `num_products` is not positive.

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
    with jax.default_matmul_precision("highest"):  # of the operator's products too
        found = lanczos(flat_product, start)
    diagonal, off = found.J_small
    values, residuals = _ritz(diagonal, jnp.append(off, jnp.sqrt(jnp.sum(found.residual**2))))
    down = jnp.argsort(-jnp.where(jnp.isnan(values), -jnp.inf, values))
    up = jnp.argsort(jnp.where(jnp.isnan(values), jnp.inf, values))
    return Extremes(*(Eigenvalues(_first(values[row], num), _first(residuals[row], num)) for row in (down, up)))


def _ritz(diagonal: jax.Array, off: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the Ritz values and residuals of a tridiagonal matrix.

    `off` [k] holds the entries beside the diagonal; the last one leads out of the Krylov space. After a breakdown of
    Lanczos the remaining rows are noise or NaN; they are cut off and give NaN.
    """
    size = jnp.maximum(jnp.abs(diagonal), jnp.abs(off))
    largest = jax.lax.cummax(jnp.where(jnp.isfinite(size), size, 0))
    broken = ~(off > _BREAKDOWN * jnp.finfo(off.dtype).eps * largest)
    is_start = jnp.arange(len(off)) == 0
    there = is_start | (jnp.cumsum(jnp.concatenate([jnp.zeros(1, bool), broken[:-1]])) == 0)
    far = 4 * largest[-1] + 1  # beyond all eigenvalues, so that the two parts do not mix
    inside = jnp.where(there[1:] & ~broken[:-1], off[:-1], 0)
    matrix = jnp.diag(jnp.where(there, diagonal, far)) + jnp.diag(inside, 1) + jnp.diag(inside, -1)
    values, vectors = jnp.linalg.eigh(matrix)
    last = jnp.sum(there) - 1
    out = jnp.where(jnp.isfinite(off[last]), off[last], 0)
    kept = jnp.sum(jnp.where(there[:, None], vectors**2, 0), axis=0) > 0.5
    return jnp.where(kept, values, jnp.nan), jnp.where(kept, jnp.abs(out * vectors[last]), jnp.nan)


def _first(row: jax.Array, num: int) -> jax.Array:
    return jnp.concatenate([row[:num], jnp.full(max(0, num - len(row)), jnp.nan, row.dtype)])
