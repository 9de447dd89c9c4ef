"""What the cells of a comparison share: settings, checks before anything runs, the infinite-width row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from mupjax import _checks, devices, optim, results
from mupjax.activations import Activation
from mupjax.dynamics import feature_limit, kernel_limit
from mupjax.dynamics.runs import BATCHES, DRAWS
from mupjax.parametrization import Parametrization
from mupjax.parametrization.classification import Classification
from mupjax.task import Task, batch_order
from mupjax.trajectory import TrajectorySpec

DEFAULT_LEARNING_RATES = {"ntp": 0.3}
MAX_RECORDED_STEPS = 200


class Settings(NamedTuple):
    """What every cell of a comparison shares. key: random key of `seed`."""

    key: jax.Array
    seed: int
    depth: int
    activation: Activation
    steps: int
    centred: bool
    batches: Any
    momentum: float
    spec: TrajectorySpec
    memory_gb: float
    particles: int
    limit_runs: int
    max_directions: int | None = None


def settings_of(
    task: Task,
    *,
    batch_size: int | None,
    key: int,
    steps: int,
    gram_steps: tuple[int, ...] = (0, -1),
    memory_gb: float | None,
    **settings: Any,
) -> Settings:
    """Return what the cells share: random key, batches, and which steps are recorded (all, or about 200 of them)."""
    base, stride = _checks.key(key), -(-steps // MAX_RECORDED_STEPS)
    batches = None
    if batch_size is not None:
        batches = batch_order(jax.random.fold_in(base, BATCHES), task.num_train, batch_size, steps)
    spec = TrajectorySpec(steps=tuple(sorted({*range(0, steps + 1, stride), steps})), gram_steps=gram_steps)
    if spec.resolve_gram_steps(steps)[0] != 0:
        raise ValueError(f"Expected `gram_steps` to begin with 0, got gram_steps={tuple(gram_steps)!r}.")
    budget = devices.memory_budget(memory_gb)
    return Settings(key=base, seed=key, batches=batches, steps=steps, spec=spec, memory_gb=budget, **settings)


def infinite_row(
    task: Task,
    preset: Parametrization,
    kind: Classification,
    rate: float,
    settings: Settings,
    *,
    error: float | None = None,
    max_seconds: float = 600.0,
) -> tuple[str, dict[str, np.ndarray] | None, dict[str, np.ndarray] | None]:
    """What the infinite-width row is called, its arrays with a runs axis of one, and their standard errors."""
    common: dict[str, Any] = {
        "depth": settings.depth,
        "activation": settings.activation,
        "learning_rate": rate,
        "steps": settings.steps,
        "key": jax.random.fold_in(settings.key, DRAWS),
        "batches": settings.batches,
        "optimizer": partial(optim.sgd, momentum=settings.momentum),
        "spec": settings.spec,
    }
    if kind.kind == "feature":
        common |= {"memory_gb": settings.memory_gb, "num_particles": settings.particles}
        common |= {"max_directions": settings.max_directions}
        common |= {"num_runs": settings.limit_runs} if error is None else {"error": error, "max_seconds": max_seconds}
        runs = feature_limit.sample(task, preset, **common)
        kept = int(np.max(runs.info.directions, initial=0))
        word = f"feature-learning limit, {runs.info.num_runs} x {settings.particles} particles"
        word += f", rank {kept} kept" if kept else ""
        return word, *results.measure_limit(runs)
    if kind.kind != "kernel":
        words = {
            "trivial": "trivial: f stays at its start for any fixed number of steps",
            "unstable": "unstable: no limit",
        }
        return words[kind.kind], None, None
    try:
        limit = kernel_limit.train(task, preset, centred=settings.centred, **common)
    except ImportError as missing:
        return f"kernel limit: not computed, {missing}", None, None
    word = "kernel limit" if settings.centred else "kernel limit, mean over initialisations"
    mean = results.measure(jax.tree.map(lambda leaf: np.asarray(leaf)[None], limit._replace(stderr=None, info=None)))
    drawn = {} if limit.stderr is None else limit.stderr._asdict()
    return word, mean, {name: drawn[name] for name in ("train_loss", "test_loss", "predictions") if name in drawn}


def unknown_limit(preset: Parametrization, kind: Classification, settings: Settings) -> str | None:
    """Why the limit of a parametrization that has one is not known here, in words; None where it is known."""
    try:
        if kind.kind == "feature":
            feature_limit.check_known(preset, settings.depth, settings.activation, settings.momentum)
        elif kind.kind == "kernel":
            kernel_limit.layer_weights(preset, depth=settings.depth, activation=settings.activation)
    except ValueError as why:
        return f"not known here: {why}"
    return None


def learning_rates(given: float | Mapping[str, float] | None, names: list[str]) -> list[float]:
    """Return a base rate for every parametrization. ValueError for rates that are not positive, unknown names."""
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise ValueError(f"Expected `learning_rate` to name parametrizations in {names}, got {unknown[0]!r}.")
        rates = [float(given.get(name, DEFAULT_LEARNING_RATES.get(name, 1.0))) for name in names]
    elif given is None:
        rates = [DEFAULT_LEARNING_RATES.get(name, 1.0) for name in names]
    else:
        rates = [float(given)] * len(names)
    for rate in rates:
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"Expected `learning_rate` to be finite and positive, got learning_rate={rate!r}.")
    return rates


def check_memory(task, classes, settings: Settings) -> None:
    """Raise ValueError where the limit of one of these classes does not fit the budget."""
    memory_gb = settings.memory_gb
    if any(kind.kind == "feature" for kind in classes):
        need = feature_limit.estimate_bytes(
            task,
            depth=settings.depth,
            steps=settings.steps,
            num_particles=settings.particles,
            num_runs=settings.limit_runs,
            batches=settings.batches,
            spec=settings.spec,
            max_directions=settings.max_directions,
        )
        if need / 1e9 > memory_gb:
            _refuse(memory_gb, need / 1e9, f"the feature-learning limit with {settings.particles} particles")
    if any(kind.kind == "kernel" for kind in classes):
        need = kernel_limit.estimate_bytes(
            task, depth=settings.depth, steps=settings.steps, centred=settings.centred, spec=settings.spec
        )
        if need / 1e9 > memory_gb:
            _refuse(memory_gb, need / 1e9, f"the kernel limit of {task.num_inputs} inputs")


def _refuse(memory_gb: float, need: float, what: str) -> None:
    raise ValueError(
        f"Expected the runs to fit memory_gb={memory_gb:g}, got about {need:.2g} GB for {what}; raise `memory_gb`, or "
        "take fewer seeds, inputs, recorded steps or units."
    )
