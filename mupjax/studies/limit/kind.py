"""How an infinite-width limit is shown, alone or with a study of the networks that approach it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.references import YANG
from mupjax.report.words import of_each
from mupjax.results import Caption, Table, Variable
from mupjax.studies.comparison import kind as comparison
from mupjax.studies.limit.figures import draw
from mupjax.studies.limit.tables import format_width_study

if TYPE_CHECKING:
    import xarray as xr

_ERRORS = {
    "error_run": "error of one network's outputs from the limit (root mean square)",
    "error_mean": "error of the mean over initialisations from the limit (root mean square)",
}
VARIABLES: dict[str, Variable] = {
    **comparison.VARIABLES,
    **{name: Variable(("point",), words) for name, words in _ERRORS.items()},
    **{f"{name}_stderr": Variable(("point",), f"standard error of the {words}") for name, words in _ERRORS.items()},
    **{f"slope_{of}": Variable((), f"fitted power of the width of error_{of}") for of in ("run", "mean")},
    **{f"slope_{of}_stderr": Variable((), "its standard error") for of in ("run", "mean")},
    "point_width": Variable(("point",), "width", "hidden units"),
    "point_dynamics": Variable(("point",), units=""),
    "point_seeds": Variable(("point",), units=""),
}
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
