"""The table of a training study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.numbers import number

if TYPE_CHECKING:
    import xarray as xr


def format_training(dataset: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of plain text: a row for each parametrization and width.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("training/results.zarr")
      >>> format_training(data)[0]
      ['parametrization', 'width', 'training loss', 'first base rates']
    """
    columns = ["parametrization", "width", "training loss"]
    columns += ["test error"] * ("test_error" in dataset) + ["first base rates"]
    rows = []
    for name in map(str, dataset["parametrization"].values):
        for width in dataset["width"].values:
            one = dataset.sel(parametrization=name, width=width)
            cells = [_spread(one[key].values) for key in ("train_loss", "test_error") if key in one]
            rates = one["initial_rate"].mean("seed").values
            rows.append([name, f"{width:g}", *cells, ", ".join(number(float(rate), 3) for rate in rates)])
    return columns, rows


def _spread(values: np.ndarray) -> str:
    values = np.asarray(values, float)
    kept = values[np.isfinite(values)]
    if not len(kept):
        return "diverged"
    lost = f" ({len(values) - len(kept)} diverged)" if len(kept) < len(values) else ""
    spread = f" ± {number(float(kept.std(ddof=1)), 2)}" if len(kept) > 1 else ""
    return f"{number(float(kept.mean()), 4)}{spread}{lost}"
