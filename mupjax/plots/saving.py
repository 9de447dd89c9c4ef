"""Every figure of a Dataset by the name of its file, and figures as files."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mupjax._files import write_whole
from mupjax.results import complete, kind_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

DPI = 150


def draw_all(dataset: xr.Dataset) -> dict[str, Figure]:
    """Return every figure of a Dataset by the name of its file.

    Args:
      dataset: what a study or sweep returns, or a selection from it: a dim that `.sel` or `.isel` dropped is taken for
        one of length one.

    Raises:
      ValueError: for an unknown `attrs["kind"]`, or a Dataset that lacks what its kind needs; the message names it.

    Example:
      >>> import mupjax, numpy as np
      >>> task = mupjax.Task(np.eye(4), np.ones((4, 1)))
      >>> data = mupjax.sweep(task, widths=(8, 16), depths=(2,), learning_rates=(0.1, 0.2), seeds=2, steps=3)
      >>> list(draw_all(data.sel(learning_rate=0.1)))
      ['learning_rates.png']
    """
    return kind_of(dataset).figures(complete(dataset))


def save_all(dataset: xr.Dataset, out: str | os.PathLike[str]) -> list[Path]:
    """Write every figure of `draw_all` to the directory `out`, as `save` does.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("sweep/results.zarr")
      >>> [path.name for path in save_all(data, "figures")]
      ['learning_rates.png', 'learning_rates_test.png']
    """
    return save(draw_all(dataset), out)


def save(figures: Mapping[str, Figure], out: str | os.PathLike[str]) -> list[Path]:
    """Write figures as PNG files of the given names to the directory `out`.

    All are drawn before the first is written, and each is put in place whole.

    Example:
      >>> from matplotlib.figure import Figure
      >>> [path.name for path in save({"nothing.png": Figure()}, "figures")]
      ['nothing.png']
    """
    pictures = {name: png(figure) for name, figure in figures.items()}
    return [write_whole(Path(out) / name, picture) for name, picture in pictures.items()]


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file.

    Example:
      >>> from matplotlib.figure import Figure
      >>> png(Figure())[1:4]
      b'PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
