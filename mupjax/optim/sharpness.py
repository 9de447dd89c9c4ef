r"""A learning rate that follows the measured sharpness: :math:`\eta_t = c / \lambda_t`.

Gradient descent is stable for c < 2. Between 2 and about 4 it catapults: the loss grows until the sharpness has fallen.
A rate that follows the sharpness stays in that window. This is a RECONSTRUCTION of the geometry-aware schedule of
Terjek 2025 (arXiv:2502.13110), which prolongs the catapult phase; c, the period and the averaging are parameters here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from mupjax.optim.optimizers import LearningRate
from mupjax.optim.transforms import scale_by_parametrization

Loss = Callable[[PyTree], Float[Array, ""]]
Measure = Callable[[Loss, PyTree], Float[Array, ""]]


class SharpnessState(NamedTuple):
    """State of `scale_by_sharpness`.

    Attributes:
      count: int32, number of updates made.
      sharpness: the average that sets the rate; 0 before the first measurement.
    """

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    sharpness: Float[Array, ""]


def scale_by_sharpness(
    c: LearningRate, *, measure: Measure, every: int = 10, decay: float = 0.0
) -> optax.GradientTransformationExtraArgs:
    r"""Multiply updates by :math:`-c / \lambda_t`; the sharpness is measured at every `every`-th step.

    Args:
      c: product of rate and sharpness, a number or a schedule: stable below 2, super-critical in (2, 4).
      measure: a function of (loss, parameters) that returns the sharpness, such as `curvature.sharpness_of`.
      every: steps between measurements.
      decay: decay of the exponential average over measurements, in [0, 1); 0 uses the last measurement alone.

    Returns:
      A transform whose `update` needs `params` and `value_fn=`, the loss as a function of the parameters;
      `dynamics.dense.train` passes both. A sharpness that is not positive gives updates of zero.

    Raises:
      ValueError: if a number is out of range, or `update` is called without `params` or `value_fn`.

    Example:
      >>> transform = scale_by_sharpness(1.0, measure=lambda loss, w: jnp.float32(4.0))  # of 2 w^2
      >>> w = jnp.float32(1.0)
      >>> updates, _ = transform.update(4 * w, transform.init(w), w, value_fn=lambda w: 2 * w**2)
      >>> float(updates)
      -1.0
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"Expected `every` to be a positive int, got every={every!r}.")
    if not 0 <= decay < 1:
        raise ValueError(f"Expected `decay` to be in [0, 1), got decay={decay!r}.")

    def init(params: PyTree) -> SharpnessState:
        return SharpnessState(jnp.zeros((), jnp.int32), jnp.zeros((), jax.tree.leaves(params)[0].dtype))

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None, *, value_fn: Loss | None = None, **extra: object
    ) -> tuple[PyTree, SharpnessState]:
        del extra
        if params is None or value_fn is None:
            raise ValueError("Expected `params` and `value_fn=`, the loss as a function of them, got None.")

        def measured() -> jax.Array:
            found = jnp.asarray(measure(value_fn, params), state.sharpness.dtype)
            return jnp.where(state.count == 0, found, decay * state.sharpness + (1 - decay) * found)

        average = jax.lax.cond(state.count % every == 0, measured, lambda: state.sharpness)
        aim: Any = c(state.count) if callable(c) else c
        rate = jnp.where(average > 0, aim / jnp.where(average > 0, average, 1), 0 * average)
        count = jnp.asarray(optax.safe_increment(state.count))
        return jax.tree.map(lambda u: -rate * u, updates), SharpnessState(count, average)

    return optax.GradientTransformationExtraArgs(init, update)


@dataclass(frozen=True)
class SharpnessSgd:
    """An optimizer (scaling, c) -> transform: SGD whose base rate is c divided by the measured sharpness.

    Attributes:
      measure: a function from a scaling tree to the `measure` of `scale_by_sharpness`.
      every: steps between measurements.
      decay: decay of the average over measurements.
    """

    measure: Callable[[PyTree], Measure]
    every: int = 10
    decay: float = 0.0
    __name__ = "sharpness_sgd"

    def __call__(self, scaling: PyTree, learning_rate: LearningRate) -> optax.GradientTransformationExtraArgs:
        measure = self.measure(scaling)
        following = scale_by_sharpness(learning_rate, measure=measure, every=self.every, decay=self.decay)
        return optax.chain(scale_by_parametrization(scaling, "sgd"), following)
