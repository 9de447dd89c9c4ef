"""The figure of a coordinate check: sizes of every layer's coordinates, their changes, its own update against width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.plots.style import (
    COLOURS,
    LINES,
    MARKERS,
    axis_label,
    boxed_note,
    figure_of,
    new_figure,
    plain_text,
    positive,
    width_ticks,
)
from mupjax.results import width_label
from mupjax.statistics.seeds import over_seeds
from mupjax.studies.coordinates.variables import QUANTITIES

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EARLIER = "earlier steps"


def draw(dataset: xr.Dataset) -> dict[str, Figure]:
    """Return the figure of a coordinate check by the name of its file."""
    return {"coord_check.png": figure_of(coordinate_check(dataset))}


def coordinate_check(dataset: xr.Dataset, *, figure: Figure | None = None) -> np.ndarray:
    """Draw the mean |coordinate| of every layer, its change since step 0 and its own update against width.

    A row for each model, a column for each quantity.

    Marked lines are means over seeds at the last step, bands reach from the smallest to the largest seed; light lines
    are earlier steps, the later the darker. Level lines are what a correct parametrization gives; those that rise or
    fall with the width are not.

    Args:
      dataset: what `coord_check` returns; its variables have the dims (model, layer, width, seed, step).
      figure: where to draw; by default a new one.

    Returns:
      The Axes, an object array [model, 3].

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("coord-check/results.zarr")
      >>> coordinate_check(data).shape  # coordinates, changes and own updates of two models
      (2, 3)
    """
    models, widths = dataset["model"].values, dataset["width"].values
    layers = [plain_text(layer, 24) for layer in dataset["layer"].values]
    labels = np.array([width_label(width) for width in widths])
    figure = new_figure(11.6, 0.9 + 2.8 * len(models)) if figure is None else figure
    axes = figure.subplots(len(models), len(QUANTITIES), squeeze=False, sharey="col")
    for row, model in enumerate(models):
        for ax, name in zip(axes[row], QUANTITIES, strict=True):
            values = dataset[name].isel(model=row).transpose("layer", "step", "width", "seed").values
            ax.set(xscale="log", yscale="log")
            _panel(ax, widths, values, layers)
            ax.set_title(f"{plain_text(model, 34)}, step {int(dataset['step'].values[-1])}", fontsize="medium")
            ax.set_ylabel(axis_label(dataset[name]))
            width_ticks(ax, widths, labels)
            ax.set_xlabel(ax.get_xlabel() if row == len(models) - 1 else "")
            started = np.isfinite(values).any((1, 2, 3))  # what a model lacks is NaN at every step
            gone = labels[~np.isfinite(values[started, -1]).all((0, 2))]
            note = [f"diverged: width {plain_text(', '.join(gone), 40)}"] if len(gone) else []
            boxed_note(ax, note, 0.03, 0.95, va="top")
    lines = {line.get_label(): line for ax in axes.flat for line in ax.lines}
    handles = [lines[name] for name in (*layers, EARLIER) if name in lines]
    ncols = max(2, int(figure.get_figwidth() / 1.7))
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, handlelength=3)
    return axes


def _panel(ax: Axes, widths: np.ndarray, values: np.ndarray, layers: list[str]) -> None:
    """Draw one model's values [layer, step, width, seed]: the last step, and at most eight of the earlier ones."""
    found = over_seeds(values)
    earlier = np.unique(np.linspace(0, values.shape[1] - 2, 8).round().astype(int)) if values.shape[1] > 1 else []
    for rank in np.flatnonzero(np.isfinite(values).any((1, 2, 3))):
        turn = (rank + rank // 6) % 6  # the seventh layer has the first one's colour, the second one's mark
        colour, line = COLOURS[rank % 6], LINES[turn]
        for step in earlier:
            alpha = 0.15 + 0.35 * (step + 1) / values.shape[1]
            ax.plot(widths, positive(found.mean[rank, step]), linestyle=line, color=colour, alpha=alpha, linewidth=1)
        mean, low, high = (positive(array[rank, -1]) for array in (found.mean, found.low, found.high))
        style = {"color": colour, "marker": MARKERS[turn], "markersize": 5.5, "linewidth": 1.6}
        ax.plot(widths, mean, linestyle=line, label=layers[rank], zorder=2.5, **style)
        if (found.seeds[rank, -1] > 1).any():
            ax.fill_between(widths, low, high, color=colour, alpha=0.2, linewidth=0)
    if len(earlier):
        ax.plot([], [], color="0.7", linewidth=1, label=EARLIER)
