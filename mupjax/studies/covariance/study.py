"""Covariance preservation of networks of several widths and of the infinite-width limit, as a Dataset."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from mupjax import activations, results
from mupjax import parametrization as presets
from mupjax.activations import Activation
from mupjax.dynamics import feature_limit
from mupjax.dynamics.runs import DRAWS
from mupjax.parametrization import Parametrization, classification
from mupjax.studies import direct
from mupjax.studies.cells import check_memory, settings_of
from mupjax.sweeps.grid import check_counts, check_distinct
from mupjax.sweeps.progress import progress_bar
from mupjax.task import Task
from mupjax.theorems.covariance import FIELDS, CovariancePreservation, Preservation, covariance_preservation
from mupjax.trajectory import TrajectorySpec

DIRECTIONS = ("forward", "backward")
_DIMS = ("gram_step", "gram_step_2", "matrix", "gram_input", "gram_input_2")
_WORDS = {
    "predicted": "covariance that theory predicts",
    "empirical": "covariance of Gaussian parts",
    "difference": "measured less predicted covariance",
    "stderr": "standard error of the mean difference",
}


def covariance_study(
    task: Task,
    *,
    parametrization: str | Parametrization = "mup",
    widths: Sequence[int] = (64, 256, 1024),
    runs: int = 100,
    depth: int = 3,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    learning_rate: float = 1.0,
    steps: int = 3,
    gram_steps: Sequence[int] = (0, 1, -1),
    particles: int = 2048,
    limit_runs: int = 16,
    key: int = 0,
    memory_gb: float | None = None,
    progress: bool = False,
) -> Any:
    """Measure covariance preservation (`theorems.covariance`) in networks without hidden matrices and in their limit.

    Args:
      task: data and loss.
      parametrization: one whose limit learns features.
      widths: of the networks, ascending.
      runs: networks of each width.
      depth: number of hidden layers, at least 2: one hidden matrix.
      activation, learning_rate, steps: as in `compare`.
      gram_steps: when vectors are compared.
      particles, limit_runs: of the limit, as in `compare`.
      key: seed of the random keys.
      memory_gb: what the largest part may take, by default the device's memory (`devices`).
      progress: show a progress bar.

    Returns:
      An xarray.Dataset with dims width (inf is the limit), direction, gram_step, gram_step_2, matrix, gram_input,
      gram_input_2: `predicted`, `empirical`, `difference`, `stderr`; `deviation` along width, direction and run, NaN
      beyond a width's `num_runs`. `cases` reads it back.

    Raises:
      ValueError: for arguments out of range, or a parametrization whose limit does not learn features.

    Example:
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> data = covariance_study(task, widths=(32,), runs=4, depth=2, particles=64, limit_runs=2)
      >>> list(cases(data)), data.predicted.sizes["matrix"]
      (['32', 'infinite'], 1)
    """
    arguments = {k: v for k, v in locals().items() if k not in ("task", "progress")}
    preset = presets.get(parametrization, depth=depth)
    check_counts(depth=depth, runs=runs, steps=steps, particles=particles, limit_runs=limit_runs)
    check_distinct(widths=list(widths))
    if depth < 2 or runs < 2 or limit_runs < 2:
        raise ValueError(
            "Expected `depth`, `runs` and `limit_runs` to be at least 2, "
            f"got depth={depth}, runs={runs}, limit_runs={limit_runs}."
        )
    settings = settings_of(
        task,
        depth=depth,
        activation=activations.get(activation),
        steps=steps,
        centred=False,
        batch_size=None,
        momentum=0.0,
        key=key,
        memory_gb=memory_gb,
        particles=particles,
        limit_runs=limit_runs,
        gram_steps=tuple(gram_steps),
    )
    settings = settings._replace(spec=TrajectorySpec(gram_steps=tuple(gram_steps), grams=(), space_time=FIELDS))
    kind = classification.classify(preset, depth, settings.activation)
    if kind.kind != "feature":
        raise ValueError(
            f"Expected `parametrization` to learn features, got {preset.name!r}, whose kind is {kind.kind}."
        )
    for width in widths:
        direct.check_memory(task, direct.MATRIX_FREE, width, runs, settings)
    check_memory(task, [kind], settings)

    sigma = preset.scales("hidden", widths[0], widths[0]).init_std * widths[0] ** 0.5
    found = []
    with progress_bar(len(widths) + 1, progress) as bar:
        for width in widths:
            bar.set_description(f"{preset.name}, width {width}")
            networks = direct.train_runs(task, preset, direct.MATRIX_FREE, width, learning_rate, runs, settings)
            found.append(covariance_preservation(networks, sigma=sigma))
            bar.update()
        bar.set_description(f"{preset.name}, infinite width")
        limit = feature_limit.sample(
            task,
            preset,
            depth=depth,
            activation=settings.activation,
            learning_rate=learning_rate,
            steps=steps,
            key=jax.random.fold_in(settings.key, DRAWS),
            num_particles=particles,
            num_runs=limit_runs,
            spec=settings.spec,
            memory_gb=memory_gb,
        )
        found.append(covariance_preservation(limit, sigma=sigma))
        bar.update()
    return _dataset(found, [*map(float, widths), math.inf], settings.spec.resolve_gram_steps(steps), arguments)


def cases(data: Any) -> dict[str, CovariancePreservation]:
    """Return what `plots.covariance_preservation` draws, by the words for the width, from a study's Dataset."""
    found = {}
    for row, label in enumerate(map(str, data["width_label"].values)):
        count, one = int(data["num_runs"].values[row]), data.isel(width=row)
        forward, backward = (_side(one.sel(direction=side), count) for side in DIRECTIONS)
        found[label] = CovariancePreservation(forward, backward, count)
    return found


def _side(one: Any, count: int) -> Preservation:
    predicted, empirical, difference, stderr = (one[name].values for name in _WORDS)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(difference == 0, 0.0, difference / stderr)
    return Preservation(predicted, empirical, difference, stderr, z, one["deviation"].values[:count])


def _dataset(found: list[CovariancePreservation], widths: list[float], steps: Sequence[int], arguments: Any) -> Any:
    import xarray as xr

    variables = {}
    for field, words in _WORDS.items():
        array = np.stack([[getattr(side, field) for side in (one.forward, one.backward)] for one in found])
        variables[field] = (("width", "direction", *_DIMS), array, {"units": "1", "long_name": words})
    deviation = np.full((len(found), 2, max(one.num_runs for one in found)), np.nan)
    for row, one in enumerate(found):
        deviation[row, :, : one.num_runs] = one.forward.deviation, one.backward.deviation
    words = "relative rms difference of one network's covariances from those that theory predicts"
    variables["deviation"] = (("width", "direction", "run"), deviation, {"units": "1", "long_name": words})
    coords = {
        "width": ("width", widths, {"units": "hidden units", "long_name": "width"}),
        "width_label": ("width", [results.width_label(width) for width in widths]),
        "num_runs": ("width", [one.num_runs for one in found]),
        "direction": list(DIRECTIONS),
        "gram_step": ("gram_step", list(steps), {"units": "steps"}),
        "matrix": np.arange(1, found[0].forward.predicted.shape[2] + 1),
    }
    attrs = {"kind": "covariance", "arguments": results.arguments_json(arguments), **results.versions()}
    return xr.Dataset(variables, coords, attrs)
