"""The infinite-width limit of one parametrization as a Dataset, and finite networks' distance from it over widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from mupjax import activations, results
from mupjax import parametrization as presets
from mupjax.activations import Activation
from mupjax.parametrization import Parametrization, classification
from mupjax.studies import cells
from mupjax.studies.limit import widths as width_study
from mupjax.sweeps.grid import check_counts
from mupjax.sweeps.progress import progress_bar
from mupjax.task import Task

PARTICLES, RUNS = 4096, 4


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
    momentum: float = 0.0,
    particles: int = PARTICLES,
    limit_runs: int = RUNS,
    error: float | None = None,
    max_seconds: float = 600.0,
    seeds: int = 256,
    base_width: int = 1,
    key: int = 0,
    memory_gb: float | None = None,
    progress: bool = False,
) -> Any:
    """Train at infinite width, and where widths are given measure how finite networks approach it.

    Args:
      task: data and loss.
      parametrization: a name or a Parametrization with a feature-learning or kernel limit.
      widths: ascending widths of a width study (`width_study`), none by default.
      depth, activation, learning_rate, steps, batch_size, momentum, base_width, key, memory_gb: as in `compare`.
      particles, limit_runs: of the feature-learning limit (`dynamics.feature_limit`).
      error: instead of limit_runs: add runs until the largest standard error of a prediction is at most this.
      max_seconds: with `error`, how long all runs may take.
      seeds: networks of the narrowest widths of the study; fewer of wider ones.
      progress: show a progress bar.

    Returns:
      An xarray.Dataset like `compare`'s with one parametrization and infinite width alone; with widths also the
      variables of `width_study.variables` along the dim `point`.

    Raises:
      ValueError: for arguments out of range, a parametrization without a limit, runs that do not fit `memory_gb`, an
        `error` out of reach.

    Example:
      >>> import numpy as np
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> data = limit(task, depth=2, steps=3, particles=256)
      >>> dict(data.train_loss.sizes)
      {'parametrization': 1, 'width': 1, 'seed': 1, 'step': 4}
    """
    arguments = {k: v for k, v in locals().items() if k not in ("task", "progress", "max_seconds")}
    options: dict[str, Any] = {"base_width": base_width} if isinstance(parametrization, str) else {}
    preset = presets.get(parametrization, depth=depth, **options)
    check_counts(depth=depth, steps=steps, seeds=seeds, particles=particles, limit_runs=limit_runs)
    kind = classification.classify(preset, depth, activation)
    (rate,) = cells.learning_rates(learning_rate, [preset.name])
    settings = cells.settings_of(
        task,
        depth=depth,
        activation=activations.get(activation),
        steps=steps,
        centred=kind.kind == "kernel",
        batch_size=batch_size,
        momentum=momentum,
        key=key,
        memory_gb=memory_gb,
        particles=particles,
        limit_runs=limit_runs,
    )
    points = width_study.plan(widths, seeds) if widths else []
    cells.check_memory(task, [kind], settings)
    if points and kind.kind == "feature" and error is None and limit_runs < 2:
        raise ValueError(f"Expected `limit_runs` to be at least 2 beside `widths`, got limit_runs={limit_runs}.")
    for point in points:
        width_study.check_memory(task, point, settings)
    with progress_bar(1 + len(points), progress) as bar:
        bar.set_description("infinite width")
        word, mean, stderr = cells.infinite_row(
            task, preset, kind, rate, settings, error=error, max_seconds=max_seconds
        )
        if mean is None:
            raise ValueError(f"Expected `parametrization` to have an infinite-width limit, got {preset.name}: {word}.")
        bar.update()
        along = {
            "parametrization": [preset.name],
            "learning_rate": [rate],
            "classification": [kind.kind],
            "limit": [word],
        }
        data = results.dataset({(0, 0): mean}, (), settings.spec, steps, along, arguments, {0: stderr or {}})
        data.attrs["kind"] = "limit"
        measured = []
        predictions = mean["predictions"][0]
        scatter = np.nan_to_num((stderr or {}).get("predictions", 0.0)) + np.zeros_like(predictions)
        for point in points:
            bar.set_description(f"width {point[0]}, {point[1]}, {point[2]} seeds")
            measured.append(width_study.measure(task, preset, point, predictions, scatter, rate, settings))
            bar.update()
    return data.assign(width_study.variables(measured)) if measured else data
