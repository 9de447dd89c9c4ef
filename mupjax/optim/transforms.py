r"""Optax transforms that apply the per-layer learning rates of a parametrization.

If the first step differs from the later ones (`ip_llr`, `ip_bias`, `hp`, `hpz`), their state counts steps; save it in
every checkpoint.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from mupjax.network import ScaledParam, is_boxed
from mupjax.parametrization import ParamScaling

Rule = Literal["sgd", "adam"]
MULTIPLIERS = {"sgd": "sgd_lr_mult", "adam": "adam_lr_mult"}
_Path = tuple[object, ...]  # keys of `jax.tree_util`


class FirstStepState(NamedTuple):
    """State of `scale_by_parametrization` if the first step differs.

    Attributes:
      count: int32, number of updates made.
    """

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]


def scale_by_parametrization(
    scaling: PyTree, rule: Rule = "sgd", *, steps_taken: ArrayLike = 0
) -> optax.GradientTransformation:
    """Multiply every update by its parameter's learning-rate multiplier; the first step may have its own multipliers.

    Put it AFTER any stage that normalises gradients (Adam erases a factor that comes before it) and choose the rule of
    that stage: 'sgd' if updates are proportional to gradients, 'adam' if their size does not depend on gradients.
    `check_optimizer` tests a finished chain.

    Args:
      scaling: a scaling tree (`scaling_tree(variables)`), shaped like the parameters.
      rule: 'sgd' or 'adam'.
      steps_taken: number of updates already made, for a run that resumes without its optimizer's state.

    Raises:
      ValueError: if the rule is unknown; if it is 'adam' and the parametrization normalizes updates or has a first step
        of its own, both derived for SGD; if the updates' tree is not the scaling's (the message names the paths); if a
        state has no step counter.
      TypeError: if a leaf of `scaling` is not a ParamScaling, as in a tree of parameters.

    Warns:
      UserWarning: if the first step differs and the parameters given to `init` do not have their initial size.

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

    def init(params: PyTree) -> FirstStepState:
        if isinstance(steps_taken, int) and steps_taken == 0:  # arrays may be tracers
            _warn_of_trained(params, scaling)
        return FirstStepState(jnp.asarray(steps_taken, jnp.int32))

    def update(updates: PyTree, state: PyTree, params: PyTree | None = None) -> tuple[PyTree, FirstStepState]:
        count = _count(state)
        factors = {name: jnp.where(count == 0, first[name], later[name]) for name in later}
        updates, _ = scale_each(factors).update(updates, optax.EmptyState(), params)
        return updates, FirstStepState(jnp.asarray(optax.safe_increment(count)))

    return optax.GradientTransformation(init, update)


class DroppedState(NamedTuple):
    """State of `drop_initial_weights`.

    Attributes:
      count: int32, number of updates made.
      inner: state of the wrapped optimizer.
    """

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    inner: PyTree


def drop_initial_weights(
    inner: optax.GradientTransformation, scaling: PyTree, *, steps_taken: ArrayLike = 0
) -> optax.GradientTransformation:
    """Shrink the initial weights in the first step by the factor `ParamScaling.init_kept` (`hp`, `hpz`).

    The inner optimizer sees and decays the shrunk weights. Without such factors `inner` itself is returned.

    Args:
      inner: a finished chain, learning rate included.
      scaling: a scaling tree.
      steps_taken: as in `scale_by_parametrization`.

    Raises:
      ValueError: if `update` is called without `params` or with a state that has no step counter.

    Example:
      >>> from mupjax.parametrization import hp
      >>> scaling = {"w": hp().scales("hidden", 4, 4, 2)}
      >>> transform = drop_initial_weights(optax.sgd(1.0), scaling)
      >>> params = {"w": jnp.ones((4, 4))}
      >>> updates, _ = transform.update({"w": jnp.zeros((4, 4))}, transform.init(params), params)
      >>> float(1 + updates["w"][0, 0]) == scaling["w"].init_kept
      True
    """
    kept = {name: leaf.init_kept for name, leaf in by_path(scaling).items() if leaf.init_kept is not None}
    if not kept:
        return inner

    def update(updates: PyTree, state: PyTree, params: PyTree | None = None) -> tuple[PyTree, DroppedState]:
        if params is None:
            raise ValueError("Expected `params` where the initial weights are dropped, got None.")
        count = _count(state)

        def shrink(path: _Path, param: PyTree) -> PyTree:
            factor = jnp.where(count == 0, kept.get(jax.tree_util.keystr(path), 1.0), 1.0)
            return param.replace_boxed(factor * param.value) if isinstance(param, ScaledParam) else factor * param

        left = jax.tree_util.tree_map_with_path(shrink, params, is_leaf=_is_update)
        updates, inner_state = inner.update(updates, state.inner, left)
        dropped = jax.tree.map(lambda update, old, new: update + (new - old), updates, params, left)
        return dropped, DroppedState(jnp.asarray(optax.safe_increment(count)), inner_state)

    return optax.GradientTransformation(
        lambda params: DroppedState(jnp.asarray(steps_taken, jnp.int32), inner.init(params)), update
    )


def is_switched(scaling: PyTree) -> bool:
    """Return whether the first step of any parameter differs from its later ones.

    Example:
      >>> from mupjax.parametrization import ip_llr, mup
      >>> is_switched([mup().scales("output", 8, 1)]), is_switched([ip_llr(3).scales("output", 8, 1)])
      (False, True)
    """
    return any(leaf.is_switched for leaf in by_path(scaling).values())


def is_normalized(scaling: PyTree) -> bool:
    """Return whether the updates of any parameter are divided by their norm.

    Example:
      >>> from mupjax.parametrization import mup, nup
      >>> is_normalized([mup().scales("output", 8, 1)]), is_normalized([nup().scales("output", 8, 1)])
      (False, True)
    """
    return any(leaf.normalized is not False for leaf in by_path(scaling).values())


def with_initial_rates(scaling: PyTree, factors: Float[Array, " layers"] | Sequence[float]) -> PyTree[ParamScaling]:
    """Return the scaling tree of an MLP with the kernels' rates of the first step multiplied by factors.

    Args:
      scaling: a scaling tree of an MLP.
      factors: [L + 1], for layers 1..L and the readout.

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


def map_scaling(of: Callable[[ParamScaling], ParamScaling], scaling: PyTree) -> PyTree[ParamScaling]:
    """Return the scaling tree with `of` applied to every ParamScaling.

    Example:
      >>> from mupjax.parametrization import mup
      >>> map_scaling(lambda leaf: with_first_factor(leaf, 2.0), [mup().scales("output", 8, 1)])[0].sgd_lr_mult_first
      0.25
    """
    return jax.tree.map(of, scaling, is_leaf=is_scaling)


def later_rates(scaling: PyTree) -> PyTree[ParamScaling]:
    """Return the scaling of the later steps for measurements of curvature: rates of 1 for normalized updates.

    Example:
      >>> from mupjax.parametrization import ip_llr
      >>> later_rates([ip_llr(3).scales("output", 8, 1)])[0].is_switched
      False
    """

    def later(leaf: ParamScaling) -> ParamScaling:
        rate = leaf.sgd_lr_mult if leaf.normalized is False else jnp.where(leaf.normalized, 1.0, leaf.sgd_lr_mult)
        return replace(leaf, sgd_lr_mult=rate, sgd_lr_mult_first=None, init_kept=None, normalized=False)

    return map_scaling(later, scaling)


def with_first_factor(scaling: ParamScaling, factor: ArrayLike) -> ParamScaling:
    """Return a parameter's scaling with its rate of the first step multiplied by a factor.

    Example:
      >>> from mupjax.parametrization import mup
      >>> with_first_factor(mup().scales("output", 8, 1), 2.0).sgd_lr_mult_first
      0.25
    """
    first = scaling.sgd_lr_mult if scaling.sgd_lr_mult_first is None else scaling.sgd_lr_mult_first
    return replace(scaling, sgd_lr_mult_first=first * factor)


def check_rule(rule: object) -> None:
    """Raise ValueError if `rule` is neither 'sgd' nor 'adam'."""
    if rule not in MULTIPLIERS:
        raise ValueError(f"Expected `rule` to be 'sgd' or 'adam', got rule={rule!r}.")


def is_scaling(node: object) -> bool:
    """Return whether a pytree node is a ParamScaling."""
    return isinstance(node, ParamScaling)


def _is_update(node: object) -> bool:
    return is_boxed(node) or isinstance(node, optax.MaskedNode)


def by_path(scaling: PyTree) -> dict[str, ParamScaling]:
    """Return {path: ParamScaling} of a scaling tree.

    Raises:
      TypeError: if a leaf is not a ParamScaling.

    Example:
      >>> from mupjax.parametrization import mup
      >>> list(by_path({"w": mup().scales("output", 8, 1)}))
      ["['w']"]
    """
    return {jax.tree_util.keystr(path): leaf for path, leaf in _scaling_leaves(scaling)}


def _count(state: object) -> Int[Array, ""]:
    if not isinstance(state, FirstStepState | DroppedState):
        raise ValueError(
            f"Expected the optimizer's state with its step counter (FirstStepState), got {type(state).__name__}: "
            "restore the state that was saved with the parameters, or build the optimizer with `steps_taken=`."
        )
    return jnp.asarray(state.count)  # a restored count may be NumPy's


def _warn_of_trained(params: PyTree, scaling: PyTree) -> None:
    """Warn if the mean square of concrete parameters is six standard deviations away from its initial value."""
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in _with_paths(params, _is_update)}
    for name, leaf in by_path(scaling).items():
        values = getattr(leaves.get(name), "value", leaves.get(name))
        traced = any(isinstance(number, Tracer) for number in (values, leaf.init_std, leaf.init_mean))
        if values is None or traced or not leaf.init_std > 0:
            continue
        values = (np.asarray(values, np.float64) - leaf.init_mean) / leaf.init_std
        if abs(np.mean(values**2) - 1) > 6 * (2 / values.size) ** 0.5:
            warnings.warn(
                f"The first step has rates of its own, for initial weights; {name} has {np.mean(values**2):.3g} times "
                "their mean square. To resume a run, restore its optimizer's state or pass `steps_taken=`.",
                stacklevel=4,
            )
            return


def scale_each(factors: Mapping[str, ArrayLike]) -> optax.GradientTransformation:
    """Multiply each update by the factor of its path; boxed and masked updates keep their form.

    Args:
      factors: {path as in `jax.tree_util.keystr`: factor}.

    Raises:
      ValueError: if `update` sees other paths; the message names them.

    Example:
      >>> transform = scale_each({"['w']": 2.0})
      >>> transform.update({"w": jnp.ones(2)}, optax.EmptyState())[0]["w"].tolist()
      [2.0, 2.0]
    """

    def update(updates: PyTree, state: PyTree, params: PyTree | None = None) -> tuple[PyTree, PyTree]:
        del params
        nodes = [(jax.tree_util.keystr(path), node) for path, node in _with_paths(updates, _is_update)]
        masked = tuple(
            name for name, node in nodes if isinstance(node, optax.MaskedNode)
        )  # a mask may hide a whole layer
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


def replace_leaves(updates: PyTree, of: Callable[[str, jax.Array], ArrayLike]) -> PyTree:
    """Replace each update by `of(path, update)`; boxed and masked updates keep their form.

    Example:
      >>> replace_leaves({"w": jnp.ones(2)}, lambda path, update: 3 * update)["w"].tolist()
      [3.0, 3.0]
    """

    def replaced(path: _Path, update: PyTree) -> PyTree:
        if isinstance(update, optax.MaskedNode):
            return update
        name = jax.tree_util.keystr(path)
        if isinstance(update, ScaledParam):
            return update.replace_boxed(of(name, update.value))
        return of(name, update)

    return jax.tree_util.tree_map_with_path(replaced, updates, is_leaf=_is_update)


def _scaling_leaves(scaling: PyTree) -> list[tuple[_Path, ParamScaling]]:
    leaves = _with_paths(scaling, is_scaling)
    for path, leaf in leaves:
        if not is_scaling(leaf):
            raise TypeError(
                "Expected `scaling` to be a tree of ParamScaling, as scaling_tree(variables) returns it, got "
                f"{type(leaf).__name__} at {jax.tree_util.keystr(path)}."
            )
    return leaves


def _with_paths(tree: PyTree, is_leaf: Callable[[object], bool]) -> list[tuple[_Path, PyTree]]:
    return jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
