r"""Rates below, in and above the catapult window: loss, rate times sharpness and cosines over time.

Every network is trained at its own rates :math:`c / \lambda_0`, with :math:`\lambda_0` the largest eigenvalue of its
tangent kernel at the start: constant, or following the measured sharpness (`curvature.sharpness_sgd`,
a reconstruction of the schedule of Terjek 2025, arXiv:2502.13110).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mupjax import devices, optim, results
from mupjax._checks import check_counts, check_distinct, check_sequences
from mupjax.activations import Activation
from mupjax.activations import get as get_activation
from mupjax.dynamics import dense
from mupjax.dynamics.observing import Observer
from mupjax.dynamics.runs import map_runs, run_key
from mupjax.network import MLP, hidden_widths, scaling_tree
from mupjax.observers import curvature, updates
from mupjax.parametrization import Parametrization
from mupjax.parametrization import get as get_preset
from mupjax.studies.catapults.variables import VARIABLES
from mupjax.sweeps import runner
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec

if TYPE_CHECKING:
    import xarray as xr

CELL_DIMS = ("activation", "schedule")
SCHEDULES = ("constant", "following")
PRODUCTS = 16  # Hessian-vector products of a sharpness
SPEC = TrajectorySpec(grams=(), eval_inputs=())


class _Run(NamedTuple):
    key: jax.Array
    factor: jax.Array


class _Design(NamedTuple):
    """Static settings, hashable."""

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
    **options: Unpack[runner.Options],
) -> xr.Dataset:
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
      **options: key, memory_gb, out, executor, about, derive, progress, as in every study (`sweeps.runner.Running`).

    Returns:
      An xarray.Dataset with dims activation, schedule, factor, seed, step, observe_step: `train_loss`, `sharpness`
      (with the parametrization's rates in it), `rate` of the update before the record, `cosine` of the last update with
      all earlier ones, and `sharpness_0`.

    Raises:
      ValueError: for numbers out of range, unknown names, another loss, a run that does not fit `memory_gb`.
      TypeError: for one entry where several are meant.

    Example:
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> data = catapult_study(task, activations=("tanh",), width=16, factors=(1.0, 3.0), seeds=2, steps=10)
      >>> dict(data.sharpness.sizes)
      {'activation': 1, 'schedule': 2, 'factor': 2, 'seed': 2, 'observe_step': 3}
    """
    given = {name: value for name, value in locals().items() if name not in ("task", "options")}
    _, running = runner.split("catapult_study", options, {})
    check_sequences(activations=activations, factors=factors, schedules=schedules)
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
    todo = []
    for row, phi in enumerate(phis):
        for column, schedule in enumerate(schedules):
            model = MLP(width, depth, task.out_dim, preset, phi)
            todo.append(
                runner.Cell(
                    name=f"{row}-{schedule}",
                    label=f"{phi.name}, {schedule} rates",
                    where={"activation": (row,), "schedule": (column,)},
                    compute=networks,
                    args=(
                        task,
                        _Design(model, schedule, steps, record_every, measure_every),
                        tuple(factors),
                        seeds,
                        running.base(),
                    ),
                    need=runner.Need(at_once * (PRODUCTS / 4 + 2) * need, f"{at_once} networks"),
                )
            )
    attrs = results.attributes("catapults", given | {"key": running.key}, running.about, task)
    layout = _layout(phis, schedules, factors, seeds, steps, record_every, attrs | {"task": repr(task)})
    return runner.run(runner.Study(layout, tuple(todo)), running)


def networks(task: Task, design: _Design, factors: tuple[float, ...], seeds: int, base: jax.Array) -> runner.Arrays:
    """Train the networks of one activation and schedule; a cell's function."""
    keys = jax.vmap(lambda seed: run_key(base, seed, design.model.width))(jnp.arange(seeds))
    rates = jnp.repeat(jnp.asarray(factors, task.x_train.dtype), seeds)
    found = map_runs(_trainer(design), _Run(jnp.tile(keys, len(factors)), rates), task)  # factors first
    return {name: np.asarray(array).reshape(1, len(factors), seeds, *array.shape[1:]) for name, array in found.items()}


@lru_cache(maxsize=32)
def _trainer(design: _Design) -> Callable[[_Run, Task], dict[str, jax.Array | np.ndarray]]:
    """One function a design, so that `map_runs` finds its compiled program again."""

    def train(run: _Run, task: Task) -> dict[str, jax.Array | np.ndarray]:
        model = design.model
        assert isinstance(model.parametrization, Parametrization)
        boxed = model.init(run.key, task.x_train[:1])
        start, scaling = nn.meta.unbox(boxed)["params"], scaling_tree(boxed)
        common: dict[str, Any] = {"scaling": scaling, "num_products": PRODUCTS}
        sharpness_0 = curvature.ntk_eigenvalues(model, start, task.x_train, **common).largest.values[0]
        constant = design.schedule == "constant"
        seen = {
            "sharpness": Observer(curvature.sharpness(model, task, **common), design.every),
            "cosine": Observer(updates.update_cosines(), design.every),
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
            optimizer=optim.sgd if constant else optimizer,
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


def _layout(
    phis: Sequence[Activation],
    schedules: Sequence[str],
    factors: Sequence[float],
    seeds: int,
    steps: int,
    every: int,
    attrs: dict[str, str],
) -> results.Layout:
    import xarray as xr

    single = str(jax.dtypes.canonicalize_dtype(float))
    names = ("train_loss", "sharpness", "rate", "cosine", "sharpness_0")
    variables = results.filled(VARIABLES, dict.fromkeys(names, single))
    coords = {
        "activation": [phi.name for phi in phis],
        "schedule": list(schedules),
        "factor": ("factor", list(map(float, factors)), VARIABLES["factor"].attrs),
        "seed": np.arange(seeds),
        "step": ("step", np.arange(steps + 1), VARIABLES["step"].attrs),
        "observe_step": ("observe_step", np.arange(0, steps + 1, every), VARIABLES["step"].attrs),
    }
    known = xr.Dataset(coords=coords, attrs=attrs)
    return results.Layout(known, variables, {str(dim): size for dim, size in known.sizes.items()}, CELL_DIMS)
