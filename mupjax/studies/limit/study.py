"""The infinite-width limit of one parametrization as a Dataset, and finite networks' distance from it over widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Unpack

import jax

from mupjax import activations, devices, optim, results
from mupjax import parametrization as presets
from mupjax._checks import check_counts, check_sequences
from mupjax.activations import Activation
from mupjax.optim import Optimizer
from mupjax.parametrization import Parametrization, classification
from mupjax.results.layout import filled
from mupjax.studies import cells, infinite
from mupjax.studies.cells import Settings
from mupjax.studies.comparison.study import known_of, layout_of
from mupjax.studies.infinite import Sampling
from mupjax.studies.limit import widths as width_study
from mupjax.studies.limit.variables import VARIABLES
from mupjax.sweeps import runner
from mupjax.task import Task

if TYPE_CHECKING:
    import xarray as xr

PARTICLES, RUNS = 4096, 4


class Options(runner.Options, total=False):
    """Options of the limit beyond those of every study."""

    particles: int
    limit_runs: int
    error: float | None
    max_seconds: float


_OWN = {"particles": PARTICLES, "limit_runs": RUNS, "error": None, "max_seconds": 600.0}


def limit(
    task: Task,
    *,
    parametrization: str | Parametrization = "mup",
    widths: Sequence[int] = (),
    depth: int = 3,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    learning_rate: float | None = None,
    steps: int = 50,
    batch_size: int | None = None,
    optimizer: Optimizer = optim.sgd,
    seeds: int = 256,
    base_width: int | tuple[int, ...] = 1,
    **options: Unpack[Options],
) -> xr.Dataset:
    """Train at infinite width, and where widths are given measure how finite networks approach it.

    Args:
      task: data and loss.
      parametrization: a name or a Parametrization with a feature-learning or kernel limit.
      widths: ascending widths of a width study (`studies.limit.widths`), none by default.
      depth, activation, learning_rate, steps, batch_size, optimizer, base_width: as in `compare`.
      seeds: networks of the narrowest widths of the study; fewer of wider ones.
      **options: particles, limit_runs: of the feature-learning limit (`dynamics.feature_limit`).
        error: instead of limit_runs: add runs until the largest standard error of a prediction is at most this.
        max_seconds: with `error`, how long all runs may take.
        key, memory_gb, out, executor, about, derive, progress: as in every study (`sweeps.runner.Running`).

    Returns:
      An xarray.Dataset like `compare`'s with one parametrization and infinite width alone; with widths also errors
      from the limit (`error_run`, `error_mean`) along the dim `point`, and the powers of the width fitted to them.

    Raises:
      ValueError: for arguments out of range, a parametrization without a limit, runs that do not fit `memory_gb`, an
        `error` out of reach.
      TypeError: for one width where several are meant.

    Example:
      >>> import numpy as np
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> data = limit(task, depth=2, steps=3, particles=256)
      >>> dict(data.train_loss.sizes)
      {'parametrization': 1, 'width': 1, 'seed': 1, 'step': 4}
    """
    given = {name: value for name, value in locals().items() if name not in ("task", "options")}
    own, running = runner.split("limit", options, _OWN)
    sampling = Sampling(own["particles"], own["limit_runs"], own["error"], own.pop("max_seconds"))
    check_sequences(widths=widths)
    preset = parametrization
    if isinstance(preset, str):
        preset = presets.get(preset, depth=depth, base_width=base_width)
    check_counts(depth=depth, steps=steps, seeds=seeds, particles=sampling.particles, limit_runs=sampling.limit_runs)
    kind = classification.classify(preset, depth, activation).kind
    (rate,) = cells.learning_rates(learning_rate, [preset.name])
    settings = Settings(
        key=running.base(),
        depth=depth,
        activation=activations.get(activation),
        steps=steps,
        centred=kind == "kernel",
        batch_size=batch_size,
        optimizer=optim.canonical(optimizer),
        spec=cells.recorded(steps, (0, -1)),
        memory_gb=devices.memory_budget(running.memory_gb),
    )
    points = width_study.plan(widths, seeds) if len(widths) else []
    if points and kind == "feature" and sampling.error is None and sampling.limit_runs < 2:
        raise ValueError(
            f"Expected `limit_runs` to be at least 2 beside `widths`, got limit_runs={sampling.limit_runs}."
        )
    if (why := infinite.why_none(preset, kind, settings)) is not None:
        raise ValueError(f"Expected `parametrization` to have an infinite-width limit, got {preset.name}: {why}.")
    todo = [
        runner.Cell(
            name="limit",
            label=f"{preset.name}, infinite width",
            where={"parametrization": (0,), "width": (0,)},
            compute=infinite.compute,
            args=(task, preset, kind, rate, settings, sampling, 1),
            need=infinite.need(task, kind, settings, sampling),
        )
    ]
    for place, point in enumerate(points):
        width, dynamics, count = point
        todo.append(
            runner.Cell(
                name=f"point-{place}",
                label=f"width {width}, {dynamics}, {count} seeds",
                where={"point": (place,)},
                compute=width_study.compute,
                args=(task, preset, point, rate, settings),
                need=cells.need(task, dynamics, width, count, width_study.of_outputs(settings)),
                reads=True,
            )
        )
    along = {"parametrization": [preset.name], "learning_rate": [rate], "classification": [kind]}
    known = known_of([float("inf")], 1, settings, along, ())
    known.attrs |= results.attributes("limit", given | own | {"key": running.key}, running.about, task)
    if points:
        known = known.assign(width_study.known(points))
    layout = layout_of(task, known, settings, limit=True)
    exact = {name: variable._replace(dtype="float64") for name, variable in layout.variables.items()}
    layout = layout._replace(
        variables=exact | filled(VARIABLES, dict.fromkeys(width_study.ERRORS if points else (), "float64"))
    )
    layout = layout._replace(cell_dims=(*layout.cell_dims, "point"))

    def derive(data: xr.Dataset) -> xr.Dataset:
        data = infinite.with_words(data, [None], [kind], settings, sampling)
        return width_study.with_slopes(data) if points else data

    return runner.run(runner.Study(layout, tuple(todo), None, derive), running)
