"""Gram matrices of features, contracted in float64 whatever the program's precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from mupjax import devices

Result = TypeVar("Result")  # a pytree of arrays


def in_float64(fn: Callable[..., Result]) -> Callable[..., Result]:
    """Return `fn`, a function of arrays, with its body traced under `jax.enable_x64`.

    No global flag changes the caller's program. The result works under jit, vmap, scan and their compositions. It has
    its own batching rule, since vmap re-traces the body of a scan and would lose a bare `jax.enable_x64` context there.
    `fn` casts its arguments itself (`up`). float64 results keep their dtype until the caller computes with them. On
    devices without float64 `fn` runs unchanged.

    Example:
      >>> in_float64(lambda x: up(x) + 1)(jnp.float32(1)).dtype
      dtype('float64')
    """

    @jax.custom_batching.custom_vmap
    def wrapped(*arrays: PyTree) -> Result:
        with jax.enable_x64(True) if devices.traits().float64 else nullcontext():
            return fn(*arrays)

    @wrapped.def_vmap
    def _of_batches(axis_size: int, is_batched: Sequence[bool], *arrays: PyTree) -> tuple[PyTree, PyTree]:
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


def gram(
    z: Float[Array, "*batch G n"], w: Float[Array, "*batch H n"], n: ArrayLike | None = None
) -> Float[Array, "*batch G H"]:
    r"""Return the Gram matrix :math:`\langle z_i, w_j \rangle / n` in float64.

    The smallest eigenvalues of Gram matrices lie far below float32's rounding of their entries. float32 features are
    therefore contracted in float64, for this product alone (`in_float64`). On devices without float64 the product is
    float32 at the highest precision.

    Args:
      z: [..., G, n] features.
      w: [..., H, n] features, with the same leading axes.
      n: the divisor, the true width of features padded with zeros; defaults to their length.

    Returns:
      [..., G, H], Theta(1) in width for Theta(1) features.

    Example:
      >>> import jax.numpy as jnp
      >>> gram(jnp.ones((2, 8)), jnp.ones((2, 8))).dtype
      dtype('float64')
    """
    return _gram(z, w, jnp.asarray(z.shape[-1] if n is None else n, jnp.int32))


def up(array: jax.Array) -> jax.Array:
    """Cast an array to the default float dtype of the context, float64 inside `in_float64`."""
    return array.astype(jax.dtypes.canonicalize_dtype(float))
