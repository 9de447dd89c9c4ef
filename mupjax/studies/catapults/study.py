r"""Rates below, in and above the catapult window: loss, rate times sharpness and cosines over time.

Every network is trained at its own rates :math:`c / \lambda_0`, with :math:`\lambda_0` the largest eigenvalue of its
tangent kernel at the start: constant, or following the measured sharpness (`curvature.sharpness_sgd`,
a reconstruction of the schedule of Terjek 2025, arXiv:2502.13110).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mupjax import devices, results
from mupjax.activations import Activation
from mupjax.activations import get as get_activation
from mupjax.dynamics import dense
from mupjax.dynamics._arguments import check_memory
from mupjax.dynamics.dense import Observer
from mupjax.dynamics.runs import map_runs, run_key
from mupjax.network import MLP, hidden_widths, scaling_tree
from mupjax.observers import curvature
from mupjax.parametrization import Parametrization
from mupjax.parametrization import get as get_preset
from mupjax.sweeps.grid import check_counts, check_distinct
from mupjax.sweeps.progress import progress_bar
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec

SCHEDULES = ("constant", "following")
PRODUCTS = 16  # Hessian-vector products of a sharpness
SPEC = TrajectorySpec(grams=(), eval_inputs=())


class _Run(NamedTuple):
    key: Any
    factor: Any


class _Design(NamedTuple):
    """What is static: hashable."""

    model: MLP
    schedule: str
    steps: int
    every: int
    measure_every: int


def catapult_study(
    task: Task,
    *,
    parametrization: str | Parametrization = "ntp",
    activations: Sequence[str | Activation] = ("linear", "tanh", "relu"),
    width: int = 512,
    depth: int = 1,
    factors: Sequence[float] = (1.0, 1.5, 2.5, 3.0, 3.5, 4.5),
    schedules: Sequence[str] = SCHEDULES,
    seeds: int = 6,
    steps: int = 120,
    record_every: int = 5,
    measure_every: int = 1,
    key: int = 0,
    memory_gb: float | None = None,
    progress: bool = False,
) -> Any:
    r"""Train networks by full-batch gradient descent at multiples of their own inverse sharpness.

    Args:
      task: data; loss 'mse', for which :math:`\lambda_0` is the sharpness at zero residual.
      parametrization: a name or a Parametrization whose rates stay the same.
      activations: names or Activations, of different names.
      width, depth: of the networks.
      factors: rate times initial sharpness, c. 2 is the edge of stability.
      schedules: 'constant' (rate :math:`c / \lambda_0`) and 'following' (:math:`c / \lambda_t`).
      seeds: networks at each factor, the same for all factors and schedules.
      steps: number of updates.
      record_every: steps between records of sharpness and cosine; losses are recorded at every step.
      measure_every: steps between measurements of the rates that follow the sharpness.
      key: seed of the random keys.
      memory_gb: what a run may take, by default the device's memory (`devices`).
      progress: show a progress bar.

    Returns:
      An xarray.Dataset with dims activation, schedule, factor, seed, step, observe_step: `train_loss`, `sharpness`
      (with the parametrization's rates in it), `rate` of the update before the record, `cosine` of the last update with
      all earlier ones, and `sharpness_0`.

    Raises:
      ValueError: for numbers out of range, unknown names, another loss, a run that does not fit `memory_gb`.

    Example:
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> data = catapult_study(task, activations=("tanh",), width=16, factors=(1.0, 3.0), seeds=2, steps=10)
      >>> dict(data.sharpness.sizes)
      {'activation': 1, 'schedule': 2, 'factor': 2, 'seed': 2, 'observe_step': 3}
    """
    arguments = {k: v for k, v in locals().items() if k not in ("task", "progress")}
    preset, phis = get_preset(parametrization, depth=depth), [get_activation(phi) for phi in activations]
    check_counts(seeds=seeds, steps=steps, record_every=record_every, measure_every=measure_every)
    check_distinct(activations=[phi.name for phi in phis], factors=factors, schedules=schedules)
    if unknown := [name for name in schedules if name not in SCHEDULES]:
        raise ValueError(f"Expected `schedules` to be drawn from {', '.join(SCHEDULES)}, got {unknown[0]!r}.")
    if not (min(factors) > 0 and np.all(np.isfinite(factors))):
        raise ValueError(f"Expected `factors` to be positive and finite, got factors={tuple(factors)!r}.")
    if task.loss != "mse":
        raise ValueError(
            f"Expected a task with loss='mse', got loss={task.loss!r}: only there is the tangent kernel's largest "
            "eigenvalue the sharpness that rates are held against."
        )
    layers = hidden_widths(width, depth, preset)
    at_once = devices.at_once(seeds * len(factors))
    need = dense.estimate_bytes(task, width=layers, depth=depth, steps=steps, spec=SPEC).working
    check_memory(int(at_once * (PRODUCTS / 4 + 2) * need), memory_gb, f"{at_once} networks", "take fewer units")
    keys = jax.vmap(lambda seed: run_key(jax.random.key(key), seed, width))(jnp.arange(seeds))
    runs = _Run(
        jnp.tile(keys, len(factors)), jnp.repeat(jnp.asarray(factors, task.x_train.dtype), seeds)
    )  # factors first
    rows: list[list[Any]] = []
    with progress_bar(len(phis) * len(schedules), progress) as bar:
        for phi in phis:
            rows.append([])
            for schedule in schedules:
                bar.set_description(f"{phi.name}, {schedule} rates")
                model = MLP(width, depth, task.out_dim, preset, phi)
                design = _Design(model, schedule, steps, record_every, measure_every)
                found = map_runs(_trainer(design), runs, task)
                rows[-1].append(jax.tree.map(lambda leaf: np.asarray(leaf), found))
                bar.update()
    return _dataset(rows, phis, schedules, factors, seeds, steps, record_every, arguments, task)


@lru_cache(maxsize=32)
def _trainer(design: _Design) -> Callable[[_Run, Task], dict[str, Any]]:
    """One function a design, so that `map_runs` finds its compiled program again."""

    def train(run: _Run, task: Task) -> dict[str, Any]:
        model = design.model
        boxed = model.init(run.key, task.x_train[:1])
        start, scaling = nn.meta.unbox(boxed)["params"], scaling_tree(boxed)
        common: dict[str, Any] = {"scaling": scaling, "num_products": PRODUCTS}
        sharpness_0 = curvature.ntk_eigenvalues(model, start, task.x_train, **common).largest.values[0]
        constant = design.schedule == "constant"
        seen = {
            "sharpness": Observer(curvature.sharpness(model, task, **common), design.every),
            "cosine": Observer(curvature.update_cosines(), design.every),
        }
        if not constant:
            seen["followed"] = Observer(lambda state, batch: state.opt_state[-1].sharpness, design.every)
        optimizer = curvature.sharpness_sgd(every=design.measure_every, num_products=PRODUCTS)
        trained = dense.train(
            task,
            model.parametrization,
            width=model.width,
            depth=model.depth,
            activation=model.activation,
            learning_rate=run.factor / sharpness_0 if constant else run.factor,
            steps=design.steps,
            key=run.key,
            optimizer=None if constant else optimizer,
            spec=SPEC,
            observers=seen,
        )
        sharpness = trained.observed["sharpness"].values[:, 0]
        rate = jnp.full_like(sharpness, run.factor / sharpness_0)
        if not constant:  # of the update before; the first one follows the sharpness of the start
            followed = trained.observed["followed"]
            rate = run.factor / jnp.where(jnp.arange(len(followed)) == 0, sharpness[0], followed)
        return {
            "train_loss": trained.train_loss,
            "sharpness": sharpness,
            "rate": rate,
            "cosine": trained.observed["cosine"].network,
            "sharpness_0": sharpness_0,
        }

    return train


_DIMS = {"train_loss": ("step",), "sharpness_0": ()}
_WORDS = {
    "train_loss": "training loss",
    "sharpness": "largest eigenvalue of the Hessian, with the rates in it",
    "rate": "base learning rate of the update before",
    "cosine": "cosine of the last update with all earlier ones",
    "sharpness_0": "largest eigenvalue of the tangent kernel over P at the start",
}


def _dataset(
    rows: Any,
    phis: Sequence[Activation],
    schedules: Sequence[str],
    factors: Sequence[float],
    seeds: int,
    steps: int,
    every: int,
    arguments: Any,
    task: Task,
) -> Any:
    import xarray as xr

    variables = {}
    for name, words in _WORDS.items():
        whole = np.stack([np.stack([one[name] for one in row]) for row in rows])
        whole = whole.reshape(*whole.shape[:2], len(factors), seeds, *whole.shape[3:])
        dims = ("activation", "schedule", "factor", "seed", *_DIMS.get(name, ("observe_step",)))
        variables[name] = (dims, whole, {"units": "1", "long_name": words})
    coords = {
        "activation": [phi.name for phi in phis],
        "schedule": list(schedules),
        "factor": ("factor", list(map(float, factors)), {"units": "1", "long_name": "rate times initial sharpness"}),
        "seed": np.arange(seeds),
        "step": ("step", np.arange(steps + 1), {"units": "updates", "long_name": "step"}),
        "observe_step": ("observe_step", np.arange(0, steps + 1, every), {"units": "updates", "long_name": "step"}),
    }
    attrs = {
        "kind": "catapults",
        "arguments": results.arguments_json(arguments),
        "task": repr(task),
        **results.versions(),
    }
    return xr.Dataset(variables, coords, attrs)
