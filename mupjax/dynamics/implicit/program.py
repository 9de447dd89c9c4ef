"""Training program of exact finite widths and of the infinite-width limit: steps, batches, recording.

The two differ in the scalings that they give and in where their Gaussians come from. At the start all inputs
are evaluated and enter the conditioning set, so that later features and outputs of every input have the right joint law
with the initial ones. After that, inputs outside the batch are evaluated only when recorded and do not enter the
conditioning set: marginals at each step are exact, joint laws across two later steps are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import ArrayLike, PyTree

from mupjax import optim
from mupjax.dynamics.gram import gram
from mupjax.dynamics.implicit import passes
from mupjax.dynamics.implicit.passes import Back, Net, Pass, Shape
from mupjax.dynamics.implicit.rows import combine
from mupjax.dynamics.recording import keep, when
from mupjax.task import Task, loss_per_sample
from mupjax.trajectory import SpaceTime, Trajectory, TrajectorySpec

# (key of a space, its width, rows at most) -> (tag of a call, rows drawn before, rows) -> Gaussians [rows, width].
Source = Callable[[jax.Array, int, int], Callable[[jax.Array, ArrayLike, int], jax.Array]]
# A step's calls draw with tags of their own; the start, where no pass is remembered, has 0, 1 and 5.
_START, _FORWARD, _BEYOND, _BACKWARD, _TAGS = 0, 2, 3, 4, 5
BACKWARD_FIELDS = ("dh", "dx", "zhat_backward", "zdot_backward")


class Design(NamedTuple):
    """Static settings of the compiled program, hashable.

    Attributes:
      shape: of the network.
      steps: number of updates.
      schedule: of the learning rate; None where that is a number.
      sgd: momentum and decay.
      centred: whether f - f_0 is trained.
      spec: what is recorded.
      source: draws the Gaussians.
    """

    shape: Shape
    steps: int
    schedule: optax.Schedule | None
    sgd: optim.SgdSettings
    centred: bool
    spec: TrajectorySpec
    source: Source


class Info(NamedTuple):
    """How many directions the hidden matrices kept.

    Attributes:
      directions: [2, L-1] from the right (x) and from the left (dh).
      left_out: [2, L-1] largest relative variance of a direction that found no room; 0 where all fitted.
    """

    directions: jax.Array | np.ndarray
    left_out: jax.Array | np.ndarray


def run(
    task: Task,
    key: jax.Array,
    rate: optim.LearningRate | None,
    batches: Any,
    factors: jax.Array | np.ndarray | None,
    design: Design,
) -> Trajectory:
    """Train once. Pure in all arguments but `design`, which is static; factors: [L + 1] of the first step, or None."""
    with jax.default_matmul_precision("highest"):  # conditioning tells directions from rounding
        return _run(task, key, rate, batches, factors, design)


def _run(
    task: Task,
    key: jax.Array,
    rate: Any,
    batches: Any,
    factors: jax.Array | np.ndarray | None,
    design: Design,
) -> Trajectory:
    shape, spec, steps = design.shape, design.spec, design.steps
    full, num_train, dtype = batches is None, task.num_train, task.x_train.dtype
    xi = passes.principal_coordinates(task.inputs)
    at_once = task.num_inputs if full else max(task.num_inputs, batches.shape[1])
    draw = _draws(key, design, at_once, dtype)
    forward, backward = partial(passes.forward, shape), partial(passes.backward, shape)
    net = passes.initial(shape, at_once, draw, jnp.int32(_START), dtype)
    net, first = forward(net, xi, draw, jnp.int32(_FORWARD), remember=True)
    f_0 = passes.outputs(net, first) if design.centred else jnp.zeros((task.num_inputs, task.out_dim), dtype)
    transform = optim.sgd(
        passes.scaling_of(shape, factors),
        rate if design.schedule is None else design.schedule,
        **design.sgd._asdict(),
    )

    def index_at(step: int | jax.Array) -> jax.Array:
        return jnp.arange(num_train) if full else batches[jnp.minimum(step, steps - 1)]

    def chi_of(net: Net, seen: Pass, index: jax.Array) -> jax.Array:
        f = passes.outputs(net, seen) - f_0[index]
        return jax.grad(lambda f: jnp.mean(loss_per_sample(task.loss, f, task.y_train[index])))(f)

    def of_all(net: Net, seen: Pass, step: jax.Array) -> Pass:
        """Return a pass of all inputs; those outside the batch do not enter the conditioning set."""
        beyond = xi[num_train:] if full else xi
        if not len(beyond):
            return seen
        _, rest = forward(net, beyond, draw, step * _TAGS + _BEYOND, remember=False)
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), seen, rest) if full else rest

    def evaluate(net: Net, every: Pass) -> tuple[jax.Array, jax.Array | None, jax.Array]:
        f = passes.outputs(net, every) - f_0
        train_loss = jnp.mean(loss_per_sample(task.loss, f[:num_train], task.y_train))
        test_loss = None
        if task.y_test is not None:
            test_loss = jnp.mean(loss_per_sample(task.loss, f[num_train:], task.y_test))
        eval_inputs = spec.resolve_eval_inputs(task)
        return train_loss, test_loss, f if eval_inputs is None else f[np.array(eval_inputs, int)]

    gram_steps = spec.resolve_gram_steps(steps)
    at_evaluate = _slots(spec.resolve_steps(steps), steps)
    at_grams = _slots(sorted({0, *gram_steps}) if gram_steps else (), steps)
    gram_inputs = np.array(spec.resolve_gram_inputs(task))

    def record(net: Net, every: Pass) -> tuple[PyTree, dict[str, PyTree]]:
        features = _forward_features(net, every, gram_inputs, spec) if gram_steps else {}
        return evaluate(net, every), features

    def advance(carry: PyTree, slots: dict[str, jax.Array]) -> tuple[PyTree, PyTree]:
        """Apply the update of the current pass, run the next batch forward, and record it where required."""
        net, opt_state, seen, kept = carry
        chi = chi_of(net, seen, index_at(slots["step"]))
        net, gradients, back = backward(net, seen, chi, draw, slots["step"] * _TAGS + _BACKWARD)
        kept = kept | _keep_backward(kept, slots["backward"], net, back, gram_inputs, spec)
        updates, opt_state = transform.update(gradients, opt_state, net.params)
        net = net._replace(params=jax.tree.map(jnp.add, net.params, updates))
        step = slots["step"] + 1
        net, seen = forward(net, xi[index_at(step)], draw, step * _TAGS + _FORWARD, remember=True)
        wanted = jnp.maximum(slots["evaluate"], slots["grams"])
        evaluated, features = when(wanted, lambda: record(net, of_all(net, seen, step)))
        kept = kept | {name: keep(kept[name], slots["grams"], lambda n=name: features[n]) for name in features}
        return (net, opt_state, seen, kept), evaluated

    at_start, features = record(net, first)
    kept = _buffers(features, design, len(gram_inputs), int(at_grams.max()) + 1, dtype)
    seen = jax.tree.map(lambda leaf: leaf[index_at(0)], first)
    slots = {"step": np.arange(steps, dtype=np.int32), "evaluate": at_evaluate[1:], "grams": at_grams[1:]}
    slots["backward"] = at_grams[:-1]
    (net, _, seen, kept), later = lax.scan(advance, (net, transform.init(net.params), seen, kept), slots)
    if at_grams[-1] >= 0 and set(BACKWARD_FIELDS) & set(spec.space_time):
        chi = chi_of(net, seen, index_at(steps))
        net, _, back = backward(net, seen, chi, draw, jnp.int32(steps * _TAGS + _BACKWARD))
        kept = kept | _keep_backward(kept, jnp.int32(at_grams[-1]), net, back, gram_inputs, spec)
    train_loss, test_loss, predictions = jax.tree.map(
        lambda one, more: jnp.concatenate([one[None], more])[at_evaluate >= 0], at_start, later
    )
    sides = [[m.right for m in net.matrices], [m.left for m in net.matrices]]
    return Trajectory(
        step=jnp.array(spec.resolve_steps(steps), jnp.int32),
        train_loss=train_loss,
        test_loss=test_loss,
        predictions=predictions,
        **grams_of(kept, shape.activation.phi, spec, keep_initial=0 in gram_steps),
        info=Info(
            jnp.array([[side.count for side in row] for row in sides], jnp.int32),
            jnp.array([[side.left_out for side in row] for row in sides], dtype),
        ),
    )


def _draws(key: jax.Array, design: Design, spare: int, dtype: np.dtype) -> passes.Draw:
    """One stream of Gaussians for each space; `spare` is the most rows that are drawn at once."""
    shape = design.shape
    rows = shape.rank + shape.out_dim + any(bias is not None for bias in shape.biases) + 2 * shape.room + spare
    widths = shape.widths if shape.biases[-1] is None else (*shape.widths, shape.out_dim)
    streams = [design.source(jax.random.fold_in(key, space), width, rows) for space, width in enumerate(widths)]
    return lambda space, tag, before, rows: streams[space](tag, before, rows).astype(dtype)


def _slots(recorded: Sequence[int] | np.ndarray, steps: int) -> np.ndarray:
    """The row that each step 0..steps is recorded in, -1 for none."""
    rows = np.full(steps + 1, -1, np.int32)
    rows[list(recorded)] = np.arange(len(recorded))
    return rows


def _forward_features(
    net: Net, every: Pass, inputs: np.ndarray, spec: TrajectorySpec
) -> dict[str, tuple[jax.Array, ...]]:
    features = {"h": tuple(h[inputs] for h in every.h)}
    if "zhat_forward" in spec.space_time:
        features["zhat_forward"] = tuple(z[inputs] for z in every.gaussian)
    if "zdot_forward" in spec.space_time:
        along = [
            combine(r[inputs], m.left.directions, m.left.count)
            for r, m in zip(every.response, net.matrices, strict=True)
        ]
        features["zdot_forward"] = (jnp.zeros_like(features["h"][0]), *along)
    return features


def _keep_backward(
    kept: dict[str, PyTree], slot: jax.Array, net: Net, back: Back, inputs: np.ndarray, spec: TrajectorySpec
) -> dict[str, PyTree]:
    def zdot() -> tuple[jax.Array, ...]:
        along = [
            combine(r[inputs], m.right.directions, m.right.count)
            for r, m in zip(back.response, net.matrices, strict=True)
        ]
        return (*along, jnp.zeros_like(back.dx[-1][inputs]))

    makers: dict[str, Callable[[], tuple[jax.Array, ...]]] = {
        "dh": lambda: tuple(z[inputs] for z in back.dh),
        "dx": lambda: tuple(z[inputs] for z in back.dx),
        "zhat_backward": lambda: tuple(z[inputs] for z in back.gaussian),
        "zdot_backward": zdot,
    }
    return {name: keep(kept[name], slot, makers[name]) for name in BACKWARD_FIELDS if name in spec.space_time}


def _buffers(features: PyTree, design: Design, num_inputs: int, num_rows: int, dtype: np.dtype) -> dict[str, PyTree]:
    """Room for features [S, G, n] by layer, the first row of the forward ones filled."""
    kept = jax.tree.map(lambda leaf: jnp.zeros((num_rows, *leaf.shape), dtype).at[0].set(leaf), features)
    for name in BACKWARD_FIELDS:
        if name in design.spec.space_time:
            kept[name] = tuple(jnp.zeros((num_rows, num_inputs, width), dtype) for width in design.shape.widths)
    return kept


def grams_of(kept: dict[str, PyTree], phi: Callable, spec: TrajectorySpec, keep_initial: bool) -> dict[str, PyTree]:
    """Contract features [S, G, n] by layer to the Trajectory's Grams [S, L, G, G] and [S, S, L, G, G]."""
    if not kept:
        return {}
    features = kept | {"x": tuple(phi(h) for h in kept["h"])}
    whole = {name: tuple(z if keep_initial else z[1:] for z in layers) for name, layers in features.items()}
    grams: dict[str, PyTree] = {}
    for name in spec.grams:
        grams[f"{name}_gram"] = jnp.stack([gram(z, z) for z in whole[name]], axis=1)
        starts = [jnp.broadcast_to(z[0], now.shape) for z, now in zip(features[name], whole[name], strict=True)]
        pairs = zip(whole[name], starts, strict=True)
        grams[f"{name}_cross_gram"] = jnp.stack([gram(*pair) for pair in pairs], axis=1)
    if spec.space_time:
        between = {name: jnp.stack([_between(z) for z in whole[name]], axis=2) for name in spec.space_time}
        grams["space_time"] = SpaceTime(**{name: between.get(name) for name in SpaceTime._fields})
    return grams


def _between(z: jax.Array) -> jax.Array:
    """Inner products [S, S, G, G] over n of features [S, G, n] of all pairs of steps."""
    steps, inputs, width = z.shape
    flat = z.reshape(steps * inputs, width)
    return gram(flat, flat).reshape(steps, inputs, steps, inputs).transpose(0, 2, 1, 3)
