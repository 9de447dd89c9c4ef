r"""Optax transforms that apply the per-layer learning rates of a parametrization.

Where the first step differs from the later ones (`ip_llr`, `hp` and their kin) they count steps in their state: it
belongs into every checkpoint.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from mupjax.network import ScaledParam, is_boxed
from mupjax.parametrization import ParamScaling

Rule = Literal["sgd", "adam"]
MULTIPLIERS = {"sgd": "sgd_lr_mult", "adam": "adam_lr_mult"}


class FirstStepState(NamedTuple):
    """count: int32, how many updates were made."""

    count: jax.Array


def scale_by_parametrization(scaling: Any, rule: Rule = "sgd", *, steps_taken: Any = 0) -> optax.GradientTransformation:
    """Multiply every update by its parameter's learning-rate multiplier, in the first step by that of the first step.

    Put it AFTER whatever normalises gradients (Adam erases a factor that comes before it) and choose the rule of that
    stage: 'sgd' where updates are proportional to gradients, 'adam' where their size does not depend on them.
    `check_optimizer` tests a finished chain.

    Args:
      scaling: a scaling tree (`scaling_tree(variables)`), shaped like the parameters.
      rule: 'sgd' or 'adam'.
      steps_taken: updates that the parameters had before, for a run that goes on without its optimizer's state.

    Raises:
      ValueError: for an unknown rule, Adam's where the first step differs from the later ones (its rates are derived
        for SGD), updates whose tree is not the scaling's (the message names the paths), a state without step counter.

      TypeError: for a scaling tree with other leaves, as one of parameters has.

    Warns:
      UserWarning: where the first step differs and `init` sees parameters that do not have their initial size.

    Example:
      >>> import optax
      >>> from mupjax.parametrization import mup
      >>> scaling = {"w": mup().scales("input", 3, 8)}
      >>> chain = optax.chain(scale_by_parametrization(scaling), optax.sgd(0.1))
    """
    check_rule(rule)
    if rule == "adam" and is_normalized(scaling):
        raise ValueError(
            "Expected SGD where updates are normalized (nup), got rule='adam', whose updates are so already."
        )
    later = {name: getattr(leaf, MULTIPLIERS[rule]) for name, leaf in by_path(scaling).items()}
    if not is_switched(scaling):
        return scale_each(later)
    if rule == "adam":
        raise ValueError(
            "Expected SGD where the first step has rates or weights of its own (ip_llr, ip_bias, hp, hpz), got "
            "rule='adam': theory derives them from the size of gradients, which Adam's updates do not have."
        )
    first = {
        name: later[name] if leaf.sgd_lr_mult_first is None else leaf.sgd_lr_mult_first
        for name, leaf in by_path(scaling).items()
    }

    def init(params: Any) -> FirstStepState:
        if isinstance(steps_taken, int) and steps_taken == 0:  # an array may be a tracer
            _warn_of_trained(params, scaling)
        return FirstStepState(jnp.asarray(steps_taken, jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, FirstStepState]:
        count = _count(state)
        factors = {name: jnp.where(count == 0, first[name], later[name]) for name in later}
        updates, _ = scale_each(factors).update(updates, optax.EmptyState(), params)
        return updates, FirstStepState(jnp.asarray(optax.safe_increment(count)))

    return optax.GradientTransformation(init, update)


class DroppedState(NamedTuple):
    """count: int32, how many updates were made. inner: the state of the optimizer inside."""

    count: jax.Array
    inner: Any


def drop_initial_weights(
    inner: optax.GradientTransformation, scaling: Any, *, steps_taken: Any = 0
) -> optax.GradientTransformation:
    """Shrink the initial weights in the first step to what the parametrization keeps of them (`hp`, `hpz`).

    The inner optimizer sees, and decays, what is kept: W_1 is what it makes of that.

    Args:
      inner: a finished chain, learning rate included.
      scaling: a scaling tree.
      steps_taken: as in `scale_by_parametrization`.

    Raises:
      ValueError: for an update without parameters, a state without step counter.
    """
    kept = {name: leaf.init_kept for name, leaf in by_path(scaling).items() if leaf.init_kept is not None}
    if not kept:
        return inner

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, DroppedState]:
        if params is None:
            raise ValueError("Expected `params` where the initial weights are dropped, got None.")
        count = _count(state)

        def shrink(path: Any, param: Any) -> Any:
            factor = jnp.where(count == 0, kept.get(jax.tree_util.keystr(path), 1.0), 1.0)
            return param.replace_boxed(factor * param.value) if isinstance(param, ScaledParam) else factor * param

        left = jax.tree_util.tree_map_with_path(shrink, params, is_leaf=_is_update)
        updates, inner_state = inner.update(updates, state.inner, left)
        dropped = jax.tree.map(lambda update, old, new: update + (new - old), updates, params, left)
        return dropped, DroppedState(jnp.asarray(optax.safe_increment(count)), inner_state)

    return optax.GradientTransformation(
        lambda params: DroppedState(jnp.asarray(steps_taken, jnp.int32), inner.init(params)), update
    )


def is_switched(scaling: Any) -> bool:
    """Whether the first step of some parameter differs from its later ones."""
    return any(leaf.is_switched for leaf in by_path(scaling).values())


def is_normalized(scaling: Any) -> bool:
    """Whether the updates of some parameter are divided by their norm."""
    return any(leaf.normalized is not False for leaf in by_path(scaling).values())


def with_initial_rates(scaling: Any, factors: Any) -> Any:
    """Return the scaling tree with the kernels' rates of the first step multiplied.

    Args:
      scaling: a scaling tree of an MLP.
      factors: [L + 1], of the layers 1..L and the readout.

    Example:
      >>> from mupjax.parametrization import mup
      >>> roles = {"layer_1": "input", "readout": "output"}
      >>> tree = {name: {"kernel": mup().scales(role, 4, 8)} for name, role in roles.items()}
      >>> with_initial_rates(tree, [1.0, 10.0])["readout"]["kernel"].sgd_lr_mult_first
      2.5
    """
    names = [f"layer_{layer}" for layer in range(1, len(scaling))] + ["readout"]

    return {
        name: layer | {"kernel": with_first_factor(layer["kernel"], factors[names.index(name)])}
        for name, layer in scaling.items()
    }


def map_scaling(of: Callable[[ParamScaling], ParamScaling], scaling: Any) -> Any:
    """Return the scaling tree with every ParamScaling replaced."""
    return jax.tree.map(of, scaling, is_leaf=is_scaling)


def later_rates(scaling: Any) -> Any:
    """Return the scaling of later steps as curvature sees it: rates of 1 where updates are normalized."""

    def later(leaf: ParamScaling) -> ParamScaling:
        rate = leaf.sgd_lr_mult if leaf.normalized is False else jnp.where(leaf.normalized, 1.0, leaf.sgd_lr_mult)
        return replace(leaf, sgd_lr_mult=rate, sgd_lr_mult_first=None, init_kept=None, normalized=False)

    return map_scaling(later, scaling)


def with_first_factor(scaling: ParamScaling, factor: Any) -> ParamScaling:
    """Return a parameter's scaling with its rate of the first step multiplied."""
    first = scaling.sgd_lr_mult if scaling.sgd_lr_mult_first is None else scaling.sgd_lr_mult_first
    return replace(scaling, sgd_lr_mult_first=first * factor)


def check_rule(rule: Any) -> None:
    if rule not in MULTIPLIERS:
        raise ValueError(f"Expected `rule` to be 'sgd' or 'adam', got rule={rule!r}.")


def is_scaling(node: Any) -> bool:
    return isinstance(node, ParamScaling)


def _is_update(node: Any) -> bool:
    return is_boxed(node) or isinstance(node, optax.MaskedNode)


def by_path(scaling: Any) -> dict[str, ParamScaling]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in _scaling_leaves(scaling)}


def _count(state: Any) -> jax.Array:
    if not isinstance(state, FirstStepState | DroppedState):
        raise ValueError(
            f"Expected the optimizer's state with its step counter (FirstStepState), got {type(state).__name__}: "
            "restore the state that was saved with the parameters, or build the optimizer with `steps_taken=`."
        )
    return jnp.asarray(state.count)  # a restored one may be NumPy's


def _warn_of_trained(params: Any, scaling: Any) -> None:
    """Warn where concrete parameters do not have their initial mean square, by six standard deviations of it."""
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in _with_paths(params, _is_update)}
    for name, of in by_path(scaling).items():
        values = getattr(leaves.get(name), "value", leaves.get(name))
        numbers = (of.init_std, of.init_mean)
        if values is None or any(isinstance(one, Tracer) for one in (values, *numbers)) or not of.init_std > 0:
            continue
        values = (np.asarray(values, np.float64) - of.init_mean) / of.init_std
        if abs(np.mean(values**2) - 1) > 6 * (2 / values.size) ** 0.5:
            warnings.warn(
                f"The first step has rates of its own, for initial weights; {name} has {np.mean(values**2):.3g} times "
                "their mean square. A run that goes on needs its optimizer's state, or `steps_taken=`.",
                stacklevel=4,
            )
            return


def scale_each(factors: dict[str, Any]) -> optax.GradientTransformation:
    """Multiply each update by the factor of its path; boxed updates and masked ones keep their form."""

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
        return replace_leaves(updates, lambda name, update: factors[name] * update), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def replace_leaves(updates: Any, of: Callable[[str, Any], Any]) -> Any:
    """Replace each update by a function of its path and itself; boxed updates and masked ones keep their form."""

    def replaced(path: Any, update: Any) -> Any:
        if isinstance(update, optax.MaskedNode):
            return update
        name = jax.tree_util.keystr(path)
        if isinstance(update, ScaledParam):
            return update.replace_boxed(of(name, update.value))
        return of(name, update)

    return jax.tree_util.tree_map_with_path(replaced, updates, is_leaf=_is_update)


def _scaling_leaves(scaling: Any) -> list[tuple[Any, ParamScaling]]:
    leaves = _with_paths(scaling, is_scaling)
    for path, leaf in leaves:
        if not is_scaling(leaf):
            raise TypeError(
                "Expected `scaling` to be a tree of ParamScaling, as scaling_tree(variables) returns it, got "
                f"{type(leaf).__name__} at {jax.tree_util.keystr(path)}."
            )
    return leaves


def _with_paths(tree: Any, is_leaf: Callable[[Any], bool]) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
