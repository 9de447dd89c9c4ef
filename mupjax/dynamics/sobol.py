r"""Quasi-random Gaussians: scrambled Sobol points, one dimension per row, mapped by the normal quantile function.

Averages over n such points are unbiased, since each point is uniform (Owen 1997), and their error falls faster than
:math:`n^{-1/2}` if the integrand is smooth in few directions. The scramble is Matousek's random linear one with a
digital shift (J. Complexity 14, 1998). SciPy provides direction numbers for 21,201 dimensions (Joe & Kuo 2008); rows
beyond these use random ones, each row still stratified by itself.
"""

from __future__ import annotations

import math
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt32

BITS = 32
_DIMENSIONS = 21_201


def scrambled_directions(key: jax.Array, num_rows: int, num_points: int) -> UInt32[Array, "num_rows digits"]:
    """Return scrambled direction numbers of `num_rows` dimensions for `num_points` points.

    Args:
      key: random key of the scramble.
      num_rows: number of dimensions.
      num_points: number of points n; each row has ceil(log2 n) digits.

    Example:
      >>> scrambled_directions(jax.random.key(0), num_rows=2, num_points=8).shape
      (2, 3)
    """
    digits = max(1, math.ceil(math.log2(num_points)))
    base = _direction_numbers(min(num_rows, _DIMENSIONS), digits)
    base = jnp.asarray(np.concatenate([base, _random_numbers(num_rows - len(base), digits)]))
    place = jnp.arange(BITS - 1, -1, -1, dtype=jnp.uint32)  # the first binary digit is the highest bit
    digit = jnp.uint32(1) << place
    higher = ~(digit | (digit - jnp.uint32(1)))
    mixing = (jax.random.bits(key, (num_rows, BITS), jnp.uint32) & higher[None]) | digit[None]
    parity = lax.population_count(mixing[:, None, :] & base[:, :, None]) & jnp.uint32(1)
    return jnp.sum(parity << place[None, None], axis=2, dtype=jnp.uint32)


def normal_rows(
    directions: UInt32[Array, "rows digits"], shifts: UInt32[Array, " rows"], num_points: int
) -> Float[Array, "rows num_points"]:
    """Return the coordinates of the points in these dimensions as standard Gaussians.

    Args:
      directions: [rows, digits] from `scrambled_directions`.
      shifts: [rows] random digital shifts.
      num_points: number of points n.

    Example:
      >>> directions = scrambled_directions(jax.random.key(0), num_rows=2, num_points=8)
      >>> rows = normal_rows(directions, jnp.zeros(2, jnp.uint32), num_points=8)
      >>> jnp.sort(rows > 0, axis=1).sum(1).tolist()  # stratified: half of each row is positive
      [4, 4]
    """
    index = jnp.arange(num_points, dtype=jnp.uint32)[None]
    points = jnp.broadcast_to(shifts[:, None], (len(shifts), num_points))
    for digit in range(directions.shape[1]):
        points = points ^ (directions[:, digit, None] * ((index >> jnp.uint32(digit)) & jnp.uint32(1)))
    dtype = jax.dtypes.canonicalize_dtype(float)
    kept = min(BITS, jnp.finfo(dtype).nmant)  # makes 2 u - 1 exact and never 1
    uniform = ((points >> jnp.uint32(BITS - kept)).astype(dtype) + 0.5) * 2.0**-kept
    return math.sqrt(2) * lax.erf_inv(2 * uniform - 1)


def _random_numbers(num_dimensions: int, digits: int) -> np.ndarray:
    """Return random direction numbers: digit b of the index flips digit b of the point, and random higher ones."""
    bits = np.random.default_rng(0).integers(2**BITS, size=(num_dimensions, digits), dtype=np.uint64)
    own = np.uint64(1) << (BITS - 1 - np.arange(digits, dtype=np.uint64))
    return (bits & ~(2 * own - 1) | own).astype(np.uint32)


@lru_cache(maxsize=8)
def _direction_numbers(num_dimensions: int, digits: int) -> np.ndarray:
    """Return unscrambled Sobol direction numbers, uint32 [dimension, digit], recovered from SciPy's points.

    SciPy enumerates points in Gray-code order, in which position 2^(b+1) - 1 is the point of index 2^b.
    """
    from scipy.stats import qmc

    sampler = qmc.Sobol(num_dimensions, scramble=False, bits=BITS)
    columns, position = [], 0
    for digit in range(digits):
        target = 2 ** (digit + 1) - 1
        sampler.fast_forward(target - position)
        columns.append(np.rint(sampler.random(1)[0] * 2.0**BITS).astype(np.uint32))
        position = target + 1
    return np.stack(columns, axis=1)
