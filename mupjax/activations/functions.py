r"""Activation functions :math:`\phi` with their derivatives and degrees of homogeneity.

`degree` is the degree p of positive homogeneity, :math:`\phi(\lambda s) = \lambda^p \phi(s)` for :math:`\lambda > 0`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import jax
import jax.numpy as jnp

LEAKY_SLOPE = 0.01
QUADRATURE_DEGREE = 50

StaxLayer = tuple[Callable[..., object], Callable[..., object], Callable[..., object]]  # init, apply, kernel


@dataclass(frozen=True)
class Activation:
    r"""An elementwise function and its properties. Frozen and hashable: a static argument under `jit`.

    Attributes:
      name: name in tables and plots.
      phi: the function, elementwise on arrays of any shape.
      dphi: its derivative, elementwise; defaults to automatic differentiation.
      degree: degree of positive homogeneity, None if phi is not homogeneous.
      neural_tangents: a function from neural-tangents' `stax` module to the matching layer; None selects numerical
        quadrature of `phi`.

    Example:
      >>> float(Activation("square", jnp.square, degree=2).dphi(jnp.float32(3.0)))
      6.0
    """

    name: str
    phi: Callable[[jax.Array], jax.Array]
    dphi: Callable[[jax.Array], jax.Array] = None  # type: ignore[assignment]  # never None after __post_init__
    degree: float | None = None
    neural_tangents: Callable[[ModuleType], StaxLayer] | None = None

    def __post_init__(self) -> None:
        if self.dphi is None:
            object.__setattr__(self, "dphi", _derivative(self.phi))

    def __reduce__(self) -> tuple[Callable[..., Activation], tuple[object, ...]]:
        """Pickle a built-in activation by name, and omit an automatic derivative, which pickle cannot find by name."""
        if ACTIVATIONS.get(self.name) is self:
            return get, (self.name,)
        dphi = None if self.dphi is _derivative(self.phi) else self.dphi
        return Activation, (self.name, self.phi, dphi, self.degree, self.neural_tangents)

    def at_zero(self) -> float:
        r"""Return :math:`\phi(0)` as a float, also during tracing."""
        with jax.ensure_compile_time_eval():
            return float(jax.jit(self.phi)(jnp.zeros(())))  # jitted, since vmap would trace jax.nn.relu even here


@lru_cache(maxsize=256)
def _derivative(phi: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """Return the same object for the same phi, so that equal Activations compare equal."""

    def dphi(x: jax.Array) -> jax.Array:
        return jax.jvp(phi, (x,), (jnp.ones_like(x),))[1]

    return dphi


def _tanh_derivative(x: jax.Array) -> jax.Array:
    return 1 - jnp.tanh(x) ** 2


def _exact_gelu(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=False)


def _leaky_relu(x: jax.Array) -> jax.Array:
    return jax.nn.leaky_relu(x, LEAKY_SLOPE)


def _identity(x: jax.Array) -> jax.Array:
    return x


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("tanh", jnp.tanh, _tanh_derivative),
        Activation("sigmoid", jax.nn.sigmoid),
        Activation("silu", jax.nn.silu),
        Activation("gelu", _exact_gelu),
        Activation("elu", jax.nn.elu),
        Activation("erf", jax.scipy.special.erf, neural_tangents=lambda stax: stax.Erf()),
        Activation("softplus", jax.nn.softplus),
        Activation("relu", jax.nn.relu, degree=1, neural_tangents=lambda stax: stax.Relu()),
        Activation("leaky_relu", _leaky_relu, degree=1, neural_tangents=lambda stax: stax.LeakyRelu(LEAKY_SLOPE)),
        Activation("abs_relu", jnp.abs, degree=1, neural_tangents=lambda stax: stax.Abs()),
        Activation("linear", _identity, degree=1, neural_tangents=lambda stax: stax.Identity()),
    )
}


def get(activation: str | Activation | Callable[[jax.Array], jax.Array]) -> Activation:
    r"""Return an Activation from a name, an Activation, or any elementwise function :math:`\phi`.

    Raises:
      ValueError: if the name is unknown.
      TypeError: if the argument is none of these.

    Example:
      >>> get("relu").degree
      1
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise ValueError(f"Expected `activation` to be one of {', '.join(ACTIVATIONS)}, got {activation!r}.")
        return ACTIVATIONS[activation]
    if callable(activation):
        return Activation(getattr(activation, "__name__", "custom"), activation)
    raise TypeError(f"Expected `activation` to be a name, an Activation or a function, got {activation!r}.")
