"""Numbers as text: significant digits, a spread to the same decimal place, bounds for unresolved values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mupjax.statistics import Slope


class Estimate(NamedTuple):
    """A value over seeds.

    Attributes:
      mean: of max(value, resolution), over the seeds that did not diverge; NaN where there is none.
      std: sample standard deviation over these seeds, NaN for fewer than two; of a limit its standard error, NaN where
        it is exact.
      resolution: smallest value that rounding can tell from zero; 0 for quantities without such a floor.
      unresolved: 'none', 'some' or 'all' seeds are at or below the resolution.
    """

    mean: float
    std: float
    resolution: float
    unresolved: str

    def __str__(self) -> str:
        if not np.isfinite(self.mean):
            return "–"
        if self.unresolved == "all":
            return f"< {number(self.resolution, 2)}"
        bound = "≤ " if self.unresolved == "some" else ""
        return bound + number(self.mean, 3, self.std)


def number(value: float, digits: int, spread: float = float("nan")) -> str:
    """Write a number with so many significant digits, and its spread to the same decimal place."""
    if value == 0 and not spread > 0:
        return "0"
    exponent = int(f"{value:e}".split("e")[1])
    power = 0 if -2 <= exponent < 5 else exponent
    decimals = max(0, digits - 1 - exponent + power)
    mantissas = " ± ".join(f"{x / 10.0**power:.{decimals}f}" for x in (value, spread) if np.isfinite(x))
    if not power:
        return mantissas
    return f"({mantissas})e{power}" if "±" in mantissas else f"{mantissas}e{power}"


def power(fitted: Slope) -> str:
    """Write a fitted power with its 95 % interval; a dash where it is not determined."""
    if not np.isfinite(fitted.slope):
        return "–"
    interval = f" ± {fitted.half_width:.3f}" if np.isfinite(fitted.half_width) else ""
    return f"{round(fitted.slope, 3) + 0.0:.3f}{interval}"  # no -0.000
