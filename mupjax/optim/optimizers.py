"""SGD and Adam with the per-layer learning rates of a parametrization.

An `optimizer` is a callable `(scaling, learning_rate) -> optax.GradientTransformation`, since every width has its own
scaling tree; `sgd`, `adam` and `adamw` have this form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax

from mupjax.optim.normalized import normalize_where_asked
from mupjax.optim.transforms import by_path, drop_initial_weights, scale_by_parametrization, scale_each

Optimizer = Callable[[Any, Any], optax.GradientTransformation]


def sgd(
    scaling: Any,
    learning_rate: Any,
    *,
    momentum: Any = 0.0,
    nesterov: bool = False,
    weight_decay: Any = 0.0,
    steps_taken: Any = 0,
) -> optax.GradientTransformation:
    r"""SGD with the parametrization's rates: :math:`w \leftarrow w - \eta (r_w u + \lambda w)`.

    Where the parametrization normalizes updates (`nup`) u is the gradient, or its momentum, over its Frobenius norm.
    `weight_decay` :math:`\lambda` is decoupled: it does not pass through the momentum, and its product with the rate
    :math:`\eta` does not scale with width. For decay coupled to the gradient chain `optax.add_decayed_weights` in
    front. Numbers may be arrays, so `optax.inject_hyperparams(sgd)(scaling, learning_rate=...)` works.

    Args:
      scaling: a scaling tree.
      learning_rate: a number or an Optax schedule.
      momentum: in [0, 1).
      nesterov: whether the momentum is Nesterov's.
      weight_decay: lambda >= 0.
      steps_taken: as in `scale_by_parametrization`.
    """
    chain = optax.chain(
        optax.identity() if _is_zero(momentum) else optax.trace(decay=momentum, nesterov=nesterov),
        normalize_where_asked(scaling),
        scale_by_parametrization(scaling, "sgd", steps_taken=steps_taken),
        optax.identity() if _is_zero(weight_decay) else optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
    return drop_initial_weights(chain, scaling, steps_taken=steps_taken)


def adamw(
    scaling: Any,
    learning_rate: Any,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 1e-4,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    r"""AdamW with the parametrization's rates, decoupled decay and an epsilon that scales with the gradient.

    Gradients shrink with width; a fixed epsilon would come to dominate. Each parameter's epsilon is
    `eps * adam_epsilon_mult`, equal to `eps` at the base width. The decay's product with the rate does not scale.

    Args:
      scaling: a scaling tree.
      learning_rate: a number or an Optax schedule.
      b1, b2, eps, nesterov: as in `optax.adam`.
      weight_decay: lambda of :math:`w \leftarrow w - \eta (r_w u + \lambda w)`.
    """
    smaller = {name: 1 / leaf.adam_epsilon_mult for name, leaf in by_path(scaling).items()}
    return optax.chain(
        scale_each(smaller),  # Adam at eps = Adam on g/k at eps/k
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps, nesterov=nesterov),
        scale_by_parametrization(scaling, "adam"),
        optax.identity() if _is_zero(weight_decay) else optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def adam(
    scaling: Any,
    learning_rate: Any,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Adam with the parametrization's rates and an epsilon that scales with the gradient; see `adamw`."""
    return adamw(scaling, learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=0.0, nesterov=nesterov)


def _is_zero(number: Any) -> bool:
    return isinstance(number, int | float) and number == 0  # an array may be a tracer: it is never looked at


OPTIMIZERS: dict[str, Optimizer] = {"sgd": sgd, "adam": adam, "adamw": adamw}  # by the names that studies take
