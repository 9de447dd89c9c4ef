r"""A learning rate that follows the measured sharpness: :math:`\eta_t = c / \lambda_t`. A RECONSTRUCTION.

Below c = 2 gradient descent is stable; between 2 and about 4 it catapults: the loss grows until the sharpness has
fallen. A rate that follows the sharpness stays in that window. Terjek 2025 (arXiv:2502.13110) proposes a geometry-aware
schedule that prolongs the catapult phase; its text was not at hand, so c, the period and the average are parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mupjax.optim.transforms import scale_by_parametrization


class SharpnessState(NamedTuple):
    """count: int32, updates made. sharpness: the average that sets the rate; 0 before the first measurement."""

    count: Any
    sharpness: Any


def scale_by_sharpness(
    c: Any, *, measure: Callable[[Callable[[Any], Any], Any], Any], every: int = 10, decay: float = 0.0
) -> optax.GradientTransformationExtraArgs:
    r"""Multiply updates by :math:`-c / \lambda_t`, with the sharpness measured anew in every `every`-th step.

    Args:
      c: the product of rate and sharpness to hold: below 2 stable, in (2, 4) super-critical. A number or a schedule.
      measure: a function of (loss, parameters) that returns the sharpness, as `curvature.sharpness_of` does.
      every: steps between measurements.
      decay: of the exponential average over measurements, in [0, 1); 0 takes the last one.

    Returns:
      A transform whose `update` needs `params` and `value_fn=`, the loss as a function of the parameters, which
      `dynamics.dense.train` hands over. A sharpness that is not positive gives updates of zero.

    Raises:
      ValueError: for numbers out of range, an update without `params` or `value_fn`.
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"Expected `every` to be a positive int, got every={every!r}.")
    if not 0 <= decay < 1:
        raise ValueError(f"Expected `decay` to be in [0, 1), got decay={decay!r}.")

    def init(params: Any) -> SharpnessState:
        return SharpnessState(jnp.zeros((), jnp.int32), jnp.zeros((), jax.tree.leaves(params)[0].dtype))

    def update(
        updates: Any, state: Any, params: Any = None, *, value_fn: Any = None, **extra: Any
    ) -> tuple[Any, SharpnessState]:
        del extra
        if params is None or value_fn is None:
            raise ValueError("Expected `params` and `value_fn=`, the loss as a function of them, got None.")

        def anew() -> jax.Array:
            found = jnp.asarray(measure(value_fn, params), state.sharpness.dtype)
            return jnp.where(state.count == 0, found, decay * state.sharpness + (1 - decay) * found)

        average = jax.lax.cond(state.count % every == 0, anew, lambda: state.sharpness)
        aim: Any = c(state.count) if callable(c) else c
        rate = jnp.where(average > 0, aim / jnp.where(average > 0, average, 1), 0 * average)
        count = jnp.asarray(optax.safe_increment(state.count))
        return jax.tree.map(lambda u: -rate * u, updates), SharpnessState(count, average)

    return optax.GradientTransformationExtraArgs(init, update)


@dataclass(frozen=True)
class SharpnessSgd:
    """An optimizer (scaling, c) -> transform: SGD whose base rate is c over the measured sharpness.

    Attributes:
      measure: a function of a scaling tree that returns what `scale_by_sharpness` measures with.
      every, decay: as there.
    """

    measure: Callable[[Any], Any]
    every: int = 10
    decay: float = 0.0
    __name__ = "sharpness_sgd"

    def __call__(self, scaling: Any, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
        settings: dict[str, Any] = {"every": self.every, "decay": self.decay}
        following = scale_by_sharpness(learning_rate, measure=self.measure(scaling), **settings)
        return optax.chain(scale_by_parametrization(scaling, "sgd"), following)
