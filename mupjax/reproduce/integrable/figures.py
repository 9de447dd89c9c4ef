"""Figures of `integrable`: losses and ranks of several parts, a panel each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mupjax.plots.style import figure_of
from mupjax.reproduce.parts import MAIN
from mupjax.studies.training.figures import batch_losses, ranks_figure

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def draw(found: Mapping[str, xr.Dataset]) -> dict[str, dict[str, Figure]]:
    """Return {part: {file name: Figure}}: beside the main part's, those of the other parts that were run."""
    if MAIN not in found:
        return {}
    drawn = {}
    if panels := _panels(found, "vanishing-"):
        titled = {_title(name): data for name, data in panels.items()}
        drawn["vanishing.png"] = figure_of(batch_losses(titled))
    for name in ("curves", "stuck"):
        if panels := _panels(found, f"{name}-"):
            drawn[f"{name}.png"] = figure_of(batch_losses(panels))
    if panels := _panels(found, "ranks-"):
        drawn["ranks.png"] = figure_of(ranks_figure(panels))
    return {MAIN: drawn}


def _panels(found: Mapping[str, xr.Dataset], start: str) -> dict[str, xr.Dataset]:
    return {name.removeprefix(start): data for name, data in found.items() if name.startswith(start)}


def _title(name: str) -> str:
    activation, depth = name.split("-")
    return f"{activation}, {depth} hidden layers"
