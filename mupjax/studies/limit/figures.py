"""The figures of a limit, and how far networks of each width are from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.plots.style import COLOURS, LINES, figure_of, new_figure, plain_text
from mupjax.studies.comparison import figures as comparison

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(dataset: xr.Dataset) -> dict[str, Figure]:
    """Return every figure of a limit by the name of its file."""
    drawn = comparison.draw(dataset)
    if "error_run" not in dataset:
        return drawn
    first = {"loss.png": drawn.pop("loss.png"), "width_study.png": figure_of(distance_from_limit(dataset))}
    return first | drawn


def distance_from_limit(dataset: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Draw the errors of a width study against width, on logarithmic axes, with the fitted powers.

    Circles are networks with real weights, triangles are trained without hidden matrices; filled symbols and the solid
    line are single networks, hollow ones and the dashed line the mean over initialisations. Bars are two standard
    errors; a mean that is not resolved is drawn as an arrow down from two standard errors.

    Args:
      dataset: what `mupjax.limit` returns for some widths.
      ax: where to draw; by default a new figure.

    Returns:
      The Axes.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("limit/results.zarr")
      >>> distance_from_limit(data).get_xscale()
      'log'
    """
    ax = new_figure(7.6, 4.6).subplots() if ax is None else ax
    widths, dynamics = dataset["point_width"].values, dataset["point_dynamics"].values
    ax.set(xscale="log", yscale="log")
    for rank, (kind, words) in enumerate((("run", "one network"), ("mean", "mean over initialisations"))):
        colour, fill = COLOURS[rank], COLOURS[rank] if kind == "run" else "white"
        error, stderr = dataset[f"error_{kind}"].values, dataset[f"error_{kind}_stderr"].values
        seen = error > 2 * stderr
        for marker, name in (("o", "dense"), ("^", "matrix-free")):
            chosen = seen & (dynamics == name)
            style = {"color": colour, "markerfacecolor": fill, "marker": marker, "linestyle": "none", "markersize": 7}
            label = f"{words}, {name}" if chosen.any() else None
            ax.errorbar(widths[chosen], error[chosen], 2 * stderr[chosen], label=label, capsize=3, **style)
        hidden = ~seen & (stderr > 0)
        bound = error[hidden] + 2 * stderr[hidden]
        arrow = {"uplims": True, "linestyle": "none", "color": colour, "capsize": 3}
        label = f"{words}: at most" if hidden.any() else None
        ax.errorbar(widths[hidden], bound, 0.4 * bound, label=label, **arrow)
        slope, spread = float(dataset[f"slope_{kind}"]), float(dataset[f"slope_{kind}_stderr"])
        if np.isfinite(slope) and seen.any():
            weight = (error / stderr)[seen] ** 2
            level = np.sum(weight * (np.log(error[seen]) - slope * np.log(widths[seen]))) / np.sum(weight)
            label = f"{words}: width^({slope:.2f} ± {spread:.2f})"
            line = np.array([widths.min(), widths[seen].max()])
            ax.plot(line, np.exp(level) * line**slope, LINES[0] if kind == "run" else "--", color=colour, label=label)
    ax.set(xlabel="width n (hidden units)", ylabel="distance of outputs from infinite width\n(root mean square)")
    ax.set_title(plain_text(dataset["parametrization"].values[0], 30), fontsize="medium")
    ax.grid(color="0.92")
    ax.legend(fontsize="small")
    return ax
