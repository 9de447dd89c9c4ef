"""Presentation of covariance studies: figures, tables and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.numbers import number
from mupjax.report.words import joined, read_html
from mupjax.results import Caption, Kind, Table
from mupjax.studies.covariance.figures import draw
from mupjax.studies.covariance.tables import complete_cases, format_covariance
from mupjax.studies.covariance.variables import VARIABLES
from mupjax.theorems.covariance import summarize

if TYPE_CHECKING:
    import xarray as xr

CAPTIONS = {
    "covariance.png": Caption(
        "Covariances of Gaussian parts against those that theory predicts",
        "Left: every pair of (step, input) at infinite width, beside theory's diagonal. Right: how far means over runs "
        "are from it at every width, and, as dashes, how far they would be by chance (Chen et al. 2025, "
        "arXiv:2503.09565).",
    ),
}


def subject(dataset: xr.Dataset) -> str:
    """Return the widths that were studied."""
    return f"widths {joined(dataset['width_label'].values)}"


def tables(dataset: xr.Dataset) -> list[Table]:
    """Return how far covariances are from their prediction at each width."""
    caption = (
        "Root mean square over pairs of (step, input): of one network's difference from the prediction, mean over "
        "networks; of the difference of means over networks, and of its standard error. Relative to the prediction."
    )
    columns, rows = format_covariance(dataset)
    last = [len(rows) - 1 - k for k in range(dataset.sizes["direction"])]
    return [Table("Summary", columns, rows, caption, marked=last)]


def reading(dataset: xr.Dataset) -> str:
    """Return how to read the numbers."""
    return read_html("mupjax.studies.covariance")


def conclusion(dataset: xr.Dataset) -> str:
    """Return how far the covariances of the last width are from their prediction, and whether chance explains it."""
    label, found = list(complete_cases(dataset).items())[-1]
    short = summarize(found)
    forward, backward = (number(float(np.sqrt(np.mean(row**2))), 2) for row in short.relative_difference)
    where = "infinite width" if label == "infinite" else f"width {label}"
    return (
        f"At {where}, means over {found.num_runs} runs of the covariances differ from the prediction by {forward} "
        f"(forward) and {backward} (backward), relative; the largest |z| is {number(float(np.max(short.max_z)), 2)}, "
        f"and chance alone exceeds {number(short.bound, 2)} with probability {short.level:g} at most."
    )


KIND = Kind(
    name="covariance",
    heading="Covariance preservation of Gaussian parts",
    variables=VARIABLES,
    needs=(
        "predicted",
        "empirical",
        "difference",
        "stderr",
        "deviation",
        "width",
        "width_label",
        "num_runs",
        "direction",
        "matrix",
    ),
    subject=subject,
    figures=draw,
    captions=CAPTIONS,
    tables=tables,
    reading=reading,
    conclusion=conclusion,
)
