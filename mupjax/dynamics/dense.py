r"""Training at finite width with real weights: the one dense training loop.

`train` is pure: it may be jitted, and vmapped or mapped over `key`, `learning_rate` and the task's arrays. Matrix
products are float32 on every device, never TF32, unless `jax.default_matmul_precision` says otherwise: then training
follows it, Grams (float64) and eigenvalues do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from mupjax import _checks, activations, devices, optim
from mupjax._checks import Key
from mupjax.activations import Activation
from mupjax.dynamics._arguments import (
    Batches,
    FirstRates,
    check_first_rate,
    check_training,
    first_step_factors,
    warn_of_regime,
)
from mupjax.dynamics.gram import gram
from mupjax.dynamics.observing import Batch, Observe, Observer, Params, State
from mupjax.dynamics.recording import Stops, empty, keep, plan_stops, when
from mupjax.network import MLP, Features, features_of, hidden_widths, scaling_tree
from mupjax.optim import LearningRate, Optimizer
from mupjax.parametrization import Parametrization
from mupjax.task import Task, loss_per_sample
from mupjax.trajectory import Trajectory, TrajectorySpec


class Bytes(NamedTuple):
    """An estimate of a run's memory.

    Attributes:
      working: bytes that one run holds while it trains.
      result: bytes that its Trajectory holds afterwards.
    """

    working: int
    result: int


class Recipe(NamedTuple):
    """Static settings of the dense training loop: hashable, a constant of the compiled program.

    Attributes:
      steps: number of updates T.
      spec: what to record.
      centred: train and report f - f_0.
      linearize: train the first-order model around the initial parameters.
      observers: names and observers.
    """

    steps: int
    spec: TrajectorySpec
    centred: bool = False
    linearize: bool = False
    observers: tuple[tuple[str, Observer], ...] = ()


def train(
    task: Task,
    parametrization: Parametrization,
    *,
    width: int | tuple[int, ...],
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    learning_rate: LearningRate,
    steps: int,
    key: Key,
    batches: Batches = None,
    optimizer: Optimizer = optim.sgd,
    initial_rates: FirstRates = None,
    centred: bool = False,
    linearize: bool = False,
    spec: TrajectorySpec | None = None,
    observers: Mapping[str, Observer | Observe] | None = None,
) -> Trajectory:
    r"""Train a width-n multilayer perceptron and return its trajectory.

    Args:
      task: data and loss.
      parametrization: exponents of width.
      width: units of every hidden layer, or one width a layer.
      depth: number of hidden layers L.
      activation: a name, an Activation or an elementwise function.
      learning_rate: the base rate eta: a number, an Optax schedule, or a tracer.
      steps: number of updates T.
      key: random key of the initial weights, an int or a JAX key; all parametrizations draw the same Gaussians from it.
      batches: [T, B] indices into the training set (`batch_order`), or None for the full batch.
      optimizer: a callable (scaling, learning_rate) -> optax.GradientTransformation; its keywords are set with
        `functools.partial(mupjax.sgd, momentum=0.9)`. All but `mupjax.sgd` are checked with `check_optimizer`.
      initial_rates: [L + 1] base rates of the kernels in the first step, in place of the learning rate
        (`mupjax.calibrate_initial_rates`).
      centred: train and report f - f_0, which starts at zero.
      linearize: train the first-order model around the initial parameters; its h and x are first-order too.
      spec: what to record; by default losses and predictions at every step, Grams at the first and last.
      observers: {name: function of (State, Batch)} or {name: Observer(function, every)}.

    Returns:
      A Trajectory. A run that diverges holds NaN or inf in its own row; nothing is raised.

    Raises:
      ValueError: for sizes out of range, batches of a wrong shape, an optimizer that loses a multiplier, a
        parametrization made for another depth.

    Warns:
      UserWarning: where theory says that the parametrization cannot learn at large width, once for each.

    Example:
      >>> import numpy as np
      >>> from mupjax.parametrization import mup
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> run = train(task, mup(), width=16, depth=2, learning_rate=0.5, steps=3, key=0)
      >>> run.train_loss.shape, run.h_gram.shape
      ((4,), (2, 2, 4, 4))
    """
    spec = TrajectorySpec() if spec is None else spec
    widths = hidden_widths(width, depth, parametrization)
    check_training(task, learning_rate, steps, batches)
    warn_of_regime(parametrization, depth, activation)
    check_first_rate(parametrization, learning_rate)
    if linearize and parametrization.b_later is not None:
        raise ValueError(
            f"Expected `linearize` with a start that stays, got {parametrization.name}, which drops weights."
        )
    if spec.space_time:
        raise ValueError("Expected `space_time` to be empty: dynamics.matrix_free and feature_limit record it.")
    watched = tuple((name, _observer(name, given)) for name, given in (observers or {}).items())
    optimizer = optim.canonical(optimizer)
    if optim.is_sgd(optimizer):
        optim.sgd_settings(optimizer)  # refuses numbers out of range
    schedule = learning_rate if callable(learning_rate) else None
    dtype = task.x_train.dtype
    model = MLP(widths, depth, task.out_dim, parametrization, activations.get(activation))
    return _train(
        task,
        _initial(model, _checks.key(key), task.x_train[:1]),
        jnp.asarray(0.0 if callable(learning_rate) else learning_rate, dtype),
        None if batches is None else jnp.asarray(batches),
        first_step_factors(initial_rates, learning_rate, depth, dtype),
        model=model,
        schedule=schedule,
        optimizer=optimizer,
        recipe=Recipe(steps, spec, centred, linearize, watched),
    )


def _observer(name: str, given: Observer | Observe) -> Observer:
    observer = given if isinstance(given, Observer) else Observer(given)
    if observer.every < 1:
        raise ValueError(f"Expected `every` of observer '{name}' to be at least 1, got every={observer.every}.")
    return observer


def estimate_bytes(
    task: Task,
    *,
    width: int | tuple[int, ...],
    depth: int,
    steps: int,
    batch_size: int | None = None,
    spec: TrajectorySpec | None = None,
) -> Bytes:
    """Estimate the memory of one run before it starts, from shapes alone.

    Counts parameters four times (now, next, gradient, and the momentum or the initial ones), the activations of a batch
    and of an evaluation, the recorded features and the Trajectory. Arguments as in `train`.
    """
    spec = TrajectorySpec() if spec is None else spec
    widths = hidden_widths(width, depth)
    item = task.x_train.dtype.itemsize
    sizes = [task.input_dim, *widths, task.out_dim]
    parameters = sum(fan_in * fan_out for fan_in, fan_out in pairwise(sizes))
    batch = task.num_train if batch_size is None else batch_size
    activations_held = batch * sum(sizes) + 2 * task.num_inputs * max(sizes)  # an evaluation keeps two layers at a time
    grams, snapshots = len(spec.resolve_gram_inputs(task)), len({0, *spec.resolve_gram_steps(steps)})
    features = snapshots * grams * sum(widths) * len(spec.grams)
    kept = spec.resolve_eval_inputs(task)
    predictions = (task.num_inputs if kept is None else len(kept)) * task.out_dim
    result = len(spec.resolve_steps(steps)) * (2 + predictions) * item
    result += 2 * len(spec.grams) * snapshots * depth * grams**2 * 8
    contraction = 2 * snapshots * grams * max(widths) * 8 if spec.grams else 0  # a layer at a time, in float64
    return Bytes(working=(4 * parameters + activations_held + features) * item + contraction, result=result)


@partial(jax.jit, static_argnames="model")
def _initial(model: MLP, key: jax.Array, x: jax.Array) -> Params:
    """Boxed initial parameters, in a program of its own: random bits take XLA longer to compile than training does."""
    return model.init(key, x)


@partial(jax.jit, static_argnames=("model", "schedule", "optimizer", "recipe"))
def _train(
    task: Task,
    boxed: Params,
    rate: jax.Array,
    batches: jax.Array | None,
    factors: jax.Array | None,
    *,
    model: MLP,
    schedule: optax.Schedule | None,
    optimizer: Optimizer,
    recipe: Recipe,
) -> Trajectory:
    scaling = scaling_tree(boxed)
    if not optim.is_sgd(optimizer):
        optim.check_optimizer(optimizer, scaling, rule=None)
    if factors is not None:
        scaling = optim.with_initial_rates(scaling, factors)
    with devices.training_precision():  # the optimizer's products too
        transform = optimizer(scaling, rate if schedule is None else schedule)
        return loop(task, nn.meta.unbox(boxed)["params"], partial(features_of, model), transform, batches, recipe)


# Parameters, the optimizer's state and, for observers, the last update with params_1; then what was recorded.
_Training = tuple[Params, optax.OptState, tuple[Params, Params] | None]
_Carry = tuple[_Training, dict[str, PyTree[Array]]]


def loop(
    task: Task,
    params_0: Params,
    network: Callable[[Params, jax.Array], Features],
    transform: optax.GradientTransformation,
    batches: jax.Array | None,
    recipe: Recipe,
    widths: Sequence[ArrayLike] | None = None,
) -> Trajectory:
    """Train and record: the one dense training loop. Pure in all arguments but `recipe`, which is static.

    Args:
      task: data and loss.
      params_0: initial parameters.
      network: a function of parameters and inputs.
      transform: the finished optimizer, rates included; its update is given `value_fn=`, the step's loss as a function
        of the parameters, where it takes more arguments.
      batches: [T, B] or None.
      recipe: steps, what to record, ...
      widths: [L] by which Grams are divided where layers are padded; by default the features' own.
    """
    steps, spec, centred, linearize, observers = recipe

    def features(params: Params, x: jax.Array) -> Features:
        if not linearize:
            return network(params, x)
        moved = jax.tree.map(jnp.subtract, params, params_0)
        start, slope = jax.jvp(lambda p: network(p, x), (params_0,), (moved,))
        return jax.tree.map(jnp.add, start, slope)

    transform = optax.with_extra_args_support(transform)
    inputs = task.inputs
    f_0 = features(params_0, inputs).f if centred else jnp.zeros((task.num_inputs, task.out_dim), inputs.dtype)

    def batch_at(step: ArrayLike) -> Batch:
        if batches is None:
            return Batch(task.x_train, task.y_train, jnp.arange(task.num_train))
        index = batches[jnp.minimum(step, steps - 1)]
        return Batch(task.x_train[index], task.y_train[index], index)

    def batch_loss(params: Params, batch: Batch) -> jax.Array:
        f = features(params, batch.x).f - f_0[: task.num_train][batch.index] if centred else features(params, batch.x).f
        return jnp.mean(loss_per_sample(task.loss, f, batch.y))

    def update(step: ArrayLike, carry: _Training) -> _Training:
        params, opt_state, seen = carry
        value_fn = partial(batch_loss, batch=batch_at(step))
        updates, opt_state = transform.update(jax.grad(value_fn)(params), opt_state, params, value_fn=value_fn)
        params = optax.apply_updates(params, updates)
        if seen is not None:
            seen = updates, jax.tree.map(lambda old, new: jnp.where(step == 0, new, old), seen[1], params)
        return params, opt_state, seen

    recorded, gram_steps = spec.resolve_steps(steps), spec.resolve_gram_steps(steps)
    gram_inputs = np.array(spec.resolve_gram_inputs(task))
    eval_inputs = spec.resolve_eval_inputs(task)
    wanted: dict[str, Sequence[int]] = {"evaluate": recorded, "grams": sorted({0, *gram_steps}) if gram_steps else ()}
    wanted |= {f"observe {name}": range(0, steps + 1, observer.every) for name, observer in observers}
    stops = plan_stops(wanted)

    def evaluate(params: Params) -> tuple[jax.Array, jax.Array | None, jax.Array]:
        f = features(params, inputs).f - f_0
        train_loss = jnp.mean(loss_per_sample(task.loss, f[: task.num_train], task.y_train))
        test_loss = None
        if task.y_test is not None:
            test_loss = jnp.mean(loss_per_sample(task.loss, f[task.num_train :], task.y_test))
        return train_loss, test_loss, f if eval_inputs is None else f[np.array(eval_inputs, int)]

    def recordings(step: jax.Array, training: _Training) -> dict[str, Callable[[], PyTree[Array]]]:
        params, opt_state, seen = training

        def gram_features() -> dict[str, tuple[jax.Array, ...]]:
            of = features(params, inputs[gram_inputs])
            return {name: getattr(of, name) for name in spec.grams}

        found = {"grams": gram_features} if gram_steps else {}
        if seen is not None:
            last_update, params_1 = seen
            state = State(step, params, opt_state, params_0, last_update, params_1)
            found |= {
                f"observe {name}": partial(observer.observe, state, batch_at(step)) for name, observer in observers
            }
        return found

    def visit(carry: _Carry, stop: Stops) -> tuple[_Carry, PyTree[Array]]:
        """Record the state at a stop, then train up to the next one."""
        training, kept = carry
        evaluated = when(stop.slots["evaluate"], lambda: evaluate(training[0]))
        makers = recordings(stop.step, training)
        kept = {name: keep(kept[name], stop.slots[name], make) for name, make in makers.items()}
        return (lax.fori_loop(stop.step, stop.next_step, update, training), kept), evaluated

    seen = (jax.tree.map(jnp.zeros_like, params_0), params_0) if observers else None
    training = (params_0, transform.init(params_0), seen)
    makers = recordings(jnp.int32(0), training)
    kept = {name: empty(make, int(stops.slots[name].max()) + 1) for name, make in makers.items()}
    (_, kept), evaluated = lax.scan(visit, (training, kept), stops)
    train_loss, test_loss, predictions = jax.tree.map(lambda leaf: leaf[stops.slots["evaluate"] >= 0], evaluated)
    return Trajectory(
        step=jnp.array(recorded, jnp.int32),
        train_loss=train_loss,
        test_loss=test_loss,
        predictions=predictions,
        **_grams(kept.get("grams", {}), widths, keep_initial=0 in gram_steps),
        observed={name: kept[f"observe {name}"] for name, _ in observers} or None,
    )


def _grams(
    features: Mapping[str, tuple[jax.Array, ...]], widths: Sequence[ArrayLike] | None, keep_initial: bool
) -> dict[str, PyTree]:
    """Contract features [S, G, n] of every layer to [S, L, G, G]; row 0 is the initial state, dropped if not wanted."""
    grams = {}
    for name, layers in features.items():
        over = [None] * len(layers) if widths is None else list(widths)
        now = [z if keep_initial else z[1:] for z in layers]
        grams[f"{name}_gram"] = jnp.stack([gram(z, z, n) for z, n in zip(now, over, strict=True)], axis=1)
        initial = [jnp.broadcast_to(z[0], z_now.shape) for z, z_now in zip(layers, now, strict=True)]
        pairs = zip(now, initial, over, strict=True)
        grams[f"{name}_cross_gram"] = jnp.stack([gram(*three) for three in pairs], axis=1)
    return grams
