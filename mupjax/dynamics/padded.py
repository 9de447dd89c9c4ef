r"""Dense training of networks whose width and parametrization are numbers: one compiled program for many of them.

A narrower network is the corner of a wider one: its kernels are padded with zeros and the activations of absent units
are held at zero, so that nothing flows through them, forward or backward, and their weights stay zero. Because rows of
Gaussians are drawn from a prefix (`network.rowwise_normal`), the corner holds the very weights that `dense.train`
draws from the same key. Training then differs from the unpadded network's by float32 rounding alone. Matrix products
have the precision of `dense`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mupjax import devices, optim
from mupjax.activations import Activation
from mupjax.dynamics import dense
from mupjax.network import MLP, Features
from mupjax.parametrization import ONE, ZERO, Parametrization, ParamScaling, Role
from mupjax.task import Task
from mupjax.trajectory import Trajectory, TrajectorySpec

_NUMBERS = (
    "multiplier",
    "init_std",
    "sgd_lr_mult",
    "adam_lr_mult",
    "adam_epsilon_mult",
    "init_mean",
    "sgd_lr_mult_first",
    "init_kept",
    "normalized",
)
_UNIT = Parametrization("unit", ZERO, ZERO, ZERO, ZERO, sigma=ONE)  # standard Gaussians in every parameter


class Member(NamedTuple):
    """What tells a network from its siblings; arrays, so that members lie along a runs axis.

    widths: [L] int32, units of the hidden layers. scalings: [2 (L + 1), 9], the numbers of each kernel's ParamScaling,
    then of each bias's; those of a bias that is absent keep it at zero. residual: [2], what a hidden layer takes of the
    layer below and of its own kernel's product: (0, 1) without residual branches.
    """

    widths: Any
    scalings: Any
    residual: Any


class Family(NamedTuple):
    """What siblings share: hashable, a constant of the compiled program.

    widths: padded units of every hidden layer. padded: whether a member may have fewer. multiplied: whether a member
    may have forward factors other than 1. switched: whether a member may have a first step of its own. biased: whether
    a member may have biases. normalized: whether a member may have normalized updates. branched: residual branches.
    """

    widths: tuple[int, ...]
    activation: Activation
    optimizer: optim.Optimizer
    steps: int
    centred: bool
    spec: TrajectorySpec
    padded: bool
    multiplied: bool
    switched: bool = False
    biased: bool = False
    normalized: bool = False
    branched: bool = False


def member(parametrization: Parametrization, task: Task, widths: tuple[int, ...]) -> Member:
    """Return the numbers of a network with these hidden widths."""
    parametrization.check_depth(len(widths))
    numbers = []
    for biases in (False, True):
        for layer, (role, *fans) in enumerate(_parameters(task, widths, len(widths), biases=biases), 1):
            numbers.append(_numbers(parametrization.scales(role, *fans, layer=layer)))
            if biases and not parametrization.has_bias(layer):
                numbers[-1] = [
                    0.0 if name in _MOVES else value for name, value in zip(_NUMBERS, numbers[-1], strict=True)
                ]
    dtype, r = task.x_train.dtype, parametrization.residual
    if r is not None and len(set(widths)) > 1:
        raise ValueError(f"Expected layers of one width where there are residual branches, got width={widths}.")
    branch = (0.0, 1.0) if r is None else (1.0, len(widths) ** -r)
    return Member(np.array(widths, np.int32), np.array(numbers, dtype), np.array(branch, dtype))


_MOVES = ("init_std", "init_mean", "sgd_lr_mult", "sgd_lr_mult_first", "adam_lr_mult")


def _numbers(leaf: ParamScaling) -> list[float]:
    """A scaling's numbers; where the first step is as the later ones, its numbers say so."""
    first = leaf.sgd_lr_mult if leaf.sgd_lr_mult_first is None else leaf.sgd_lr_mult_first
    whole = replace(leaf, sgd_lr_mult_first=first, init_kept=1.0 if leaf.init_kept is None else leaf.init_kept)
    return [getattr(whole, name) for name in _NUMBERS]


# (network, scaling tree) -> observers by name; the network is a function of parameters and inputs to Features.
Observe = Callable[[Callable[[Any, Any], Any], Any], tuple[tuple[str, dense.Observer], ...]]


def train(
    task: Task, one: Member, key: jax.Array, rate: Any, batches: Any, family: Family, observe: Observe | None = None
) -> Trajectory:
    """Train one member of a family. Pure in everything but `family`, which is static.

    Args:
      task: data and loss.
      one: width and scalings.
      key: random key of the initial weights, as in `dense.train`.
      rate: the base learning rate.
      batches: [T, B] or None.
      family: what is static.
      observe: makes observers of the member's network, for `dense.loop`.

    Returns:
      A Trajectory equal to `dense.train`'s of this member to rounding.

    Example:
      >>> import jax, numpy as np
      >>> from mupjax import activations
      >>> from mupjax.parametrization import mup
      >>> task, spec = Task(np.eye(4), np.ones((4, 1))), TrajectorySpec(grams=())
      >>> family = Family((16, 16), activations.get("tanh"), optim.sgd, 3, False, spec, padded=True, multiplied=False)
      >>> train(task, member(mup(), task, (8, 8)), jax.random.key(0), 0.5, None, family).train_loss.shape
      (4,)
    """
    scaling = _scaling_tree(task, one, family)
    observers = observe(partial(_features, one, family), scaling) if observe else ()
    with devices.training_precision():
        return dense.loop(
            task,
            _initial(task, one, key, family),
            partial(_features, one, family),
            family.optimizer(scaling, rate),
            batches,
            dense.Recipe(family.steps, family.spec, family.centred, observers=observers),
            tuple(one.widths) if family.padded else None,
        )


def can_pad(activation: Activation) -> bool:
    """Whether absent units pass no NaN backward: the derivative at 0 is finite."""
    return bool(np.isfinite(jax.grad(activation.phi)(jnp.zeros(()))))


def _parameters(task: Task, widths: Any, depth: int, *, biases: bool = False) -> list[tuple[Role, Any, Any]]:
    """Role, fan_in and fan_out of every kernel, or of every bias."""
    fans = list(pairwise([task.input_dim, *(widths[layer] for layer in range(depth)), task.out_dim]))
    roles: tuple[Role, ...] = ("input", *("hidden" for _ in range(depth - 1)), "output")
    if biases:
        roles = (*("bias" for _ in range(depth)), "output_bias")
    return [(role, *fan) for role, fan in zip(roles, fans, strict=True)]


def _names(depth: int) -> list[str]:
    """Layers as `MLP` names them."""
    return [*(f"layer_{layer}" for layer in range(1, depth + 1)), "readout"]


def _rows(family: Family) -> list[tuple[str, str, int]]:
    """Layer, name and row of the numbers of every parameter."""
    layers = _names(len(family.widths))
    names = ("kernel", "bias") if family.biased else ("kernel",)
    return [(layer, name, row + k * len(layers)) for k, name in enumerate(names) for row, layer in enumerate(layers)]


def _scaling_tree(task: Task, one: Member, family: Family) -> dict[str, dict[str, ParamScaling]]:
    """The member's scaling tree; its numbers may be tracers."""
    depth = one.widths.shape[0]
    fans = [*_parameters(task, one.widths, depth), *_parameters(task, one.widths, depth, biases=True)]
    tree: dict[str, dict[str, ParamScaling]] = {layer: {} for layer in _names(depth)}
    for layer, name, row in _rows(family):
        numbers: dict[str, Any] = dict(zip(_NUMBERS, one.scalings[row], strict=True))
        if not family.switched:
            numbers |= {"sgd_lr_mult_first": None, "init_kept": None}
        numbers["normalized"] = numbers["normalized"] > 0 if family.normalized else False
        tree[layer][name] = ParamScaling(*fans[row], **numbers)
    return tree


def _initial(task: Task, one: Member, key: jax.Array, family: Family) -> dict[str, dict[str, jax.Array]]:
    """Gaussians as `MLP.init` draws them at the padded width, scaled, with zeros for what is absent."""
    depth = len(family.widths)
    model = MLP(family.widths, depth, task.out_dim, _UNIT, family.activation, use_bias=family.biased)
    params = nn.meta.unbox(model.init(key, task.x_train[:1]))["params"]
    std, mean = (one.scalings[:, _NUMBERS.index(name)] for name in ("init_std", "init_mean"))
    for layer, name, row in _rows(family):
        params[layer][name] = std[row] * params[layer][name] + mean[row]
    if not family.padded:
        return params
    present = [jnp.full(task.input_dim, True), *_present(one, family), jnp.full(task.out_dim, True)]
    for layer, (rows, columns) in zip(_names(depth), pairwise(present), strict=True):
        params[layer]["kernel"] = jnp.where(rows[:, None] & columns[None, :], params[layer]["kernel"], 0)
        if family.biased:
            params[layer]["bias"] = jnp.where(columns, params[layer]["bias"], 0)
    return params


def _present(one: Member, family: Family) -> list[jax.Array]:
    """Which units of every hidden layer there are, L arrays of bool [n_l]."""
    return [jnp.arange(width) < one.widths[layer] for layer, width in enumerate(family.widths)]


def _features(one: Member, family: Family, params: Any, inputs: jax.Array) -> Features:
    """`MLP.features` with absent units held at zero."""
    phi: Callable[[jax.Array], jax.Array] = family.activation.phi
    present = _present(one, family)

    def product(x: jax.Array, row: int, name: str) -> jax.Array:
        y = jnp.matmul(x, params[name]["kernel"])
        y = one.scalings[row, 0] * y if family.multiplied else y
        if not family.biased:
            return y
        bias = params[name]["bias"]
        return y + (one.scalings[row + len(layers) + 1, 0] * bias if family.multiplied else bias)[None, :]

    *layers, readout = _names(len(family.widths))
    hs, xs = [], []
    x = inputs / inputs.shape[-1] ** 0.5
    for row, name in enumerate(layers):
        h = product(x, row, name)
        hs.append(one.residual[0] * hs[-1] + one.residual[1] * h if family.branched and hs else h)
        x = phi(hs[-1])
        x = jnp.where(present[row], x, 0) if family.padded else x
        xs.append(x)
    return Features(tuple(hs), tuple(xs), product(x, len(layers), readout))
