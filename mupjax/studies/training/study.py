"""Train a few networks by minibatch SGD; unlike a sweep, each seed has its own batches and calibration.

Recorded are minibatch losses over time, test errors and, where wanted, what the observers of `observers.ranks` see.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from mupjax import activations, devices, parametrization, results
from mupjax._checks import check_counts, check_distinct, check_sequences
from mupjax.activations import Activation
from mupjax.dynamics import dense
from mupjax.dynamics.observing import Batch, Observer, State
from mupjax.dynamics.runs import BATCHES, map_runs, run_key
from mupjax.network import MLP, features_of, hidden_widths, scaling_tree
from mupjax.observers import named, ranks
from mupjax.observers.named import Observed
from mupjax.optim import initial_rates
from mupjax.parametrization import Parametrization
from mupjax.studies.training.variables import TARGETS, VARIABLES
from mupjax.sweeps import runner
from mupjax.sweeps.plan import step_flops
from mupjax.task import Task, batch_order, loss_per_sample
from mupjax.trajectory import TrajectorySpec

if TYPE_CHECKING:
    import xarray as xr

CELL_DIMS = ("parametrization", "width")
PARTS = ranks.Contributions._fields


class _Run(NamedTuple):
    key: jax.Array
    batches: jax.Array


class _Settings(NamedTuple):
    """Settings shared by all networks."""

    key: jax.Array
    learning_rate: float
    steps: int
    batch_size: int
    seeds: int
    spec: TrajectorySpec
    every: int
    observe: tuple[str, ...]
    observed_inputs: jax.Array


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
    **options: Unpack[runner.Options],
) -> xr.Dataset:
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
        'preactivations' (how much a step moved them), 'ntk' (how far the tangent kernel is from its start), and what
        `sweep` observes.
      observe_inputs: of how many training inputs, picked at random; all where there are fewer. A tangent kernel holds
        the square of their number times that of outputs.
      keep_predictions: whether to keep the outputs of the test inputs, at the start and after the last step.
      **options: key, memory_gb, out, executor, about, derive, progress, as in every study (`sweeps.runner.Running`).

    Returns:
      An xarray.Dataset with dims parametrization, width, seed, step, kernel, layer: `batch_loss` (of the step's batch
      before its update; NaN after the last), `initial_rate` and `clipped` of the first step's kernels, `train_loss`
      and `test_error` after the last step, `class_share` of the test set, `rank_h` and `rank_x`, `contribution`,
      `preactivation_change`, `ntk_change`, `predictions` with the `test_input` itself.

    Raises:
      ValueError: for sizes out of range, unknown names, a run that does not fit `memory_gb`.
      TypeError: for one entry where several are meant.

    Example:
      >>> from mupjax import datasets
      >>> task = datasets.load("digits", classes=(0, 1, 2), train_size=60, test_size=None, loss="cross_entropy")
      >>> network = {"widths": (16,), "depth": 3, "learning_rate": 0.1, "steps": 4, "batch_size": 20}
      >>> data = training_study(task, parametrizations=("mup", "ip_llr"), calibrated=("ip_llr",), **network)
      >>> dict(data.batch_loss.sizes)
      {'parametrization': 2, 'width': 1, 'seed': 1, 'step': 5}
    """
    given = {name: value for name, value in locals().items() if name not in ("task", "options")}
    _, running = runner.split("training_study", options, {})
    check_sequences(parametrizations=parametrizations, widths=widths, calibrated=calibrated, observe=observe)
    presets = [parametrization.get(p, depth=depth) for p in parametrizations]
    names = [p.name for p in presets]
    check_counts(depth=depth, steps=steps, seeds=seeds, record_every=record_every, observe_inputs=observe_inputs)
    check_distinct(parametrizations=names, widths=widths)
    for word, known in (("calibrated", names), ("observe", named.NAMES)):
        if unknown := sorted(set(given[word]) - set(known)):
            raise ValueError(f"Expected `{word}` to be drawn from {', '.join(known)}, got {unknown[0]!r}.")
    phi, base = activations.get(activation), running.base()
    spec = TrajectorySpec(
        steps=(0, -1) if keep_predictions else (-1,),
        grams=(),
        eval_inputs=tuple(range(task.num_train, task.num_inputs)),
    )
    widest = max(presets, key=lambda preset: preset.width_profile)
    chosen = jax.random.permutation(jax.random.fold_in(base, BATCHES), task.num_train)[:observe_inputs]
    settings = _Settings(base, learning_rate, steps, batch_size, seeds, spec, record_every, tuple(observe), chosen)
    todo = []
    for row, preset in enumerate(presets):
        for column, width in enumerate(widths):
            todo.append(
                runner.Cell(
                    name=f"{row}-{column}",
                    label=f"{preset.name}, width {width}",
                    where={"parametrization": (row,), "width": (column,)},
                    compute=networks,
                    args=(task, MLP(width, depth, task.out_dim, preset, phi), preset.name in calibrated, settings),
                    work=step_flops(task, hidden_widths(width, depth, widest), batch_size),
                    need=_need(task, hidden_widths(width, depth, widest), settings),
                )
            )
    attrs = results.attributes("training", given | {"key": running.key}, running.about, task)
    layout = _layout(task, names, widths, depth, settings, attrs)
    return runner.run(runner.Study(layout, tuple(todo)), running)


def networks(task: Task, model: MLP, is_calibrated: bool, settings: _Settings) -> runner.Arrays:
    """Train the seeds of one parametrization and width; a cell's function."""
    train = partial(
        _train,
        model=model,
        learning_rate=settings.learning_rate,
        steps=settings.steps,
        is_calibrated=is_calibrated,
        spec=settings.spec,
        observers=_observers(model, task, settings.observed_inputs, settings.observe, settings.every),
    )
    width = model.width if isinstance(model.width, int) else max(model.width)
    runs = _runs(settings.key, width, settings.seeds, task, settings.batch_size, settings.steps)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Hajjar", UserWarning)  # here theory is put to the test
        found = map_runs(train, runs, task)
    observed = named.arrays(found.pop("observed"))
    return {name: np.asarray(array)[None] for name, array in (found | observed).items()}


def _need(task: Task, layers: tuple[int, ...], settings: _Settings) -> runner.Need:
    """Memory that networks of a width need at once."""
    steps, batch_size, spec = settings.steps, settings.batch_size, settings.spec
    one = dense.estimate_bytes(task, width=layers, depth=len(layers), steps=steps, batch_size=batch_size, spec=spec)
    at_once = devices.at_once(settings.seeds)
    need = 1.5 * one.working * at_once  # the observers hold two more copies of the parameters
    if "ntk" in settings.observe:  # four matrices of every pair of outputs
        side = len(settings.observed_inputs) * task.out_dim
        need += 4 * side**2 * task.x_train.dtype.itemsize * at_once
    return runner.Need(need, f"{at_once} networks of width {max(layers)}")


def _train(
    run: _Run,
    task: Task,
    *,
    model: MLP,
    learning_rate: float,
    steps: int,
    is_calibrated: bool,
    spec: Any,
    observers: dict[str, Observer],
) -> dict[str, PyTree]:
    """One network's results, by the names of the Dataset's variables."""
    settings = {"width": model.width, "depth": model.depth, "activation": model.activation, "key": run.key}
    settings |= {"learning_rate": learning_rate, "batches": run.batches}
    preset, found = model.parametrization, None
    assert isinstance(preset, Parametrization)
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
    return whole | {"observed": {name: value for name, value in trained.observed.items() if name != "loss"}}


def _runs(base: jax.Array, width: int, seeds: int, task: Task, batch_size: int, steps: int) -> _Run:
    keys = jax.vmap(lambda seed: run_key(base, seed, width))(jnp.arange(seeds))
    orders = [
        batch_order(
            jax.random.fold_in(jax.random.fold_in(base, BATCHES), seed), task.num_train, batch_size, max(steps, 2)
        )
        for seed in range(seeds)
    ]
    return _Run(keys, jnp.stack(orders))


def _observers(model: MLP, task: Task, chosen: jax.Array, observe: Sequence[str], every: int) -> dict[str, Observer]:
    def loss(state: State, batch: Batch) -> jax.Array:
        f: Any = model.apply({"params": state.params}, batch.x)
        return jnp.mean(loss_per_sample(task.loss, f, batch.y))

    boxed = jax.eval_shape(partial(model.init, jax.random.key(0)), task.x_train[:1])
    of = Observed(partial(features_of, model), scaling_tree(boxed), task, False, task.x_train[chosen], model)
    return {"loss": Observer(loss, every)} | dict(named.observers(observe, every, of))


def _layout(
    task: Task, names: list[str], widths: Sequence[int], depth: int, settings: _Settings, attrs: dict[str, str]
) -> results.Layout:
    """Return the layout of the Dataset; of a test set with its classes' shares, or its inputs and targets."""
    import xarray as xr

    single = str(jax.dtypes.canonicalize_dtype(float))
    found = {"batch_loss": single, "initial_rate": single, "clipped": "bool", "train_loss": single}
    known: dict[str, object] = {}
    if task.y_test is not None and task.out_dim > 1:
        found["test_error"] = single
        label = np.asarray(task.y_test if task.loss == "cross_entropy" else np.argmax(np.asarray(task.y_test), axis=-1))
        share = np.bincount(label, minlength=task.out_dim) / len(label)
        known["class_share"] = ("output",), share, VARIABLES["class_share"].attrs
    if len(settings.spec.resolve_steps(settings.steps)) > 1:
        found["predictions"] = single
        for name, x, y in (("train", task.x_train, task.y_train), ("test", task.x_test, task.y_test)):
            about_x, about_y = VARIABLES[f"{name}_input"], TARGETS[f"{name}_target"]
            known[f"{name}_input"] = about_x.dims, np.asarray(x), about_x.attrs
            known[f"{name}_target"] = about_y.dims[: np.asarray(y).ndim], np.asarray(y), about_y.attrs
    found |= {name: "int32" if name.startswith("rank_") else single for name in named.variables(settings.observe)}
    variables = results.filled(VARIABLES, found)
    steps = range(0, settings.steps + 1, settings.every)
    coords = {
        "parametrization": names,
        "width": ("width", np.array(widths, float), VARIABLES["width"].attrs),
        "step": ("step", list(steps), VARIABLES["step"].attrs),
        "kernel": np.arange(1, depth + 2),
        "layer": np.arange(1, depth + 1),
        "part": list(PARTS),
        "time": ["start", "end"],
    }
    used = {dim for dims, _, _ in [*variables.values(), *known.values()] for dim in dims}
    coords = {name: value for name, value in coords.items() if name in used}
    about = attrs | {"task": repr(task), "num_classes": task.out_dim}
    dataset = xr.Dataset(known, coords, about)
    tests = 0 if task.x_test is None else len(task.x_test)
    sizes = {"seed": settings.seeds, "output": task.out_dim, "test_index": tests}
    return results.Layout(dataset, variables, sizes | {str(d): n for d, n in dataset.sizes.items()}, CELL_DIMS)
