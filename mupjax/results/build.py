"""Trajectories as an xarray.Dataset: one place for names, units, coordinates, arguments and versions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import numpy as np

from mupjax import devices, metrics
from mupjax.results.variables import TRAJECTORY
from mupjax.statistics.jackknife import jackknife
from mupjax.trajectory import Trajectory, TrajectorySpec


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


def width_label(width: int | tuple[int, ...] | float) -> str:
    """Return how tables and plots write a width."""
    if isinstance(width, tuple):
        return "x".join(map(str, width))
    return "infinite" if math.isinf(width) else str(int(width))


def dataset(
    cells: Mapping[tuple[int, int], Mapping[str, np.ndarray]],
    widths: Sequence[int | tuple[int, ...]],
    spec: TrajectorySpec,
    steps: int,
    along_parametrization: Mapping[str, Sequence[Any]],
    arguments: Mapping[str, Any],
    limit_stderrs: Mapping[int, Mapping[str, np.ndarray]] | None = None,
) -> Any:
    """Return the Dataset of a comparison; cells that were not computed are NaN.

    Args:
      cells: {(parametrization index, width index): what `measure` returned}, at least one; the width index one past
        the last is the limit's.
      widths: the finite widths.
      spec: what was recorded.
      steps: the last step.
      along_parametrization: coordinates along that dimension, 'parametrization' itself among them.
      arguments: kept in attrs as JSON beside the versions.
      limit_stderrs: {parametrization index: standard errors of the limit's row}, variables `<name>_stderr` without the
        dims width and seed; NaN where a limit is exact or was not computed.
    """
    import xarray as xr

    template = next(iter(cells.values()))
    num_parametrizations = len(along_parametrization["parametrization"])
    variables = {}
    for name, array in template.items():
        whole = np.full((num_parametrizations, len(widths) + 1, *array.shape), np.nan, array.dtype)
        for (row, column), cell in cells.items():
            whole[row, column] = cell[name]
        after = trailing_dims(name)
        attrs = {"units": "1", "long_name": long_name(name)}
        variables[name] = (("parametrization", "width", "seed", *after), whole, attrs)
        if limit_stderrs and not name.endswith(("_resolution", "_gram")):
            errors = np.full((num_parametrizations, *array.shape[1:]), np.nan)
            for row, stderrs in limit_stderrs.items():
                errors[row] = stderrs.get(name, np.nan)
            words = f"{long_name(name)} at infinite width: standard error"
            variables[f"{name}_stderr"] = (("parametrization", *after), errors, {"units": "1", "long_name": words})
    labels = [*map(width_label, widths), width_label(math.inf)]
    sizes = np.array([float(max(w) if isinstance(w, tuple) else w) for w in widths] + [math.inf])
    num_gram = template["h_gram"].shape[-1]
    coords = {
        "width": ("width", sizes, {"units": "hidden units", "long_name": "width"}),
        "width_label": ("width", labels),
        "seed": np.arange(len(template["train_loss"])),
        "step": ("step", np.array(spec.resolve_steps(steps)), {"units": "steps"}),
        "gram_step": ("gram_step", np.array(spec.resolve_gram_steps(steps)), {"units": "steps"}),
        "layer": np.arange(1, template["h_gram"].shape[2] + 1),
        **{name: ("parametrization", list(values)) for name, values in along_parametrization.items()},
        "diversity_sampling_factor": ("width", metrics.sampling_factor(sizes, num_gram)),
        "space_time_sampling_factor": ("width", metrics.sampling_factor(sizes, 2 * num_gram)),
    }
    return xr.Dataset(variables, coords, {"arguments": arguments_json(arguments), **versions()})


def arguments_json(arguments: Mapping[str, Any]) -> str:
    """Return arguments as canonical JSON, equal for equal comparisons: records field by field.

    Functions stand as their names with a digest of their code, defaults and closures, where they have these.
    """

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if callable(value):
            return _function(value)
        return value.item() if isinstance(value, np.generic) else repr(value)

    return json.dumps(arguments, sort_keys=True, default=plain)


def _function(function: Any) -> str:
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"
    code = getattr(function, "__code__", None)
    if code is None:  # a built-in, or an object that is called
        return name
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    inside = [_function(cell) if callable(cell) else repr(cell) for cell in cells]
    text = repr((*_instructions(code), function.__defaults__, function.__kwdefaults__, inside))
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _instructions(code: Any) -> tuple[Any, ...]:
    """What a function's code does, without its place in a file."""
    constants = [_instructions(c) if hasattr(c, "co_code") else c for c in code.co_consts]
    return code.co_code, code.co_names, constants


def versions() -> dict[str, str]:
    """Return the versions and the device that numbers depend on."""
    names = ("mupjax", "jax", "jaxlib", "flax", "optax", "numpy", "neural-tangents")
    found = {}
    for name in names:
        try:
            found[f"version_{name.replace('-', '_')}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[f"version_{name.replace('-', '_')}"] = "not installed"
    return {**found, "version_python": platform.python_version(), "device": devices.local_devices()[0].device_kind}


def trailing_dims(name: str) -> tuple[str, ...]:
    """Return the dims of one run's array of this name."""
    return TRAJECTORY[name].dims


def long_name(name: str) -> str:
    """Return a variable's name in words."""
    return TRAJECTORY[name].long_name
