"""Read what stands in a figure back from its artists."""

from __future__ import annotations

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection

from mupjax import plots


def lines(ax, style=None):
    return {line.get_label(): line for line in ax.lines if style is None or line.get_linestyle() == style}


def legend_texts(owner):
    (legend,) = owner.legends if hasattr(owner, "legends") else [owner.get_legend()]
    return [text.get_text() for text in legend.get_texts()]


def band(ax, index):
    """The lower and upper edge of a filled band, by its x positions."""
    vertices = [c for c in ax.collections if isinstance(c, PolyCollection)][index].get_paths()[0].vertices
    return {x: (vertices[vertices[:, 0] == x, 1].min(), vertices[vertices[:, 0] == x, 1].max()) for x in vertices[:, 0]}


def no_warnings_left(figure):
    """Draw for real: layout, ticks and text, under -Werror."""
    return plots.png(figure)


def check_texts(name, figure):
    """Every text lies within the figure, and none on another."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts, renderer = drawn_texts(figure), canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in texts]
    assert len(texts) > 5
    for text, box in zip(texts, boxes, strict=True):
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
        assert inside, (name, text.get_text())
    for (one, a), (other, b) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, (name, one.get_text(), other.get_text())


def drawn_texts(figure):
    """Every text of a figure; tick labels only where their tick is in view."""
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    for ax in figure.axes:
        legend = ax.get_legend()
        texts += [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts, *(legend.get_texts() if legend else [])]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [
                tick for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()) if low <= tick.get_loc() <= high
            ]
            texts += [label for tick in ticks for label in (tick.label1, tick.label2)]
    return [text for text in texts if text.get_visible() and text.get_text()]
