"""Dense training of networks whose width and parametrization are numbers: one compiled program for many of them.

A family of networks shares one program: its widths are the largest of any member, where narrower members are padded
(`MLP.present`), and each member's scalings are arrays. Training differs from the unpadded network's (`dense.train` with
the same key) by float32 rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree

from mupjax import devices, optim
from mupjax.activations import Activation
from mupjax.dynamics import dense
from mupjax.network import MLP, Features, features_of, hidden_widths, scaling_tree
from mupjax.parametrization import Parametrization, ParamScaling, Role, Traits
from mupjax.task import Task
from mupjax.trajectory import Trajectory, TrajectorySpec

_NUMBERS = tuple(field.name for field in fields(ParamScaling) if field.name not in ("role", "fan_in", "fan_out"))


class Member(NamedTuple):
    """A network of a family, as arrays, so that members lie along a runs axis.

    Attributes:
      widths: [L] int32, units of the hidden layers.
      scalings: [2 (L + 1), 9] numbers, of each kernel's ParamScaling, then of each bias's; those of a bias that is
        absent keep it at zero.
      residual: [2], factors of the layer below and of its own kernel's product in a hidden layer: (0, 1) without
        residual branches.
    """

    widths: jax.Array | np.ndarray
    scalings: jax.Array | np.ndarray
    residual: jax.Array | np.ndarray


class Family(NamedTuple):
    """Settings that members share: hashable, constants of the compiled program.

    Attributes:
      widths: units of every hidden layer, those of padding included.
      activation: of all hidden layers.
      optimizer: a callable (scaling, learning_rate) -> optax.GradientTransformation; it gets traced scalings.
      steps: number of updates.
      centred: whether f - f_0 is trained.
      spec: what to record.
      padded: whether a member may have fewer units.
      traits: those that a member may have.
    """

    widths: tuple[int, ...]
    activation: Activation
    optimizer: optim.Optimizer
    steps: int
    centred: bool
    spec: TrajectorySpec
    padded: bool
    traits: Traits = Traits()


# (network, scaling tree) -> observers by name; the network is a function of parameters and inputs to Features.
Observe = Callable[[Callable[[PyTree, jax.Array], Features], optim.ScalingTree], tuple[tuple[str, dense.Observer], ...]]


def member(parametrization: Parametrization, task: Task, widths: tuple[int, ...]) -> Member:
    """Return a network with these hidden widths as arrays.

    Raises:
      ValueError: for widths or a depth that the parametrization is not made for.

    Example:
      >>> from mupjax.parametrization import mup
      >>> one = member(mup(), Task(np.eye(4), np.ones((4, 1))), (8, 16))
      >>> one.widths, one.scalings.shape
      (array([ 8, 16], dtype=int32), (6, 9))
    """
    depth, dtype = len(hidden_widths(widths, len(widths), parametrization)), task.x_train.dtype
    roles: tuple[Role, ...] = ("input", *("hidden" for _ in range(depth - 1)), "output")
    bias_roles: tuple[Role, ...] = (*("bias" for _ in range(depth)), "output_bias")
    fans = list(enumerate(pairwise((task.input_dim, *widths, task.out_dim)), start=1))
    kernels = [parametrization.scales(role, *fan, layer) for role, (layer, fan) in zip(roles, fans, strict=True)]
    biases = [parametrization.scales(role, *fan, layer) for role, (layer, fan) in zip(bias_roles, fans, strict=True)]
    rows = [_numbers(leaf) for leaf in kernels]
    rows += [_numbers(leaf, fixed=not parametrization.has_bias(layer)) for layer, leaf in enumerate(biases, start=1)]
    factors = parametrization.residual_factors(depth) or (0.0, 1.0)
    return Member(np.array(widths, np.int32), np.array(rows, dtype), np.array(factors, dtype))


_SIZES = ("init_std", "init_mean", "sgd_lr_mult", "sgd_lr_mult_first", "adam_lr_mult")


def _numbers(leaf: ParamScaling, *, fixed: bool = False) -> list[float]:
    """The numbers of a scaling, those of the first step too; a `fixed` parameter starts at zero and stays there."""
    numbers = vars(leaf) | ({"sgd_lr_mult_first": leaf.sgd_lr_mult} if leaf.sgd_lr_mult_first is None else {})
    numbers |= {"init_kept": 1.0} if leaf.init_kept is None else {}
    return [0.0 if fixed and name in _SIZES else float(numbers[name]) for name in _NUMBERS]


@dataclass(frozen=True)
class _MemberScales:
    """A member's numbers, which may be traced, as a network reads them (`network.Scales`).

    traits: those of the family; parts that it lacks are constants and stay out of the program.
    """

    member: Member
    traits: Traits
    name: str = "a family"

    def scales(self, role: Role, fan_in: ArrayLike, fan_out: ArrayLike, layer: Any = None) -> ParamScaling:
        depth, row = len(self.member.widths), layer - 1
        is_bias = role in ("bias", "output_bias")
        numbers: dict[str, Any] = dict(zip(_NUMBERS, self.member.scalings[row + is_bias * (depth + 1)], strict=True))
        if not self.traits.multipliers:
            numbers["multiplier"] = 1.0
        if not self.traits.first_step:
            numbers |= {"sgd_lr_mult_first": None, "init_kept": None}
        numbers["normalized"] = numbers["normalized"] > 0 if self.traits.normalized else False
        fan_in = fan_in if row == 0 else self.member.widths[row - 1]
        return ParamScaling(role, fan_in, fan_out if row == depth else self.member.widths[row], **numbers)

    def has_bias(self, layer: int) -> bool:
        return self.traits.biases

    def residual_factors(self, depth: int) -> tuple[ArrayLike, ArrayLike] | None:
        return (self.member.residual[0], self.member.residual[1]) if self.traits.residual else None

    def layer_widths(self, width: int, depth: int) -> tuple[int, ...]:
        return (width,) * depth

    def check_widths(self, widths: tuple[int, ...]) -> None:
        """Accept them: those of the member were checked when it was made."""


def model(task: Task, one: Member, family: Family) -> MLP:
    """Return a member as a network of the family's widths, to be used where the member's arrays may be traced."""
    scales, present = _MemberScales(one, family.traits), one.widths if family.padded else None
    return MLP(family.widths, len(family.widths), task.out_dim, scales, family.activation, present=present)


def train(
    task: Task,
    one: Member,
    key: jax.Array,
    rate: optim.LearningRate,
    batches: jax.Array | None,
    family: Family,
    observe: Observe | None = None,
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
      >>> family = Family((16, 16), activations.get("tanh"), optim.sgd, 3, False, spec, padded=True)
      >>> train(task, member(mup(), task, (8, 8)), jax.random.key(0), 0.5, None, family).train_loss.shape
      (4,)
    """
    mlp = model(task, one, family)
    boxed = mlp.init(key, task.x_train[:1])
    scaling, features = scaling_tree(boxed), partial(features_of, mlp)
    observers = observe(features, scaling) if observe else ()
    with devices.training_precision():
        return dense.loop(
            task,
            nn.meta.unbox(boxed)["params"],
            features,
            family.optimizer(scaling, rate),
            batches,
            dense.Recipe(family.steps, family.spec, family.centred, observers=observers),
            tuple(one.widths) if family.padded else None,
        )


def can_pad(activation: Activation) -> bool:
    """Return whether absent units pass no NaN backward: the derivative at 0 is finite."""
    return bool(np.isfinite(jax.grad(activation.phi)(jnp.zeros(()))))
