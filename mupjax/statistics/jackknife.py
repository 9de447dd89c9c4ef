"""The jackknife: bias and standard error of a function of the mean over independent runs."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Int, PyTree


def jackknife(statistic: Callable[[Int[np.ndarray, " kept"]], PyTree], count: int) -> tuple[PyTree, PyTree, PyTree]:
    """Return a statistic of all runs, the same with its first-order bias removed, and its standard error.

    The statistic is recomputed with one run left out at a time (Efron 1982, The Jackknife).

    Args:
      statistic: a function from the indices [K] of the kept runs to a pytree of arrays.
      count: number of runs, at least two.

    Returns:
      Three pytrees like the statistic's; infinite entries have NaN as correction and error.

    Example:
      >>> runs = np.array([1.0, 2.0, 3.0])
      >>> _, square, _ = jackknife(lambda kept: runs[kept].mean() ** 2, 3)
      >>> round(float(square), 3)  # 4 minus the mean's variance, 1/3
      3.667
    """
    whole = statistic(np.arange(count))
    parts = [statistic(np.delete(np.arange(count), run)) for run in range(count)]
    left_out = jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
    with np.errstate(invalid="ignore"):  # infinite entries: NaN
        corrected = jax.tree.map(lambda all_, some: count * all_ - (count - 1) * some.mean(0), whole, left_out)
        return whole, corrected, jax.tree.map(lambda some: (count - 1) ** 0.5 * some.std(axis=0), left_out)
