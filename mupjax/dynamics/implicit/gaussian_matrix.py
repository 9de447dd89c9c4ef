r"""An implicit Gaussian matrix: past queries and products, and the conditional law of the next product.

W is [m, n] with independent N(0, std^2) entries and is never formed: `right` holds queries q in R^n with their products
W q, `left` queries g in R^m with W^T g. Queries are kept as orthonormal directions. Given all earlier products W is
Gaussian again, and for a new direction q, orthonormal to the earlier ones Q,

.. math:: W q = (1 - G^\top G) e + G^\top (W^\top G)^\top q, \qquad e \sim N(0, \mathrm{std}^2 I_m)

with G the left directions as rows (cf. 'Householder Dice', Lu 2021, arXiv:2101.07464). It is exact for adaptive,
repeated and mixed queries. A product is stored as its independent part e and its coordinates `along` the other side's
directions: at infinite width these are the Gaussian part Zhat and the response Zdot of Tensor Programs (Yang & Hu 2021,
arXiv:2011.14522). Columns are in the program's precision; Gram matrices of new directions are in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from mupjax import devices
from mupjax.dynamics.gram import in_float64
from mupjax.dynamics.implicit.rows import capacity, combine, contract, products

# Of a direction relative to its query: what is less is rounding, of float32 columns or of float32 Grams.
MIN_VARIANCE, MIN_VARIANCE_FLOAT32 = 1e-9, 1e-5


class Side(NamedTuple):
    """Queries of a matrix from one side and their products; K rows are allocated, the first `count` are used.

    Attributes:
      directions: [K, n] orthonormal queries.
      gaussian: [K, m] the independent parts e of the products.
      along: [K, K'] the products' coordinates along the other side's directions.
      count: [] rows in use.
      left_out: [] largest relative variance of a direction that found no room.
    """

    directions: jax.Array
    gaussian: jax.Array
    along: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    left_out: jax.Array


class GaussianMatrix(NamedTuple):
    """An implicit Gaussian matrix W [m, n]: the queries made of it and their products.

    Attributes:
      right: queries W q.
      left: queries W^T g.
      std: standard deviation of an entry.
    """

    right: Side
    left: Side
    std: jax.Array


class Query(NamedTuple):
    """Queries [B, n] split into known directions and new ones: coordinates directions + new_coordinates new.

    Attributes:
      coordinates: [B, K] along the known directions.
      new_coordinates: [B, B] along the new ones.
      new: [B, n] new directions; rows of zeros where fewer than B are new.
      gaussian: [B, m] independent parts of their products.
      along: [B, K'] the products' coordinates along the other side's directions.
      count: [] directions in use afterwards.
      left_out: [] largest relative variance of a direction that found no room.
    """

    coordinates: jax.Array
    new_coordinates: jax.Array
    new: jax.Array
    gaussian: jax.Array
    along: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    left_out: jax.Array


class Product(NamedTuple):
    """Products W q of B queries.

    Attributes:
      gaussian: [B, m] the independent part (Zhat).
      along: [B, K'] coordinates of the rest in the other side's directions (Zdot).
    """

    gaussian: jax.Array
    along: jax.Array


def min_variance() -> float:
    return MIN_VARIANCE if devices.traits().float64 else MIN_VARIANCE_FLOAT32


def unqueried(shape: tuple[int, int], std: ArrayLike, room: tuple[int, int], dtype: np.dtype) -> GaussianMatrix:
    """Return a matrix [m, n] before any query, with room for `room` directions (right, left)."""
    m, n = shape
    right, left = map(capacity, room)

    def side(rows: int, others: int, length: int, other_length: int) -> Side:
        return Side(
            jnp.zeros((rows, length), dtype),
            jnp.zeros((rows, other_length), dtype),
            jnp.zeros((rows, others), dtype),
            jnp.int32(0),
            jnp.zeros((), dtype),
        )

    return GaussianMatrix(side(right, left, n, m), side(left, right, m, n), jnp.asarray(std, dtype))


def query(
    side: Side, other: Side, queries: Float[Array, "B n"], noise: Callable[[jax.Array], jax.Array], room: int | None
) -> Query:
    """Find the directions of the queries and draw the products of new ones.

    Args:
      side: the side from which W is queried.
      other: the other side of the same matrix.
      queries: [B, n].
      noise: a function of new directions [B, n] that returns independent Gaussians [B, m] of the matrix's std.
      room: how many directions the side may hold; None where new ones are not kept.
    """
    aimed, lengths = units(queries)
    known = contract(aimed, side.directions, side.count)
    rest = aimed - combine(known, side.directions, side.count)
    to_new, from_new, variances = whiten(rest)
    fits = jnp.full(len(queries), True) if room is None else jnp.arange(len(queries)) < room - side.count
    kept = (variances > min_variance()) & fits
    new = jnp.where(kept[:, None], to_new, 0) @ rest
    # Orthogonalised twice: the first pass leaves rounding of the queries, which small new directions magnify.
    again = contract(new, side.directions, side.count)
    new = new - combine(again, side.directions, side.count)
    to_unit, from_unit = _straighten(new, kept)
    new = jnp.where(kept[:, None], to_unit @ new, 0)
    from_new = lengths[:, None] * jnp.where(kept[None, :], from_new, 0)
    gaussian = jnp.where(kept[:, None], noise(new), 0)
    return Query(
        coordinates=lengths[:, None] * known + from_new @ again,
        new_coordinates=jnp.where(kept[None, :], from_new @ from_unit, 0),
        new=new,
        gaussian=gaussian,
        along=contract(new, other.gaussian, other.count) - contract(gaussian, other.directions, other.count),
        count=jnp.sum(kept).astype(jnp.int32),
        left_out=jnp.max(jnp.where(fits | (variances <= min_variance()), 0, variances)),
    )


def product(side: Side, queried: Query) -> Product:
    """Return W q for queries that are not kept, in two parts."""
    known = known_product(side, queried.coordinates)
    return Product(
        known.gaussian + queried.new_coordinates @ queried.gaussian,
        known.along + queried.new_coordinates @ queried.along,
    )


def known_product(side: Side, coordinates: Float[Array, "B K"]) -> Product:
    """Return W q for queries with these coordinates on the side's directions, in two parts."""
    return Product(*(combine(coordinates, rows, side.count) for rows in (side.gaussian, side.along)))


def keep(side: Side, queried: Query) -> tuple[Side, Float[Array, "B K"]]:
    """Return the side with the new directions and products in it, and the queries' coordinates on all of them."""

    def put(rows: jax.Array, new: jax.Array) -> jax.Array:
        return lax.dynamic_update_slice_in_dim(rows, new, side.count, 0)

    kept = Side(
        put(side.directions, queried.new),
        put(side.gaussian, queried.gaussian),
        put(side.along, queried.along),
        side.count + queried.count,
        jnp.maximum(side.left_out, queried.left_out),
    )
    return kept, lax.dynamic_update_slice_in_dim(queried.coordinates, queried.new_coordinates, side.count, 1)


def units(queries: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Queries of length one and their lengths, without underflow of small ones; zero stays zero."""
    sizes = jnp.max(jnp.abs(queries), axis=1, keepdims=True)
    scaled = queries / jnp.where(sizes > 0, sizes, 1)
    norms = jnp.sqrt(jnp.sum(scaled**2, axis=1, keepdims=True))
    return scaled / jnp.where(norms > 0, norms, 1), (sizes * norms)[:, 0]


@in_float64
def whiten(rows: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Matrices from rows to orthonormal ones, largest first, and back, with the variances; rows at rounding give 0."""
    variances, vectors = _spectrum(rows)
    variances, vectors = variances[::-1], vectors[:, ::-1]
    roots = jnp.sqrt(jnp.where(variances > min_variance(), variances, 1))
    there = variances > min_variance()
    to_new = jnp.where(there[:, None], vectors.T / roots[:, None], 0)
    from_new = jnp.where(there[None, :], vectors * roots[None, :], 0)
    return to_new.astype(rows.dtype), from_new.astype(rows.dtype), variances.astype(rows.dtype)


@in_float64
def _straighten(rows: jax.Array, kept: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The triangular matrix that makes almost orthonormal kept rows orthonormal, and its inverse."""
    there = jnp.outer(kept, kept)
    factor = jnp.linalg.cholesky(jnp.where(there, products(rows), jnp.eye(len(rows))), symmetrize_input=False)
    identity = jnp.eye(len(rows), dtype=factor.dtype)
    inverse = jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
    return inverse.astype(rows.dtype), factor.astype(rows.dtype)


def _spectrum(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ascending eigenvalues of the rows' Gram matrix (not divided by n) and its eigenvectors."""
    return jnp.linalg.eigh(products(rows), symmetrize_input=False)
