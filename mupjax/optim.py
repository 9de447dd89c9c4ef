r"""Optax transforms that apply the per-layer learning rates of a parametrization.

An `optimizer` is a callable `(scaling, learning_rate) -> optax.GradientTransformation`, since every width has its own
scaling tree; `sgd`, `adam` and `adamw` have this form.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from mupjax.network import ScaledParam, is_boxed
from mupjax.parametrization import ParamScaling

Rule = Literal["sgd", "adam"]
Optimizer = Callable[[Any, Any], optax.GradientTransformation]
_MULTIPLIERS = {"sgd": "sgd_lr_mult", "adam": "adam_lr_mult"}


def scale_by_parametrization(scaling: Any, rule: Rule = "sgd") -> optax.GradientTransformation:
    """Multiply every update by its parameter's learning-rate multiplier.

    Put it AFTER whatever normalises gradients (Adam erases a factor that comes before it) and choose the rule of that
    stage: 'sgd' where updates are proportional to gradients, 'adam' where their size does not depend on them.
    `check_optimizer` tests a finished chain.

    Args:
      scaling: a scaling tree (`scaling_tree(variables)`), shaped like the parameters.
      rule: 'sgd' or 'adam'.

    Raises:
      ValueError: for an unknown rule, or updates whose tree is not the scaling's; the message names the paths.
      TypeError: for a scaling tree with other leaves, as one of parameters has.

    Example:
      >>> import optax
      >>> from mupjax.parametrization import mup
      >>> scaling = {"w": mup().scales("input", 3, 8)}
      >>> chain = optax.chain(scale_by_parametrization(scaling), optax.sgd(0.1))
    """
    _check_rule(rule)
    return _scale_each(scaling, lambda leaf: getattr(leaf, _MULTIPLIERS[rule]))


def sgd(
    scaling: Any, learning_rate: Any, *, momentum: Any = 0.0, nesterov: bool = False, weight_decay: Any = 0.0
) -> optax.GradientTransformation:
    r"""SGD with the parametrization's rates: :math:`w \leftarrow w - \eta (r_w u + \lambda w)`.

    `weight_decay` :math:`\lambda` is decoupled: it does not pass through the momentum, and its product with the rate
    :math:`\eta` does not scale with width. For decay coupled to the gradient chain `optax.add_decayed_weights` in
    front. Numbers may be arrays, so `optax.inject_hyperparams(sgd)(scaling, learning_rate=...)` works.

    Args:
      scaling: a scaling tree.
      learning_rate: a number or an Optax schedule.
      momentum: in [0, 1).
      nesterov: whether the momentum is Nesterov's.
      weight_decay: lambda >= 0.
    """
    return optax.chain(
        optax.identity() if _is_zero(momentum) else optax.trace(decay=momentum, nesterov=nesterov),
        scale_by_parametrization(scaling, "sgd"),
        optax.identity() if _is_zero(weight_decay) else optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


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
    return optax.chain(
        _scale_each(scaling, lambda leaf: 1 / leaf.adam_epsilon_mult),  # Adam at eps = Adam on g/k at eps/k
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


def check_optimizer(optimizer: Optimizer, scaling: Any, rule: Rule | None = "sgd", *, max_steps: int = 64) -> None:
    """Check that the learning-rate multipliers survive everything the optimizer chains.

    Builds `optimizer(scaling, 1.0)`, feeds equal gradients until an update is not zero, and compares the updates'
    ratios with the rule's multipliers to 1e-3. A parameter whose update stays exactly zero is frozen: it is not
    compared. Runs at trace time on one-element parameters, once with small gradients (which no clipping reaches) and,
    where that fails, with large ones (which outweigh any epsilon).

    Args:
      optimizer: a callable (scaling, learning_rate) -> optax.GradientTransformation.
      scaling: a scaling tree.
      rule: 'sgd' or 'adam', or None to find out: where doubled gradients double the updates 'sgd' applies.
      max_steps: gradients to feed at most (MultiSteps and warm-ups give zeros first).

    Raises:
      ValueError: where a multiplier does not survive; the message names the parameter's path, what was expected and
        what came.

    Warns:
      UserWarning: where all updates were zero, so that nothing could be decided.
    """
    if rule is not None:
        _check_rule(rule)
    lost = None
    with jax.ensure_compile_time_eval():
        first_updates = _probe(optimizer, scaling, max_steps)
        for gradient in (1e-4, 1e4):
            updates = first_updates(gradient)
            if updates is None:
                warnings.warn(f"check_optimizer: undetermined, {max_steps} updates were all zero.", stacklevel=2)
                return
            applied = rule
            if applied is None:
                growth = _norm(first_updates(2 * gradient)) / _norm(updates)
                applied = "sgd" if abs(growth - 2) < abs(growth - 1) else "adam"
            if (found := _lost_multiplier(updates, scaling, applied)) is None:
                return
            lost = lost or found
    raise ValueError(lost)


def _lost_multiplier(updates: list[jax.Array], scaling: Any, rule: Rule) -> str | None:
    """Return what is wrong with the first update whose ratio to the others is not the rule's; None where all are."""
    compared = [
        (jax.tree_util.keystr(path), getattr(leaf, _MULTIPLIERS[rule]), float(update.ravel()[0]))
        for (path, leaf), update in zip(_scaling_leaves(scaling), updates, strict=True)
        if not bool(jnp.all(update == 0))
    ]
    name_0, multiplier_0, update_0 = compared[0]
    for name, multiplier, update in compared:
        got = multiplier_0 * update / update_0
        if not abs(got / multiplier - 1) <= 1e-3:
            return (
                f"Expected the optimizer to keep the {rule} multiplier {multiplier:.4g} of {name} relative to "
                f"{name_0}, got {got:.4g}: is scale_by_parametrization missing, before a stage that normalises "
                "gradients, or of the other rule?"
            )
    return None


def _probe(optimizer: Optimizer, scaling: Any, max_steps: int) -> Callable[[float], list[jax.Array] | None]:
    """Return a function from the size of equal gradients to the optimizer's first updates that are not all zero."""
    transform = optimizer(scaling, 1.0)
    update = jax.jit(transform.update)
    # Small enough that weight decay does not show, and not zero, where stages that normalise by a parameter's norm
    # (optax.scale_by_trust_ratio) would do nothing.
    params = jax.tree.map(lambda _: jnp.full((1, 1), 1e-12), scaling, is_leaf=_is_scaling)

    def first_updates(gradient: float) -> list[jax.Array] | None:
        gradients = jax.tree.map(lambda p: jnp.full_like(p, gradient), params)
        state = transform.init(params)
        for _ in range(max_steps):
            updates, state = update(gradients, state, params)
            leaves = jax.tree.leaves(updates)
            if any(bool(jnp.any(leaf != 0)) for leaf in leaves):
                return leaves
        return None

    return first_updates


def _norm(leaves: list[jax.Array] | None) -> float:
    return float(optax.tree.norm(leaves))


def _is_zero(number: Any) -> bool:
    return isinstance(number, int | float) and number == 0  # an array may be a tracer: it is never looked at


def _check_rule(rule: Any) -> None:
    if rule not in _MULTIPLIERS:
        raise ValueError(f"Expected `rule` to be 'sgd' or 'adam', got rule={rule!r}.")


def _is_scaling(node: Any) -> bool:
    return isinstance(node, ParamScaling)


def _is_update(node: Any) -> bool:
    return is_boxed(node) or isinstance(node, optax.MaskedNode)


def _scale_each(scaling: Any, factor: Callable[[ParamScaling], Any]) -> optax.GradientTransformation:
    """Multiply each update by `factor` of its scaling; boxed updates and masked ones keep their form."""
    factors = {jax.tree_util.keystr(path): factor(leaf) for path, leaf in _scaling_leaves(scaling)}

    def scale(path: Any, update: Any) -> Any:
        if isinstance(update, optax.MaskedNode):
            return update
        by = factors[jax.tree_util.keystr(path)]
        if isinstance(update, ScaledParam):
            return update.replace_boxed(by * update.value)
        return by * update

    def update(updates: Any, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
        del params
        nodes = [(jax.tree_util.keystr(path), node) for path, node in _with_paths(updates, _is_update)]
        masked = tuple(name for name, node in nodes if isinstance(node, optax.MaskedNode))  # one may hide a whole layer
        paths = {name for name, _ in nodes if name not in masked}
        unscaled = sorted(paths - factors.keys())
        absent = sorted(name for name in factors.keys() - paths if not name.startswith(masked))
        if unscaled or absent:
            raise ValueError(
                "Expected the updates' tree to be the scaling's, got "
                + "; ".join(
                    f"{what} {', '.join(names)}"
                    for what, names in (("no scaling for", unscaled), ("no update for", absent))
                    if names
                )
                + "."
            )
        return jax.tree_util.tree_map_with_path(scale, updates, is_leaf=_is_update), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _scaling_leaves(scaling: Any) -> list[tuple[Any, ParamScaling]]:
    leaves = _with_paths(scaling, _is_scaling)
    for path, leaf in leaves:
        if not _is_scaling(leaf):
            raise TypeError(
                "Expected `scaling` to be a tree of ParamScaling, as scaling_tree(variables) returns it, got "
                f"{type(leaf).__name__} at {jax.tree_util.keystr(path)}."
            )
    return leaves


def _with_paths(tree: Any, is_leaf: Callable[[Any], bool]) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
