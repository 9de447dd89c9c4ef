"""The figure of learning-rate transfer: the best rate against width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.plots.style import (
    COLOURS,
    LINES,
    MARKERS,
    figure_of,
    finite_widths,
    new_figure,
    plain_text,
    positive,
    width_ticks,
)
from mupjax.statistics.seeds import over_seeds
from mupjax.sweeps import figures as sweep

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(dataset: xr.Dataset) -> dict[str, Figure]:
    """Return a sweep's figures and that of the best rates by the names of their files."""
    return sweep.draw(dataset) | {"transfer.png": figure_of(transfer(dataset))}


def transfer(dataset: xr.Dataset, optimum: xr.Dataset | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw the best learning rate against width, on logarithmic axes, for each parametrization and optimizer.

    Marks are means over seeds of the rate's logarithm, with 95 % intervals (Student's) where there are two seeds; the
    line has the fitted slope, which the legend gives with its interval.

    Args:
      dataset: what `mupjax.sweep` returns.
      optimum: a Dataset of best_rate (parametrization, optimizer, width, seed), drift and drift_half_width
        (parametrization, optimizer), in octaves of rate per octave of width; by default `dataset` has them.
      ax: where to draw; by default a new figure.

    Returns:
      The Axes.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("transfer/results.zarr")
      >>> transfer(data).get_xlabel()
      'width n (hidden units)'
    """
    optimum = dataset if optimum is None else optimum
    finite = finite_widths(dataset)
    widths = dataset["width"].values[finite]
    rates = optimum["best_rate"].transpose("parametrization", "optimizer", "width", "seed").values[:, :, finite]
    ax = new_figure(8.8, 4.4).subplots() if ax is None else ax
    ax.set(xscale="log", yscale="log")
    lines = list(np.ndindex(rates.shape[:2]))
    for rank, (row, column) in enumerate(lines):
        if not (rates[row, column] > 0).any():
            continue
        mean, low, high = _mean_rate(rates[row, column])
        one = optimum.isel(parametrization=row, optimizer=column)
        drift, half_width = float(one["drift"]), float(one["drift_half_width"])
        name = ", ".join(plain_text(one[dim].values, 30) for dim in ("parametrization", "optimizer"))
        style = {"color": COLOURS[rank % 6], "marker": MARKERS[rank % 6], "markersize": 6.5}
        label = f"{name}\n{_words(drift, half_width)}"
        beside = widths * (widths[-1] / widths[0]) ** (0.012 * (rank - (len(lines) - 1) / 2))  # bars do not hide bars
        bars = np.stack([mean - low, high - mean])
        ax.errorbar(beside, mean, bars, linestyle="none", capsize=3, elinewidth=1.2, **style)
        line = np.exp(np.nanmean(np.log(mean / widths**drift))) * widths**drift if np.isfinite(drift) else mean
        ax.plot(widths, line, linestyle=LINES[rank % 6], label=label, markevery=[], **style)
    width_ticks(ax, widths, dataset["width_label"].values[finite])
    ax.set_ylabel("best base learning rate η")
    if ax.lines:
        ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0, labelspacing=0.7, handlelength=3)
    return ax


def _mean_rate(rates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the geometric mean of rates [width, seed] and its 95 % interval; no interval for fewer than two seeds."""
    from scipy import stats

    logs = over_seeds(np.log2(positive(rates)))
    half_width = stats.t.ppf(0.975, np.maximum(logs.seeds - 1, 1)) * logs.std / np.sqrt(np.maximum(logs.seeds, 1))
    half_width = np.where(logs.seeds > 1, half_width, 0.0)
    return 2.0**logs.mean, 2.0 ** (logs.mean - half_width), 2.0 ** (logs.mean + half_width)


def _words(drift: float, half_width: float) -> str:
    if not np.isfinite(drift):
        return "drift not determined"
    spread = f"± {half_width:.2f} " if np.isfinite(half_width) else ""
    return f"drift {round(drift, 2) + 0.0:.2f} {spread}octaves per octave"  # no -0.00
