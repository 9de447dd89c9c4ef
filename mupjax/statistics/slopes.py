"""Fit powers of the width, with confidence intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Slope(NamedTuple):
    """A fitted power of the width.

    Attributes:
      slope: mean over seeds.
      stderr: standard error of the mean.
      half_width: half the width of Student's 95 % interval; infinite for fewer than two seeds.
      seeds: number of seeds.
    """

    slope: float
    stderr: float
    half_width: float
    seeds: int


@lru_cache
def student(seeds: int) -> float:
    """Return half the width of Student's 95 % interval in standard errors of the mean, for two seeds or more.

    Example:
      >>> round(student(4), 3)
      3.182
    """
    from scipy import stats

    return float(stats.t.ppf(0.975, seeds - 1))


def mean_slope(slopes: npt.ArrayLike) -> Slope:
    """Return the mean of one slope per seed with Student's 95 % interval.

    Args:
      slopes: [S]; a slope that is not finite makes the mean NaN.

    Example:
      >>> round(mean_slope([-0.4, -0.5, -0.6]).half_width, 3)
      0.248
    """
    slopes = np.asarray(slopes, np.float64)
    count = len(slopes)
    if not np.isfinite(slopes).all():
        return Slope(math.nan, math.nan, math.inf, count)
    if count < 2:
        return Slope(float(slopes.mean()), math.nan, math.inf, count)
    stderr = float(slopes.std(ddof=1)) / count**0.5
    return Slope(float(slopes.mean()), stderr, student(count) * stderr, count)


def fit_slope(widths: npt.ArrayLike | Sequence[float], values: npt.ArrayLike) -> Slope:
    """Return the power of the width in `values`, from a straight line in logarithms for every seed.

    Args:
      widths: [W], at least two.
      values: [W, S]; a value that is not positive and finite makes the slope NaN.

    Example:
      >>> round(fit_slope([64, 128], [[4.0, 4.0], [2.0, 2.0]]).slope, 12)
      -1.0
    """
    values = np.asarray(values, np.float64)
    logs = np.log(np.where(values > 0, values, np.nan))
    x = np.log(np.asarray(widths, np.float64))
    x = x - x.mean()
    return mean_slope(x @ logs / (x @ x))
