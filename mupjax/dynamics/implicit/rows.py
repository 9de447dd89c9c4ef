"""Products with the first rows of a tall-and-thin store [K, n] that fills up while a program runs.

Only blocks of rows that are in use are touched, so that a preallocated store costs what it holds; long rows are cut
into tiles. How large both are is the device's (`devices`): a CPU's tiles stay in its cache, a GPU's make few launches.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mupjax import devices
from mupjax.dynamics.gram import up

_SMALL_BLOCKS = 4  # so few that one product costs less than loops that skip parts of it


def capacity(rows: int) -> int:
    """Return how many rows to allocate for `rows` of them: whole blocks."""
    of = devices.traits()
    size = of.block if rows <= _SMALL_BLOCKS * of.block else of.wide_block
    return -(-rows // size) * size


def contract(vectors: Float[Array, "B n"], rows: Float[Array, "K n"], count: jax.Array) -> Float[Array, "B K"]:
    """Return the inner products with the first `count` rows; the others (they hold zeros) are skipped by blocks."""
    if _is_small(rows):
        return jnp.matmul(vectors, rows.T, precision="highest")
    tile, size = _tile(rows.shape[1]), _block(len(vectors), len(rows))

    def over_tiles(i: jax.Array, products: jax.Array) -> jax.Array:
        piece = lax.dynamic_slice_in_dim(vectors, i * tile, tile, 1)

        def over_blocks(j: jax.Array, products: jax.Array) -> jax.Array:
            part = jnp.matmul(piece, _piece(rows, j, i, (size, tile)).T, precision="highest")
            part = part + lax.dynamic_slice_in_dim(products, j * size, size, 1)
            return lax.dynamic_update_slice_in_dim(products, part, j * size, 1)

        return lax.fori_loop(0, _blocks(count, size), over_blocks, products)

    products = jnp.zeros((len(vectors), len(rows)), vectors.dtype)
    return lax.fori_loop(0, rows.shape[1] // tile, over_tiles, products)


def combine(weights: Float[Array, "B K"], rows: Float[Array, "K n"], count: jax.Array) -> Float[Array, "B n"]:
    """Return the weighted sums of the first `count` rows."""
    if _is_small(rows):
        return jnp.matmul(weights, rows, precision="highest")
    tile, size = _tile(rows.shape[1]), _block(len(weights), len(rows))

    def over_tiles(i: jax.Array, sums: jax.Array) -> jax.Array:
        def over_blocks(j: jax.Array, piece: jax.Array) -> jax.Array:
            weight = lax.dynamic_slice_in_dim(weights, j * size, size, 1)
            return piece + jnp.matmul(weight, _piece(rows, j, i, (size, tile)), precision="highest")

        start = jnp.zeros((len(weights), tile), weights.dtype)
        piece = lax.fori_loop(0, _blocks(count, size), over_blocks, start)
        return lax.dynamic_update_slice_in_dim(sums, piece, i * tile, 1)

    sums = jnp.zeros((len(weights), rows.shape[1]), weights.dtype)
    return lax.fori_loop(0, rows.shape[1] // tile, over_tiles, sums)


def products(rows: Float[Array, "B n"]) -> Float[Array, "B B"]:
    """Return all inner products, in float64 inside `in_float64`; tile by tile, cast up there alone."""
    tile = _tile(rows.shape[1])

    def over_tiles(i: jax.Array, sums: jax.Array) -> jax.Array:
        piece = up(lax.dynamic_slice_in_dim(rows, i * tile, tile, 1))
        return sums + jnp.matmul(piece, piece.T, precision="highest")

    sums = jnp.zeros((len(rows), len(rows)), jax.dtypes.canonicalize_dtype(float))
    return lax.fori_loop(0, rows.shape[1] // tile, over_tiles, sums)


def _is_small(rows: jax.Array) -> bool:
    """Whether one product costs less than the loops that skip parts of it."""
    of = devices.traits()
    return len(rows) <= _SMALL_BLOCKS * of.block and rows.shape[1] <= of.tile // 8


def _piece(rows: jax.Array, j: jax.Array, i: jax.Array, shape: tuple[int, int]) -> jax.Array:
    starts = (jnp.asarray(index * step, jnp.int32) for index, step in zip((j, i), shape, strict=True))
    return lax.dynamic_slice(rows, tuple(starts), shape)  # starts of one type, also where JAX runs in x64


def _block(num_vectors: int, num_rows: int) -> int:
    of = devices.traits()
    return of.wide_block if num_vectors >= of.wide_block // 2 and num_rows % of.wide_block == 0 else of.block


def _blocks(count: jax.Array, size: int) -> jax.Array:
    return (count + size - 1) // size


def _tile(length: int) -> int:
    """The longest tile up to the device's that divides the rows; the whole row where there is none worth having."""
    longest = devices.traits().tile
    if length <= 2 * longest:
        return length
    return next((tile for tile in range(longest, longest // 8, -1) if length % tile == 0), length)
