"""The Dataset of a grid before it is filled: names, dims, coordinates, and where a cell's arrays go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mupjax import results
from mupjax.observers import named
from mupjax.sweeps.grid import Grid
from mupjax.sweeps.plan import Cell
from mupjax.task import Task
from mupjax.trajectory import Trajectory

RUN_DIMS = ("parametrization", "depth", "optimizer", "width", "learning_rate", "seed")
CELL_DIMS = RUN_DIMS[:4]  # a cell is one position along the first three and some along the fourth


class Variable(NamedTuple):
    """dims, dtype and attributes of a variable."""

    dims: tuple[str, ...]
    dtype: str
    attrs: dict[str, str]


class Layout(NamedTuple):
    """coords: a Dataset of all that is known before. variables: by name. sizes: of every dim.

    cell_dims: along which cells differ.
    """

    coords: Any
    variables: dict[str, Variable]
    sizes: dict[str, int]
    cell_dims: tuple[str, ...]


def of_grid(task: Task, grid: Grid, attrs: Mapping[str, Any]) -> Layout:
    """Return the layout of a sweep's Dataset.

    Args:
      task: data and loss.
      grid: what is run.
      attrs: of the Dataset: arguments, versions, plan.
    """
    import xarray as xr

    spec, steps = grid.spec, grid.steps
    rates = sorted({rate for each in grid.rates for rate in each})
    sizes = np.array([float(max(w) if isinstance(w, tuple) else w) for w in grid.widths])
    along_width = {"units": "hidden units", "long_name": "width"}
    coords: dict[str, Any] = {
        "parametrization": [p.name for p in grid.parametrizations],
        "depth": ("depth", list(grid.depths), {"units": "hidden layers", "long_name": "depth"}),
        "optimizer": [name for name, _ in grid.optimizers],
        "width": ("width", sizes, along_width),
        "width_label": ("width", [results.width_label(w) for w in grid.widths]),
        "learning_rate": ("learning_rate", rates, {"units": "1", "long_name": "base learning rate"}),
        "seed": np.arange(grid.seeds),
        "step": ("step", np.array(spec.resolve_steps(steps)), {"units": "steps"}),
    }
    if spec.grams:
        coords["gram_step"] = ("gram_step", np.array(spec.resolve_gram_steps(steps)), {"units": "steps"})
        coords["layer"] = np.arange(1, max(grid.depths) + 1)
    if grid.observe:
        observed = list(named.observed_steps(steps, grid.observe_every))
        coords["observe_step"] = ("observe_step", observed, {"units": "steps", "long_name": "observed step"})
        coords["kernel"] = np.arange(1, max(grid.depths) + 2)
        coords["layer"] = np.arange(1, max(grid.depths) + 1)
    asked = np.array([[rate in each for rate in rates] for each in grid.rates])
    words = "whether the optimizer was run with the rate"
    dataset = xr.Dataset({"asked": (("optimizer", "learning_rate"), asked, {"long_name": words})}, coords, dict(attrs))
    kept = spec.resolve_eval_inputs(task)
    inputs = len(spec.resolve_gram_inputs(task)) if spec.grams else 0
    sizes = {
        **{str(dim): length for dim, length in dataset.sizes.items()},
        "input": task.num_inputs if kept is None else len(kept),
        "output": task.out_dim,
        "gram_input": inputs,
        "gram_input_2": inputs,
    }
    return Layout(dataset, _variables(task, grid), sizes, CELL_DIMS)


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


def empty(layout: Layout) -> Any:
    """Return the Dataset with NaN everywhere."""
    blank = {
        name: (
            variable.dims,
            np.full([layout.sizes[dim] for dim in variable.dims], np.nan, variable.dtype),
            variable.attrs,
        )
        for name, variable in layout.variables.items()
    }
    return layout.coords.assign(blank)


def put(dataset: Any, where: Mapping[str, tuple[int, ...]], found: Mapping[str, np.ndarray]) -> None:
    """Write a cell's arrays into the Dataset, in place."""
    *before, widths = (where[dim] for dim in CELL_DIMS)
    for name, array in found.items():
        dataset[name].values[(*(place[0] for place in before), list(widths))] = array


def _variables(task: Task, grid: Grid) -> dict[str, Variable]:
    spec = grid.spec
    single = str(jax.dtypes.canonicalize_dtype(float))
    names = {"train_loss": single}
    if task.x_test is not None:
        names["test_loss"] = single
    if spec.eval_inputs != ():
        names["predictions"] = single
    for z in spec.grams:
        names[f"{z}_gram"] = "float64"
        for metric in ("feature_change", "diversity", "space_time_lambda_min"):
            names[f"{metric}_{z}"] = "float64"
            if metric != "feature_change":
                names[f"{metric}_{z}_resolution"] = "float64"
    observed = {
        name: Variable((*RUN_DIMS, *dims), single, {"units": "1", "long_name": words})
        for name, (dims, words) in named.variables(grid.observe).items()
    }
    return observed | {
        name: Variable(
            (*RUN_DIMS, *results.trailing_dims(name)), dtype, {"units": "1", "long_name": results.long_name(name)}
        )
        for name, dtype in names.items()
    }
