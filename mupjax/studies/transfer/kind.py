"""Presentation of sweeps with their best learning rates: figures, tables and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.references import TRANSFER
from mupjax.report.words import of_each
from mupjax.results import Caption
from mupjax.studies.transfer.figures import draw
from mupjax.studies.transfer.variables import VARIABLES
from mupjax.sweeps import kind as sweep

if TYPE_CHECKING:
    import xarray as xr

CAPTIONS = sweep.CAPTIONS | {
    "transfer.png": Caption(
        "Best learning rate against width",
        "Marks are means over seeds of the rate's logarithm, with 95 % intervals; the line has the fitted slope. Where "
        f"it is level, the best rate of a narrow network is that of a wide one ({TRANSFER}).",
    ),
}


def conclusion(dataset: xr.Dataset) -> str:
    """Return the drift of the best rate with the width."""
    drifts = {}
    for name in map(str, dataset["parametrization"].values):
        for optimizer in map(str, dataset["optimizer"].values):
            one = dataset.sel(parametrization=name, optimizer=optimizer)
            drift, half_width = float(one["drift"]), float(one["drift_half_width"])
            interval = f" ± {half_width:.2f}" if np.isfinite(half_width) else ""
            found = f"{round(drift, 2) + 0.0:.2f}{interval}" if np.isfinite(drift) else "not determined"
            drifts[f"{name}, {optimizer}"] = found
    return (
        f"In octaves of rate per octave of width, the best learning rate drifts by {of_each(drifts)} (95 % intervals)."
    )


KIND = sweep.KIND._replace(
    name="transfer",
    variables=VARIABLES,
    needs=(*sweep.KIND.needs, "best_rate", "drift", "drift_half_width"),
    figures=draw,
    captions=CAPTIONS,
    conclusion=conclusion,
)
