"""The main job: the same task at several widths under several parametrizations, beside the infinite-width limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mupjax import activations, classification, parametrization, results, runs
from mupjax.activations import Activation
from mupjax.classification import Classification
from mupjax.dynamics import dense, kernel_limit
from mupjax.network import hidden_widths
from mupjax.parametrization import Parametrization
from mupjax.task import Task, batch_order
from mupjax.trajectory import Trajectory, TrajectorySpec

DEFAULT_LEARNING_RATES = {"ntp": 0.3}
MAX_RECORDED_STEPS = 200
_BATCHES, _DRAWS = 2**32 - 2, 2**32 - 1  # tags of keys, out of the way of seeds


class _Settings(NamedTuple):
    """What every cell of a comparison shares."""

    key: jax.Array
    depth: int
    activation: Activation
    steps: int
    centred: bool
    batches: Any
    momentum: float
    spec: TrajectorySpec


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
      key: seed of the random keys.
      memory_gb: what the largest cell may take; a larger one is refused before anything runs.
      progress: show a progress bar with the current cell.

    Returns:
      An xarray.Dataset with dims parametrization, width (inf is the limit), seed, step, gram_step, layer, input,
      output. Where a parametrization's limit was not computed its row holds NaN and the coordinate `limit` says why.
      The limit's row is repeated along seed.

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
    _check_grid(names, widths, depth, seeds, steps)
    rates = _learning_rates(learning_rate, names)
    stride = -(-steps // MAX_RECORDED_STEPS)
    base = jax.random.key(key)
    settings = _Settings(
        key=base,
        depth=depth,
        activation=activations.get(activation),
        steps=steps,
        centred=centred,
        batches=None
        if batch_size is None
        else batch_order(jax.random.fold_in(base, _BATCHES), task.num_train, batch_size, steps),
        momentum=momentum,
        spec=TrajectorySpec(steps=tuple(sorted({*range(0, steps + 1, stride), steps}))),
    )
    classes = [classification.classify(p, depth, settings.activation) for p in presets]
    _check_memory(task, classes, widths, seeds, settings, memory_gb)

    cells: dict[tuple[int, int], dict[str, np.ndarray]] = {}
    limits = []
    with _progress_bar(len(presets) * (len(widths) + 1), progress) as bar:
        for row, preset in enumerate(presets):
            for column, width in enumerate(widths):
                bar.set_description(f"{preset.name}, width {results.width_label(width)}")
                run = _finite(task, preset, width, rates[row], seeds, settings)
                cells[row, column] = results.measure(run)
                bar.update()
            bar.set_description(f"{preset.name}, infinite width")
            limit, word = _infinite(task, preset, classes[row], rates[row], settings)
            limits.append(word)
            if limit is not None:
                measured = results.measure(jax.tree.map(lambda leaf: np.asarray(leaf)[None], limit))
                cells[row, len(widths)] = {k: np.repeat(v, seeds, axis=0) for k, v in measured.items()}
            bar.update()
    along = {
        "parametrization": names,
        "learning_rate": rates,
        "classification": [c.kind for c in classes],
        "limit": limits,
    }
    return results.dataset(cells, widths, settings.spec, steps, along, arguments)


def _finite(task, preset, width, rate, seeds, settings: _Settings) -> Trajectory:
    keys = jnp.stack([runs.run_key(settings.key, seed, width) for seed in range(seeds)])

    def run(key: jax.Array, task: Task, rate: jax.Array, batches: Any) -> Trajectory:
        return dense.train(
            task,
            preset,
            width=width,
            depth=settings.depth,
            activation=settings.activation,
            learning_rate=rate,
            num_steps=settings.steps,
            key=key,
            batches=batches,
            momentum=settings.momentum,
            centred=settings.centred,
            spec=settings.spec,
        )

    return jax.block_until_ready(runs.map_runs(run, keys, task, jnp.asarray(rate), settings.batches))


def _infinite(
    task: Task, preset: Parametrization, kind: Classification, rate: float, settings: _Settings
) -> tuple[Trajectory | None, str]:
    """The limit's trajectory, or None, and what the row is called."""
    if kind.kind == "feature":
        return None, "feature-learning limit: not computed"
    if kind.kind != "kernel":
        return None, {
            "trivial": "trivial: f stays at its start for any fixed number of steps",
            "unstable": "unstable: no limit",
        }[kind.kind]
    try:
        limit = kernel_limit.train(
            task,
            preset,
            depth=settings.depth,
            activation=settings.activation,
            learning_rate=rate,
            num_steps=settings.steps,
            centred=settings.centred,
            key=jax.random.fold_in(settings.key, _DRAWS),
            batches=settings.batches,
            momentum=settings.momentum,
            spec=settings.spec,
        )
    except ImportError as error:
        return None, f"kernel limit: not computed, {error}"
    word = "kernel limit" if settings.centred else "kernel limit, mean over initialisations"
    return limit._replace(stderr=None, info=None), word


def _learning_rates(given: float | Mapping[str, float] | None, names: list[str]) -> list[float]:
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


def _check_grid(names: list[str], widths: Sequence[Any], depth: int, seeds: int, steps: int) -> None:
    for name, count in (("depth", depth), ("seeds", seeds), ("steps", steps)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"Expected `{name}` to be a positive int, got {name}={count!r}.")
    for name, entries in (("parametrizations", names), ("widths", list(widths))):
        if not entries:
            raise ValueError(f"Expected `{name}` to name at least one, got none.")
        if len(set(entries)) < len(entries):
            raise ValueError(f"Expected `{name}` to be distinct, got {name}={entries!r}.")
    for width in widths:
        hidden_widths(width, depth)


def _check_memory(task, classes, widths, seeds, settings: _Settings, memory_gb: float) -> None:
    if not memory_gb > 0:
        raise ValueError(f"Expected `memory_gb` to be positive, got memory_gb={memory_gb!r}.")
    at_once = min(jax.device_count(), seeds) if jax.default_backend() == "cpu" else seeds
    batch_size = None if settings.batches is None else settings.batches.shape[1]
    for width in widths:
        one = dense.estimate_bytes(
            task, width=width, depth=settings.depth, num_steps=settings.steps, batch_size=batch_size, spec=settings.spec
        )
        need = (one.working * at_once + one.result * seeds * 2) / 1e9
        if need > memory_gb:
            _refuse(memory_gb, need, f"width {results.width_label(width)} with {seeds} seeds")
    if any(kind.kind == "kernel" for kind in classes):
        need = kernel_limit.estimate_bytes(
            task, depth=settings.depth, num_steps=settings.steps, centred=settings.centred, spec=settings.spec
        )
        if need / 1e9 > memory_gb:
            _refuse(memory_gb, need / 1e9, f"the kernel limit of {task.num_inputs} inputs")


def _refuse(memory_gb: float, need: float, what: str) -> None:
    raise ValueError(
        f"Expected the runs to fit memory_gb={memory_gb:g}, got about {need:.2g} GB for {what}; raise `memory_gb`, or "
        "take fewer seeds, inputs, recorded steps or units."
    )


def _progress_bar(total: int, shown: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, disable=not shown, unit="cell")
