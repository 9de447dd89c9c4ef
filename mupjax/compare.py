"""The main job: the same task at several widths under several parametrizations, beside the infinite-width limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mupjax import activations, classification, parametrization, results
from mupjax.activations import Activation
from mupjax.cells import Settings, check_memory, infinite_row, learning_rates, progress_bar, settings_of
from mupjax.grid import Grid, check_counts, check_distinct, grid_of
from mupjax.parametrization import Parametrization
from mupjax.plan import plan
from mupjax.task import Task
from mupjax.training import run_cell

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
    key: int = 0,
    memory_gb: float = 8.0,
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
      key: seed of the random keys.
      memory_gb: what the largest cell may take; a larger one is refused before anything runs.
      progress: show a progress bar with the current cell.

    Returns:
      An xarray.Dataset with dims parametrization, width (inf is the limit), seed, step, gram_step, layer, input,
      output. Where a parametrization's limit was not computed its row holds NaN and the coordinate `limit` says why.
      The limit's row is repeated along seed; variables `<name>_stderr` have its standard errors where it has any.

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
    presets = [parametrization.get(p, base_width=base_width) if isinstance(p, str) else p for p in parametrizations]
    names = [p.name for p in presets]
    widths = [tuple(w) if isinstance(w, list) else w for w in widths]
    check_counts(depth=depth, seeds=seeds, steps=steps, particles=particles, limit_runs=limit_runs)
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
    )
    classes = [classification.classify(p, depth, settings.activation) for p in presets]
    pairs = zip(presets, rates, strict=True)
    grids = [_grid(task, preset, widths, rate, seeds, batch_size, momentum, settings) for preset, rate in pairs]
    plans = [plan(task, grid) for grid in grids]
    check_memory(task, classes if limit else [], settings)

    cells: dict[tuple[int, int], dict[str, np.ndarray]] = {}
    limits, stderrs = [], {}
    with progress_bar(len(presets) * (len(widths) + 1), progress) as bar:
        for row, preset in enumerate(presets):
            for cell in plans[row].cells:
                (column,) = cell.widths
                bar.set_description(f"{preset.name}, width {results.width_label(widths[column])}")
                run = run_cell(task, grids[row], plans[row].programs[cell.program], cell, settings.batches)
                cells[row, column] = results.measure(jax.tree.map(lambda leaf: leaf[0, 0], run))
                bar.update()
            bar.set_description(f"{preset.name}, infinite width")
            word, mean, stderr = (
                infinite_row(task, preset, classes[row], rates[row], settings)
                if limit
                else ("not asked for", None, None)
            )
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
    return results.dataset(cells, widths, settings.spec, steps, along, arguments, stderrs)


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
