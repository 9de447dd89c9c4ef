"""Layout of a grid's Dataset: variables, dims, coordinates, and the positions of each cell's arrays."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from mupjax import results
from mupjax.observers import named
from mupjax.results.layout import Layout
from mupjax.sweeps.grid import Grid
from mupjax.sweeps.plan import Cell
from mupjax.sweeps.variables import VARIABLES
from mupjax.task import Task
from mupjax.trajectory import Trajectory

RUN_DIMS = ("parametrization", "depth", "optimizer", "width", "learning_rate", "seed")
CELL_DIMS = RUN_DIMS[:4]  # a cell is one position along the first three and some along the fourth


def of_grid(task: Task, grid: Grid, attrs: Mapping[str, object]) -> Layout:
    """Return the layout of a sweep's Dataset.

    Args:
      task: data and loss.
      grid: what is run.
      attrs: of the Dataset: arguments, versions, plan.
    """
    import xarray as xr

    spec, steps = grid.spec, grid.steps
    rates = sorted({rate for each in grid.rates for rate in each})
    coords: dict[str, object] = {
        "parametrization": [p.name for p in grid.parametrizations],
        "depth": ("depth", list(grid.depths), VARIABLES["depth"].attrs),
        "optimizer": [name for name, _ in grid.optimizers],
        **results.coordinates(grid.widths, grid.seeds, spec, steps, max(grid.depths)),
        "learning_rate": ("learning_rate", rates, VARIABLES["learning_rate"].attrs),
    }
    if grid.observe:
        observed = list(named.observed_steps(steps, grid.observe_every))
        coords["observe_step"] = ("observe_step", observed, VARIABLES["observe_step"].attrs)
        coords["kernel"] = np.arange(1, max(grid.depths) + 2)
        coords["layer"] = np.arange(1, max(grid.depths) + 1)
    was_run = np.array([[rate in each for rate in rates] for each in grid.rates])
    known = xr.Dataset(
        {"was_run": (("optimizer", "learning_rate"), was_run, VARIABLES["was_run"].attrs)}, coords, dict(attrs)
    )
    single = str(jax.dtypes.canonicalize_dtype(float))
    observed = results.filled(VARIABLES, dict.fromkeys(named.variables(grid.observe), single))
    return results.layout_of(task, spec, known, observed | results.run_variables(task, spec, RUN_DIMS), CELL_DIMS)


def region(cell: Cell) -> dict[str, tuple[int, ...]]:
    """Return the positions that a cell fills along every one of CELL_DIMS."""
    places = ((cell.parametrization,), (cell.depth,), (cell.optimizer,), cell.widths)
    return dict(zip(CELL_DIMS, places, strict=True))


def arrays(layout: Layout, grid: Grid, cell: Cell, run: Trajectory) -> dict[str, np.ndarray]:
    """Return what a cell found, [widths, all rates, seeds, ...] by variable; rates and layers it lacks are NaN."""
    measured = results.measure(run) | named.arrays(run.observed)
    rates = list(layout.coords["learning_rate"].values)
    chosen = [rates.index(rate) for rate in grid.rates[cell.optimizer]]
    found = {}
    for name, variable in layout.variables.items():
        trailing = tuple(layout.sizes[dim] for dim in variable.dims[len(CELL_DIMS) :])
        whole = np.full((len(cell.widths), *trailing), np.nan, variable.dtype)
        part = measured[name]
        inside = tuple(slice(length) for length in part.shape[3:])  # fewer layers than the deepest network's
        whole[(slice(None), chosen, slice(None), *inside)] = part
        found[name] = whole
    return found
