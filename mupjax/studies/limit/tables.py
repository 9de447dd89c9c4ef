"""The table of a width study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.numbers import number

if TYPE_CHECKING:
    import xarray as xr


def format_width_study(dataset: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    """Return a width study's errors, with standard errors, and the fitted powers of the width as plain text.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("limit/results.zarr")
      >>> format_width_study(data)[1][-1]
      ['fitted power', '', '', '-0.500 ± 0.050', '-1.000 ± 0.050']
    """
    columns = ["width", "trained by", "seeds", "error of one network", "error of the mean"]
    rows = []
    for point in range(dataset.sizes["point"]):
        one = dataset.isel(point=point)
        cells = []
        for kind in ("run", "mean"):
            error, stderr = float(one[f"error_{kind}"]), float(one[f"error_{kind}_stderr"])
            if not np.isfinite(error + stderr):
                cells.append("–")
            else:
                resolved = error > 2 * stderr
                cells.append(number(error, 3, stderr) if resolved else f"< {number(error + 2 * stderr, 2)}")
        rows.append(
            [f"{int(one['point_width'])}", str(one["point_dynamics"].values), str(int(one["point_seeds"])), *cells]
        )
    slopes = [(float(dataset[f"slope_{kind}"]), float(dataset[f"slope_{kind}_stderr"])) for kind in ("run", "mean")]
    powers = [f"{slope:.3f} ± {stderr:.3f}" if np.isfinite(slope) else "–" for slope, stderr in slopes]
    rows.append(["fitted power", "", "", *powers])
    return columns, rows
