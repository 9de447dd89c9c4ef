"""Presentation of coordinate checks: figures, tables and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.numbers import power
from mupjax.report.references import TRANSFER, YANG
from mupjax.report.words import joined, read_html
from mupjax.results import Caption, Kind, Table
from mupjax.studies.coordinates.figures import draw
from mupjax.studies.coordinates.tables import format_coord_check, last_power
from mupjax.studies.coordinates.variables import QUANTITIES, VARIABLES

if TYPE_CHECKING:
    import xarray as xr

CAPTIONS = {
    "coord_check.png": Caption(
        "Size of every layer's coordinates, of their changes and of its own update against width",
        "Marked lines are means over seeds at the last step, bands reach from the smallest to the largest seed, and "
        "light lines are earlier steps. The own update is what the layer has learnt: its output minus that of its "
        "parameters of step 0 on the same input. Level lines keep their size at any width; lines that rise blow up, "
        f"and updates that fall stop learning ({YANG}; {TRANSFER}, App. D.1).",
    ),
}


def subject(dataset: xr.Dataset) -> str:
    """Return which models were checked."""
    widths = joined(f"{width:.0f}" for width in dataset["width"].values)
    return f"{joined(dataset['model'].values)} at widths {widths}"


def tables(dataset: xr.Dataset) -> list[Table]:
    """Return the fitted power of the width of every layer."""
    caption = (
        f"Powers of the width in the mean |coordinate| and the mean |change| of every layer's output, and in its mean "
        f"|own update|, after {int(dataset['step'].values[-1])} steps, with 95 % intervals over "
        f"{dataset.sizes['seed']} seeds."
    )
    return [Table("Summary", *format_coord_check(dataset), caption, words=("layer",))]


def reading(dataset: xr.Dataset) -> str:
    """Return how to read the numbers."""
    return read_html("mupjax.studies.coordinates")


def conclusion(dataset: xr.Dataset) -> str:
    """Return for each model the layer whose change goes with the largest power of the width, up or down."""
    words = []
    for model in map(str, dataset["model"].values):
        slopes = {
            str(layer): last_power(dataset.sel(model=model, layer=layer), "change") for layer in dataset["layer"].values
        }
        sizes = {layer: abs(slope.slope) for layer, slope in slopes.items() if np.isfinite(slope.slope)}
        if sizes:
            layer = max(sizes, key=lambda name: sizes[name])
            words.append(f"{power(slopes[layer])} in {model} ({layer})")
    steps = int(dataset["step"].values[-1])
    if not words:
        return f"After {steps} steps no layer's mean |change| determines a power of the width."
    intervals = " (95 % intervals over seeds)" if any("±" in word for word in words) else ""
    return (
        f"After {steps} steps the power of the width in a layer's mean |change| that is farthest from 0{intervals} is "
        f"{joined(words)}."
    )


KIND = Kind(
    name="coordinate check",
    heading="Coordinate check",
    variables=VARIABLES,
    needs=(*QUANTITIES, "model", "layer", "width", "step"),
    subject=subject,
    figures=draw,
    captions=CAPTIONS,
    tables=tables,
    reading=reading,
    conclusion=conclusion,
)
