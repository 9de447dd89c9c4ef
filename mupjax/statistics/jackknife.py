"""The jackknife: bias and standard error of a function of the mean over independent runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def jackknife(statistic: Callable[[np.ndarray], Any], count: int) -> tuple[Any, Any, Any]:
    """Return a statistic of all runs, the same less its bias to first order, and its standard error.

    Leaving out one run at a time shows how the statistic changes with their number (Efron 1982, The Jackknife).

    Args:
      statistic: takes the indices [K] of the runs that are kept; returns a pytree of arrays.
      count: how many runs there are, at least two.

    Example:
      >>> runs = np.array([1.0, 2.0, 3.0])
      >>> _, square, _ = jackknife(lambda kept: runs[kept].mean() ** 2, 3)
      >>> round(float(square), 3)  # less the mean's variance of 1/3
      3.667
    """
    whole = statistic(np.arange(count))
    parts = [statistic(np.delete(np.arange(count), run)) for run in range(count)]
    left_out = jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
    with np.errstate(invalid="ignore"):  # what is infinite has no correction and no error: NaN
        corrected = jax.tree.map(lambda all_, some: count * all_ - (count - 1) * some.mean(0), whole, left_out)
        return whole, corrected, jax.tree.map(lambda some: (count - 1) ** 0.5 * some.std(axis=0), left_out)
