"""Quantities that claims read from a part's Dataset."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from mupjax.task import Task
from mupjax.trajectory import Trajectory

if TYPE_CHECKING:
    import xarray as xr


def finite(data: xr.Dataset, variable: str, name: str, layer: int, step: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """Return finite widths [W] and values [W, S] of a layer at a Gram step, not below their resolution."""
    widths = data["width"].values
    values = _at(data, variable, name, layer, step).transpose("width", "seed").values
    if (resolution := f"{variable}_resolution") in data:
        values = np.maximum(values, _at(data, resolution, name, layer, step).transpose("width", "seed").values)
    return widths[np.isfinite(widths)], values[np.isfinite(widths)]


def infinite(data: xr.Dataset, variable: str, layer: int, step: int = -1, name: str = "mup") -> tuple[float, float]:
    """Return an infinite-width value at a Gram step and its standard error, 0 where the limit is exact."""
    value = _at(data, variable, name, layer, step).sel(width=np.inf).isel(seed=0)
    stderr = float(_at(data, f"{variable}_stderr", name, layer, step))
    return float(value), stderr if np.isfinite(stderr) else 0.0


def limit_runs(data: xr.Dataset) -> int:
    """Return of how many runs the feature-learning limit is the mean."""
    return int(json.loads(data.attrs["arguments"])["limit_runs"])


def across_widths(narrow: xr.Dataset, wide: xr.Dataset) -> xr.Dataset:
    """Return metrics and losses of two comparisons of the same runs as one Dataset, up to the last step of `wide`.

    Args:
      narrow: measured at the Gram steps of `wide` among others; the limit's row is its own.
      wide: of greater widths.
    """
    import xarray as xr

    metrics = [n for n in map(str, narrow) if n.startswith(("feature_change", "diversity", "space_time", "train_loss"))]
    steps = np.intersect1d(narrow["step"].values, wide["step"].values)
    names = ["limit", "learning_rate", "classification"]
    parts, seeds = [], min(narrow.sizes["seed"], wide.sizes["seed"])
    for data, rows in ((narrow, np.isfinite), (wide, np.isfinite), (narrow, np.isinf)):
        part = (
            data[metrics].sel(step=steps, gram_step=wide["gram_step"].values).isel(seed=slice(seeds)).drop_vars(names)
        )
        parts.append(part.isel(width=rows(part["width"].values)))
    joined = xr.concat(parts, "width", data_vars="minimal", coords="minimal", compat="override", join="exact")
    return joined.assign_coords({name: narrow[name] for name in names})


def run_of(data: xr.Dataset, name: str, width: float) -> Trajectory:
    """Return what the Dataset holds of a width as a Trajectory: a runs axis for networks, none for the limit."""
    one = data.sel(parametrization=name, width=width)
    one = one.isel(seed=0) if np.isinf(width) else one.transpose("seed", ...)
    loss, predictions, h, x = (one[name].values for name in ("train_loss", "predictions", "h_gram", "x_gram"))
    return Trajectory(data["step"].values, loss, None, predictions, h_gram=h, x_gram=x)


def task_without_inputs(data: xr.Dataset) -> Task:
    """Return a Task with the targets of the Dataset's training inputs, and zeros in the place of these."""
    targets = data["targets"].values
    return Task(np.zeros((len(targets), 1)), targets)


def _at(data: xr.Dataset, variable: str, name: str, layer: int, step: int) -> xr.DataArray:
    return data[variable].isel(gram_step=step).sel(parametrization=name, layer=layer)
