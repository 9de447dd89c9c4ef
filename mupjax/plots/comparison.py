"""Figures of a comparison: losses, metrics of the features against width, Gram matrices."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np

from mupjax.plots.style import (
    COLOURS,
    LINES,
    MARKERS,
    axis_label,
    boxed_note,
    finite_widths,
    new_figure,
    plain_text,
    positive,
    width_labels,
    width_line,
    width_ticks,
)
from mupjax.statistics.seeds import (
    OverSeeds,
    check_features,
    finite_seeds,
    limit_stderr,
    limit_words,
    metric_over_seeds,
    over_seeds,
    pick_layer,
    variable_name,
)

UNRESOLVED = "at or below resolution"


def loss_curves(dataset: Any, *, figure: Any = None) -> np.ndarray:
    """Draw losses over steps, a panel for each parametrization, training loss above test loss.

    Lines are means over seeds and darken with width; bands reach from the smallest to the largest seed; infinite width
    is dashed black, with a band of one standard error where it has one.

    Returns:
      The Axes, an object array [losses, parametrization].
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


def against_width(
    dataset: Any,
    metric: str,
    *,
    ax: Any = None,
    features: str = "h",
    layer: int | None = None,
    divide_sampling: bool = False,
    legend: bool = True,
) -> Any:
    """Draw a metric of one layer at the last Gram step against width, on logarithmic axes.

    Marked lines are means over seeds, bands reach from the smallest to the largest seed. Dashed lines without markers
    are infinite width, with a band of one standard error where they have one; a limit of zero has no place on the axis
    and is named in the legend. Hollow markers are values
    at or below their resolution, drawn at the resolution.

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
        dashes = (5 * row, (5, 5))  # shifted, so that equal limits show between each other
        style = {"color": COLOURS[row % 6], "linestyle": dashes, "linewidth": 1.5}
        ax.axhline(drawn[row, column], label=f"{names[row]}, infinite width", **style)
        if stderr[row] > 0:
            band = {"color": COLOURS[row % 6], "alpha": 0.25, "linewidth": 0}
            ax.axhspan(max(drawn[row, column] - stderr[row], 1e-300), drawn[row, column] + stderr[row], **band)
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


def gram_heatmaps(dataset: Any, *, figure: Any = None, features: str = "h", layer: int | None = None) -> np.ndarray:
    """Draw the first and last Gram matrix of one layer at the largest width, and the last at infinite width.

    Without finite widths, the first and last at infinite width.

    One row and one colour scale for each parametrization, of the first seed that did not diverge.

    Returns:
      The Axes, an object array [parametrization, 2 or 3].
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


def metric_figure(dataset: Any, metric: str) -> Any:
    """Return a metric's figure: one panel, or a second one with the sampling factor divided out where there is one."""
    factors = dataset.get(f"{metric}_sampling_factor")
    if factors is None or not (factors.values[finite_widths(dataset)] > 0).any():
        return against_width(dataset, metric).figure
    figure = new_figure(11.5, 4.4)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    against_width(dataset, metric, ax=left, legend=False)
    against_width(dataset, metric, ax=right, legend=False, divide_sampling=True)
    left.set_title(f"{left.get_title()}\nas measured", fontsize="medium")
    right.set_ylabel("")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", labelspacing=0.7, handlelength=3)
    return figure


def _loss_panel(ax: Any, dataset: Any, loss: str, row: int) -> None:
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
    boxed_note(ax, diverged, (0.97, 0.96), ha="right", va="top")
    name, rate = plain_text(dataset["parametrization"].values[row], 24), float(dataset["learning_rate"].values[row])
    ax.set_title(f"{name}, η = {rate:g}", fontsize="medium", pad=17)
    place = {"transform": ax.transAxes, "ha": "center", "va": "bottom", "color": "0.25"}
    ax.text(0.5, 1.03, plain_text(limit_words(dataset)[row], 44), fontsize="small", **place)
    margin = 0.04 * (steps[-1] - steps[0]) or 0.5
    ax.set_xlim(steps[0] - margin, steps[-1] + margin)
    ax.grid(color="0.92")


def _loss_line(ax: Any, steps: np.ndarray, runs: np.ndarray, rank: int, count: int, label: str) -> None:
    """Draw the mean of runs [seed, step] and their range, with about eight marks."""
    every = (len(steps) * rank // (8 * count), max(1, len(steps) // 8))
    width_line(ax, steps, over_seeds(runs.T), rank, count, label, every)


def _draw_metric(ax: Any, widths: np.ndarray, one: OverSeeds, factor: np.ndarray, row: int, label: str) -> None:
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
