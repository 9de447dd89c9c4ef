"""Tables of `rich_features`: its parts side by side, and test errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mupjax.results import Table

if TYPE_CHECKING:
    import xarray as xr

_METRICS = {"change of x": "feature_change_x", "diversity of x": "diversity_x", "joint": "space_time_lambda_min_x"}


def of_parts(found: Mapping[str, xr.Dataset]) -> list[Table]:
    """Return the tables that have rows."""
    return [table for table in (side_by_side(found), test_errors(found)) if table.rows]


def side_by_side(found: Mapping[str, xr.Dataset]) -> Table:
    """Return muP's last layer at the last step, part by part: mean ± standard error, over seeds or the limit's runs."""
    rows = []
    for part, data in found.items():
        if "feature_change_x" not in data or "mup" not in data["parametrization"].values or "test_error" in data:
            continue
        one = data.sel(parametrization="mup").isel(layer=-1, gram_step=-1)
        for column, label in enumerate(map(str, data["width_label"].values)):
            cells = [_cell(one, name, column) for name in _METRICS.values()]
            rows.append([part, f"{float(one['learning_rate']):g}", str(int(one["step"][-1])), label, *cells])
    caption = "Of muP, the last layer at the last step: mean ± standard error, over seeds or the limit's runs."
    return Table("Parts side by side", ["part", "rate", "steps", "width", *_METRICS], rows, caption)


def test_errors(found: Mapping[str, xr.Dataset]) -> Table:
    """Return test errors, mean ± standard error over seeds; a limit has one. The paper claims nothing of them."""
    rows = []
    for part, kind in (("test", "network"), ("linearized", "first-order model")):
        if part not in found:
            continue
        data = found[part]
        for name in map(str, data["parametrization"].values):
            for width, label in zip(data["width"].values, map(str, data["width_label"].values), strict=True):
                errors = data["test_error"].sel(parametrization=name, width=width).values
                if np.isfinite(errors).all() and not (np.isinf(width) and part == "linearized"):
                    spread = f" ± {errors.std(ddof=1) / len(errors) ** 0.5:.3f}" if np.isfinite(width) else ""
                    what = "limit" if np.isinf(width) else kind
                    rows.append([name, what, label, f"{errors.mean():.3f}{spread}"])
    caption = "Mean ± standard error over seeds; a limit has one value."
    return Table("Test errors", ["parametrization", "what", "width", "test error"], rows, caption)


def _cell(one: xr.Dataset, name: str, column: int) -> str:
    values = one[name].isel(width=column).values
    if np.isinf(one["width"].values[column]):
        mean, error = values[0], float(one[f"{name}_stderr"])
    else:
        mean, error = values.mean(), values.std(ddof=1) / len(values) ** 0.5
    return f"{mean:.3g} ± {error:.1g}"
