"""The table of a coordinate check."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.numbers import power
from mupjax.statistics import Slope, fit_slope

if TYPE_CHECKING:
    import xarray as xr


def format_coord_check(dataset: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    """Return the fitted powers of the width of every layer's coordinates and their changes at the last step.

    Each with its 95 % interval over seeds; a dash where nothing has changed or a run diverged.

    Args:
      dataset: what `mupjax.coord_check` returns.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("coord-check/results.zarr")
      >>> format_coord_check(data)[0]
      ['model', 'layer', 'power of |coordinate|', 'power of |change|']
    """
    columns = ["model", "layer", "power of |coordinate|", "power of |change|"]
    rows = []
    for model in dataset["model"].values:
        for layer in dataset["layer"].values:
            one = dataset.sel(model=model, layer=layer)
            if not np.isfinite(one["coordinate"].values).any():  # the model has no such layer
                continue
            rows.append([str(model), str(layer), *(power(last_power(one, name)) for name in ("coordinate", "change"))])
    return columns, rows


def last_power(one: xr.Dataset, name: str) -> Slope:
    """Return the power of the width of one layer's `coordinate` or `change` at the last step; NaN for one width."""
    if one.sizes["width"] < 2:
        return Slope(math.nan, math.nan, math.inf, one.sizes["seed"])
    return fit_slope(one["width"].values, one[name].isel(step=-1).transpose("width", "seed").values)
