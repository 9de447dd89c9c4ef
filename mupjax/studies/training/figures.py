"""Figures of training studies: batch losses, ranks, contributions to preactivations, fitted functions, kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mupjax.plots.style import (
    COLOURS,
    LINES,
    MARKERS,
    figure_of,
    new_figure,
    plain_text,
    round_numbers,
    shade,
    width_ticks,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RANGE = ((np.min, np.inf), (np.max, -np.inf))


def draw(dataset: xr.Dataset) -> dict[str, Figure]:
    """Return every figure of a training study by the name of its file."""
    drawn = {"batch_loss.png": figure_of(batch_losses({"": dataset}))}
    if "rank_h" in dataset:
        drawn["ranks.png"] = figure_of(ranks_figure({"after the last step": dataset}))
    if "contribution" in dataset:
        drawn["contributions.png"] = figure_of(contributions_figure(dataset))
    if "predictions" in dataset and dataset.sizes["input_dim"] == 1:
        drawn["functions.png"] = figure_of(functions_figure(dataset))
    if "ntk_change" in dataset:
        drawn["kernels.png"] = figure_of(kernels_figure(dataset))
    return drawn


def batch_losses(panels: Mapping[str, xr.Dataset], *, columns: int = 4, figure: Figure | None = None) -> np.ndarray:
    """Draw the batch losses of training studies against the step, a panel each: means over seeds and their range.

    Args:
      panels: {title: what `training_study` returns}.
      columns: panels in a row.
      figure: where to draw; by default a new one.

    Returns:
      The Axes, [rows, columns].

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("training/results.zarr")
      >>> batch_losses({"one part": data}, columns=1).shape
      (1, 1)
    """
    axes = _grid(len(panels), columns, figure)
    for ax, (title, data) in zip(axes.flat, panels.items(), strict=False):
        widths = data["width"].values
        for number, name in enumerate(map(str, data["parametrization"].values)):
            for rank, width in enumerate(widths):
                one = data["batch_loss"].sel(parametrization=name, width=width).transpose("seed", "step").values
                one = np.where(np.isfinite(one), one, np.nan).astype(float)
                colour = shade(rank, len(widths)) if len(widths) > 1 else COLOURS[number % 6]
                words = f"width {width:g}" if len(widths) > 1 else plain_text(name)
                style = {"linestyle": LINES[(rank if len(widths) > 1 else number) % 6], "linewidth": 1.5}
                ax.plot(data["step"].values, _mean(one), color=colour, label=words, **style)
                if len(one) > 1:
                    low, high = (reduce(np.where(np.isnan(one), fill, one), axis=0) for reduce, fill in _RANGE)
                    ax.fill_between(data["step"].values, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.set(title=title, xlabel="step (updates)", ylabel="loss of a batch")
        if data.attrs["num_classes"] > 1:
            guessing = np.log(data.attrs["num_classes"])
            ax.axhline(guessing, color="0.6", linewidth=0.8, zorder=1)
            ax.set(ylim=(0, 1.6 * guessing), ylabel="loss of a batch (nats)")  # a diverged run leaves the picture
        ax.legend(fontsize="small")
        ax.grid(color="0.92")
    return axes


def ranks_figure(panels: Mapping[str, xr.Dataset], *, columns: int = 4, figure: Figure | None = None) -> np.ndarray:
    """Draw numerical ranks of the preactivations against the layer after one step, a panel each; bars are the range.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("training/results.zarr")
      >>> ranks_figure({"after the last step": data}, columns=1).shape
      (1, 1)
    """
    axes = _grid(len(panels), columns, figure)
    for ax, (title, data) in zip(axes.flat, panels.items(), strict=False):
        for number, name in enumerate(map(str, data["parametrization"].values)):
            ranks = data["rank_h"].sel(parametrization=name).isel(width=0, step=-1).transpose("seed", "layer").values
            mean = ranks.mean(0)
            bars = np.stack([mean - ranks.min(0), ranks.max(0) - mean])
            style = {"color": COLOURS[number % 6], "marker": MARKERS[number % 6], "linestyle": LINES[number % 6]}
            ax.errorbar(data["layer"].values, mean, bars, label=plain_text(name), capsize=3, **style)
        ax.set(title=title, yscale="log", xlabel="layer", ylabel="rank of the preactivations")
        ax.set_xticks(data["layer"].values)
        low, high = data["rank_h"].isel(step=-1).min(), data["rank_h"].isel(step=-1).max()
        ax.set_yticks(ticks := round_numbers(max(float(low), 1.0), max(float(high), 2.0), 8), [f"{t:g}" for t in ticks])
        ax.set_yticks([], minor=True)
        ax.legend(fontsize="small")
        ax.grid(color="0.92")
    return axes


def contributions_figure(data: xr.Dataset, *, figure: Figure | None = None) -> np.ndarray:
    """Draw what initial weights, the first update and later ones give the preactivations, against the step.

    Args:
      data: a training study with `contribution`.
      figure: where to draw; by default a new one.

    Returns:
      The Axes, [parametrizations, kernels].

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("training/results.zarr")
      >>> contributions_figure(data).shape  # parametrizations and kernels
      (2, 4)
    """
    names, kernels = list(map(str, data["parametrization"].values)), data["kernel"].values
    figure = new_figure(1.5 + 2.4 * len(kernels), 1 + 2.5 * len(names)) if figure is None else figure
    axes = figure.subplots(len(names), len(kernels), sharex=True, sharey="row", squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for ax, kernel in zip(row, kernels, strict=True):
            one = data["contribution"].sel(parametrization=name, kernel=kernel).isel(width=0)
            for number, part in enumerate(map(str, data["part"].values)):
                mean = one.sel(part=part).transpose("seed", "step").values.mean(0)
                style = {"color": COLOURS[number % 6], "linestyle": LINES[number % 6]}
                ax.plot(data["step"].values, np.where(mean > 0, mean, np.nan), label=part, linewidth=1.5, **style)
            ax.set(
                yscale="log",
                title=f"{plain_text(name)}, {'outputs' if kernel == kernels[-1] else f'h, layer {kernel}'}",
            )
            ax.title.set_fontsize("medium")
            ax.grid(color="0.92")
        row[0].set_ylabel("mean |contribution|")
    for ax in axes[-1]:
        ax.set_xlabel("step (updates)")
    axes[0, 0].legend(fontsize="small")
    return axes


def functions_figure(data: xr.Dataset, *, figure: Figure | None = None) -> np.ndarray:
    """Draw functions of one variable before and after training, a panel for each parametrization, a line a seed.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("training/results.zarr")
      >>> functions_figure(data).shape
      (1, 2)
    """
    names = list(map(str, data["parametrization"].values))
    axes = _grid(len(names), len(names), figure)
    x = _first(data["test_input"])
    for ax, name in zip(axes.flat, names, strict=True):
        one = (
            data["predictions"]
            .sel(parametrization=name)
            .isel(width=0, output=0)
            .transpose("time", "seed", "test_index")
        )
        for number, time in enumerate(("start", "end")):
            for seed, line in enumerate(one.sel(time=time).values if time in one["time"] else ()):
                style = {"color": COLOURS[number], "linestyle": LINES[2 * number], "linewidth": 1.4}
                ax.plot(x, line, label=time if seed == 0 else None, **style)
        ax.plot(x, _first(data["test_target"]), color="0.7", linewidth=1, zorder=1, label="target")
        ax.plot(_first(data["train_input"]), _first(data["train_target"]), "k.", label="training points")
        ax.set(title=plain_text(name), xlabel="input", ylabel="output")
        ax.legend(fontsize="small")
        ax.grid(color="0.92")
    return axes


def kernels_figure(data: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Draw how far tangent kernels are from their start after the last step, against the width; bars are the range.

    Args:
      data: a training study with `ntk_change`.
      ax: where to draw; by default the Axes of a new figure.

    Returns:
      The Axes.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("training/results.zarr")
      >>> kernels_figure(data).get_yscale()
      'log'
    """
    ax = new_figure(5.6, 4).subplots() if ax is None else ax
    widths = data["width"].values
    for number, name in enumerate(map(str, data["parametrization"].values)):
        one = data["ntk_change"].sel(parametrization=name).isel(step=-1).transpose("seed", "width").values
        mean = one.mean(0)
        style = {"color": COLOURS[number % 6], "marker": MARKERS[number % 6], "linestyle": LINES[number % 6]}
        ax.errorbar(widths, mean, [mean - one.min(0), one.max(0) - mean], label=plain_text(name), capsize=3, **style)
    ax.set(xscale="log", yscale="log", ylabel="relative change of the tangent kernel")
    width_ticks(ax, widths, [f"{width:g}" for width in widths])
    ax.legend(fontsize="small")
    return ax


def _first(array: xr.DataArray) -> np.ndarray:
    """Return the first component of inputs or targets [index, component] or [index]."""
    return array.values.reshape(len(array), -1)[:, 0]


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the seeds that are finite; NaN where none is."""
    count = np.isfinite(values).sum(0)
    return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)


def _grid(count: int, columns: int, figure: Figure | None) -> np.ndarray:
    """Return the Axes of so many panels, [rows, columns]; those beyond are not visible."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = new_figure(1 + 3.4 * columns, 0.6 + 3 * rows) if figure is None else figure
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in list(axes.flat)[count:]:
        ax.set_visible(False)
    return axes
