"""Grids of runs: parametrizations x depths x optimizers x widths x learning rates x seeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import jax
import numpy as np

from mupjax import results
from mupjax.activations import Activation
from mupjax.dynamics._arguments import warn_of_regime
from mupjax.optim import Optimizer
from mupjax.parametrization import Parametrization
from mupjax.sweeps import cell as training
from mupjax.sweeps import plan as planning
from mupjax.sweeps import runner, schema
from mupjax.sweeps.grid import Grid, grid_of
from mupjax.sweeps.plan import Cell, Program
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec

if TYPE_CHECKING:
    import xarray as xr

RATES = tuple(2.0**power for power in range(-4, 4))
SPEC = TrajectorySpec(steps=(0, -1), grams=(), eval_inputs=())


class Options(runner.Options, total=False):
    """Options of a sweep beyond those of every study."""

    observe_every: int | None
    padding: str


def sweep(
    task: Task,
    *,
    parametrizations: Sequence[str | Parametrization] = ("sp", "mup"),
    widths: Sequence[int | tuple[int, ...]] = (64, 128, 256, 512),
    depths: Sequence[int] = (3,),
    learning_rates: Sequence[float] | np.ndarray | Mapping[str, Sequence[float]] = RATES,
    seeds: int = 3,
    optimizers: Sequence[str | Optimizer] | Mapping[str, Optimizer] = ("sgd",),
    steps: int = 200,
    batch_size: int | None = None,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    base_width: int | tuple[int, ...] = 1,
    centred: bool = False,
    spec: TrajectorySpec = SPEC,
    observe: Sequence[str] = (),
    **options: Unpack[Options],
) -> xr.Dataset:
    """Train every network of a grid with few compiled programs; finished cells survive interruption.

    A cell is a parametrization, depth, optimizer and width, or group of widths padded to the widest; its seeds x
    learning rates are one axis of one program. With `out` every cell is written when it is done, and the same call
    resumes an interrupted one. Started under `jax.distributed`, processes share the cells out.

    Args:
      task: data and loss.
      parametrizations: names or Parametrizations, of different names.
      widths: units of the hidden layers; an entry may be a tuple with one width a layer.
      depths: numbers of hidden layers.
      learning_rates: base rates for all optimizers, or {optimizer: rates}.
      seeds: how many initialisations; those of one width are the same for every parametrization and rate.
      optimizers: 'sgd', 'adam', 'adamw', or callables (scaling, learning_rate) -> optax.GradientTransformation, by
        their `__name__`s or as {name: callable}; their scalings' numbers are traced. `functools.partial` sets the
        keywords of mupjax's, as in `partial(mupjax.sgd, momentum=.9)`.
      steps: how many updates.
      batch_size: inputs a step sees; None is the full batch. All runs see the same batches.
      activation: a name, an Activation or a function.
      base_width: the width at which parametrizations given by name are the standard network, or a tuple of one a
        hidden layer.
      centred: train and report f - f_0.
      spec: what to record; by default losses at the first and last step.
      observe: any of 'sharpness', 'cosines', 'update_sizes' and 'preactivations' (`observers.named`), of all runs at
        once. The sharpness is that of the full training loss with the later rates in it, of the Hessian itself where
        updates are normalized; preactivations are those of the first 64 training inputs.
      **options: observe_every: steps between observations; by default the first and the last step are observed.
        padding: whether widths share a program: 'auto' (where that costs less than compiling), 'always' or 'never'.
        key, memory_gb, out, executor, about, derive, progress: as in every study (`sweeps.runner.Running`).

    Returns:
      An xarray.Dataset with dims parametrization, depth, optimizer, width, learning_rate, seed, step: train_loss,
      test_loss where there is a test set, and what `spec` and `observe` ask for (along observe_step, kernel, layer).
      `was_run` says which rates an optimizer was run with. A diverged run is NaN or inf in its own row.

    Raises:
      ValueError: for a bad grid, a run that does not fit `memory_gb`, a store of other arguments.
      TypeError: for one entry where several are meant, or words as rates.
      RuntimeError: where workers were lost; what is finished is kept.
      OSError: where the disk is full; likewise.

    Warns:
      UserWarning: where theory says that a parametrization cannot learn at large width, once for each.

    Example:
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> data = sweep(task, widths=(8,), depths=(2,), learning_rates=(0.1, 0.2), seeds=2, steps=3)
      >>> dict(data.train_loss.isel(parametrization=0, depth=0, optimizer=0, width=0).sizes)
      {'learning_rate': 2, 'seed': 2, 'step': 2}
    """
    given = {name: value for name, value in locals().items() if name not in ("task", "options")}
    return run_grid("sweep", task, given, options)


def run_grid(
    kind: str,
    task: Task,
    given: dict[str, Any],
    options: Options,
    derive: Callable[[xr.Dataset], xr.Dataset] | None = None,
) -> xr.Dataset:
    """Run a grid as a study of a kind.

    Args:
      kind: of the Dataset.
      task: data and loss.
      given: arguments of `sweep`; what is missing has its default.
      options: beside them.
      derive: adds variables computed from all runs together.
    """
    own, running = runner.split(kind, options, {"observe_every": None, "padding": "auto"})
    given = {"spec": SPEC, "observe": (), "centred": False} | given | own | {"key": running.key}
    settings: dict[str, Any] = given | {"key": running.base(), "memory_gb": running.memory_gb}
    chosen = grid_of(task, **settings)
    for preset, depth in itertools.product(chosen.parametrizations, chosen.depths):
        warn_of_regime(preset, depth, chosen.activation)
    planned = planning.plan(task, chosen)
    rates = {name: each for (name, _), each in zip(chosen.optimizers, chosen.rates, strict=True)}
    checked = {"widths": chosen.widths, "depths": chosen.depths, "learning_rates": rates}
    kept = {name: value for name, value in given.items() if name != "padding"}  # it is in the plan
    attrs = results.attributes(kind, {**kept, **checked}, running.about, task)
    cells = [
        runner.Cell(
            name=cell.name,
            label=cell.name,
            where=schema.region(cell),
            compute=compute,
            args=(task, chosen, planned.programs[cell.program], cell),
            work=cell.flops,
        )
        for cell in planned.cells  # each fits the budget, or there were no plan
    ]
    layout = schema.of_grid(task, chosen, attrs)
    return runner.run(runner.Study(layout, tuple(cells), planning.describe(planned), derive), running)


def compute(task: Task, chosen: Grid, program: Program, cell: Cell) -> runner.Arrays:
    """Train a cell's runs and return its arrays."""
    run = training.run_cell(task, chosen, program, cell)
    return schema.arrays(schema.of_grid(task, chosen, {}), chosen, cell, run)
