"""Covariance preservation of networks of several widths and of the infinite-width limit, as a Dataset."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Unpack

import jax
import numpy as np

from mupjax import activations, devices, optim, results
from mupjax import parametrization as presets
from mupjax._checks import check_counts, check_distinct, check_sequences
from mupjax.activations import Activation
from mupjax.dynamics import feature_limit
from mupjax.dynamics.runs import DRAWS
from mupjax.parametrization import Parametrization, classification
from mupjax.studies import cells, infinite
from mupjax.studies.cells import MATRIX_FREE, Settings
from mupjax.studies.covariance.variables import VARIABLES
from mupjax.studies.infinite import Sampling
from mupjax.sweeps import runner
from mupjax.task import Task
from mupjax.theorems.covariance import FIELDS, CovariancePreservation, Preservation, covariance_preservation
from mupjax.trajectory import TrajectorySpec

if TYPE_CHECKING:
    import xarray as xr

DIRECTIONS = ("forward", "backward")
FIELDS_OF_PAIRS = ("predicted", "empirical", "difference", "stderr")


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
    **options: Unpack[runner.Options],
) -> xr.Dataset:
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
      **options: key, memory_gb, out, executor, about, derive, progress, as in every study (`sweeps.runner.Running`).

    Returns:
      An xarray.Dataset with dims width (inf is the limit), direction, gram_step, gram_step_2, matrix, gram_input,
      gram_input_2: `predicted`, `empirical`, `difference`, `stderr`; `deviation` along width, direction and run, NaN
      beyond a width's `num_runs`. `cases` reads it back.

    Raises:
      ValueError: for arguments out of range, or a parametrization whose limit does not learn features.
      TypeError: for one entry where several are meant.

    Example:
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> data = covariance_study(task, widths=(32,), runs=4, depth=2, particles=64, limit_runs=2)
      >>> list(cases(data)), data.predicted.sizes["matrix"]
      (['32', 'infinite'], 1)
    """
    given = {name: value for name, value in locals().items() if name not in ("task", "options")}
    _, running = runner.split("covariance_study", options, {})
    check_sequences(widths=widths, gram_steps=gram_steps)
    preset, phi = presets.get(parametrization, depth=depth), activations.get(activation)
    check_counts(depth=depth, runs=runs, steps=steps, particles=particles, limit_runs=limit_runs)
    check_distinct(widths=list(widths))
    if depth < 2 or runs < 2 or limit_runs < 2:
        raise ValueError(
            "Expected `depth`, `runs` and `limit_runs` to be at least 2, "
            f"got depth={depth}, runs={runs}, limit_runs={limit_runs}."
        )
    cells.recorded(steps, tuple(gram_steps))  # refuses Gram steps that do not begin with 0
    settings = Settings(
        key=running.base(),
        depth=depth,
        activation=phi,
        steps=steps,
        centred=False,
        batch_size=None,
        optimizer=optim.sgd,
        spec=TrajectorySpec(gram_steps=tuple(gram_steps), grams=(), space_time=FIELDS),
        memory_gb=devices.memory_budget(running.memory_gb),
    )
    if (kind := classification.classify(preset, depth, phi).kind) != "feature":
        raise ValueError(f"Expected `parametrization` to learn features, got {preset.name!r}, whose kind is {kind}.")
    sigmas = {preset.scales("hidden", widths[0], widths[0], layer).init_std for layer in range(2, depth + 1)}
    if len(sigmas) > 1:
        raise ValueError(f"Expected one `base_width` for all layers, got base_width={preset.base_width}.")
    sigma = sigmas.pop() * widths[0] ** 0.5
    todo = [
        runner.Cell(
            name=f"width-{place}",
            label=f"{preset.name}, width {width}",
            where={"width": (place,)},
            compute=networks,
            args=(task, preset, width, learning_rate, runs, settings, sigma, max(runs, limit_runs)),
            need=cells.need(task, MATRIX_FREE, width, runs, settings),
        )
        for place, width in enumerate(widths)
    ]
    sampling = Sampling(particles, limit_runs)
    todo.append(
        runner.Cell(
            name="limit",
            label=f"{preset.name}, infinite width",
            where={"width": (len(widths),)},
            compute=limit,
            args=(task, preset, learning_rate, settings, sampling, sigma, max(runs, limit_runs)),
            need=infinite.need(task, kind, settings, sampling),
        )
    )
    attrs = results.attributes("covariance", given | {"key": running.key}, running.about, task)
    counts = [*[runs] * len(widths), limit_runs]
    layout = _layout(task, [*map(float, widths), math.inf], counts, settings, attrs)
    return runner.run(runner.Study(layout, tuple(todo)), running)


def networks(
    task: Task,
    preset: Parametrization,
    width: int,
    rate: float,
    runs: int,
    settings: Settings,
    sigma: float,
    most: int,
) -> runner.Arrays:
    """Return the arrays of networks of one width."""
    found = cells.train_seeds(task, preset, MATRIX_FREE, width, rate, runs, settings)
    return _arrays(covariance_preservation(found, sigma=sigma), most)


def limit(
    task: Task, preset: Parametrization, rate: float, settings: Settings, sampling: Sampling, sigma: float, most: int
) -> runner.Arrays:
    """Return the arrays of the limit's runs."""
    found = feature_limit.sample(
        task,
        preset,
        depth=settings.depth,
        activation=settings.activation,
        learning_rate=rate,
        steps=settings.steps,
        key=jax.random.fold_in(settings.key, DRAWS),
        num_particles=sampling.particles,
        num_runs=sampling.limit_runs,
        spec=settings.spec,
        memory_gb=settings.memory_gb,
    )
    return _arrays(covariance_preservation(found, sigma=sigma), most)


def cases(data: xr.Dataset) -> dict[str, CovariancePreservation]:
    """Return what `plots.covariance_preservation` draws, by the words for the width, from a study's Dataset."""
    found = {}
    for row, label in enumerate(map(str, data["width_label"].values)):
        count, one = int(data["num_runs"].values[row]), data.isel(width=row)
        forward, backward = (_side(one.sel(direction=side), count) for side in DIRECTIONS)
        found[label] = CovariancePreservation(forward, backward, count)
    return found


def _side(one: xr.Dataset, count: int) -> Preservation:
    predicted, empirical, difference, stderr = (one[name].values for name in FIELDS_OF_PAIRS)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(difference == 0, 0.0, difference / stderr)
    return Preservation(predicted, empirical, difference, stderr, z, one["deviation"].values[:count])


def _arrays(found: CovariancePreservation, most: int) -> runner.Arrays:
    """Return arrays with one place first; `deviation` NaN beyond the runs that there are, up to `most`."""
    sides = found.forward, found.backward
    arrays = {field: np.stack([getattr(side, field) for side in sides])[None] for field in FIELDS_OF_PAIRS}
    deviation = np.full((1, 2, most), np.nan)
    deviation[0, :, : found.num_runs] = [side.deviation for side in sides]
    return arrays | {"deviation": deviation}


def _layout(
    task: Task, widths: list[float], counts: list[int], settings: Settings, attrs: dict[str, str]
) -> results.Layout:
    import xarray as xr

    steps = settings.spec.resolve_gram_steps(settings.steps)
    coords = {
        "width": ("width", widths, VARIABLES["width"].attrs),
        "width_label": ("width", [results.width_label(width) for width in widths]),
        "num_runs": ("width", counts),
        "direction": list(DIRECTIONS),
        "gram_step": ("gram_step", list(steps), {"units": "steps"}),
        "matrix": np.arange(1, settings.depth),
    }
    variables = results.filled(VARIABLES, dict.fromkeys((*FIELDS_OF_PAIRS, "deviation"), "float64"))
    inputs = len(settings.spec.resolve_gram_inputs(task))
    known = xr.Dataset(coords=coords, attrs=attrs)
    sizes = {str(dim): size for dim, size in known.sizes.items()} | {"run": max(counts), "gram_step_2": len(steps)}
    return results.Layout(known, variables, sizes | {"gram_input": inputs, "gram_input_2": inputs}, ("width",))
