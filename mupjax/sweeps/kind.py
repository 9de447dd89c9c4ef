"""Presentation of sweeps: figures, tables and words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mupjax.report.numbers import number
from mupjax.report.references import TRANSFER
from mupjax.report.words import joined, of_each, read_html
from mupjax.results import Caption, Kind, Table
from mupjax.statistics.outcomes import Outcomes, outcomes
from mupjax.sweeps.figures import draw
from mupjax.sweeps.tables import format_sweep, run_optimizers
from mupjax.sweeps.variables import VARIABLES

if TYPE_CHECKING:
    import xarray as xr

CAPTIONS = {
    "learning_rates.png": Caption(
        "Training loss against the learning rate",
        "Lines are means over the seeds that did not diverge and bands reach from the smallest to the largest of them; "
        "darker lines are wider networks, and a star is a width's best rate. Crosses in the strip at the top, a row "
        "for each width, are rates at which a seed diverged. Where the stars stand above each other, the best rate "
        f"transfers from narrow to wide networks ({TRANSFER}).",
    ),
    "learning_rates_test.png": Caption(
        "Test loss against the learning rate",
        "As above; stars are the best rates by the test loss.",
    ),
}


def subject(dataset: xr.Dataset) -> str:
    """Return what was swept."""
    names, optimizers = joined(dataset["parametrization"].values), joined(dataset["optimizer"].values)
    return f"{names} with {optimizers} at widths {joined(dataset['width_label'].values)}"


def tables(dataset: xr.Dataset) -> list[Table]:
    """Return best rates and the losses there."""
    caption = (
        f"Losses after {int(dataset['step'].values[-1])} steps at the best rate: mean ± sample standard deviation over "
        f"{dataset.sizes['seed']} seeds."
    )
    return [Table("Summary", *format_sweep(run_optimizers(dataset)), caption, leading=3, words=("note",))]


def settings(dataset: xr.Dataset, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments, with the learning rates of each optimizer."""
    found = {name: value for name, value in arguments.items() if name != "learning_rates"}
    was_run = dataset["was_run"].transpose("optimizer", "learning_rate").values
    for name, rates in zip(dataset["optimizer"].values, was_run, strict=True):
        found[f"learning rates, {name}"] = [f"{rate:.4g}" for rate in dataset["learning_rate"].values[rates]]
    return found


def reading(dataset: xr.Dataset) -> str:
    """Return how to read the numbers."""
    return read_html("mupjax.sweeps")


def conclusion(dataset: xr.Dataset) -> str:
    """Return the best rates of the narrowest and the widest networks; with one rate the losses there."""
    run = run_optimizers(dataset)
    found, rates = outcomes(run), run["learning_rate"].values
    names, depths, optimizers = (run[dim].values for dim in ("parametrization", "depth", "optimizer"))
    order = np.argsort(run["width"].values, kind="stable")
    ends = [int(column) for column in ((order[0], order[-1]) if len(order) > 1 else order)]
    values = {}
    for row, depth, optimizer in np.ndindex(len(names), len(depths), len(optimizers)):
        who = f"{names[row]}, {optimizers[optimizer]}" + f", depth {depths[depth]}" * (len(depths) > 1)
        values[who] = " to ".join(_at(found, (row, depth, optimizer, column), rates) for column in ends)
    labels = [str(run["width_label"].values[column]) for column in ends]
    where = f"From width {labels[0]} to {labels[-1]}" if len(ends) > 1 else f"At width {labels[0]}"
    goes = "goes from" if len(ends) > 1 else "is"
    if len(rates) == 1:
        what = f"the training loss after {int(run['step'].values[-1])} steps at the learning rate {rates[0]:.4g}"
    else:
        what = "the learning rate of the smallest training loss"
    return f"{where}, {what} {goes} {of_each(values)}."


def _at(found: Outcomes, cell: tuple[int, int, int, int], rates: np.ndarray) -> str:
    """The best rate of a cell, or its loss where there is one rate."""
    best = int(found.best[cell])
    if best < 0:
        return "none" if found.done[cell] else "not done"
    return f"{rates[best]:.4g}" if len(rates) > 1 else number(float(found.loss.mean[cell][best]), 3)


KIND = Kind(
    name="sweep",
    heading="Learning rates against width",
    variables=VARIABLES,
    needs=(
        "train_loss",
        "was_run",
        "parametrization",
        "depth",
        "optimizer",
        "width",
        "width_label",
        "learning_rate",
        "step",
    ),
    subject=subject,
    figures=draw,
    captions=CAPTIONS,
    tables=tables,
    reading=reading,
    conclusion=conclusion,
    settings=settings,
)
