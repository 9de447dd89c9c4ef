r"""The (a, b)-ReLUs phi(s) = a s + b |s| and the constants that govern signal propagation through their layers.

All of them are positively homogeneous of degree 1, and their Gaussian averages have closed forms, on which
`edge_of_chaos` builds (Terjek 2025, arXiv:2502.13110). relu is (1/2, 1/2), abs_relu (0, 1), linear (1, 0).
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import ModuleType

import jax
import jax.numpy as jnp

from mupjax.activations.functions import LEAKY_SLOPE, Activation, StaxLayer

SLOPES = {
    "relu": (0.5, 0.5),
    "abs_relu": (0.0, 1.0),
    "linear": (1.0, 0.0),
    "leaky_relu": ((1 + LEAKY_SLOPE) / 2, (1 - LEAKY_SLOPE) / 2),
}


@lru_cache(maxsize=64)
def ab_relu(a: float, b: float) -> Activation:
    r"""Return the activation :math:`\phi(s) = a s + b |s|`, with slope a + b above zero and a - b below.

    Equal arguments return the same object, so that compiled programs are shared.

    Raises:
      ValueError: if a or b is not finite, or both are 0.

    Example:
      >>> ab_relu(0.5, 0.5).phi(jnp.array([-2.0, 2.0])).tolist()
      [0.0, 2.0]
    """
    check_slopes(a, b)

    def phi(s: jax.Array) -> jax.Array:
        return a * s + b * jnp.abs(s)

    def dphi(s: jax.Array) -> jax.Array:
        return a + b * jnp.sign(s)

    def neural_tangents(stax: ModuleType) -> StaxLayer:
        return stax.ABRelu(a - b, a + b)

    return Activation(f"ab_relu({a:g}, {b:g})", phi, dphi, degree=1, neural_tangents=neural_tangents)


def slopes(activation: Activation) -> tuple[float, float]:
    """Return (a, b) of a positively homogeneous activation of degree 1.

    Raises:
      ValueError: if the activation is not of this family.

    Example:
      >>> from mupjax import activations
      >>> slopes(activations.get("relu"))
      (0.5, 0.5)
    """
    if activation.name in SLOPES:
        return SLOPES[activation.name]
    if activation.degree != 1:
        raise ValueError(f"Expected an (a, b)-ReLU, a s + b |s|, got {activation.name}.")
    with jax.ensure_compile_time_eval():
        up, down = (float(jax.jit(activation.phi)(jnp.float32(s))) for s in (1.0, -1.0))
    return (up - down) / 2, (up + down) / 2


def delta(a: float, b: float) -> float:
    r"""Return :math:`\Delta = b^2 / (a^2 + b^2)`, the non-linear share of phi: 0 for linear, 1 for abs_relu.

    Raises:
      ValueError: if a or b is not finite, or both are 0.

    Example:
      >>> delta(0.5, 0.5)
      0.5
    """
    check_slopes(a, b)
    return b**2 / (a**2 + b**2)


def kappa(a: float, b: float) -> float:
    r"""Return :math:`\kappa = (|a| + |b|) / \sqrt{a^2 + b^2}`, the Lipschitz constant of :math:`\sigma \phi` (`gain`).

    Raises:
      ValueError: if a or b is not finite, or both are 0.

    Example:
      >>> kappa(3.0, 4.0)
      1.4
    """
    check_slopes(a, b)
    return (abs(a) + abs(b)) / math.hypot(a, b)


def gain(a: float, b: float) -> float:
    r"""Return :math:`\sigma = (a^2 + b^2)^{-1/2}`: kernels of variance :math:`\sigma^2 / n` preserve mean squares.

    Raises:
      ValueError: if a or b is not finite, or both are 0.

    Example:
      >>> gain(3.0, 4.0)
      0.2
    """
    check_slopes(a, b)
    return 1 / math.hypot(a, b)


def check_slopes(a: float, b: float) -> None:
    """Raise ValueError if a or b is not finite, or both are 0."""
    if not (math.isfinite(a) and math.isfinite(b)) or a == b == 0:
        raise ValueError(f"Expected `a` and `b` to be finite and not both 0, got a={a!r}, b={b!r}.")
