"""What the figures have in common: colours, marks, labels, ticks."""

from __future__ import annotations

import textwrap
from typing import Any, Literal

import numpy as np

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")  # Okabe and Ito: safe for colour-blind
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "-.", (0, (7, 1.5)), ":", (0, (3, 1, 1, 1, 1, 1)), (0, (1, 2.5)))


def width_ticks(ax: Any, sizes: np.ndarray, names: Any) -> None:
    """Label the axis at ascending widths: one label for widths of equal size, none where there is no room."""
    labels: dict[float, str] = {}
    span = sizes[-1] / sizes[0]
    for size, name in zip(sizes, map(plain_text, names), strict=True):
        if size in labels:
            labels[size] += f"\n{name}"
        elif not labels or size / max(labels) > span**0.08:
            labels[size] = name
    gaps = np.diff(np.log(list(labels)))
    crowded = max(map(len, labels.values())) > 6 or (gaps < 0.12 * np.log(span)).any()
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    ax.set_xticks(list(labels), list(labels.values()), **turned)
    ax.set_xticks([], minor=True)
    margin = span**0.05 if span > 1 else 2.0
    ax.set(xlim=(sizes[0] / margin, sizes[-1] * margin), xlabel="width n (hidden units)")
    ax.grid(color="0.92")


def finite_widths(dataset: Any) -> np.ndarray:
    """Return the indices of the finite widths, ascending."""
    widths = dataset["width"].values
    order = np.argsort(widths, kind="stable")
    return order[np.isfinite(widths[order])]


def width_labels(dataset: Any) -> list[str]:
    """Return how legends name each width."""
    sizes, labels = dataset["width"].values, dataset["width_label"].values
    return [
        "infinite width" if np.isinf(n) else f"width {plain_text(label)}"
        for n, label in zip(sizes, labels, strict=True)
    ]


def axis_label(variable: Any) -> str:
    """Return a variable's long name and units."""
    units = variable.attrs.get("units", "1")
    name = variable.attrs.get("long_name", str(variable.name).replace("_", " "))
    return textwrap.fill(f"{plain_text(name)} ({'dimensionless' if units == '1' else plain_text(units)})", 38)


def plain_text(value: Any, room: int = 200) -> str:
    """Return text that Matplotlib shows as it is: no mathematics, one line, never a hidden label."""
    text = textwrap.shorten(str(value), room, placeholder=" …") if len(str(value)) > room else str(value)
    return f"{' ' * text.startswith('_')}{text}".replace("$", r"\$").replace("\n", " ")


def positive(values: np.ndarray) -> np.ndarray:
    """Return what has a place on a logarithmic axis; the rest is NaN."""
    values = np.asarray(values, np.float64)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def new_figure(width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained") -> Any:
    """Return an empty figure of so many inches, without pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout, facecolor="white")
