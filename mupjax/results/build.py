"""Trajectories as an xarray.Dataset: one place for names, units and coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from mupjax import metrics
from mupjax.results.layout import Filled, Layout, filled
from mupjax.results.variables import TRAJECTORY, WIDTH, along
from mupjax.statistics.jackknife import jackknife
from mupjax.task import Task
from mupjax.trajectory import Trajectory, TrajectorySpec

if TYPE_CHECKING:
    import xarray as xr

Width = int | tuple[int, ...] | float


def measure(run: Trajectory) -> dict[str, np.ndarray]:
    """Reduce a Trajectory with runs axes to the Dataset's arrays, runs axes first; Grams need 0 among their steps."""
    arrays = {"train_loss": run.train_loss, "test_loss": run.test_loss, "predictions": run.predictions}
    for name in ("h", "x"):
        if getattr(run, f"{name}_gram") is None:
            continue
        gram, cross = np.asarray(getattr(run, f"{name}_gram")), np.asarray(getattr(run, f"{name}_cross_gram"))
        initial = np.broadcast_to(gram[..., :1, :, :, :], gram.shape)
        arrays[f"{name}_gram"] = gram
        arrays[f"feature_change_{name}"] = metrics.feature_change(gram, cross, initial)
        for metric, eigenvalue in (
            ("diversity", metrics.diversity(gram)),
            ("space_time_lambda_min", metrics.space_time(gram, cross, initial)),
        ):
            arrays[f"{metric}_{name}"] = eigenvalue.value
            arrays[f"{metric}_{name}_resolution"] = eigenvalue.resolution
    return {name: np.asarray(array) for name, array in arrays.items() if array is not None}


def measure_limit(runs: Trajectory) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Reduce independent runs of a limit to the Dataset's arrays of their mean, and to standard errors (jackknife).

    Eigenvalues are taken of the mean Gram: those of single runs are biased, as they are not linear in it. Leaving out
    one run at a time corrects the rest of that bias to first order, and gives the standard error; one run has neither.

    Returns:
      Arrays with a runs axis of length one, and standard errors without it, NaN for one run.
    """
    count = len(runs.train_loss)
    values = runs._replace(step=None, info=None, stderr=None)

    def of_mean(kept: np.ndarray) -> dict[str, np.ndarray]:
        return measure(jax.tree.map(lambda leaf: np.mean(leaf[kept], axis=0, keepdims=True, dtype=np.float64), values))

    if count == 1:
        mean = of_mean(np.arange(1))
        return mean, {name: np.full(array.shape[1:], np.nan) for name, array in mean.items()}
    mean, corrected, stderr = jackknife(of_mean, count)
    biased = {
        name: array if name.endswith(("_gram", "_resolution")) else corrected[name] for name, array in mean.items()
    }
    return biased, {name: array[0] for name, array in stderr.items()}


def width_label(width: Width) -> str:
    """Return how tables and plots write a width."""
    if isinstance(width, tuple):
        return "x".join(map(str, width))
    return "infinite" if math.isinf(width) else str(int(width))


def run_variables(task: Task, spec: TrajectorySpec, run_dims: tuple[str, ...]) -> dict[str, Filled]:
    """Return the variables that `measure` makes of a Trajectory recorded to `spec`, the runs' dims first."""
    single = str(jax.dtypes.canonicalize_dtype(float))
    dtypes = {"train_loss": single}
    if task.x_test is not None:
        dtypes["test_loss"] = single
    if spec.eval_inputs != ():
        dtypes["predictions"] = single
    for z in spec.grams:
        dtypes |= {f"{z}_gram": "float64", f"feature_change_{z}": "float64"}
        for metric in ("diversity", "space_time_lambda_min"):
            dtypes |= {f"{metric}_{z}": "float64", f"{metric}_{z}_resolution": "float64"}
    return filled(along(run_dims, TRAJECTORY), dtypes)


def coordinates(
    widths: Sequence[Width], seeds: int, spec: TrajectorySpec, steps: int, depth: int
) -> dict[str, tuple[str, object] | tuple[str, object, dict[str, str]]]:
    """Return the coordinates of recorded networks: widths (infinity is the limit's), seeds, steps, layers."""
    sizes = np.array([float(max(w) if isinstance(w, tuple) else w) for w in widths])
    found = {
        "width": ("width", sizes, WIDTH["width"].attrs),
        "width_label": ("width", [width_label(width) for width in widths]),
        "seed": ("seed", np.arange(seeds)),
        "step": ("step", np.array(spec.resolve_steps(steps)), {"units": "steps"}),
    }
    if spec.grams:
        found["gram_step"] = ("gram_step", np.array(spec.resolve_gram_steps(steps)), {"units": "steps"})
        found["layer"] = ("layer", np.arange(1, depth + 1))
    return found


def layout_of(
    task: Task,
    spec: TrajectorySpec,
    known: xr.Dataset,
    variables: Mapping[str, Filled],
    cell_dims: tuple[str, ...],
) -> Layout:
    """Return the Layout of recorded networks.

    Args:
      task: data and loss.
      spec: what is recorded.
      known: coordinates, attributes and variables that no cell fills.
      variables: those that cells fill.
      cell_dims: along which cells differ.
    """
    kept = spec.resolve_eval_inputs(task)
    inputs = len(spec.resolve_gram_inputs(task)) if spec.grams else 0
    sizes = {
        **{str(dim): length for dim, length in known.sizes.items()},
        "input": task.num_inputs if kept is None else len(kept),
        "output": task.out_dim,
        "gram_input": inputs,
        "gram_input_2": inputs,
    }
    return Layout(known, dict(variables), sizes, cell_dims)
