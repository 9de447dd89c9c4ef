"""The figures of a sweep: losses against the learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mupjax.plots.style import (
    axis_label,
    figure_of,
    finite_widths,
    new_figure,
    plain_text,
    positive,
    round_numbers,
    shade,
    width_labels,
    width_line,
)
from mupjax.statistics.outcomes import Outcomes, outcomes
from mupjax.statistics.seeds import OverSeeds
from mupjax.sweeps.tables import run_optimizers

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEST, DIVERGED = "best rate", "a seed diverged"
_STAR = {"marker": "*", "markersize": 10, "markeredgecolor": "black", "linestyle": "none", "zorder": 4}
_CROSS = {"marker": "x", "markersize": 4.5, "markeredgewidth": 1.4, "linestyle": "none", "zorder": 3}


def draw(dataset: xr.Dataset) -> dict[str, Figure]:
    """Return a figure of each loss by the name of its file, of the optimizers that were run with these rates."""
    names = {"train_loss": "learning_rates.png", "test_loss": "learning_rates_test.png"}
    run = run_optimizers(dataset)
    return {name: figure_of(learning_rates(run, loss)) for loss, name in names.items() if loss in dataset}


def learning_rates(dataset: xr.Dataset, loss: str = "train_loss", *, figure: Figure | None = None) -> np.ndarray:
    """Draw losses at the last step against the learning rate, a panel for each parametrization, depth and optimizer.

    Lines are means over the seeds that did not diverge and darken with width; bands reach from the smallest to the
    largest of them. A star is a width's best rate, where there are several: of those at which no seed diverged, the one
    of smallest mean loss.
    Crosses in the strip at the top, a row for each width, the widest uppermost, are rates at which a seed diverged.

    Args:
      dataset: what `mupjax.sweep` returns.
      loss: 'train_loss' or 'test_loss'.
      figure: where to draw; by default a new one.

    Returns:
      The Axes, an object array [parametrization, depth, optimizer].

    Raises:
      ValueError: for a loss that the sweep does not have.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("sweep/results.zarr")
      >>> learning_rates(data).shape
      (2, 1, 2)
    """
    from matplotlib.lines import Line2D

    found = outcomes(dataset, loss)
    sizes = tuple(dataset.sizes[dim] for dim in ("optimizer", "depth", "parametrization"))
    panels = [(row, depth, optimizer) for optimizer, depth, row in np.ndindex(sizes)]
    columns = sizes[-1] if 1 < sizes[-1] <= 4 else min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(0.9 + 2.8 * columns, 1.0 + 2.6 * rows) if figure is None else figure
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).reshape(-1)
    for ax in axes[len(panels) :]:
        ax.remove()
    axes = axes[: len(panels)]
    label = f"{axis_label(dataset[loss])}\nat step {int(dataset['step'].values[-1])}"
    for index, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        _panel(ax, dataset, found, panel)
        ax.set_ylabel(label if index % columns == 0 else "")
        ax.set_xlabel("base learning rate η" if index + columns >= len(panels) else "")
    _common_losses(axes, dataset, loss, found, panels)
    lines = {line.get_label(): line for ax in axes for line in ax.lines}
    handles = [lines[name] for name in np.array(width_labels(dataset))[finite_widths(dataset)] if name in lines]
    starred = (found.best >= 0).any() and (found.was_run.sum(1) > 1).any()
    handles += [Line2D([], [], color="0.6", label=BEST, **_STAR)] if starred else []
    handles += [Line2D([], [], color="0.3", label=DIVERGED, **_CROSS)] if found.diverged.any() else []
    if handles:
        ncols = max(2, int(figure.get_figwidth() / 1.7))
        figure.legend(handles=handles, loc="outside lower center", ncols=ncols, handlelength=3)
    return axes.reshape(sizes).transpose(2, 1, 0)


def _panel(ax: Axes, dataset: xr.Dataset, found: Outcomes, panel: tuple[int, int, int]) -> None:
    """Draw one parametrization, depth and optimizer, and say which widths are not done."""
    row, depth, optimizer = panel
    was_run, finite, labels = found.was_run[optimizer], finite_widths(dataset), width_labels(dataset)
    rates = dataset["learning_rate"].values
    ax.set(xscale="log", yscale="log")
    for rank, column in enumerate(finite):
        if not found.done[*panel, column]:
            continue
        one = OverSeeds(*(array[*panel, column][was_run] for array in found.loss))
        width_line(ax, rates[was_run], one, rank, len(finite), labels[column])
        best = np.arange(len(rates)) == found.best[*panel, column]
        mean = positive(found.loss.mean[*panel, column][best])
        if was_run.sum() > 1:
            ax.plot(rates[best], mean, color=shade(rank, len(finite)), **_STAR)
    missing = [str(dataset["width_label"].values[column]) for column in finite if not found.done[*panel, column]]
    words = [dataset["parametrization"].values[row], dataset["optimizer"].values[optimizer]]
    words += [f"depth {dataset['depth'].values[depth]}"] if dataset.sizes["depth"] > 1 else []
    ax.set_title(plain_text(", ".join(map(str, words)), 34), fontsize="medium", pad=6 if found.done.all() else 17)
    if missing:
        place = {"transform": ax.transAxes, "ha": "center", "va": "bottom", "color": "0.25"}
        ax.text(0.5, 1.03, plain_text(f"not done: width {', '.join(missing)}", 40), fontsize="small", **place)
    ax.grid(color="0.92")


def _common_losses(axes: np.ndarray, dataset: xr.Dataset, loss: str, found: Outcomes, panels: list) -> None:
    """Set the range of losses for all panels, with a strip at the top that has a row of crosses for each width."""
    finite = finite_widths(dataset)
    low, high = axes[0].get_ylim()
    start = float(np.max(np.nan_to_num(positive(dataset[loss].isel(step=0).values))))
    if low < 10 * start < high:
        high = 10 * start  # rates that blow up must not squeeze the others
    share = min(0.05 * len(finite), 0.3) if found.diverged.any() else 0.0
    axes[0].set_ylim(low, high * (high / low) ** (share / (1 - share)))
    ticks = round_numbers(low, high, 7)  # none in the strip, which has no losses
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0].set_yticks([], minor=True)
    for ax, panel in zip(axes, panels, strict=True):
        rates = dataset["learning_rate"].values[found.was_run[panel[2]]]
        margin = (rates.max() / rates.min()) ** 0.06 if len(rates) > 1 else 2.0
        ends = rates.min() / margin, rates.max() * margin
        ticks = round_numbers(*ends, 4)
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.set_xlim(*ends)
        if not share:
            continue
        ax.spines[:].set_zorder(3.5)
        ax.axhspan(high, axes[0].get_ylim()[1], color="0.95", zorder=2.7)
        for rank, column in enumerate(finite):
            bad = dataset["learning_rate"].values[found.diverged[*panel, column] > 0]
            height = np.full(len(bad), 1 - share + share * (rank + 0.5) / len(finite))
            style = {"color": shade(rank, len(finite)), "transform": ax.get_xaxis_transform(), **_CROSS}
            ax.plot(bad, height, **style)
