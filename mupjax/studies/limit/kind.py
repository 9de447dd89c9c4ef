"""Presentation of an infinite-width limit, alone or with a width study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.references import YANG
from mupjax.report.words import of_each
from mupjax.results import Caption, Table
from mupjax.studies.comparison import kind as comparison
from mupjax.studies.limit.figures import draw
from mupjax.studies.limit.tables import format_width_study
from mupjax.studies.limit.variables import VARIABLES

if TYPE_CHECKING:
    import xarray as xr

CAPTIONS = comparison.CAPTIONS | {
    "width_study.png": Caption(
        "Distance from infinite width",
        "Outputs of single networks come closer to the limit as 1/√n, their mean over initialisations as 1/n. Circles "
        "are networks with real weights, triangles the same law drawn without hidden matrices; bars are two standard "
        f"errors ({YANG}).",
    ),
}


def tables(dataset: xr.Dataset) -> list[Table]:
    """Return the summary, and the distances from the limit where networks were trained."""
    found = comparison.tables(dataset)
    if "error_run" in dataset:
        caption = (
            "Root mean square over all recorded outputs, ± standard error; “<” is two standard errors above what was "
            "measured, where that is not resolved. The last row is fitted to the widths before the first that is not."
        )
        found.append(Table("Distance from the limit", *format_width_study(dataset), caption, leading=0))
    return found


def conclusion(dataset: xr.Dataset) -> str:
    """Return the powers of the width with which networks approach the limit; without these what the limit is."""
    if "error_run" not in dataset:
        return comparison.conclude(dataset)
    powers = {}
    for of, what in (("run", "outputs of one network"), ("mean", "their mean over initialisations")):
        slope, stderr = float(dataset[f"slope_{of}"]), float(dataset[f"slope_{of}_stderr"])
        if np.isfinite(slope):
            powers[what] = f"{slope:.2f} ± {stderr:.2f}"
    if not powers:
        return "The distances from the limit determine no power of the width."
    return f"The distance from the limit goes as a fitted power of the width (± standard error): {of_each(powers)}."


KIND = comparison.KIND._replace(
    name="limit",
    variables=VARIABLES,
    figures=draw,
    captions=CAPTIONS,
    tables=tables,
    conclusion=conclusion,
)
