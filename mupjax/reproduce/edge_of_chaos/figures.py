"""Figures of `edge_of_chaos`: how much a step moves every layer, and test errors, over depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mupjax.plots.style import COLOURS, LINES, MARKERS, figure_of, new_figure, plain_text, shade
from mupjax.reproduce.edge_of_chaos.reading import Rows, by_depth, by_width
from mupjax.reproduce.parts import MAIN

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def draw(found: Mapping[str, xr.Dataset]) -> dict[str, dict[str, Figure]]:
    """Return {part: {file name: Figure}}: beside the main part's, those over the depths that were run."""
    steps, trained, widths = by_depth(found, "step"), by_depth(found, "train"), by_width(found)
    return {MAIN: over_depth(steps, trained, widths)} if MAIN in found else {}


def over_depth(steps: Rows, trained: Rows, widths: Rows) -> dict[str, Figure]:
    """Return the figures whose rows are there by the names of their files."""
    drawn = {"depths.png": figure_of(depths_figure(steps, trained))} if steps and trained else {}
    if steps:
        drawn["evolution.png"] = figure_of(evolution_figure(steps, trained, widths))
    return drawn


def depths_figure(steps: Rows, trained: Rows, *, figure: Figure | None = None) -> np.ndarray:
    """Draw how much a small first step moves the last layer, and the test error of training, against the depth.

    Args:
      steps: {parametrization: {depth: a training study of one step}}.
      trained: {parametrization: {depth: a training study}}.
      figure: where to draw; by default a new one.

    Returns:
      The two Axes.
    """
    figure = new_figure(9.4, 3.8) if figure is None else figure
    axes = figure.subplots(1, 2)
    changes = {
        name: {depth: data["preactivation_change"].sel(step=1).isel(layer=-1) for depth, data in of.items()}
        for name, of in steps.items()
    }
    errors = {name: {depth: data["test_error"] for depth, data in of.items()} for name, of in trained.items()}
    words = ("relative change of the last\nhidden layer in one small step", "test error")
    for ax, rows, label in zip(axes, (changes, errors), words, strict=True):
        for number, (name, of) in enumerate(rows.items()):
            style = {"color": COLOURS[number % 6], "marker": MARKERS[number % 6], "linestyle": LINES[number % 6]}
            values = [one.values[np.isfinite(one.values)] for one in of.values()]  # of the seeds that did not diverge
            values = [one if len(one) else np.array([np.nan]) for one in values]
            mean = np.array([np.mean(one) for one in values])
            bars = np.array([[np.mean(one) - np.min(one), np.max(one) - np.mean(one)] for one in values]).T
            ax.errorbar(list(of), mean, bars, label=plain_text(name), capsize=3, **style)
        ax.set(xscale="log", xlabel="depth (hidden layers)", ylabel=label)
        ticks = sorted({depth for of in rows.values() for depth in of})
        ax.set_xticks(ticks, [f"{depth}" for depth in ticks])
        ax.set_xticks([], minor=True)
        ax.grid(color="0.92")
    axes[0].set_yscale("log")
    axes[1].legend(fontsize="small")
    axes[1].set_ylim(bottom=0)
    return axes


def evolution_figure(steps: Rows, trained: Rows, widths: Rows, *, figure: Figure | None = None) -> np.ndarray:
    """Draw how much a step moves the preactivations of every layer: a column for each parametrization.

    Above a small first step, in the middle the mean over the steps of training, a line for each depth; below a small
    first step, a line for each width.

    Args:
      steps, trained: as in `depths_figure`.
      widths: {parametrization: {width: a training study of one step}}, of one depth.
      figure: where to draw; by default a new one.

    Returns:
      The Axes, [3, parametrizations].
    """
    figure = new_figure(1.6 + 2.3 * len(steps), 8) if figure is None else figure
    axes = figure.subplots(3, len(steps), sharex=True, sharey="row", squeeze=False)
    for column, name in zip(axes.T, steps, strict=True):
        for ax, rows, word in zip(column, (steps, trained, widths), ("depth", "depth", "width"), strict=True):
            of = rows.get(name, {})
            for rank, (size, data) in enumerate(of.items()):
                change = data["preactivation_change"].sel(step=slice(1, None)).mean(("step", "seed")).values
                style = {"color": shade(rank, len(of)), "marker": MARKERS[rank % 6], "markersize": 4}
                ax.plot(data["layer"].values, change, label=f"{word} {size}", linestyle=LINES[rank % 6], **style)
            ax.set(xscale="log", yscale="log")
            ax.grid(color="0.92")
            if of:
                ax.legend(fontsize="x-small")
        column[0].set_title(plain_text(name))
        column[-1].set_xlabel("layer k")
    ticks = [layer for layer in (1, 2, 4, 8, 16, 32) if layer <= max(max(of) for of in steps.values())]
    for ax in axes.flat:
        ax.set_xticks(ticks, [f"{layer}" for layer in ticks])
        ax.set_xticks([], minor=True)
    for ax in axes[:, 0]:
        ax.set_ylim(top=min(10, ax.get_ylim()[1]))  # a run that explodes leaves the picture
    for ax, words in zip(axes[:, 0], ("one small step", "mean step of training", "one small step"), strict=True):
        ax.set_ylabel(f"relative change of $h^k$\n{words}")
    return axes
