"""When a training loop stops to record, and buffers that are written at those stops alone.

Everything here works inside `lax.scan`. The slots come from static arguments, so that under `vmap` over runs a stop
that records nothing also computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Stops(NamedTuple):
    """step: [K] ascending. next_step: [K], where training goes on to. slots: {name: [K] row to write, -1 for none}."""

    step: Any
    next_step: Any
    slots: dict[str, Any]


def plan_stops(wanted: Mapping[str, Sequence[int]]) -> Stops:
    """Return the union of all wanted steps (0 always) with each recording's row at every stop.

    Example:
      >>> plan_stops({"loss": (0, 2), "gram": (2,)}).slots["gram"]
      array([-1,  0], dtype=int32)
    """
    step = np.array(sorted({0}.union(*wanted.values())), np.int32)
    slots = {
        name: np.array([rows.index(s) if s in rows else -1 for s in step], np.int32)
        for name, rows in ((name, list(rows)) for name, rows in wanted.items())
    }
    return Stops(step, np.append(step[1:], step[-1]).astype(np.int32), slots)


def when(slot: jax.Array, make: Callable[[], Any]) -> Any:
    """Return `make()` where the slot is a row, zeros of its shape otherwise."""
    return lax.cond(slot >= 0, make, lambda: _zeros(jax.eval_shape(make)))


def empty(make: Callable[[], Any], num_rows: int) -> Any:
    """Return zeros of the shape of `num_rows` stacked results of `make()`, without computing one."""
    return _zeros(jax.eval_shape(lambda: jax.tree.map(lambda leaf: jnp.stack([leaf] * num_rows), make())))


def keep(buffer: Any, slot: jax.Array, make: Callable[[], Any]) -> Any:
    """Return the buffer with `make()` written into row `slot`, or the buffer as it is for slot -1."""

    def write(rows: Any) -> Any:
        return jax.tree.map(lambda whole, new: whole.at[slot].set(new.astype(whole.dtype)), rows, make())

    return lax.cond(slot >= 0, write, lambda rows: rows, buffer)


def _zeros(shapes: Any) -> Any:
    # float64 results (a Gram's) are stored in the program's own precision: the buffers are its arrays.
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype)), shapes)
