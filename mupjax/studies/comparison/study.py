"""Compare finite networks of several widths and parametrizations with their infinite-width limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Unpack

import jax

from mupjax import activations, devices, metrics, optim, parametrization, results
from mupjax._checks import check_counts, check_distinct, check_sequences
from mupjax.activations import Activation
from mupjax.network import hidden_widths
from mupjax.optim import Optimizer
from mupjax.parametrization import Parametrization, classification
from mupjax.studies import cells, infinite
from mupjax.studies.cells import DENSE, LINEARIZED, MATRIX_FREE, Settings, Width
from mupjax.studies.infinite import Sampling
from mupjax.sweeps import cell as training
from mupjax.sweeps import runner
from mupjax.sweeps.grid import Grid, grid_of
from mupjax.sweeps.plan import Cell, Program, describe, joined, plan, step_flops
from mupjax.task import Task

if TYPE_CHECKING:
    import xarray as xr

LIMIT_PARTICLES, LIMIT_RUNS = 512, 4
RUN_DIMS = ("parametrization", "width", "seed")


class Options(runner.Options, total=False):
    """Options of a comparison beyond those of every study."""

    particles: int
    limit_runs: int
    linearize: bool
    matrix_free_from: int | None
    max_directions: int | None


_OWN = {
    "particles": LIMIT_PARTICLES,
    "limit_runs": LIMIT_RUNS,
    "linearize": False,
    "matrix_free_from": None,
    "max_directions": None,
}


def compare(
    task: Task,
    *,
    parametrizations: Sequence[str | Parametrization] = ("sp", "ntp", "mup", "ip"),
    widths: Sequence[Width] = (64, 256, 1024),
    depth: int = 3,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    learning_rate: float | Mapping[str, float] | None = None,
    seeds: int = 3,
    steps: int = 200,
    batch_size: int | None = None,
    optimizer: Optimizer = optim.sgd,
    centred: bool = True,
    base_width: int | tuple[int, ...] = 1,
    limit: bool = True,
    gram_steps: Sequence[int] = (0, -1),
    **options: Unpack[Options],
) -> xr.Dataset:
    """Train finite networks of every parametrization and width, and set their infinite-width limit beside them.

    Args:
      task: data and loss.
      parametrizations: names or Parametrizations.
      widths: units of the hidden layers; an entry may be a tuple with one width a layer.
      depth: number of hidden layers.
      activation: a name, an Activation or a function.
      learning_rate: one base rate for all, or {parametrization: rate}; by default 1, and .3 for ntp.
      seeds: how many initialisations of each width.
      steps: how many updates.
      batch_size: inputs a step sees; None is the full batch. All networks and limits see the same batches.
      optimizer: a callable (scaling, learning_rate) -> optax.GradientTransformation. Infinite-width limits are those of
        `mupjax.sgd` and of partials of it that set momentum, nesterov or weight_decay. For other optimizers the limit's
        row is NaN and `limit` gives the reason.
      centred: train and report f - f_0.
      base_width: the width at which parametrizations given by name are the standard network, or a tuple of one a
        hidden layer.
      limit: compute the infinite-width rows.
      gram_steps: when features are measured, 0 first; negative ones count from the end.
      **options: particles, limit_runs: of the feature-learning limit (`dynamics.feature_limit`): its error falls a
        little faster than particles^-1/2, and as limit_runs^-1/2; the runs give the error bars.
        linearize: train the first-order model around the initial weights instead of the networks: what lies between
        these and a kernel limit. It has no infinite-width row where features are learned.
        matrix_free_from: networks at least this wide are trained exactly in law without hidden matrices
        (`dynamics.matrix_free`).
        max_directions: maximum number of query directions kept per hidden matrix and side (matrix-free networks and
        the feature-learning limit). Long training adds ever fewer new directions.
        key, memory_gb, out, executor, about, derive, progress: as in every study (`sweeps.runner.Running`).

    Returns:
      An xarray.Dataset with dims parametrization, width (inf is the limit), seed, step, gram_step, layer, input,
      output. Where a parametrization's limit was not computed its row holds NaN and the coordinate `limit` says why.
      The limit's row is repeated along seed; variables `<name>_stderr` have its standard errors where it has any. The
      coordinate `dynamics` says how each width was trained.

    Raises:
      ValueError: for arguments out of range, duplicates, or a cell that does not fit `memory_gb`.
      TypeError: for one entry where several are meant.

    Example:
      >>> import numpy as np
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> data = compare(task, parametrizations=("mup",), widths=(8,), depth=2, seeds=2, steps=3)
      >>> dict(data.train_loss.sizes)
      {'parametrization': 1, 'width': 2, 'seed': 2, 'step': 4}
    """
    given = {name: value for name, value in locals().items() if name not in ("task", "options")}
    own, running = runner.split("compare", options, _OWN)
    check_sequences(parametrizations=parametrizations, widths=widths, gram_steps=gram_steps)
    phi = activations.get(activation)
    named = {"base_width": base_width, "depth": depth, "degree": phi.degree}
    presets = [parametrization.get(p, **named) if isinstance(p, str) else p for p in parametrizations]
    names = [preset.name for preset in presets]
    widths = [tuple(w) if isinstance(w, list) else w for w in widths]
    sampling = Sampling(own["particles"], own["limit_runs"])
    check_counts(depth=depth, seeds=seeds, steps=steps, particles=sampling.particles, limit_runs=sampling.limit_runs)
    widest = max(presets, key=lambda preset: preset.width_profile)
    how = _dynamics(widths, depth, widest, own["linearize"], own["matrix_free_from"])
    check_distinct(parametrizations=names, widths=widths)
    rates = cells.learning_rates(learning_rate, names)
    settings = Settings(
        key=running.base(),
        depth=depth,
        activation=phi,
        steps=steps,
        centred=centred,
        batch_size=batch_size,
        optimizer=optim.canonical(optimizer),
        spec=cells.recorded(steps, tuple(gram_steps)),
        memory_gb=devices.memory_budget(running.memory_gb),
        max_directions=own["max_directions"],
    )
    if MATRIX_FREE in how:
        optim.sgd_settings(optimizer)  # refuses others before anything runs
    settings.batches(task)  # refuses a batch that is too large before anything runs
    kinds = [classification.classify(preset, depth, phi).kind for preset in presets]
    none = [
        _without_limit(preset, kind, limit, own["linearize"], settings)
        for preset, kind in zip(presets, kinds, strict=True)
    ]
    todo: list[runner.Cell] = []
    plans = []
    for row, (preset, rate) in enumerate(zip(presets, rates, strict=True)):
        networks, planned = _networks(task, row, preset, rate, widths, how, seeds, settings)
        todo += networks
        plans += planned
        if none[row] is None:
            todo.append(
                runner.Cell(
                    name=f"{row}-limit",
                    label=f"{preset.name}, infinite width",
                    where={"parametrization": (row,), "width": (len(widths),)},
                    compute=infinite.compute,
                    args=(task, preset, kinds[row], rate, settings, sampling, seeds),
                    work=max(cell.work for cell in networks),
                    need=infinite.need(task, kinds[row], settings, sampling),
                )
            )
    along = {"parametrization": names, "learning_rate": rates, "classification": kinds}
    known = known_of([*widths, float("inf")], seeds, settings, along, how)
    known.attrs |= results.attributes("comparison", given | own | {"key": running.key}, running.about, task)
    derive = partial(infinite.with_words, none=none, kinds=kinds, settings=settings, sampling=sampling)
    layout = layout_of(task, known, settings, limit=any(why is None for why in none))
    return runner.run(runner.Study(layout, tuple(todo), joined(plans) if plans else None, derive), running)


def _networks(
    task: Task,
    row: int,
    preset: Parametrization,
    rate: float,
    widths: Sequence[Width],
    how: Sequence[str],
    seeds: int,
    settings: Settings,
) -> tuple[list[runner.Cell], list[dict[str, object]]]:
    """A cell for every width of one parametrization, and the plan of those that go through a grid's programs."""
    dense = [column for column, name in enumerate(how) if name == DENSE]
    through_grid, plans = {}, []
    if dense:
        grid = _grid(task, preset, [widths[column] for column in dense], rate, seeds, settings)
        whole = plan(task, grid)
        plans.append(describe(whole))
        for cell in whole.cells:
            through_grid[dense[cell.widths[0]]] = task, grid, whole.programs[cell.program], cell
    networks = []
    for column, (width, name) in enumerate(zip(widths, how, strict=True)):
        layers = hidden_widths(width, settings.depth, preset)
        cell = runner.Cell(
            name=f"{row}-{column}",
            label=f"{preset.name}, width {results.width_label(width)}",
            where={"parametrization": (row,), "width": (column,)},
            compute=dense_cell,
            args=through_grid.get(column, ()),
            work=seeds * step_flops(task, layers, settings.batch_size),
        )
        if column not in through_grid:
            args = (task, preset, name, width, rate, seeds, settings)
            cell = cell._replace(compute=other_cell, args=args, need=cells.need(task, name, layers, seeds, settings))
        networks.append(cell)
    return networks, plans


def known_of(
    widths: Sequence[Width | float],
    seeds: int,
    settings: Settings,
    along: Mapping[str, Sequence[str | float]],
    how: Sequence[str],
) -> xr.Dataset:
    """Return the coordinates of a comparison: `along` its parametrizations, `how` each finite width is trained."""
    import xarray as xr

    coords = results.coordinates(widths, seeds, settings.spec, settings.steps, settings.depth)
    return xr.Dataset(
        coords=coords
        | {name: ("parametrization", list(values)) for name, values in along.items()}
        | {"dynamics": ("width", [*how, "limit"])}
    )


def layout_of(task: Task, known: xr.Dataset, settings: Settings, *, limit: bool) -> results.Layout:
    """Return the Layout of networks, and of their limits where there is any."""
    num_gram = len(settings.spec.resolve_gram_inputs(task))
    factors = {
        f"{name}_sampling_factor": ("width", metrics.sampling_factor(known["width"].values, vectors))
        for name, vectors in (("diversity", num_gram), ("space_time", 2 * num_gram))
    }
    of_rows = results.run_variables(task, settings.spec, RUN_DIMS)
    every = of_rows | (infinite.variables(of_rows) if limit else {})
    return results.layout_of(task, settings.spec, known.assign_coords(factors), every, RUN_DIMS[:2])


def dense_cell(task: Task, grid: Grid, program: Program, cell: Cell) -> runner.Arrays:
    """Train networks of one width through a grid's program, which parametrizations share."""
    run = training.run_cell(task, grid, program, cell)
    return _measured(jax.tree.map(lambda leaf: leaf[0, 0], run))


def other_cell(
    task: Task, preset: Parametrization, dynamics: str, width: Width, rate: float, seeds: int, settings: Settings
) -> runner.Arrays:
    """Train several seeds of one network with a chosen dynamics, bypassing the sweep planner."""
    return _measured(cells.train_seeds(task, preset, dynamics, width, rate, seeds, settings))


def _measured(run) -> runner.Arrays:
    return {name: array[None] for name, array in results.measure(run).items()}


def _without_limit(preset: Parametrization, kind: str, limit: bool, linearize: bool, settings: Settings) -> str | None:
    """Return why a parametrization's limit is not computed, None where it is."""
    if not limit:
        return "not computed (limit=False)"
    if linearize and kind == "feature":
        return "none: the first-order model of a network that learns features"
    return infinite.why_none(preset, kind, settings)


def _dynamics(
    widths: Sequence[Width], depth: int, widest: Parametrization, linearize: bool, matrix_free_from: int | None
) -> list[str]:
    """How each width is trained."""
    if matrix_free_from is None:
        return [LINEARIZED if linearize else DENSE] * len(widths)
    check_counts(matrix_free_from=matrix_free_from)
    if linearize:
        raise ValueError(f"Expected `matrix_free_from` or `linearize`, got both: matrix_free_from={matrix_free_from}.")
    sizes = [max(hidden_widths(width, depth, widest)) for width in widths]
    return [MATRIX_FREE if size >= matrix_free_from else DENSE for size in sizes]


def _grid(
    task: Task, preset: Parametrization, widths: Sequence[Width], rate: float, seeds: int, settings: Settings
) -> Grid:
    """The networks of one parametrization at one rate: each width a program of its own, shared by parametrizations."""
    return grid_of(
        task,
        parametrizations=(preset,),
        widths=widths,
        depths=(settings.depth,),
        learning_rates=(rate,),
        seeds=seeds,
        optimizers={_name(settings.optimizer): settings.optimizer},  # also of a callable without a name
        steps=settings.steps,
        batch_size=settings.batch_size,
        activation=settings.activation,
        base_width=1,  # the parametrization has one already
        centred=settings.centred,
        spec=settings.spec,
        padding="never",
        key=settings.key,
        memory_gb=settings.memory_gb,
    )


def _name(optimizer: Optimizer) -> str:
    """What a plan calls an optimizer."""
    return getattr(optimizer, "__name__", type(optimizer).__name__)
