"""The figure of covariance preservation: the Gaussian parts' covariances against those that theory predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mupjax.plots.style import COLOURS, LINES, figure_of, new_figure, plain_text, positive
from mupjax.studies.covariance.tables import complete_cases
from mupjax.theorems.covariance import CovariancePreservation, pairs, summarize

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STDERR = "standard error of the mean difference"
_SIDES = (("forward", COLOURS[0], "o", 30), ("backward", COLOURS[1], "s", 14))  # colour, mark, area of a mark


def draw(dataset: xr.Dataset) -> dict[str, Figure]:
    """Return the figure of a covariance study by the name of its file."""
    return {"covariance.png": figure_of(covariance_preservation(complete_cases(dataset)))}


def covariance_preservation(cases: dict[str, CovariancePreservation], *, figure: Figure | None = None) -> np.ndarray:
    """Draw predicted against measured covariances of the last case, and how far every case is from the prediction.

    On the left a mark is one pair of (step, input) of one hidden matrix, in units of the largest predicted covariance
    of its direction, so that both directions fit one pair of axes; theory's line is the diagonal. On the right a mark
    is the rms difference of the means over runs, relative to the prediction; a dash of the same colour is the standard
    error, about as large as a difference by chance alone. Every second matrix has hollow marks.

    Args:
      cases: by name, widths ascending and the limit last: results of `theorems.covariance.covariance_preservation`.
      figure: where to draw; by default a new one.

    Returns:
      The Axes, an object array [2].

    Raises:
      ValueError: for no cases, or cases of different numbers of hidden matrices.

    Example:
      >>> import mupjax, numpy as np
      >>> task = mupjax.Task(np.eye(4), np.ones((4, 1)))
      >>> small = {"widths": (32,), "runs": 4, "depth": 2, "particles": 64, "limit_runs": 2}
      >>> cases = mupjax.studies.covariance.cases(mupjax.studies.covariance.covariance_study(task, **small))
      >>> covariance_preservation(cases).shape
      (2,)
    """
    depths = {found.forward.predicted.shape[2] for found in cases.values()}
    if len(depths) != 1:
        raise ValueError(
            f"Expected `cases` to be at least one, with one number of hidden matrices, got {sorted(depths)}."
        )
    figure = new_figure(9.2, 4.4) if figure is None else figure
    axes = figure.subplots(1, 2)
    name, last = list(cases.items())[-1]
    _pairs_panel(axes[0], last)
    axes[0].set_title(f"{plain_text(name, 30)}, mean of {last.num_runs} runs", fontsize="medium")
    _cases_panel(axes[1], cases)
    return axes


def _pairs_panel(ax: Axes, found: CovariancePreservation) -> None:
    """Draw the covariances of one case: backward marks small, on top of forward ones."""
    ax.axline((0, 0), slope=1, color="0.4", linewidth=1, label="equal, as theory has it", zorder=2)
    for one, (label, colour, mark, area) in zip(found[:2], _SIDES, strict=True):
        unit = np.max(np.abs(one.predicted))
        where = pairs(one.predicted / unit).ravel(), pairs(one.empirical / unit).ravel()
        style = {"facecolors": "none", "edgecolors": colour, "linewidths": 1.1, "marker": mark, "s": area}
        ax.scatter(*where, label=label, zorder=2.5, **style)
    ax.set_xlabel(
        r"predicted: $\sigma^2$ times that of x (forward), dh (backward)"
        + "\n(relative to the largest of its direction)"
    )
    ax.set_ylabel("measured: covariance of Gaussian parts\n(in the same units)")
    ax.set_aspect("equal", adjustable="datalim")
    ax.grid(color="0.92")
    ax.legend(fontsize="small", loc="upper left")


def _cases_panel(ax: Axes, cases: dict[str, CovariancePreservation]) -> None:
    """Draw the relative differences [case] of every direction and matrix, side by side within a case."""
    summaries = [summarize(found) for found in cases.values()]
    difference = np.stack([one.relative_difference for one in summaries], -1)
    stderr = np.stack([one.relative_stderr for one in summaries], -1)
    matrices = difference.shape[1]
    places = np.arange(len(cases)) + 0.3 * (np.arange(2 * matrices)[:, None] / max(1, 2 * matrices - 1) - 0.5)
    for row, (label, colour, mark, _) in enumerate(_SIDES):
        for m in range(matrices):
            x, line = places[row * matrices + m], LINES[m % 6]
            between = f"layer {m + 1} to {m + 2}" if row == 0 else f"layer {m + 2} to {m + 1}"
            style = {"color": colour, "marker": mark, "markersize": 5.5, "linewidth": 1.3}
            style |= {"markerfacecolor": "white"} if m % 2 else {}
            ax.plot(x, positive(difference[row, m]), linestyle=line, label=f"{label}, {between}", **style)
            ax.plot(x, positive(stderr[row, m]), linestyle="none", marker="_", markersize=9, color=colour)
    ax.plot([], [], linestyle="none", marker="_", markersize=9, color="0.4", label=STDERR)
    ax.set_xticks(
        range(len(cases)), [f"{plain_text(name, 14)}\n{found.num_runs} runs" for name, found in cases.items()]
    )
    ax.set(yscale="log", xlim=(-0.5, len(cases) - 0.5), ylabel="rms difference of the means over runs\n(relative)")
    ax.set_ylim(bottom=ax.get_ylim()[0] / 2)  # room for the legend
    ax.grid(color="0.92")
    ax.legend(fontsize="small", loc="lower left", handlelength=3.2)
