"""Figures of a comparison: losses over steps, Gram matrices, and all of its figures by the names of their files."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from mupjax.plots.style import (
    axis_label,
    boxed_note,
    figure_of,
    finite_widths,
    new_figure,
    plain_text,
    positive,
    width_labels,
    width_line,
)
from mupjax.statistics.seeds import (
    METRICS,
    check_features,
    finite_seeds,
    limit_words,
    over_seeds,
    pick_layer,
    variable_name,
)
from mupjax.studies.comparison.metric_figures import metric_figure

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def loss_curves(dataset: xr.Dataset, *, figure: Figure | None = None) -> np.ndarray:
    """Draw losses over steps, a panel for each parametrization, training loss above test loss.

    Lines are means over seeds and darken with width; bands reach from the smallest to the largest seed; infinite width
    is dashed black, with a band of one standard error where it has one.

    Returns:
      The Axes, an object array [losses, parametrization].

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("results/demo/results.zarr")
      >>> loss_curves(data).shape
      (2, 4)
    """
    losses = [name for name in ("train_loss", "test_loss") if name in dataset]
    count = dataset.sizes["parametrization"]
    columns = count if count <= 4 else 3
    shape = (1, len(losses)) if count == 1 else (len(losses) * math.ceil(count / columns), columns)
    figure = new_figure(0.8 + 2.8 * shape[1], 0.9 + 2.5 * shape[0]) if figure is None else figure
    axes = figure.subplots(*shape, squeeze=False).reshape(len(losses), -1)
    for ax in axes[:, count:].flat:
        ax.remove()
    axes = axes[:, :count]
    for loss, row in zip(losses, axes, strict=True):
        for index, ax in enumerate(row):
            if index:
                ax.sharey(row[0])  # before anything is drawn, so that the limits see all panels
            _loss_panel(ax, dataset, loss, index)
            ax.tick_params(which="both", labelleft=index % columns == 0)
            ax.set_ylabel(axis_label(dataset[loss]) if index % columns == 0 else "")
            ax.set_xlabel("SGD step" if count == 1 or (loss == losses[-1] and index + columns >= count) else "")
        start = np.max(np.nan_to_num(positive(dataset[loss].values[..., 0])))
        if 0 < 100 * start < row[0].get_ylim()[1]:
            row[0].set_ylim(top=100 * start)  # a run that blows up must not squeeze the others
    lines = {line.get_label(): line for ax in axes.flat for line in ax.lines}
    handles = [lines[label] for label in width_labels(dataset) if label in lines]
    ncols = max(2, int(figure.get_figwidth() / 1.6))
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, handlelength=3)
    return axes


def gram_heatmaps(
    dataset: xr.Dataset, *, figure: Figure | None = None, features: str = "h", layer: int | None = None
) -> np.ndarray:
    """Draw the first and last Gram matrix of one layer at the largest width, and the last at infinite width.

    Without finite widths, the first and last at infinite width.

    One row and one colour scale for each parametrization, of the first seed that did not diverge.

    Returns:
      The Axes, an object array [parametrization, 2 or 3].

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("results/demo/results.zarr")
      >>> gram_heatmaps(data, layer=1).shape
      (4, 3)
    """
    layer, kept = pick_layer(dataset, layer), finite_seeds(dataset)
    grams = dataset[f"{check_features(features)}_gram"].sel(layer=layer)
    infinite = [i for i in np.flatnonzero(np.isinf(dataset["width"].values)) if kept[:, i].any()]
    finite = finite_widths(dataset)
    both = [(finite[-1], 0), (finite[-1], -1)] if len(finite) else [(column, 0) for column in infinite]
    panels = both + [(column, -1) for column in infinite]
    names, words = dataset["parametrization"].values, limit_words(dataset)
    if figure is None:
        figure = new_figure(1.3 + 2.5 * len(panels), 0.5 + 2.6 * len(names), layout="compressed")
    axes = figure.subplots(len(names), len(panels), squeeze=False)
    for row, name in enumerate(names):
        images = []
        for ax, (column, step) in zip(axes[row], panels, strict=True):
            where = {"parametrization": row, "width": column, "seed": int(np.argmax(kept[row, column]))}
            gram = grams.isel(gram_step=step, **where)
            at = f"{plain_text(width_labels(dataset)[column], 22)}, step {int(gram['gram_step'])}"
            ax.set_title(f"{plain_text(name, 30)}\n{at}", fontsize="medium")
            if np.isfinite(gram.values).all():
                images.append(ax.imshow(gram.values, cmap="cividis", interpolation="nearest"))
                ax.xaxis.get_major_locator().set_params(integer=True)
                ax.yaxis.get_major_locator().set_params(integer=True)
                ax.set(xlabel="input" if row == len(names) - 1 else "", ylabel="input" if ax is axes[row, 0] else "")
            else:
                note = textwrap.fill(plain_text(words[row] if column in infinite else "diverged", 60), 18)
                ax.text(0.5, 0.5, note, ha="center", va="center", transform=ax.transAxes)
                ax.set(xticks=[], yticks=[], box_aspect=1)
        for image in images:
            image.set_clim(min(i.get_array().min() for i in images), max(i.get_array().max() for i in images))
        if images:
            bar = {"label": f"⟨{features}, {features}⟩/n, layer {layer}", "aspect": 12}
            figure.colorbar(images[0], ax=list(axes[row]), **bar)
    return axes


def _loss_panel(ax: Axes, dataset: xr.Dataset, loss: str, row: int) -> None:
    """Draw one parametrization's losses, and say which limit it has and which runs diverged."""
    runs = dataset[loss].isel(parametrization=row).transpose("width", "seed", "step").values
    kept, steps, labels = finite_seeds(dataset)[row], dataset["step"].values, width_labels(dataset)
    finite, diverged = finite_widths(dataset), []
    ax.set_yscale("log")
    for rank, column in enumerate(finite):
        bad = int((~kept[column]).sum())
        seeds = kept[column] if bad < len(kept[column]) else ~kept[column]  # all diverged: as far as they went
        _loss_line(ax, steps, positive(runs[column][seeds]), rank, len(finite), labels[column])
        if bad:
            diverged.append(textwrap.fill(f"{labels[column]}: {bad}/{len(seeds)} seeds diverged", 30))
    for limit in positive(runs[np.isinf(dataset["width"].values), 0]):
        if np.isfinite(limit).any():
            ax.plot(steps, limit, "--", color="black", linewidth=1.6, zorder=3, label="infinite width")
            if f"{loss}_stderr" in dataset and np.isfinite(error := dataset[f"{loss}_stderr"].values[row]).any():
                band = {"color": "black", "alpha": 0.3, "linewidth": 0}
                ax.fill_between(steps, positive(limit - error), positive(limit + error), **band)
    boxed_note(ax, diverged, 0.97, 0.96, ha="right", va="top")
    name, rate = plain_text(dataset["parametrization"].values[row], 24), float(dataset["learning_rate"].values[row])
    ax.set_title(f"{name}, η = {rate:g}", fontsize="medium", pad=17)
    place = {"transform": ax.transAxes, "ha": "center", "va": "bottom", "color": "0.25"}
    ax.text(0.5, 1.03, plain_text(limit_words(dataset)[row], 44), fontsize="small", **place)
    margin = 0.04 * (steps[-1] - steps[0]) or 0.5
    ax.set_xlim(steps[0] - margin, steps[-1] + margin)
    ax.grid(color="0.92")


def _loss_line(ax: Axes, steps: np.ndarray, runs: np.ndarray, rank: int, count: int, label: str) -> None:
    """Draw the mean of runs [seed, step] and their range, with about eight marks."""
    every = (len(steps) * rank // (8 * count), max(1, len(steps) // 8))
    width_line(ax, steps, over_seeds(runs.T), rank, count, label, every)


def draw(dataset: xr.Dataset) -> dict[str, Figure]:
    """Return every figure of a comparison by the name of its file."""
    drawn = {"loss.png": figure_of(loss_curves(dataset))}
    if len(finite_widths(dataset)):
        drawn |= {
            f"{metric}.png": metric_figure(dataset, metric)
            for metric in METRICS
            if variable_name(metric, "h") in dataset
        }
    if "h_gram" in dataset:
        drawn["grams.png"] = figure_of(gram_heatmaps(dataset))
    return drawn
