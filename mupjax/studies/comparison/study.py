"""The main job: the same task at several widths under several parametrizations, beside the infinite-width limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mupjax import activations, parametrization, results
from mupjax.activations import Activation
from mupjax.network import hidden_widths
from mupjax.parametrization import Parametrization, classification
from mupjax.parametrization.classification import Classification
from mupjax.studies import direct
from mupjax.studies.cells import Settings, check_memory, infinite_row, learning_rates, settings_of, unknown_limit
from mupjax.sweeps.cell import run_cell
from mupjax.sweeps.grid import Grid, check_counts, check_distinct, grid_of
from mupjax.sweeps.plan import Plan, plan
from mupjax.sweeps.progress import progress_bar
from mupjax.task import Task
from mupjax.trajectory import Trajectory

LIMIT_PARTICLES, LIMIT_RUNS = 512, 4


def compare(
    task: Task,
    *,
    parametrizations: Sequence[str | Parametrization] = ("sp", "ntp", "mup", "ip"),
    widths: Sequence[int | tuple[int, ...]] = (64, 256, 1024),
    depth: int = 3,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    learning_rate: float | Mapping[str, float] | None = None,
    seeds: int = 3,
    steps: int = 200,
    batch_size: int | None = None,
    momentum: float = 0.0,
    centred: bool = True,
    base_width: int = 1,
    limit: bool = True,
    particles: int = LIMIT_PARTICLES,
    limit_runs: int = LIMIT_RUNS,
    linearize: bool = False,
    matrix_free_from: int | None = None,
    max_directions: int | None = None,
    gram_steps: Sequence[int] = (0, -1),
    key: int = 0,
    memory_gb: float | None = None,
    progress: bool = False,
) -> Any:
    """Train finite networks of every parametrization and width, and set their infinite-width limit beside them.

    Args:
      task: data and loss.
      parametrizations: names or Parametrizations.
      widths: units of the hidden layers; an entry may be a tuple with one width a layer.
      depth: number of hidden layers.
      activation: a name, an Activation or a function.
      learning_rate: one base rate for all, or {parametrization: rate}; by default 1, and .3 for ntp.
      seeds: how many initialisations of each width.
      steps: how many SGD updates.
      batch_size: inputs a step sees; None is the full batch. All networks and limits see the same batches.
      momentum: of SGD, in [0, 1).
      centred: train and report f - f_0.
      base_width: the width at which parametrizations given by name are the standard network.
      limit: compute the infinite-width rows.
      particles, limit_runs: of the feature-learning limit (`dynamics.feature_limit`): its error falls a little faster
        than particles^-1/2, and as limit_runs^-1/2; the runs give the error bars.
      linearize: train the first-order model around the initial weights instead of the networks: what lies between these
        and a kernel limit. It has no infinite-width row where features are learned.
      matrix_free_from: networks at least this wide are trained exactly in law without hidden matrices
        (`dynamics.matrix_free`).
      max_directions: of these and of the feature-learning limit, as in `dynamics.matrix_free`: what a hidden matrix may
        be asked from each side. Long training asks in ever fewer new directions.
      gram_steps: when features are measured, 0 first; negative ones count from the end.
      key: seed of the random keys.
      memory_gb: what the largest cell may take, by default the device's memory (`devices`); a larger one is refused
        before anything runs.
      progress: show a progress bar with the current cell.

    Returns:
      An xarray.Dataset with dims parametrization, width (inf is the limit), seed, step, gram_step, layer, input,
      output. Where a parametrization's limit was not computed its row holds NaN and the coordinate `limit` says why.
      The limit's row is repeated along seed; variables `<name>_stderr` have its standard errors where it has any. The
      coordinate `dynamics` says how each width was trained.

    Raises:
      ValueError: for arguments out of range, duplicates, or a cell that does not fit `memory_gb`.

    Example:
      >>> import numpy as np
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> data = compare(task, parametrizations=("mup",), widths=(8,), depth=2, seeds=2, steps=3)
      >>> dict(data.train_loss.sizes)
      {'parametrization': 1, 'width': 2, 'seed': 2, 'step': 4}
    """
    arguments = {k: v for k, v in locals().items() if k not in ("task", "progress")}
    options: dict[str, Any] = {"base_width": base_width, "depth": depth, "degree": activations.get(activation).degree}
    presets = [parametrization.get(p, **options) if isinstance(p, str) else p for p in parametrizations]
    names = [p.name for p in presets]
    widths = [tuple(w) if isinstance(w, list) else w for w in widths]
    check_counts(depth=depth, seeds=seeds, steps=steps, particles=particles, limit_runs=limit_runs)
    widest = max(presets, key=lambda preset: preset.width_profile)
    how = _dynamics(widths, depth, widest, linearize, matrix_free_from)
    check_distinct(parametrizations=names, widths=widths)
    rates = learning_rates(learning_rate, names)
    settings = settings_of(
        task,
        depth=depth,
        activation=activations.get(activation),
        steps=steps,
        centred=centred,
        batch_size=batch_size,
        momentum=momentum,
        key=key,
        memory_gb=memory_gb,
        particles=particles,
        limit_runs=limit_runs,
        max_directions=max_directions,
        gram_steps=tuple(gram_steps),
    )
    classes = [classification.classify(p, depth, settings.activation) for p in presets]
    through_grids = [column for column, name in enumerate(how) if name == direct.DENSE]
    plans = []
    for preset, rate in zip(presets, rates, strict=True) if through_grids else ():
        chosen = [widths[column] for column in through_grids]
        grid = _grid(task, preset, chosen, rate, seeds, batch_size, momentum, settings)
        plans.append((grid, plan(task, grid)))
    for column, name in enumerate(how):
        if name != direct.DENSE:
            direct.check_memory(task, name, hidden_widths(widths[column], depth, widest), seeds, settings)
    without = [_without_limit(*each, limit, linearize, settings) for each in zip(presets, classes, strict=True)]
    check_memory(task, [kind for kind, why in zip(classes, without, strict=True) if why is None], settings)

    cells: dict[tuple[int, int], dict[str, np.ndarray]] = {}
    limits, stderrs = [], {}
    with progress_bar(len(presets) * (len(widths) + 1), progress) as bar:
        for row, preset in enumerate(presets):
            for column, width in enumerate(widths):
                bar.set_description(f"{preset.name}, width {results.width_label(width)}")
                if how[column] == direct.DENSE:
                    grid, planned = plans[row]
                    run = _through_grid(task, grid, planned, through_grids.index(column), settings)
                else:
                    run = direct.train_runs(task, preset, how[column], width, rates[row], seeds, settings)
                cells[row, column] = results.measure(run)
                bar.update()
            bar.set_description(f"{preset.name}, infinite width")
            word, mean, stderr = without[row], None, None
            if word is None:
                word, mean, stderr = infinite_row(task, preset, classes[row], rates[row], settings)
            limits.append(word)
            if mean is not None:
                cells[row, len(widths)] = {k: np.repeat(v, seeds, axis=0) for k, v in mean.items()}
                stderrs[row] = stderr
            bar.update()
    along = {
        "parametrization": names,
        "learning_rate": rates,
        "classification": [c.kind for c in classes],
        "limit": limits,
    }
    data = results.dataset(cells, widths, settings.spec, steps, along, arguments, stderrs)
    data.attrs["kind"] = "comparison"
    return data.assign_coords(dynamics=("width", [*how, "limit"]))


def _without_limit(
    preset: Parametrization, kind: Classification, limit: bool, linearize: bool, settings: Settings
) -> str | None:
    """Why a parametrization's limit is not computed, None where it is."""
    if not limit:
        return "not asked for"
    if linearize and kind.kind == "feature":
        return "none: the first-order model of a network that learns features"
    return unknown_limit(preset, kind, settings)


def _dynamics(
    widths: Sequence[int | tuple[int, ...]],
    depth: int,
    widest: Parametrization,
    linearize: bool,
    matrix_free_from: int | None,
) -> list[str]:
    """How each width is trained."""
    if matrix_free_from is None:
        return [direct.LINEARIZED if linearize else direct.DENSE] * len(widths)
    check_counts(matrix_free_from=matrix_free_from)
    if linearize:
        raise ValueError(f"Expected `matrix_free_from` or `linearize`, got both: matrix_free_from={matrix_free_from}.")
    sizes = [max(hidden_widths(width, depth, widest)) for width in widths]
    return [direct.MATRIX_FREE if size >= matrix_free_from else direct.DENSE for size in sizes]


def _through_grid(task: Task, grid: Grid, planned: Plan, position: int, settings: Settings) -> Trajectory:
    """The runs of one width of a grid."""
    (cell,) = (cell for cell in planned.cells if cell.widths == (position,))
    run = run_cell(task, grid, planned.programs[cell.program], cell, settings.batches)
    return jax.tree.map(lambda leaf: leaf[0, 0], run)


def _grid(task, preset, widths, rate, seeds, batch_size, momentum, settings: Settings) -> Grid:
    """The networks of one parametrization at one rate: each width a program of its own, shared by parametrizations."""
    return grid_of(
        task,
        parametrizations=(preset,),
        widths=widths,
        depths=(settings.depth,),
        learning_rates=(rate,),
        seeds=seeds,
        optimizers=("sgd",),
        steps=settings.steps,
        batch_size=batch_size,
        momentum=momentum,
        activation=settings.activation,
        base_width=1,  # the parametrization has one already
        centred=settings.centred,
        spec=settings.spec,
        padding="never",
        key=settings.seed,
        memory_gb=settings.memory_gb,
    )
