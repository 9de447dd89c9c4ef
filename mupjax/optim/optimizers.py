"""SGD and Adam with the per-layer learning rates of a parametrization.

An optimizer is a callable `(scaling, learning_rate) -> optax.GradientTransformation`, because every width has its own
scaling tree. `sgd`, `adam` and `adamw` have this form; `functools.partial` sets their keywords.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jaxtyping import PyTree

from mupjax.optim.normalized import normalize_where_asked
from mupjax.optim.transforms import by_path, drop_initial_weights, scale_by_parametrization, scale_each

ScalingTree = PyTree  # of ParamScaling, as `mupjax.scaling_tree` returns it; `by_path` checks the leaves
Number = float | jax.Array
LearningRate = Number | np.number | optax.Schedule  # a number, or a function of the step


@runtime_checkable
class Optimizer(Protocol):
    """A callable that builds an Optax transform from a scaling tree and a base learning rate.

    The second argument is a number or an Optax schedule. `functools.partial(mupjax.sgd, momentum=0.9)` is an Optimizer.
    """

    def __call__(self, scaling: ScalingTree, learning_rate: LearningRate, /) -> optax.GradientTransformation:
        """Return the finished transform, learning rate included."""
        ...


def sgd(
    scaling: ScalingTree,
    learning_rate: LearningRate,
    *,
    momentum: Number = 0.0,
    nesterov: bool = False,
    weight_decay: Number = 0.0,
    steps_taken: Number = 0,
) -> optax.GradientTransformation:
    r"""Return SGD with the parametrization's rates: :math:`w \leftarrow w - \eta (r_w u + \lambda w)`.

    u is the gradient or its momentum, divided by its Frobenius norm if the parametrization normalizes updates (`nup`).
    The decay :math:`\lambda` is decoupled: it bypasses the momentum, and its product with the rate does not scale with
    width. For decay coupled to the gradient chain `optax.add_decayed_weights` in front. Numbers may be arrays, so that
    `optax.inject_hyperparams(sgd)(scaling, learning_rate=...)` works.

    Args:
      scaling: a scaling tree.
      learning_rate: a number or an Optax schedule.
      momentum: decay of the momentum, in [0, 1).
      nesterov: whether to use Nesterov's momentum.
      weight_decay: lambda >= 0.
      steps_taken: as in `scale_by_parametrization`.

    Raises:
      ValueError: if `momentum` or `weight_decay` is out of range; arrays are not checked.
      TypeError: if a leaf of `scaling` is not a ParamScaling.

    Example:
      >>> from functools import partial
      >>> from mupjax.parametrization import mup
      >>> with_momentum = partial(sgd, momentum=0.9)  # as `optimizer=` takes it
      >>> transform = with_momentum({"w": mup().scales("input", 3, 8)}, 0.1)
    """
    check_range(momentum=momentum, weight_decay=weight_decay)
    chain = optax.chain(
        optax.identity() if _is_zero(momentum) else optax.trace(decay=momentum, nesterov=nesterov),
        normalize_where_asked(scaling),
        scale_by_parametrization(scaling, "sgd", steps_taken=steps_taken),
        optax.identity() if _is_zero(weight_decay) else optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),  # pyright: ignore[reportArgumentType]
    )
    return drop_initial_weights(chain, scaling, steps_taken=steps_taken)


def adamw(
    scaling: ScalingTree,
    learning_rate: LearningRate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 1e-4,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    r"""Return AdamW with the parametrization's rates, decoupled decay and an epsilon that scales with the gradient.

    Gradients shrink with width, so that a fixed epsilon would dominate at large width. Each parameter's epsilon is
    `eps * adam_epsilon_mult`, equal to `eps` at the base width. The product of decay and rate does not scale.

    Args:
      scaling: a scaling tree.
      learning_rate: a number or an Optax schedule.
      b1, b2, eps, nesterov: as in `optax.adam`.
      weight_decay: lambda of :math:`w \leftarrow w - \eta (r_w u + \lambda w)`.

    Raises:
      ValueError: if the parametrization normalizes updates or has a first step of its own, both derived for SGD.
      TypeError: if a leaf of `scaling` is not a ParamScaling.

    Example:
      >>> from mupjax.parametrization import mup
      >>> transform = adamw({"w": mup().scales("input", 3, 8)}, 0.01, weight_decay=0.1)
    """
    smaller = {name: 1 / leaf.adam_epsilon_mult for name, leaf in by_path(scaling).items()}
    return optax.chain(
        scale_each(smaller),  # Adam at eps k equals Adam of g/k at eps
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps, nesterov=nesterov),
        scale_by_parametrization(scaling, "adam"),
        optax.identity() if _is_zero(weight_decay) else optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),  # pyright: ignore[reportArgumentType]
    )


def adam(
    scaling: ScalingTree,
    learning_rate: LearningRate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Return Adam with the parametrization's rates and an epsilon that scales with the gradient; see `adamw`.

    Example:
      >>> from mupjax.parametrization import mup
      >>> transform = adam({"w": mup().scales("input", 3, 8)}, 0.01)
    """
    return adamw(scaling, learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=0.0, nesterov=nesterov)


def check_range(*, momentum: Number, weight_decay: Number) -> None:
    """Raise ValueError if a number is out of range; arrays may be tracers and are not checked."""
    if isinstance(momentum, int | float) and not 0 <= momentum < 1:
        raise ValueError(f"Expected `momentum` to be in [0, 1), got momentum={momentum!r}.")
    if isinstance(weight_decay, int | float) and not weight_decay >= 0:
        raise ValueError(f"Expected `weight_decay` to be >= 0, got weight_decay={weight_decay!r}.")


def _is_zero(number: Number) -> bool:
    return isinstance(number, int | float) and number == 0  # arrays may be tracers and are not inspected


OPTIMIZERS: dict[str, Optimizer] = {"sgd": sgd, "adam": adam, "adamw": adamw}  # by the names that studies take
