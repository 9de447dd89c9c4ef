"""A few networks, trained as papers train them: minibatch losses over time, calibrated first steps, ranks, test errors.

A sweep has more networks and less to say of each; here every seed has its own batches, its own calibration of the first
step and, where wanted, what the observers of `ranks` see.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mupjax import activations, devices, parametrization, results
from mupjax.activations import Activation
from mupjax.dynamics import dense
from mupjax.dynamics._arguments import check_memory
from mupjax.dynamics.dense import Batch, Observer, State
from mupjax.dynamics.runs import BATCHES, map_runs, run_key
from mupjax.network import MLP, hidden_widths
from mupjax.observers import curvature, ranks
from mupjax.optim import initial_rates
from mupjax.parametrization import Parametrization
from mupjax.sweeps.grid import check_counts, check_distinct
from mupjax.sweeps.progress import progress_bar
from mupjax.task import Task, batch_order, loss_per_sample
from mupjax.trajectory import TrajectorySpec

OBSERVABLE = ("ranks", "contributions", "preactivations", "ntk")
PARTS = ranks.Contributions._fields


class _Run(NamedTuple):
    key: Any
    batches: Any


def training_study(
    task: Task,
    *,
    parametrizations: Sequence[str | Parametrization],
    widths: Sequence[int],
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "relu",
    learning_rate: float,
    steps: int,
    batch_size: int,
    seeds: int = 1,
    calibrated: Sequence[str] = (),
    record_every: int = 1,
    observe: Sequence[str] = (),
    observe_inputs: int = 512,
    keep_predictions: bool = False,
    key: int = 0,
    memory_gb: float | None = None,
    progress: bool = False,
) -> Any:
    """Train networks by minibatch SGD and record what happens.

    Args:
      task: data and loss.
      parametrizations: names or Parametrizations, of different names.
      widths: units of every hidden layer.
      depth: number of hidden layers.
      activation: a name, an Activation or a function.
      learning_rate: the base rate.
      steps: number of updates.
      batch_size: inputs a step sees.
      seeds: networks of each parametrization and width, each with its own batches; parametrizations share both.
      calibrated: names of the parametrizations whose first step's base rates are calibrated.
      record_every: steps between records.
      observe: any of 'ranks' (of features), 'contributions' (of initial weights, first and later updates),
        'preactivations' (how much a step moved them) and 'ntk' (how far the tangent kernel is from its start).
      observe_inputs: of how many training inputs, picked at random; all where there are fewer. A tangent kernel holds
        the square of their number times that of outputs.
      keep_predictions: whether to keep the outputs of the test inputs, at the start and after the last step.
      key: seed of the random keys.
      memory_gb: what a run may take, by default the device's memory (`devices`).
      progress: show a progress bar.

    Returns:
      An xarray.Dataset with dims parametrization, width, seed, step, kernel, layer: `batch_loss` (of the step's batch
      before its update; NaN after the last), `initial_rate` and `clipped` of the first step's kernels, `train_loss`
      and `test_error` after the last step, `class_share` of the test set, `rank_h` and `rank_x`, `contribution`,
      `preactivation_change`, `ntk_change`, `predictions` with the `test_input` itself.

    Raises:
      ValueError: for sizes out of range, unknown names, a run that does not fit `memory_gb`.

    Example:
      >>> from mupjax import datasets
      >>> task = datasets.load("digits", classes=(0, 1, 2), train_size=60, test_size=None, loss="cross_entropy")
      >>> network = {"widths": (16,), "depth": 3, "learning_rate": 0.1, "steps": 4, "batch_size": 20}
      >>> data = training_study(task, parametrizations=("mup", "ip_llr"), calibrated=("ip_llr",), **network)
      >>> dict(data.batch_loss.sizes)
      {'parametrization': 2, 'width': 1, 'seed': 1, 'step': 5}
    """
    arguments = {k: v for k, v in locals().items() if k not in ("task", "progress")}
    presets = [parametrization.get(p, depth=depth) for p in parametrizations]
    names = [p.name for p in presets]
    check_counts(depth=depth, steps=steps, seeds=seeds, record_every=record_every, observe_inputs=observe_inputs)
    check_distinct(parametrizations=names, widths=widths)
    for given, known in (("calibrated", names), ("observe", OBSERVABLE)):
        if unknown := sorted(set(arguments[given]) - set(known)):
            raise ValueError(f"Expected `{given}` to be drawn from {', '.join(known)}, got {unknown[0]!r}.")
    phi, base = activations.get(activation), jax.random.key(key)
    spec = TrajectorySpec(
        steps=(0, -1) if keep_predictions else (-1,),
        grams=(),
        eval_inputs=tuple(range(task.num_train, task.num_inputs)),
    )
    widest = max(presets, key=lambda preset: preset.width_profile)
    for width in widths:
        layers = hidden_widths(width, depth, widest)
        need = dense.estimate_bytes(task, width=layers, depth=depth, steps=steps, batch_size=batch_size, spec=spec)
        at_once = devices.at_once(seeds)
        need = int(1.5 * need.working * at_once)  # the observers hold two more copies of the parameters
        if "ntk" in observe:  # four matrices of every pair of outputs
            side = min(observe_inputs, task.num_train) * task.out_dim
            need += 4 * side**2 * task.x_train.dtype.itemsize * at_once
        check_memory(need, memory_gb, f"{at_once} networks of width {width}", "take fewer units or inputs")
    chosen = jax.random.permutation(jax.random.fold_in(base, BATCHES), task.num_train)[:observe_inputs]
    found: dict[str, list[list[Any]]] = {}
    with progress_bar(len(presets) * len(widths), progress) as bar:
        for preset in presets:
            rows: dict[str, list[Any]] = {}
            for width in widths:
                bar.set_description(f"{preset.name}, width {width}")
                model = MLP(width, depth, task.out_dim, preset, phi)
                train = partial(
                    _train,
                    model=model,
                    learning_rate=learning_rate,
                    steps=steps,
                    is_calibrated=preset.name in calibrated,
                    spec=spec,
                    observers=_observers(model, task, chosen, observe, record_every),
                )
                runs = _runs(base, width, seeds, task, batch_size, steps)
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", ".*Hajjar", UserWarning)  # here theory is put to the test
                    one = map_runs(train, runs, task)
                for name, array in jax.tree.map(np.asarray, one).items():
                    rows.setdefault(name, []).append(array)
                bar.update()
            for name, arrays in rows.items():
                found.setdefault(name, []).append(arrays)
    return _dataset(found, names, widths, range(0, steps + 1, record_every), depth, arguments, task)


def _train(
    run: _Run,
    task: Task,
    *,
    model: MLP,
    learning_rate: float,
    steps: int,
    is_calibrated: bool,
    spec: Any,
    observers: Any,
) -> dict[str, Any]:
    """One network's results, by the names of the Dataset's variables."""
    settings = {"width": model.width, "depth": model.depth, "activation": model.activation, "key": run.key}
    settings |= {"learning_rate": learning_rate, "batches": run.batches}
    preset, found = model.parametrization, None
    if is_calibrated:
        found = initial_rates.calibrate_initial_rates(task, preset, **settings)
        settings["initial_rates"] = found.rates
    settings["batches"] = run.batches[:steps]
    trained = dense.train(task, preset, steps=steps, spec=spec, observers=observers, **settings)
    rates = jnp.full(model.depth + 1, learning_rate) if found is None else found.rates
    clipped = jnp.zeros(model.depth + 1, bool) if found is None else found.clipped
    recorded = jnp.arange(len(trained.observed["loss"])) * observers["loss"].every
    whole = {
        "batch_loss": jnp.where(
            recorded < steps, trained.observed["loss"], jnp.nan
        ),  # there is no batch after the last
        "initial_rate": rates,
        "clipped": clipped,
        "train_loss": trained.train_loss[-1],
    }
    if task.y_test is not None and task.out_dim > 1:
        guess = jnp.argmax(trained.predictions[-1], axis=-1)
        label = task.y_test if task.loss == "cross_entropy" else jnp.argmax(task.y_test, axis=-1)
        wrong = jnp.mean((guess != label).astype(jnp.float32))
        whole["test_error"] = jnp.where(jnp.all(jnp.isfinite(trained.predictions[-1])), wrong, jnp.nan)
    if len(spec.steps) > 1:
        whole["predictions"] = trained.predictions
    if "ranks" in trained.observed:
        whole |= {f"rank_{name}": getattr(trained.observed["ranks"], name).numerical for name in ("h", "x")}
    if "contributions" in trained.observed:
        whole["contribution"] = jnp.stack(trained.observed["contributions"])
    if "preactivations" in trained.observed:
        whole["preactivation_change"] = trained.observed["preactivations"]
    if "ntk" in trained.observed:
        whole["ntk_change"] = trained.observed["ntk"]
    return whole


def _runs(base: jax.Array, width: int, seeds: int, task: Task, batch_size: int, steps: int) -> _Run:
    keys = jax.vmap(lambda seed: run_key(base, seed, width))(jnp.arange(seeds))
    orders = [
        batch_order(
            jax.random.fold_in(jax.random.fold_in(base, BATCHES), seed), task.num_train, batch_size, max(steps, 2)
        )
        for seed in range(seeds)
    ]
    return _Run(keys, jnp.stack(orders))


def _observers(model: MLP, task: Task, chosen: Any, observe: Sequence[str], every: int) -> dict[str, Observer]:
    def loss(state: State, batch: Batch) -> Any:
        f: Any = model.apply({"params": state.params}, batch.x)
        return jnp.mean(loss_per_sample(task.loss, f, batch.y))

    inputs = task.x_train[chosen]
    makers = {"ranks": ranks.feature_ranks, "contributions": ranks.contributions}
    makers |= {"preactivations": curvature.preactivation_changes, "ntk": curvature.ntk_change}
    return {"loss": Observer(loss, every)} | {name: Observer(makers[name](model, inputs), every) for name in observe}


_DIMS = {
    "batch_loss": ("step",),
    "initial_rate": ("kernel",),
    "clipped": ("kernel",),
    "train_loss": (),
    "test_error": (),
    "rank_h": ("step", "layer"),
    "rank_x": ("step", "layer"),
    "contribution": ("part", "step", "kernel"),
    "preactivation_change": ("step", "layer"),
    "ntk_change": ("step",),
    "predictions": ("time", "test_index", "output"),
}
_WORDS = {
    "batch_loss": "loss of a step's batch before its update",
    "initial_rate": "base learning rate of the first step",
    "clipped": "whether the calibrated rate reached its cap",
    "train_loss": "loss of the training set after the last step",
    "test_error": "test error: share of inputs in a wrong class",
    "rank_h": "numerical rank of the preactivations",
    "rank_x": "numerical rank of the activations",
    "predictions": "outputs of the test inputs",
    "preactivation_change": "relative change of the preactivations in the step before",
    "ntk_change": "relative change of the tangent kernel since the start",
    "contribution": "mean |contribution| to preactivations (kernel L + 1: to the outputs)",
}


def _dataset(found: Any, names: list[str], widths: Any, steps: range, depth: int, arguments: Any, task: Task) -> Any:
    import xarray as xr

    variables: dict[str, Any] = {
        name: (
            ("parametrization", "width", "seed", *_DIMS[name]),
            np.stack([np.stack(row) for row in rows]),
            _attrs(name),
        )
        for name, rows in found.items()
    }
    coords = {
        "parametrization": names,
        "width": ("width", np.array(widths, float), {"units": "hidden units", "long_name": "width"}),
        "step": ("step", list(steps), {"units": "updates", "long_name": "step"}),
        "kernel": np.arange(1, depth + 2),
        "layer": np.arange(1, depth + 1),
        "part": list(PARTS),
        "time": ["start", "end"],
    }
    if "predictions" in variables:
        for name, x, y in (("train", task.x_train, task.y_train), ("test", task.x_test, task.y_test)):
            index, words = f"{name}_index", {"train": "training", "test": "test"}[name]
            inputs = (index, "input_dim"), np.asarray(x), {"units": "1", "long_name": f"{words} inputs"}
            dims = (index, "output")[: np.asarray(y).ndim]
            targets = dims, np.asarray(y), {"units": "1", "long_name": f"{words} targets"}
            variables |= {f"{name}_input": inputs, f"{name}_target": targets}
    if "test_error" in variables:
        label = np.asarray(task.y_test if task.loss == "cross_entropy" else np.argmax(np.asarray(task.y_test), axis=-1))
        share = np.bincount(label, minlength=task.out_dim) / len(label)
        words = {"units": "1", "long_name": "share of the test inputs in each class"}
        variables["class_share"] = ("output",), share, words
    used = {dim for dims, _, _ in variables.values() for dim in dims}
    coords = {name: value for name, value in coords.items() if name in used}
    about = {"kind": "training", "task": repr(task), "num_classes": task.out_dim}
    return xr.Dataset(
        variables, coords, {"arguments": results.arguments_json(arguments), **about, **results.versions()}
    )


def _attrs(name: str) -> dict[str, str]:
    return {"units": "1", "long_name": _WORDS[name]}
