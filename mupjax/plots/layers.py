"""A metric of every layer against width: preactivations above, activations below."""

from __future__ import annotations

from typing import Any

from mupjax.plots.comparison import against_width
from mupjax.plots.style import new_figure
from mupjax.statistics.seeds import variable_name


def layers_figure(dataset: Any, metric: str, *, figure: Any = None) -> Any:
    """Draw a metric of h and x of every layer, as `against_width` does; eigenvalues with sampling divided out.

    Args:
      dataset: what `compare` returns.
      metric: feature_change, diversity or space_time.
      figure: where to draw; by default a new one.

    Returns:
      The Figure, with Axes [h and x, layer].

    Raises:
      ValueError: for unknown names.
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
    labels: dict[str, Any] = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            labels.setdefault(label.split("\n")[0], handle)
    figure.legend(labels.values(), labels.keys(), loc="outside right upper", labelspacing=0.7, handlelength=3)
    return figure
