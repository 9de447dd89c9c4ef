"""Inner products of feature vectors, contracted in float64 whatever precision the program runs in."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_WITHOUT_FLOAT64 = ("tpu", "METAL")


@jax.custom_batching.custom_vmap
def gram(z: Float[Array, "*batch G n"], w: Float[Array, "*batch H n"]) -> Float[Array, "*batch G H"]:
    r"""Return the Gram matrix :math:`\langle z_i, w_j \rangle / n` in float64.

    The smallest eigenvalues of such matrices lie far below float32's rounding of their entries, so float32 features are
    contracted in float64, for this product alone: no global flag changes the caller's program. Works under jit, vmap,
    scan and their compositions. On devices without float64 the product is float32 at the highest precision.

    Args:
      z: [..., G, n] features.
      w: [..., H, n] features, with the same leading axes.

    Returns:
      [..., G, H], Theta(1) in width for Theta(1) features.

    Example:
      >>> import jax.numpy as jnp
      >>> gram(jnp.ones((2, 8)), jnp.ones((2, 8))).dtype
      dtype('float64')
    """
    if jax.default_backend() in _WITHOUT_FLOAT64:
        return jnp.einsum("...gn,...hn->...gh", z, w, precision="highest") / z.shape[-1]
    with jax.enable_x64(True):
        z64, w64 = z.astype(jnp.float64), w.astype(jnp.float64)
        return jnp.einsum("...gn,...hn->...gh", z64, w64, precision="highest") / z.shape[-1]


@gram.def_vmap
def _gram_of_batches(axis_size: int, is_batched: Any, z: jax.Array, w: jax.Array):
    # A bare context inside a scan is lost when vmap re-traces the scan's body; going through `gram` again keeps it.
    z, w = (
        array if batched else jnp.broadcast_to(array, (axis_size, *array.shape))
        for array, batched in zip((z, w), is_batched, strict=True)
    )
    return gram(z, w), True
