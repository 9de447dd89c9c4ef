"""Metrics of the features against width: one layer, as measured and with sampling divided out, or every layer."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from mupjax.plots.style import (
    COLOURS,
    LINES,
    MARKERS,
    axis_label,
    figure_of,
    finite_widths,
    new_figure,
    plain_text,
    positive,
    width_ticks,
)
from mupjax.statistics.seeds import (
    OverSeeds,
    limit_stderr,
    limit_words,
    metric_over_seeds,
    pick_layer,
    variable_name,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


UNRESOLVED = "at or below resolution"


def against_width(
    dataset: xr.Dataset,
    metric: str,
    *,
    ax: Axes | None = None,
    features: str = "h",
    layer: int | None = None,
    divide_sampling: bool = False,
    legend: bool = True,
) -> Axes:
    """Draw a metric of one layer at the last Gram step against width, on logarithmic axes.

    Marked lines are means over seeds, bands reach from the smallest to the largest seed. Dashed lines without markers
    are infinite width, with a band of one standard error where they have one; a limit of zero has no place on the axis
    and is named in the legend. Hollow markers are values at or below their resolution, drawn at the resolution.

    Args:
      dataset: what `compare` returns.
      metric: feature_change, diversity or space_time.
      ax: where to draw; by default a new figure.
      features: 'h' for preactivations, 'x' for activations.
      layer: 1..depth; by default the last.
      divide_sampling: divide by `metrics.sampling_factor`; widths at which it is zero are left out.
      legend: draw the legend, to the right of the axes.

    Returns:
      The Axes.

    Raises:
      ValueError: for unknown names or layers.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("results/demo/results.zarr")
      >>> against_width(data, "feature_change", features="x").get_xscale()
      'log'
    """
    statistics = metric_over_seeds(dataset, metric, features=features, layer=layer)
    widths, words = dataset["width"].values, limit_words(dataset)
    names = [plain_text(name, 30) for name in dataset["parametrization"].values]
    stderr = limit_stderr(dataset, metric, features=features, layer=layer)
    factor = dataset[f"{metric}_sampling_factor"].values if divide_sampling else np.ones(len(widths))
    finite = finite_widths(dataset)
    ax = new_figure(8.2, 4.4).subplots() if ax is None else ax
    ax.set(xscale="log", yscale="log")
    for row, name in enumerate(names):
        one = OverSeeds(*(array[row] for array in statistics))
        notes = _notes(one, widths, dataset["width_label"].values, words[row])
        at_widths = OverSeeds(*(array[finite] for array in one))
        _draw_metric(ax, widths[finite], at_widths, factor[finite], row, "\n".join([name, *notes]))
    drawn = np.where(statistics.unresolved > 0, np.nan, positive(statistics.mean))[:, np.isinf(widths)]
    for row, column in np.argwhere(np.isfinite(drawn)):
        value, error = float(drawn[row, column]), float(stderr[row])
        dashes = (5 * row, (5, 5))  # shifted, so that equal limits show between each other
        style = {"color": COLOURS[row % 6], "linestyle": dashes, "linewidth": 1.5}
        ax.axhline(value, label=f"{names[row]}, infinite width", **style)
        if error > 0:
            ax.axhspan(max(value - error, 1e-300), value + error, color=COLOURS[row % 6], alpha=0.25, linewidth=0)
    if (statistics.unresolved[:, finite] > 0).any():
        ax.plot([], [], "o", color="0.35", markerfacecolor="white", label=UNRESOLVED)
    width_ticks(ax, widths[finite], dataset["width_label"].values[finite])
    what = {"h": "preactivations h", "x": "activations x"}[features]
    title = f"{what}, layer {pick_layer(dataset, layer)}, step {int(dataset['gram_step'].values[-1])}"
    vectors = "2N" if metric == "space_time" else "N"
    ax.set_title(title + f"\ndivided by (1 − √({vectors}/n))²" * divide_sampling, fontsize="medium")
    ax.set_ylabel(axis_label(dataset[variable_name(metric, features)]))
    if legend:
        ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0, labelspacing=0.7, handlelength=3)
    return ax


def metric_figure(dataset: xr.Dataset, metric: str) -> Figure:
    """Return a metric's figure: one panel, or a second one with the sampling factor divided out where there is one."""
    factors = dataset.get(f"{metric}_sampling_factor")
    if factors is None or not (factors.values[finite_widths(dataset)] > 0).any():
        return figure_of(against_width(dataset, metric))
    figure = new_figure(11.5, 4.4)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    against_width(dataset, metric, ax=left, legend=False)
    against_width(dataset, metric, ax=right, legend=False, divide_sampling=True)
    left.set_title(f"{left.get_title()}\nas measured", fontsize="medium")
    right.set_ylabel("")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", labelspacing=0.7, handlelength=3)
    return figure


def layers_figure(dataset: xr.Dataset, metric: str, *, figure: Figure | None = None) -> Figure:
    """Draw a metric of h and x of every layer, as `against_width` does; eigenvalues with sampling divided out.

    Args:
      dataset: what `compare` returns.
      metric: feature_change, diversity or space_time.
      figure: where to draw; by default a new one.

    Returns:
      The Figure, with Axes [h and x, layer].

    Raises:
      ValueError: for unknown names.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("results/demo/results.zarr")
      >>> len(layers_figure(data, "diversity").axes)  # h and x of two layers
      4
    """
    layers = [int(layer) for layer in dataset["layer"].values]
    divide = f"{metric}_sampling_factor" in dataset
    figure = new_figure(2.6 + 3.1 * len(layers), 6.4) if figure is None else figure
    axes = figure.subplots(2, len(layers), sharex=True, sharey=True, squeeze=False)
    for row, features in zip(axes, ("h", "x"), strict=True):
        for ax, layer in zip(row, layers, strict=True):
            against_width(dataset, metric, ax=ax, features=features, layer=layer, divide_sampling=divide, legend=False)
            ax.set(ylabel="", xlabel=ax.get_xlabel() if features == "x" else "")
    words = dataset[variable_name(metric, "h")].attrs["long_name"].removesuffix(" of the preactivations h")
    figure.supylabel(f"{words} (dimensionless)")
    labels: dict[str, Artist] = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            labels.setdefault(label.split("\n")[0], handle)
    figure.legend(labels.values(), labels.keys(), loc="outside right upper", labelspacing=0.7, handlelength=3)
    return figure


def _draw_metric(ax: Axes, widths: np.ndarray, one: OverSeeds, factor: np.ndarray, row: int, label: str) -> None:
    """Draw one parametrization's line over finite widths; earlier lines are thicker, to be seen below equal ones."""
    colour, marker, width = COLOURS[row % 6], MARKERS[row % 6], max(1.2, 2.8 - 0.3 * row)
    mean, low, high = (
        positive(values / np.where(factor > 0, factor, np.nan)) for values in (one.mean, one.low, one.high)
    )
    style = {"color": colour, "marker": marker, "markersize": max(5.5, 9.5 - 0.8 * row)}
    ax.plot(widths, mean, linestyle=LINES[row % 6], linewidth=width, label=label, zorder=2.5, **style)
    if (one.seeds > 1).any():
        ax.fill_between(widths, low, high, color=colour, alpha=0.2, linewidth=0)
    hollow = (one.unresolved > 0) & (one.unresolved == one.seeds)
    ax.plot(widths[hollow], mean[hollow], linestyle="none", markerfacecolor="white", zorder=3, **style)


def _notes(one: OverSeeds, widths: np.ndarray, labels: np.ndarray, word: str) -> list[str]:
    """Return what the legend says of a limit that cannot be drawn, and of widths where every seed diverged."""
    notes = []
    for column in np.flatnonzero(np.isinf(widths)):
        if not np.isfinite(one.mean[column]):
            notes.append(plain_text(word, 60))
        elif one.unresolved[column]:
            notes.append(f"infinite width: 0 within {one.resolution[column]:.0e}")
        elif one.mean[column] <= 0:
            notes.append("infinite width: 0")
    gone = labels[np.isfinite(widths) & (one.seeds == 0)]
    notes += [f"diverged at width {plain_text(', '.join(gone))}"] if len(gone) else []
    return [textwrap.fill(note, 30) for note in notes]
