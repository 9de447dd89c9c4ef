"""State and batch passed to observers, and the observer protocol."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import optax
from jaxtyping import Array, PyTree

Params = PyTree[Array]  # {layer: {"kernel": [fan_in, fan_out], "bias": [fan_out]}}


class Batch(NamedTuple):
    """The training inputs of one step.

    Attributes:
      x: [B, d] inputs.
      y: [B, C] or [B] targets.
      index: [B] positions in the training set.
    """

    x: jax.Array
    y: jax.Array
    index: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]


class State(NamedTuple):
    """State of a run before the update of its step, as observers see it.

    Attributes:
      step: number of updates made.
      params: parameters now, a tree of {layer: {"kernel": [fan_in, fan_out], "bias": [fan_out]}}.
      opt_state: the optimizer's state.
      params_0: parameters at initialisation.
      last_update: the last update, zero at step 0.
      params_1: parameters after the first update; before it, those at initialisation.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    params_0: Params
    last_update: Params
    params_1: Params


@runtime_checkable
class Observe(Protocol):
    """A function of a run's state and batch that returns a tree of arrays, of the same shapes at every step."""

    def __call__(self, state: State, batch: Batch, /) -> PyTree[Array]: ...


class Observer(NamedTuple):
    """A function that is called while a network trains, and how often.

    Attributes:
      observe: what is called; its arrays are stored in the program's own precision (float32, or float64 under x64).
      every: it is called at steps 0, every, 2 every, ...
    """

    observe: Observe
    every: int = 1
