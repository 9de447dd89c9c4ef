"""Conclusion of a comparison in one sentence: how feature change depends on the width, or else the losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.plots.style import finite_widths
from mupjax.report.numbers import number, power
from mupjax.report.words import of_each
from mupjax.statistics import fit_slope
from mupjax.statistics.seeds import OverSeeds, limit_stderr, metric_over_seeds, over_seeds

if TYPE_CHECKING:
    import xarray as xr


def conclude(dataset: xr.Dataset) -> str:
    """Return what was found of the last layer's preactivations h, or of the training loss where they did not move.

    With two finite widths or more, the fitted power of the width in the feature change, over the seeds that did not
    diverge at any of them; else the feature change at the one width that there is.
    """
    sentence = _change(dataset) if "feature_change_h" in dataset else None
    return sentence or _losses(dataset)


def _change(dataset: xr.Dataset) -> str | None:
    names, finite = list(map(str, dataset["parametrization"].values)), finite_widths(dataset)
    layer, step = int(dataset["layer"].values[-1]), int(dataset["gram_step"].values[-1])
    what = f"the relative change of h (layer {layer}, step {step})"
    widths = dataset["width"].values[finite]
    if len(np.unique(widths)) < 2:
        found = _at_width(dataset, metric_over_seeds(dataset, "feature_change"), "feature_change")
        return None if found is None else f"{found[0]} {what} is {of_each(found[1])}."
    change = dataset["feature_change_h"].isel(gram_step=-1, layer=-1)
    values = change.transpose("parametrization", "width", "seed").values[:, finite]
    slopes = {}
    for name, of_widths in zip(names, values, strict=True):
        kept = of_widths[:, (np.isfinite(of_widths) & (of_widths > 0)).all(0)]
        if kept.size:
            slopes[name] = fit_slope(widths, kept)
    if not slopes:
        return None
    labels = dataset["width_label"].values[finite]
    several = any(np.isfinite(slope.half_width) for slope in slopes.values())
    intervals = " (95 % intervals over seeds)" * several
    powers = of_each({name: power(slope) for name, slope in slopes.items()})
    return f"From width {labels[0]} to {labels[-1]}, {what} goes as a power of the width{intervals}: {powers}."


def _losses(dataset: xr.Dataset) -> str:
    losses = dataset["train_loss"].isel(step=-1).transpose("parametrization", "width", "seed").values
    found = _at_width(dataset, over_seeds(losses), "train_loss")
    if found is None:
        return "Every run diverged."
    where, values = found
    return f"{where} the training loss after {int(dataset['step'].values[-1])} steps is {of_each(values)}."


def _at_width(dataset: xr.Dataset, statistics: OverSeeds, name: str) -> tuple[str, dict[str, str]] | None:
    """Where, and the mean over seeds of each parametrization, at the widest network, or where there is none the limit.

    None where no mean is positive.
    """
    finite = finite_widths(dataset)
    column = int(finite[-1]) if len(finite) else int(np.argmax(dataset["width"].values))
    spread = statistics.std[:, column] if len(finite) else limit_stderr(dataset, name)
    values = {}
    for row, parametrization in enumerate(map(str, dataset["parametrization"].values)):
        if statistics.mean[row, column] > 0:
            values[parametrization] = number(statistics.mean[row, column], 3, spread[row])
    if not values:
        return None
    label = f"width {dataset['width_label'].values[column]}" if len(finite) else "infinite width"
    return f"At {label}", values
