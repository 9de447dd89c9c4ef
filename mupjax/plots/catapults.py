"""Figures of the edge of stability: loss, rate times sharpness and cosines over time; changes and errors over depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mupjax.plots.style import COLOURS, LINES, MARKERS, new_figure, plain_text, shade

_ROWS = (
    ("train_loss", "training loss"),
    ("edge", "rate times sharpness"),
    ("cosine", "cosine of new and\nearlier updates"),
)


def catapults_figure(dataset: Any, schedule: str, *, figure: Any = None) -> Any:
    """Draw loss, rate times sharpness and cosine over time: a column for each activation, a line for each factor.

    Args:
      dataset: what `catapult_study` returns.
      schedule: 'constant' or 'following' rates.
      figure: where to draw; by default a new one.

    Returns:
      The Axes, [3, activations].
    """
    names, factors = list(map(str, dataset["activation"].values)), dataset["factor"].values
    figure = new_figure(1.2 + 3.4 * len(names), 7.2) if figure is None else figure
    axes = figure.subplots(3, len(names), sharex=True, sharey="row", squeeze=False)
    data = dataset.sel(schedule=schedule)
    data = data.assign(edge=data["rate"] * data["sharpness"])
    losses = data["train_loss"].transpose("activation", "factor", "seed", "step")
    for column, name in zip(axes.T, names, strict=True):
        for ax, (variable, _) in zip(column, _ROWS, strict=True):
            time = "step" if variable == "train_loss" else "observe_step"
            for rank, factor in enumerate(factors):
                values = data[variable].sel(activation=name, factor=factor)
                values = values.transpose("seed", time).values.astype(float)
                kept = np.isfinite(losses.sel(activation=name, factor=factor).values).all(1)
                if not kept.any():
                    continue  # all diverged: its line is missing, here and in the legend
                style = {"color": shade(rank, len(factors)), "linestyle": LINES[rank % 6], "linewidth": 1.5}
                ax.plot(dataset[time].values, np.median(values[kept], axis=0), label=f"{factor:g}", **style)
            ax.grid(color="0.92")
        column[0].set(yscale="log", ylim=(1e-9, None), title=plain_text(name))
        column[1].axhline(2, color="0.5", linewidth=0.8)
        column[1].set_ylim(0, 6)
        column[2].axhline(0, color="0.5", linewidth=0.8)
        column[2].set_xlabel("step (updates)")
    for ax, (_, words) in zip(axes[:, 0], _ROWS, strict=True):
        ax.set_ylabel(words)
    axes[1, -1].legend(title="rate x initial sharpness", fontsize="small", title_fontsize="small", ncols=2)
    return axes


def depths_figure(rows: Mapping[str, Mapping[int, Any]], *, figure: Any = None) -> Any:
    """Draw the first step's change of the last layer, and the test error, against the depth.

    Args:
      rows: {parametrization: {depth: a training study of it}}.
      figure: where to draw; by default a new one.

    Returns:
      The two Axes.
    """
    figure = new_figure(9.4, 3.8) if figure is None else figure
    axes = figure.subplots(1, 2)
    for number, (name, of) in enumerate(rows.items()):
        style = {"color": COLOURS[number % 6], "marker": MARKERS[number % 6], "linestyle": LINES[number % 6]}
        changes = [data["preactivation_change"].sel(step=1).isel(layer=-1).values for data in of.values()]
        errors = [data["test_error"].values for data in of.values()]
        for ax, values in zip(axes, (changes, errors), strict=True):
            mean = np.array([np.mean(one) for one in values])
            bars = np.array([[np.mean(one) - np.min(one), np.max(one) - np.mean(one)] for one in values]).T
            ax.errorbar(list(of), mean, bars, label=plain_text(name), capsize=3, **style)
    words = ("relative change of the last\nhidden layer in the first step", "test error")
    for ax, label in zip(axes, words, strict=True):
        ax.set(xscale="log", xlabel="depth (hidden layers)", ylabel=label)
        ticks = sorted({depth for of in rows.values() for depth in of})
        ax.set_xticks(ticks, [f"{depth}" for depth in ticks])
        ax.set_xticks([], minor=True)
        ax.grid(color="0.92")
    axes[0].set_yscale("log")
    axes[0].legend(fontsize="small")
    axes[1].set_ylim(bottom=0)
    return axes
