"""Style of all figures: colours, marks, labels, ticks."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from mupjax.statistics.seeds import OverSeeds

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")  # Okabe and Ito: safe for colour-blind
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "-.", (0, (7, 1.5)), ":", (0, (3, 1, 1, 1, 1, 1)), (0, (1, 2.5)))


def shade(rank: int, count: int) -> tuple[float, float, float, float]:
    """Return the colour of one of `count` widths: the wider, the darker."""
    from matplotlib import colormaps

    return colormaps["viridis"](0.8 - 0.7 * rank / max(1, count - 1))


def width_line(
    ax: Axes, x: np.ndarray, one: OverSeeds, rank: int, count: int, label: str, every: tuple[int, int] | None = None
) -> None:
    """Draw the mean over seeds of one of `count` widths and the range of the seeds; `every` is Line2D's `markevery`."""
    mean, low, high = (positive(values) for values in (one.mean, one.low, one.high))
    marks = {"marker": MARKERS[rank % 6], "markersize": 4.5, "markevery": every}
    ax.plot(x, mean, color=shade(rank, count), linewidth=1.5, zorder=2.5, label=label, **marks)
    if (one.seeds > 1).any():
        ax.fill_between(x, low, high, color=shade(rank, count), alpha=0.25, linewidth=0)


def boxed_note(ax: Axes, lines: list[str], x: float, y: float, *, ha: str = "left", va: str) -> None:
    """Write lines into the axes, at fractions x and y of them, on a white box; nothing for no lines."""
    if lines:
        box = {"facecolor": "white", "edgecolor": "0.7", "alpha": 0.85, "boxstyle": "round,pad=0.3"}
        style = {"fontsize": "small", "bbox": box, "zorder": 4, "ha": ha, "va": va}
        ax.text(x, y, "\n".join(lines), transform=ax.transAxes, **style)


_LINE, _LETTER = 0.3, 0.09  # inches that a line and a letter of a tick's label take


def width_ticks(ax: Axes, sizes: np.ndarray, names: Iterable[object]) -> None:
    """Label the axis at ascending widths: one label for widths of equal size, none where there is no room."""
    labels: dict[float, str] = {}
    span = sizes[-1] / sizes[0]
    grid = ax.get_gridspec()
    columns = 1 if grid is None else grid.ncols
    inches = 0.7 * figure_of(ax).get_figwidth() / columns / max(np.log(span), 1e-9)  # of a factor e, about
    for size, name in zip(sizes, map(plain_text, names), strict=True):
        if size in labels:
            labels[size] += f"\n{name}"
        elif not labels or inches * np.log(size / max(labels)) > _LINE:
            labels[size] = name
    gaps = inches * np.diff(np.log(list(labels)))
    letters = [max(map(len, label.split("\n"))) for label in labels.values()]
    needed = [_LETTER * (1 + (one + other) / 2) for one, other in pairwise(letters)]
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if (gaps < needed).any() else {}
    ax.set_xticks(list(labels), list(labels.values()), **turned)
    ax.set_xticks([], minor=True)
    margin = span**0.05 if span > 1 else 2.0
    ax.set(xlim=(sizes[0] / margin, sizes[-1] * margin), xlabel="width n (hidden units)")
    ax.grid(color="0.92")


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """Return at most so many round numbers: 1, 2, 5 in every decade, decades alone, or a straight scale within one."""
    from matplotlib.ticker import MaxNLocator

    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    straight = MaxNLocator(most - 1).tick_values(low, high)
    fine, decades, straight = (
        [float(number) for number in numbers if low <= number <= high]
        for numbers in ([sub * power for power in powers for sub in (1, 2, 5)], powers, straight)
    )
    ticks = straight if len(fine) < 2 else fine if len(fine) <= most or len(decades) < 2 else decades
    return ticks[:: math.ceil(len(ticks) / most)]


def finite_widths(dataset: xr.Dataset) -> np.ndarray:
    """Return the indices of the finite widths, ascending."""
    widths = dataset["width"].values
    order = np.argsort(widths, kind="stable")
    return order[np.isfinite(widths[order])]


def width_labels(dataset: xr.Dataset) -> list[str]:
    """Return how legends name each width."""
    sizes, labels = dataset["width"].values, dataset["width_label"].values
    return [
        "infinite width" if np.isinf(n) else f"width {plain_text(label)}"
        for n, label in zip(sizes, labels, strict=True)
    ]


def axis_label(variable: xr.DataArray) -> str:
    """Return a variable's long name and units."""
    units = variable.attrs.get("units", "1")
    name = variable.attrs.get("long_name", str(variable.name).replace("_", " "))
    return textwrap.fill(f"{plain_text(name)} ({'dimensionless' if units == '1' else plain_text(units)})", 38)


def plain_text(value: object, room: int = 200) -> str:
    """Return text that Matplotlib shows as it is: no mathematics, one line, never a hidden label."""
    text = textwrap.shorten(str(value), room, placeholder=" …") if len(str(value)) > room else str(value)
    return f"{' ' * text.startswith('_')}{text}".replace("$", r"\$").replace("\n", " ")


def positive(values: np.ndarray) -> np.ndarray:
    """Return what has a place on a logarithmic axis; the rest is NaN."""
    values = np.asarray(values, np.float64)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def new_figure(width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained") -> Figure:
    """Return an empty figure of so many inches, without pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout, facecolor="white")


def figure_of(axes: Axes | np.ndarray) -> Figure:
    """Return the figure of Axes, or of an array of Axes."""
    return cast("Figure", (axes.flat[0] if isinstance(axes, np.ndarray) else axes).figure)
