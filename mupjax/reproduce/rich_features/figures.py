"""Figures of `rich_features`: every layer, and networks beside their first-order models and the kernel limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mupjax.plots.style import COLOURS, figure_of, new_figure, plain_text, positive
from mupjax.reproduce.parts import MAIN, WIDE
from mupjax.reproduce.reading import across_widths
from mupjax.statistics.seeds import METRICS
from mupjax.studies.comparison.metric_figures import layers_figure

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def draw(found: Mapping[str, xr.Dataset]) -> dict[str, dict[str, Figure]]:
    """Return {part: {file name: Figure}} of the parts that were run."""
    drawn = {}
    if MAIN in found:
        drawn[MAIN] = _layers(found[MAIN])
        if WIDE in found:
            drawn[WIDE] = _layers(across_widths(found[MAIN], found[WIDE]))
    if "linearized" in found and "test" in found:
        axes = three_lines(found["test"], found["linearized"])
        drawn["linearized"] = {"three_lines.png": figure_of(axes)}
    return drawn


def _layers(dataset: xr.Dataset) -> dict[str, Figure]:
    return {f"{metric}_layers.png": layers_figure(dataset, metric) for metric in METRICS}


def three_lines(networks: xr.Dataset, linearized: xr.Dataset, *, figure: Figure | None = None) -> np.ndarray:
    """Draw training losses of the widest networks, of their first-order models and of the limit.

    Where solid and dash-dotted lines part, features moved; where dash-dotted and dashed ones do, the kernel at the
    start is not yet the limit's. Bands reach from the smallest to the largest seed.

    Args:
      networks: what `compare` returns.
      linearized: the same with `linearize=True`.
      figure: where to draw; by default a new one.

    Returns:
      The Axes, an object array [parametrization].
    """
    names = list(networks["parametrization"].values)
    figure = new_figure(0.8 + 2.9 * len(names), 3.6) if figure is None else figure
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    widest = int(np.flatnonzero(np.isfinite(networks["width"].values))[-1])
    lines = {
        "network": (networks, widest, {"color": COLOURS[0], "linestyle": "-", "linewidth": 2.2}),
        "first-order model": (linearized, widest, {"color": COLOURS[1], "linestyle": "-."}),
        "infinite width": (networks, -1, {"color": "black", "linestyle": "--"}),
    }
    for ax, name in zip(axes, names, strict=True):
        for label, (data, column, style) in lines.items():
            losses = positive(data["train_loss"].sel(parametrization=name).isel(width=column).values)
            if not np.isfinite(losses).any():
                continue
            ax.plot(data["step"].values, losses.mean(0), label=label, **style)
            if column != -1:
                ax.fill_between(data["step"].values, losses.min(0), losses.max(0), color=style["color"], alpha=0.2)
        ax.set(yscale="log", xlabel="SGD step")
        ax.set_title(f"{plain_text(name)}, width {networks['width_label'].values[widest]}", fontsize="medium")
        ax.grid(color="0.92")
    axes[0].set_ylabel("training loss (dimensionless)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=3)
    return axes
