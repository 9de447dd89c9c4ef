"""The table of a study of catapults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.numbers import number
from mupjax.statistics.catapults import detect_catapults

if TYPE_CHECKING:
    import xarray as xr


def format_catapults(dataset: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of plain text: a row for each activation, schedule and factor.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("catapults/results.zarr")
      >>> [row[:3] + row[-2:] for row in format_catapults(data)[1][:2]]
      [['tanh', 'constant', '1', '0 of 2', '0 of 2'], ['tanh', 'constant', '3', '2 of 2', '0 of 2']]
    """
    columns = ["activation", "rates", "rate x initial sharpness", "largest loss", "last loss", "rate x last sharpness"]
    columns += ["catapulted", "diverged"]
    rows = []
    for name in map(str, dataset["activation"].values):
        for schedule in map(str, dataset["schedule"].values):
            for factor in dataset["factor"].values:
                one = dataset.sel(activation=name, schedule=schedule, factor=factor).transpose("seed", ...)
                last = one.isel(observe_step=-1)
                found = detect_catapults(one["train_loss"], last["sharpness"], last["rate"])
                sizes = [_median(values) for values in (found.growth, found.ending, found.edge)]
                shares = [f"{int(of.sum())} of {of.size}" for of in (found.happened, found.diverged)]
                rows.append([name, schedule, f"{factor:g}", *sizes, *shares])
    return columns, rows


def _median(values: np.ndarray) -> str:
    kept = values[np.isfinite(values)]
    return number(float(np.median(kept)), 3) if len(kept) else "diverged"
