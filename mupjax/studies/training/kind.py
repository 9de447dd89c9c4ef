"""Presentation of training studies: figures, tables and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.numbers import number
from mupjax.report.references import HAJJAR
from mupjax.report.words import joined, of_each, read_html
from mupjax.results import Caption, Kind, Table
from mupjax.studies.training.figures import draw
from mupjax.studies.training.tables import format_training
from mupjax.studies.training.variables import VARIABLES

if TYPE_CHECKING:
    import xarray as xr

CAPTIONS = {
    "batch_loss.png": Caption(
        "Loss of a step's batch before its update",
        "Lines are means over the seeds that are finite, bands reach from the smallest to the largest; the grey line "
        "is the loss of outputs that are all the same.",
    ),
    "ranks.png": Caption(
        "Directions of the features after one step",
        "Numerical ranks of the preactivations over the inputs: bars reach from the smallest to the largest seed. "
        f"After IP-LLR's first step deep layers see few directions; muP keeps its initial weights' ({HAJJAR}).",
    ),
    "contributions.png": Caption(
        "What preactivations are made of",
        "Mean absolute contributions of the initial weights, the first update and later ones to the preactivations of "
        f"the step, over inputs and units, mean over seeds ({HAJJAR}).",
    ),
    "functions.png": Caption(
        "Functions of one variable",
        "Before and after training, one line a seed. Four hidden layers under IP stay where they start.",
    ),
    "kernels.png": Caption(
        "How far tangent kernels move",
        "Distance from the start over the size at the start after the last step, means over seeds, bars from the "
        "smallest to the largest. Under NTP it vanishes with the width (Dyer &amp; Gur-Ari 2020, arXiv:1909.11304).",
    ),
}


def subject(dataset: xr.Dataset) -> str:
    """Return what was trained."""
    widths = joined(f"{width:g}" for width in dataset["width"].values)
    return f"{joined(dataset['parametrization'].values)} at widths {widths}"


def tables(dataset: xr.Dataset) -> list[Table]:
    """Return losses, errors and first rates."""
    caption = (
        f"After {int(dataset['step'].values[-1])} steps: mean ± sample standard deviation over "
        f"{dataset.sizes['seed']} seeds. The first step's base rates are means over seeds, from layer 1 to the readout."
    )
    return [Table("Summary", *format_training(dataset), caption)]


def reading(dataset: xr.Dataset) -> str:
    """Return how to read the numbers."""
    return read_html("mupjax.studies.training")


def conclusion(dataset: xr.Dataset) -> str:
    """Return the training losses of the widest networks."""
    column = int(np.argmax(dataset["width"].values))
    losses = dataset["train_loss"].isel(width=column).transpose("parametrization", "seed").values.astype(float)
    found = {}
    for name, values in zip(map(str, dataset["parametrization"].values), losses, strict=True):
        kept = values[np.isfinite(values)]
        found[name] = number(float(kept.mean()), 3) if len(kept) else "diverged"
    width = float(dataset["width"].values[column])
    return f"After training, the loss of the training set at width {width:g} is {of_each(found)}."


KIND = Kind(
    name="training",
    heading="Networks trained by minibatches",
    variables=VARIABLES,
    needs=("batch_loss", "train_loss", "initial_rate", "parametrization", "width", "step"),
    subject=subject,
    figures=draw,
    captions=CAPTIONS,
    tables=tables,
    reading=reading,
    conclusion=conclusion,
)
