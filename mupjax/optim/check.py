"""Check that learning-rate multipliers survive every transform that an optimizer chains."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from mupjax.optim.optimizers import Optimizer
from mupjax.optim.transforms import MULTIPLIERS, Rule, by_path, check_rule, is_normalized, is_scaling, is_switched
from mupjax.parametrization import ParamScaling


def check_optimizer(optimizer: Optimizer, scaling: PyTree, rule: Rule | None = "sgd", *, max_steps: int = 64) -> None:
    """Check that learning-rate multipliers survive every transform that the optimizer chains.

    The check builds `optimizer(scaling, 1.0)`, feeds equal gradients until an update is non-zero, and compares the
    ratios of the updates with the rule's multipliers to 1e-3. Parameters whose update stays exactly zero are frozen and
    not compared. If the first step has multipliers of its own, the first non-zero update must show these and the next
    one the later multipliers. If the parametrization drops initial weights, the optimizer must drop them. The check
    runs at trace time on one-element parameters: with small gradients, which clipping does not reach, and if these
    fail with large ones, which outweigh any epsilon.

    Args:
      optimizer: a callable (scaling, learning_rate) -> optax.GradientTransformation.
      scaling: a scaling tree.
      rule: 'sgd' or 'adam', or None to detect it: 'sgd' if doubled gradients double the updates.
      max_steps: maximum number of gradients (MultiSteps and warm-ups return zeros first).

    Raises:
      ValueError: if a multiplier does not survive; the message names the parameter's path with the expected and the
        observed multiplier.

    Warns:
      UserWarning: if all updates are zero, which leaves the check undetermined.

    Example:
      >>> from mupjax.optim import sgd
      >>> from mupjax.parametrization import mup
      >>> check_optimizer(sgd, {"w": mup().scales("input", 3, 8), "v": mup().scales("output", 8, 1)})
    """
    if rule is not None:
        check_rule(rule)
    lost = None
    with jax.ensure_compile_time_eval():
        _check_dropped(optimizer, scaling)
        _check_normalized(optimizer, scaling, max_steps)
        first_updates = _probe(optimizer, scaling, max_steps)
        for gradient in (1e-4, 1e4):
            updates = first_updates(gradient)
            if not updates:
                warnings.warn(f"check_optimizer: undetermined, {max_steps} updates were all zero.", stacklevel=2)
                return
            applied = "sgd" if is_normalized(scaling) else rule
            if applied is None:
                growth = _norm(first_updates(2 * gradient)[0]) / _norm(updates[0])
                applied = "sgd" if abs(growth - 2) < abs(growth - 1) else "adam"
            found = _lost_multiplier(updates[0], scaling, applied, first=True)
            if found is None and len(updates) > 1:
                found = _lost_multiplier(updates[1], scaling, applied, first=False)
            if found is None:
                return
            lost = lost or found
    raise ValueError(lost)


def _check_dropped(optimizer: Optimizer, scaling: PyTree) -> None:
    """Raise ValueError if a first update of gradient zero does not shrink the weights to the fraction to be kept."""
    kept = {name: leaf.init_kept for name, leaf in by_path(scaling).items() if leaf.init_kept is not None}
    if not kept:
        return
    params = jax.tree.map(lambda _: jnp.ones((1, 1)), scaling, is_leaf=is_scaling)
    transform = optimizer(scaling, 1e-6)  # hides weight decay
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the weights here are not initial ones
        state = transform.init(params)
    transform = optax.with_extra_args_support(transform)
    updates, _ = transform.update(jax.tree.map(jnp.zeros_like, params), state, params, value_fn=_half_square)
    for name, update in zip(by_path(scaling), jax.tree.leaves(updates), strict=True):
        left = 1 + float(update.ravel()[0])
        if abs(left - kept.get(name, 1.0)) > 1e-3:
            raise ValueError(
                f"Expected the first step to keep {kept.get(name, 1.0):.4g} of the initial {name}, got {left:.4g}: is "
                "drop_initial_weights missing around the optimizer?"
            )


def _check_normalized(optimizer: Optimizer, scaling: PyTree, max_steps: int) -> None:
    """Raise ValueError if the scaling asks for normalized updates and doubled gradients still double them."""
    if not is_normalized(scaling):
        return
    first_updates = _probe(optimizer, scaling, max_steps)
    small, large = first_updates(1e-4), first_updates(2e-4)
    if small and _norm(large[0]) > 1.5 * _norm(small[0]):
        raise ValueError(
            "Expected updates of fixed size where the parametrization normalizes them (nup), got updates that double "
            "with the gradient: is normalize_updates missing before scale_by_parametrization?"
        )


def _lost_multiplier(updates: list[jax.Array], scaling: PyTree, rule: Rule, *, first: bool) -> str | None:
    """Return a message about the first update whose ratio to the others is not the rule's, or None."""

    def multiplier_of(leaf: ParamScaling) -> float | jax.Array:
        own = leaf.sgd_lr_mult_first
        return own if first and own is not None else getattr(leaf, MULTIPLIERS[rule])

    compared = [
        (name, multiplier_of(leaf), float(update.ravel()[0]))
        for (name, leaf), update in zip(by_path(scaling).items(), updates, strict=True)
        if not bool(jnp.all(update == 0))
    ]
    name_0, multiplier_0, update_0 = compared[0]
    for name, multiplier, update in compared:
        got = multiplier_0 * update / update_0
        if not abs(got / multiplier - 1) <= 1e-3:
            why = "is scale_by_parametrization missing, before a stage that normalises gradients, or of the other rule?"
            if first and is_switched(scaling):
                why += " Or does a warm-up hold the first step, which has rates of its own, at zero?"
            return (
                f"Expected the optimizer to keep the {rule} multiplier {multiplier:.4g} of {name} relative to "
                f"{name_0}, got {got:.4g}: {why}"
            )
    return None


def _probe(optimizer: Optimizer, scaling: PyTree, max_steps: int) -> Callable[[float], list[list[jax.Array]]]:
    """Return a function from the size of equal gradients to the optimizer's first non-zero updates.

    It returns one update, or two if the first step differs from the later ones.
    """
    wanted = 2 if is_switched(scaling) else 1
    transform = optax.with_extra_args_support(optimizer(scaling, 1.0))
    update = jax.jit(partial(transform.update, value_fn=_half_square))
    # Small enough to hide weight decay, and non-zero for stages that normalise by a parameter's norm
    # (optax.scale_by_trust_ratio).
    params = jax.tree.map(lambda _: jnp.full((1, 1), 1e-12), scaling, is_leaf=is_scaling)

    def first_updates(gradient: float) -> list[list[jax.Array]]:
        gradients = jax.tree.map(lambda p: jnp.full_like(p, gradient), params)
        state, found = transform.init(params), []
        for _ in range(max_steps):
            updates, state = update(gradients, state, params)
            leaves = jax.tree.leaves(updates)
            if any(bool(jnp.any(leaf != 0)) for leaf in leaves):
                found.append(leaves)
            if len(found) == wanted:
                break
        return found

    return first_updates


def _half_square(params: PyTree) -> Float[Array, ""]:
    """Return half the squared norm, a loss for transforms that need `value_fn`."""
    return 0.5 * jnp.sum(jnp.stack([jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)]))


def _norm(leaves: list[jax.Array]) -> float:
    return float(optax.tree.norm(leaves))
