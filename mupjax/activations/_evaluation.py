r"""Evaluate an activation and its first two derivatives in float64 on the host, and measure their precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

INNER = 10.0  # typical range of features
_CHUNK = 2**15  # arrays are padded to this length, so that each derivative compiles once


class Derivatives(NamedTuple):
    r"""An activation and its derivatives: calling it with (order, x) returns :math:`\phi^{(order)}(x)`.

    Attributes:
      of: the function of (order, x), for orders 0, 1, 2.
      eps: machine epsilon of the precision in which phi computes; float32's if it casts its argument or value.
      typical: root mean squares of phi, phi', phi'' on points of [-10, 10], half of them concentrated near 0.
    """

    of: Callable[[int, np.ndarray], np.ndarray]
    eps: float
    typical: tuple[float, float, float]

    def __call__(self, order: int, x: np.ndarray) -> np.ndarray:
        return self.of(order, x)


def differentiate(phi: Callable[[jax.Array], jax.Array], rng: np.random.Generator) -> Derivatives:
    """Return phi, phi' and phi'' by automatic differentiation in x64."""

    def first(x: jax.Array) -> jax.Array:
        return jax.jvp(phi, (x,), (jnp.ones_like(x),))[1]

    def second(x: jax.Array) -> jax.Array:
        return jax.jvp(first, (x,), (jnp.ones_like(x),))[1]

    compiled = [jax.jit(function) for function in (phi, first, second)]

    def of(order: int, x: np.ndarray) -> np.ndarray:
        flat = np.asarray(x, np.float64).ravel()
        padded = np.pad(flat, (0, -len(flat) % _CHUNK)) if len(flat) else np.zeros(_CHUNK)
        with jax.enable_x64(True):
            parts = [np.asarray(compiled[order](part), np.float64) for part in padded.reshape(-1, _CHUNK)]
        return np.concatenate(parts)[: len(flat)].reshape(np.shape(x))

    x = np.concatenate([rng.uniform(-INNER, INNER, 2048), near_zero(2048, rng)])
    values, from_float32 = of(0, x), of(0, x.astype(np.float32).astype(np.float64))
    with np.errstate(over="ignore"):
        as_float32 = values.astype(np.float32).astype(np.float64)
    coarse = np.array_equal(values, from_float32, equal_nan=True) or np.array_equal(values, as_float32, equal_nan=True)
    with jax.enable_x64(True):
        own = jax.eval_shape(phi, jax.ShapeDtypeStruct((), jnp.float64)).dtype
    eps = max(float(jnp.finfo(own).eps), float(np.finfo(np.float32 if coarse else np.float64).eps))
    return Derivatives(of, eps, (_rms(values), _rms(of(1, x)), _rms(of(2, x))))


def near_zero(num: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points of either sign, uniform in log |x| from 1e-9 to 10; they resolve tanh(10^6 x)."""
    return INNER * 10 ** rng.uniform(-10, 0, num) * rng.choice([-1.0, 1.0], num)


def _rms(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
