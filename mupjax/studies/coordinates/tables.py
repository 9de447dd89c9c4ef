"""The table of a coordinate check."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.numbers import power
from mupjax.statistics import Slope, fit_slope
from mupjax.studies.coordinates.variables import QUANTITIES

if TYPE_CHECKING:
    import xarray as xr


def format_coord_check(dataset: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    """Return the fitted powers of the width of every layer's coordinates, changes and own updates at the last step.

    Each with its 95 % interval over seeds; a dash where nothing has changed, a run diverged, or the layer owns no
    parameters.

    Args:
      dataset: what `mupjax.coord_check` returns.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("coord-check/results.zarr")
      >>> format_coord_check(data)[0]
      ['model', 'layer', 'power of |coordinate|', 'power of |change|', 'power of |update|']
    """
    columns = ["model", "layer", *(f"power of |{name}|" for name in QUANTITIES)]
    rows = []
    for model in dataset["model"].values:
        for layer in dataset["layer"].values:
            one = dataset.sel(model=model, layer=layer)
            if not np.isfinite(one["coordinate"].values).any():  # the model has no such layer
                continue
            rows.append([str(model), str(layer), *(power(last_power(one, name)) for name in QUANTITIES)])
    return columns, rows


def last_power(one: xr.Dataset, name: str) -> Slope:
    """Return the power of the width of one of a layer's quantities at the last step; NaN for one width."""
    if one.sizes["width"] < 2:
        return Slope(math.nan, math.nan, math.inf, one.sizes["seed"])
    return fit_slope(one["width"].values, one[name].isel(step=-1).transpose("width", "seed").values)
