"""The infinite-width row of a study: availability, label, arrays, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from mupjax import optim, results
from mupjax.dynamics import feature_limit, kernel_limit
from mupjax.dynamics.runs import DRAWS
from mupjax.parametrization import Parametrization
from mupjax.results.layout import Filled, filled
from mupjax.studies.cells import Settings
from mupjax.studies.comparison.variables import VARIABLES
from mupjax.sweeps.runner import Arrays, Need
from mupjax.task import Task

if TYPE_CHECKING:
    import xarray as xr


class Sampling(NamedTuple):
    """How the feature-learning limit is sampled.

    Attributes:
      particles: of every run: the error falls a little faster than particles^-1/2.
      limit_runs: independent runs; they give the error bars.
      error: instead of limit_runs: runs are added until the largest standard error of a prediction is at most this.
      max_seconds: with `error`, how long all runs may take.
    """

    particles: int
    limit_runs: int
    error: float | None = None
    max_seconds: float = 600.0


def why_none(preset: Parametrization, kind: str, settings: Settings) -> str | None:
    """Return why a parametrization of a kind has no infinite-width row, None where it has one."""
    if kind == "trivial":
        return "trivial: f stays at its start for any fixed number of steps"
    if kind == "unstable":
        return "unstable: no limit"
    try:
        if kind == "feature":
            momentum = optim.sgd_settings(settings.optimizer).momentum
            feature_limit.check_known(preset, settings.depth, settings.activation, momentum)
        else:
            kernel_limit.check_optimizer(settings.optimizer)
            kernel_limit.layer_weights(preset, depth=settings.depth, activation=settings.activation)
    except ValueError as why:
        return f"not known here: {why}"
    if kind == "kernel" and (why := kernel_limit.missing()) is not None:
        return f"kernel limit: not computed, {why}"
    return None


def compute(
    task: Task, preset: Parametrization, kind: str, rate: float, settings: Settings, sampling: Sampling, seeds: int
) -> Arrays:
    """Return the row's arrays, repeated for every seed, with standard errors where it has any; a cell's function."""
    common: dict[str, Any] = {
        "depth": settings.depth,
        "activation": settings.activation,
        "learning_rate": rate,
        "steps": settings.steps,
        "key": jax.random.fold_in(settings.key, DRAWS),
        "batches": settings.batches(task),
        "optimizer": settings.optimizer,
        "spec": settings.spec,
    }
    if kind == "feature":
        common |= {"memory_gb": settings.memory_gb, "max_directions": settings.max_directions}
        common |= {"num_particles": sampling.particles}
        if sampling.error is None:
            common |= {"num_runs": sampling.limit_runs}
        else:
            common |= {"error": sampling.error, "max_seconds": sampling.max_seconds}
        runs = feature_limit.sample(task, preset, **common)
        mean, stderr = results.measure_limit(runs)
        about = runs.info.num_runs, np.max(runs.info.directions, initial=0)
    else:
        limit = kernel_limit.train(task, preset, centred=settings.centred, **common)
        alone = limit._replace(stderr=None, info=None)
        mean = results.measure(jax.tree.map(lambda leaf: np.asarray(leaf)[None], alone))
        stderr = {} if limit.stderr is None else limit.stderr._asdict()
        about = np.nan, np.nan
    found = {name: np.repeat(array, seeds, axis=0)[None] for name, array in mean.items()}
    found |= {f"{name}_stderr": np.asarray(stderr[name])[None] for name in mean if _has_error(name) and name in stderr}
    return found | {name: np.array([float(value)]) for name, value in zip(ABOUT, about, strict=True)}


ABOUT = ("limit_num_runs", "limit_directions")


def variables(of_rows: dict[str, Filled]) -> dict[str, Filled]:
    """Return the variables that an infinite-width row has beyond the rows': standard errors, how it was sampled."""
    names = [f"{name}_stderr" for name in of_rows if _has_error(name)]
    return filled(VARIABLES, dict.fromkeys((*names, *ABOUT), "float64"))


def with_words(
    data: xr.Dataset, none: list[str | None], kinds: list[str], settings: Settings, sampling: Sampling
) -> xr.Dataset:
    """Return the Dataset with the coordinate `limit`: what each infinite-width row is, or why there is none."""
    said = []
    for row, (why, kind) in enumerate(zip(none, kinds, strict=True)):
        if why is None and kind == "kernel":
            why = "kernel limit" if settings.centred else "kernel limit, mean over initialisations"
        if why is None:
            runs, kept = (int(data[name].values[row]) for name in ABOUT)
            why = f"feature-learning limit, {runs} x {sampling.particles} particles" + (
                f", rank {kept} kept" if kept else ""
            )
        said.append(why)
    return data.assign_coords(limit=("parametrization", said))


def need(task: Task, kind: str, settings: Settings, sampling: Sampling) -> Need:
    """Return the memory that the row needs."""
    if kind == "feature":
        needed = feature_limit.estimate_bytes(
            task,
            depth=settings.depth,
            steps=settings.steps,
            num_particles=sampling.particles,
            num_runs=sampling.limit_runs,
            batches=settings.batches(task),
            spec=settings.spec,
            max_directions=settings.max_directions,
        )
        return Need(needed, f"the feature-learning limit with {sampling.particles} particles")
    needed = kernel_limit.estimate_bytes(
        task, depth=settings.depth, steps=settings.steps, centred=settings.centred, spec=settings.spec
    )
    return Need(needed, f"the kernel limit of {task.num_inputs} inputs")


def _has_error(name: str) -> bool:
    return not name.endswith(("_resolution", "_gram"))
