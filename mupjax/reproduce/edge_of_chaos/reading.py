"""Results of `edge_of_chaos`, arranged by depth and by width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr


# {parametrization: {depth or width: its Dataset}}
Rows = Mapping[str, Mapping[int, "xr.Dataset"]]


def by_depth(found: Mapping[str, xr.Dataset], start: str) -> dict[str, dict[int, xr.Dataset]]:
    """Return {parametrization: {depth: its Dataset at the smallest width}} of 'step' or 'train', depths ascending."""
    rows: dict[str, dict[int, xr.Dataset]] = {}
    for name, data in found.items():
        if name.startswith(f"{start}-"):
            depth = int(name.split("-")[-1])
            for preset in map(str, data["parametrization"].values):
                rows.setdefault(preset, {})[depth] = data.sel(parametrization=preset).isel(width=0)
    return {preset: dict(sorted(of.items())) for preset, of in rows.items()}


def by_width(found: Mapping[str, xr.Dataset]) -> dict[str, dict[int, xr.Dataset]]:
    """Return {parametrization: {width: its Dataset}} of the small steps of the depth that has several widths."""
    rows: dict[str, dict[int, xr.Dataset]] = {}
    for name, data in found.items():
        if name.startswith("step-") and data.sizes["width"] > 1:
            for preset in map(str, data["parametrization"].values):
                one = data.sel(parametrization=preset)
                rows[preset] = {int(width): one.sel(width=width) for width in data["width"].values}
    return rows


def first_changes(of: Mapping[int, xr.Dataset]) -> np.ndarray:
    """Return [sizes, seeds], how much the first step moved the last hidden layer, relative."""
    rows = [data["preactivation_change"].sel(step=1).isel(layer=-1).values for data in of.values()]
    return np.stack(rows).astype(float)


def deep_changes(found: Mapping[str, xr.Dataset]) -> tuple[np.ndarray, np.ndarray]:
    """Return the depths of the steps without matrices, and [depths, seeds], how much they moved the last layer."""
    depths = sorted(int(name.removeprefix("deep-")) for name in found if name.startswith("deep-"))
    rows = [
        found[f"deep-{depth}"]["feature_change_h"].isel(parametrization=0, gram_step=-1, layer=-1) for depth in depths
    ]
    seeds = [row.sel(width=np.isfinite(row["width"])).isel(width=0).values.astype(float) for row in rows]
    return np.array(depths, float), np.stack(seeds) if seeds else np.empty((0, 0))
