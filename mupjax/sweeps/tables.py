"""The table of a sweep: best rates, and the losses there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.report.numbers import Estimate
from mupjax.statistics.outcomes import LOSSES, Outcomes, outcomes

if TYPE_CHECKING:
    import xarray as xr


def run_optimizers(dataset: xr.Dataset) -> xr.Dataset:
    """Return a sweep without the optimizers that were run with none of its learning rates.

    Raises:
      ValueError: where none is left.
    """
    kept = dataset["was_run"].transpose("optimizer", "learning_rate").values.any(1)
    if not kept.any():
        rates = ", ".join(f"{rate:g}" for rate in dataset["learning_rate"].values)
        raise ValueError(f"Expected a sweep with learning rates that an optimizer was run with, got {rates}.")
    return dataset if kept.all() else dataset.isel(optimizer=np.flatnonzero(kept))


def format_sweep(dataset: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    """Return a sweep's best rates as plain text: column titles, and a row for every cell.

    The best rate has the smallest mean training loss at the last step among those at which no seed diverged; losses
    there are mean ± sample standard deviation over seeds.

    Args:
      dataset: what `mupjax.sweep` returns.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("sweep/results.zarr")
      >>> format_sweep(data)[1][0][:5]  # of sp, with sgd, in depth 2, at width 64: the best rate
      ['sp', 'sgd', '2', '64', '1']
    """
    found = {loss: outcomes(dataset, loss) for loss in LOSSES if loss in dataset}
    train = found["train_loss"]
    columns = ["parametrization", "optimizer", "depth", "width", "best rate"]
    columns += [*(loss.replace("_", " ") for loss in found), "diverged", "note"]
    names, depths, optimizers, labels = (
        list(map(str, dataset[dim].values)) for dim in ("parametrization", "depth", "optimizer", "width_label")
    )
    rows = []
    for row, optimizer, depth, width in np.ndindex(len(names), len(optimizers), len(depths), len(labels)):
        cell = row, depth, optimizer, width
        best, rates = int(train.best[cell]), dataset["learning_rate"].values
        numbers = ["–"] * (1 + len(found))
        if best >= 0:
            losses = [(float(one.loss.mean[cell][best]), float(one.loss.std[cell][best])) for one in found.values()]
            numbers = [f"{rates[best]:.4g}", *(str(Estimate(mean, std, 0.0, "none")) for mean, std in losses)]
        runs = int(train.was_run[optimizer].sum()) * dataset.sizes["seed"]
        diverged = f"{train.diverged[cell].sum()} of {runs}" if train.done[cell] else "–"
        place = [names[row], optimizers[optimizer], depths[depth], labels[width]]
        rows.append([*place, *numbers, diverged, _note(train, cell, np.flatnonzero(train.was_run[optimizer]))])
    return columns, rows


def _note(train: Outcomes, cell: tuple[int, ...], tried: np.ndarray) -> str:
    """Note on the best rate: not computed, diverged everywhere, or at an end of the rates `tried` (indices)."""
    if not train.done[cell]:
        return "not done"
    if train.best[cell] < 0:
        return "diverged at every rate"
    ends = {tried[0]: "smallest", tried[-1]: "largest"}
    return f"best at the {ends[train.best[cell]]} rate" if len(tried) > 1 and train.best[cell] in ends else ""
