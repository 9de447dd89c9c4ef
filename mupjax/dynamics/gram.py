"""Inner products of feature vectors, contracted in float64 whatever precision the program runs in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mupjax import devices


def in_float64(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fn`, a function of arrays, with its body traced where float64 exists, for this function alone.

    No global flag changes the caller's program. Works under jit, vmap, scan and their compositions: a bare
    `jax.enable_x64` context inside a scan is lost when vmap re-traces the scan's body, so vmap has a rule of its own
    here. `fn` casts its arguments up itself; what it returns in float64 stays so until arithmetic outside touches it.
    On devices without float64 `fn` runs as it is.
    """

    @jax.custom_batching.custom_vmap
    def wrapped(*arrays: Any) -> Any:
        with jax.enable_x64(True) if devices.traits().float64 else nullcontext():
            return fn(*arrays)

    @wrapped.def_vmap
    def _of_batches(axis_size: int, is_batched: Any, *arrays: Any) -> Any:
        whole = [
            array if batched else jnp.broadcast_to(array, (axis_size, *array.shape))
            for array, batched in zip(arrays, is_batched, strict=True)
        ]
        out = in_float64(jax.vmap(fn))(*whole)
        return out, jax.tree.map(lambda _: True, out)

    return wrapped


@in_float64
def _gram(z: jax.Array, w: jax.Array, n: jax.Array) -> jax.Array:
    return jnp.einsum("...gn,...hn->...gh", up(z), up(w), precision="highest") / up(n)


def gram(z: Float[Array, "*batch G n"], w: Float[Array, "*batch H n"], n: Any = None) -> Float[Array, "*batch G H"]:
    r"""Return the Gram matrix :math:`\langle z_i, w_j \rangle / n` in float64.

    The smallest eigenvalues of such matrices lie far below float32's rounding of their entries, so float32 features are
    contracted in float64, for this product alone (`in_float64`). On devices without float64 the product is float32 at
    the highest precision.

    Args:
      z: [..., G, n] features.
      w: [..., H, n] features, with the same leading axes.
      n: the width to divide by where features are padded with zeros; by default their own.

    Returns:
      [..., G, H], Theta(1) in width for Theta(1) features.

    Example:
      >>> import jax.numpy as jnp
      >>> gram(jnp.ones((2, 8)), jnp.ones((2, 8))).dtype
      dtype('float64')
    """
    return _gram(z, w, jnp.asarray(z.shape[-1] if n is None else n, jnp.int32))


def up(array: jax.Array) -> jax.Array:
    """Return the array in the widest float of the surrounding context: float64 inside `in_float64`."""
    return array.astype(jax.dtypes.canonicalize_dtype(float))
