"""The figure of the edge of stability: loss, rate times sharpness and cosines over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.plots.style import LINES, figure_of, new_figure, plain_text, shade

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

_ROWS = (
    ("train_loss", "training loss"),
    ("edge", "rate times sharpness"),
    ("cosine", "cosine of new and\nearlier updates"),
)


def draw(dataset: xr.Dataset) -> dict[str, Figure]:
    """Return a figure for each schedule of the rates by the name of its file."""
    names = map(str, dataset["schedule"].values)
    return {f"catapults_{name}.png": figure_of(catapults_figure(dataset, name)) for name in names}


def catapults_figure(dataset: xr.Dataset, schedule: str, *, figure: Figure | None = None) -> np.ndarray:
    """Draw loss, rate times sharpness and cosine over time: a column for each activation, a line for each factor.

    Args:
      dataset: what `catapult_study` returns.
      schedule: 'constant' or 'following' rates.
      figure: where to draw; by default a new one.

    Returns:
      The Axes, [3, activations].

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("catapults/results.zarr")
      >>> catapults_figure(data, "constant").shape
      (3, 1)
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
        column[0].set(yscale="log", title=plain_text(name))
        column[0].set_ylim(bottom=max(1e-9, column[0].get_ylim()[0]))
        column[1].axhline(2, color="0.5", linewidth=0.8)
        column[1].set_ylim(0, 6)
        column[2].axhline(0, color="0.5", linewidth=0.8)
        column[2].set_xlabel("step (updates)")
    for ax, (_, words) in zip(axes[:, 0], _ROWS, strict=True):
        ax.set_ylabel(words)
    axes[1, -1].legend(title="rate x initial sharpness", fontsize="small", title_fontsize="small", ncols=2)
    return axes
