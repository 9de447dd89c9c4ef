"""Verdicts on claims, and the fitted powers of the width that they rest on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mupjax.files import write_whole

VERDICTS = "verdicts.json"
REPRODUCED, CONTRADICTED, NOT_SHOWN = "reproduced", "contradicted", "not shown"


class Verdict(NamedTuple):
    """What a claim says, what was found, and whether that settles it.

    claim: in words. paper: the published figure, None where there is none. ours: the figure found. stderr: its standard
    error, None where it has none. seeds: how many it rests on. bound: what `ours` must meet. verdict: 'reproduced',
    'contradicted' or 'not shown' (the figure's error is too large to tell).
    """

    claim: str
    paper: float | None
    ours: float
    stderr: float | None
    seeds: int
    bound: str
    verdict: str


class Slope(NamedTuple):
    """A fitted power of the width: its mean over seeds, standard error, and half the width of its 95 % interval.

    seeds: how many it rests on. The interval is Student's, infinite for fewer than two seeds.
    """

    slope: float
    stderr: float
    half_width: float
    seeds: int


def mean_slope(slopes: Any) -> Slope:
    """Return the mean of one slope per seed with Student's 95 % interval; NaN for slopes that are not finite.

    Example:
      >>> round(mean_slope([-0.4, -0.5, -0.6]).half_width, 3)
      0.248
    """
    from scipy import stats

    slopes = np.asarray(slopes, np.float64)
    count = len(slopes)
    if not np.isfinite(slopes).all():
        return Slope(math.nan, math.nan, math.inf, count)
    if count < 2:
        return Slope(float(slopes.mean()), math.nan, math.inf, count)
    stderr = float(slopes.std(ddof=1)) / count**0.5
    return Slope(float(slopes.mean()), stderr, float(stats.t.ppf(0.975, count - 1)) * stderr, count)


def fit_slope(widths: Any, values: Any) -> Slope:
    """Return the power of the width in values [width, seed]: a straight line in logarithms for every seed.

    Args:
      widths: [W], at least two.
      values: [W, S], positive; a seed with a value that is not positive and finite makes the slope NaN.

    Example:
      >>> round(fit_slope([64, 128], [[4.0, 4.0], [2.0, 2.0]]).slope, 12)
      -1.0
    """
    values = np.asarray(values, np.float64)
    logs = np.log(np.where(values > 0, values, np.nan))
    x = np.log(np.asarray(widths, np.float64))
    x = x - x.mean()
    return mean_slope(x @ logs / (x @ x))


def write(verdicts: Sequence[Verdict], out: str | os.PathLike[str]) -> Path:
    """Write verdicts.json, a list of verdicts as JSON objects, to the directory `out`: whole or not at all."""
    rows = [{name: _plain(value) for name, value in verdict._asdict().items()} for verdict in verdicts]
    return write_whole(Path(out) / VERDICTS, (json.dumps(rows, indent=1) + "\n").encode())


def _plain(value: Any) -> Any:
    """Numbers as JSON's; what is not finite as null, which JSON has no number for."""
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
