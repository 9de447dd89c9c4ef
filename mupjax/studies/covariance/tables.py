"""The table of a covariance study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.numbers import number
from mupjax.studies.covariance.study import DIRECTIONS, cases
from mupjax.theorems.covariance import CovariancePreservation, summarize

if TYPE_CHECKING:
    import xarray as xr


def complete_cases(dataset: xr.Dataset) -> dict[str, CovariancePreservation]:
    """Return the cases of a covariance study by the words for their widths.

    Raises:
      ValueError: where a direction is missing, or steps or inputs of one side only were selected.
    """
    sides = list(map(str, dataset["direction"].values))
    if sorted(sides) != sorted(DIRECTIONS):
        raise ValueError(f"Expected a covariance study of both directions, {' and '.join(DIRECTIONS)}, got {sides}.")
    for dim in ("gram_step", "gram_input"):
        one, other = dataset.sizes[dim], dataset.sizes[f"{dim}_2"]
        if one != other:
            raise ValueError(f"Expected `{dim}` and `{dim}_2` of one length, got {one} and {other}: select both alike.")
    return cases(dataset)


def format_covariance(dataset: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    """Return the table of a covariance study: a row for each width and direction, all hidden matrices together.

    Example:
      >>> import mupjax, numpy as np
      >>> task = mupjax.Task(np.eye(4), np.ones((4, 1)))
      >>> small = {"widths": (32,), "runs": 4, "depth": 2, "particles": 64, "limit_runs": 2}
      >>> data = mupjax.studies.covariance.covariance_study(task, **small)
      >>> [row[:2] for row in format_covariance(data)[1]]
      [['32', 'forward'], ['32', 'backward'], ['infinite', 'forward'], ['infinite', 'backward']]
    """
    columns = ["width", "direction", "networks", "one network", "mean", "mean's error", "largest |z|", "bound"]
    rows = []
    for width, found in complete_cases(dataset).items():
        short = summarize(found)
        for row, (name, side) in enumerate((("forward", found.forward), ("backward", found.backward))):
            rms = [float(np.sqrt(np.mean(values[row] ** 2))) for values in short[:2]]
            values = [float(side.deviation.mean()), *rms, float(short.max_z[row].max()), short.bound]
            rows.append([width, name, str(found.num_runs), *(number(value, 2) for value in values)])
    return columns, rows
