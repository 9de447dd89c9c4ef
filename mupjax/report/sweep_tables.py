"""Sweeps, coordinate checks and verdicts as plain text, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mupjax.report.tables import Estimate, number
from mupjax.statistics import Slope, Verdict, fit_slope
from mupjax.statistics.outcomes import LOSSES, Outcomes, outcomes


def format_sweep(dataset: Any) -> tuple[list[str], list[list[str]]]:
    """Return a sweep's best rates as plain text: column titles, and a row for every cell.

    The best rate has the smallest mean training loss at the last step among those at which no seed diverged; losses
    there are mean ± sample standard deviation over seeds.

    Args:
      dataset: what `mupjax.sweep` returns.
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
        runs = int(train.asked[optimizer].sum()) * dataset.sizes["seed"]
        diverged = f"{train.diverged[cell].sum()} of {runs}" if train.done[cell] else "–"
        place = [names[row], optimizers[optimizer], depths[depth], labels[width]]
        rows.append([*place, *numbers, diverged, _note(train, cell, np.flatnonzero(train.asked[optimizer]))])
    return columns, rows


def format_coord_check(dataset: Any) -> tuple[list[str], list[list[str]]]:
    """Return the fitted powers of the width of every layer's coordinates and their changes at the last step.

    Each with its 95 % interval over seeds; a dash where nothing has changed or a run diverged.

    Args:
      dataset: what `mupjax.coord_check` returns.
    """
    columns = ["model", "layer", "power of |coordinate|", "power of |change|"]
    rows = []
    for model in dataset["model"].values:
        for layer in dataset["layer"].values:
            one = dataset.sel(model=model, layer=layer).transpose("step", "width", "seed")
            if not np.isfinite(one["coordinate"].values).any():  # the model has no such layer
                continue
            slopes = [fit_slope(dataset["width"].values, one[name].values[-1]) for name in ("coordinate", "change")]
            rows.append([str(model), str(layer), *map(_power, slopes)])
    return columns, rows


def format_verdicts(verdicts: Sequence[Verdict]) -> tuple[list[str], list[list[str]]]:
    """Return verdicts as plain text: column titles, and a row for every claim; ours is ± its standard error."""
    columns = ["claim", "paper", "ours", "seeds", "bound", "verdict"]
    rows = []
    for claim, paper, ours, stderr, seeds, bound, verdict in verdicts:
        found = _with_error(ours, float("nan") if stderr is None else stderr)
        rows.append([claim, "–" if paper is None else number(paper, 3), found, str(seeds), bound, verdict])
    return columns, rows


def _note(train: Outcomes, cell: tuple[int, ...], asked: np.ndarray) -> str:
    """What to know of a best rate: whether there is none, and why, or whether a better one may lie outside the grid."""
    if not train.done[cell]:
        return "not done"
    if train.best[cell] < 0:
        return "diverged at every rate"
    ends = {asked[0]: "smallest", asked[-1]: "largest"}
    return f"best at the {ends[train.best[cell]]} rate" if len(asked) > 1 and train.best[cell] in ends else ""


def _power(fitted: Slope) -> str:
    if not np.isfinite(fitted.slope):
        return "–"
    interval = f" ± {fitted.half_width:.3f}" if np.isfinite(fitted.half_width) else ""
    return f"{round(fitted.slope, 3) + 0.0:.3f}{interval}"  # no -0.000


def _with_error(value: float, error: float) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:.3g} ± {error:.2g}" if np.isfinite(error) else f"{value:.3g}"
