"""Stops of a training loop, at which it records, and buffers that are written at these stops only.

Everything here works inside `lax.scan`. Slots follow from static arguments, so that under `vmap` over runs a stop that
records nothing computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int

Tree = TypeVar("Tree")  # a pytree of arrays


class Stops(NamedTuple):
    """The K stops of a training loop; one row of it inside `lax.scan`.

    Attributes:
      step: [K] int32, ascending.
      next_step: [K] int32, the step up to which training continues after this stop.
      slots: {name: [K] int32}, the row of each buffer that is written at this stop, -1 for none.
    """

    step: Int[Array, "*K"]
    next_step: Int[Array, "*K"]
    slots: dict[str, Int[Array | np.ndarray, "*K"]]


def plan_stops(wanted: Mapping[str, Sequence[int]]) -> Stops:
    """Return the stops at the union of all wanted steps and step 0.

    Args:
      wanted: {name of a recording: its steps, ascending}.

    Example:
      >>> plan_stops({"loss": (0, 2), "gram": (2,)}).slots["gram"]
      array([-1,  0], dtype=int32)
    """
    step = np.array(sorted({0}.union(*wanted.values())), np.int32)
    slots: dict[str, Int[Array | np.ndarray, "*K"]] = {
        name: np.array([rows.index(s) if s in rows else -1 for s in step], np.int32)
        for name, rows in ((name, list(rows)) for name, rows in wanted.items())
    }
    next_step = np.append(step[1:], step[-1]).astype(np.int32)
    return Stops(step, next_step, slots)  # pyright: ignore[reportArgumentType]  # NumPy until it enters the scan


def when(slot: Int[Array | np.ndarray, ""], make: Callable[[], Tree]) -> Tree:
    """Return `make()` if the slot is a row, else zeros of the same shapes.

    Example:
      >>> int(when(jnp.int32(-1), lambda: jnp.int32(7)))
      0
    """
    return lax.cond(slot >= 0, make, lambda: _zeros(jax.eval_shape(make)))


def empty(make: Callable[[], Tree], num_rows: int) -> Tree:
    """Return a buffer of zeros for `num_rows` results of `make()`, which is not evaluated.

    Example:
      >>> empty(lambda: jnp.ones(2), num_rows=3).shape
      (3, 2)
    """
    return _zeros(jax.eval_shape(lambda: jax.tree.map(lambda leaf: jnp.stack([leaf] * num_rows), make())))


def keep(buffer: Tree, slot: Int[Array | np.ndarray, ""], make: Callable[[], Tree]) -> Tree:
    """Return the buffer with `make()` written into row `slot`; slot -1 leaves it unchanged.

    Example:
      >>> keep(jnp.zeros(2), jnp.int32(1), lambda: jnp.float32(7)).tolist()
      [0.0, 7.0]
    """

    def write(rows: Tree) -> Tree:
        return jax.tree.map(lambda whole, new: whole.at[slot].set(new.astype(whole.dtype)), rows, make())

    return lax.cond(slot >= 0, write, lambda rows: rows, buffer)


def _zeros(shapes: Tree) -> Tree:
    # Buffers belong to the caller's program: float64 results such as Gram matrices are stored in its own precision.
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype)), shapes)
