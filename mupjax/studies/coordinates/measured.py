"""Sizes of what every module of a Flax linen model returns, and of its own update, while a network trains on one batch.

A module's own update is what it returns on its current input, minus what it would return on the same input with its
own parameters of step 0: (W_t - W_0) x_t for a linear layer. It is computed inside the one forward pass: every
parameter is passed with its value of step 0 beside it (`_Both`), which lifted transforms (scan, vmap, remat) slice as
they slice the parameter, and an interceptor calls a copy of each module that owns parameters a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.errors import FlaxError
from jax import lax
from jaxtyping import PyTree

from mupjax import optim
from mupjax.network import is_boxed, scaling_tree

RATES = {"sgd": 0.1, "adam": 0.01, "adamw": 0.01}  # by the optimizer's name: in Optax, and in mupjax.optim

ROOT = "output"  # the name of the model itself, as a layer
UPDATE = "__update__"  # the name under which own updates are sown

Loss = Callable[..., jax.Array]
Build = Callable[[PyTree], optax.GradientTransformation]


class _Both(struct.PyTreeNode, nn.meta.AxisMetadata):
    """A parameter with its value of step 0: Flax unboxes the parameter on use."""

    now: PyTree
    start: PyTree

    def unbox(self) -> PyTree:
        return self.now

    def replace_boxed(self, val: PyTree) -> _Both:
        return self.replace(now=val)

    def add_axis(self, index: int, params: Mapping[object, object]) -> _Both:
        return self

    def remove_axis(self, index: int, params: Mapping[object, object]) -> _Both:
        return self


class Output(NamedTuple):
    """What a module returned: the array, and its own update, None where the module owns no parameters."""

    z: Any
    update: Any


class Look(NamedTuple):
    """A model at one width, as shapes.

    Attributes:
      boxed: what `init` returns.
      layers: {layer: shape of its output}.
      updated: the layers whose own update is measured.
      owners: {module that owns parameters, by its path: the shapes of these}.
      paired: whether the model can be called with the parameters of step 0 beside the current ones.
      f: the model's output.
    """

    boxed: PyTree
    layers: dict[str, tuple[int, ...]]
    updated: frozenset[str]
    owners: dict[str, list[tuple[int, ...]]]
    paired: bool
    f: PyTree


def look(model: object, inputs: PyTree) -> Look:
    """Return the shapes and names of a model's layers; nothing is computed.

    Raises:
      TypeError: where the model is no linen module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"Expected `make_model` to return a flax.linen.Module, got {type(model).__name__}.")
    try:
        return _look(model, inputs, paired=True)
    except Exception:  # a model that reads its variables without unboxing them may fail in any way; others fail again
        return _look(model, inputs, paired=False)


def _look(model: nn.Module, inputs: PyTree, *, paired: bool) -> Look:
    names: list[str] = []

    def forward(key: jax.Array) -> tuple[PyTree, list[Output], PyTree]:
        boxed = model.init(key, inputs)
        params, state = _split(boxed)
        f, outputs, _ = _apply(model, params, state, inputs, params if paired else None)
        names[:] = outputs  # in the order of the calls, which a pytree would not keep
        return boxed, list(outputs.values()), f

    boxed, outputs, f = jax.eval_shape(forward, jax.random.key(0))
    owners: dict[str, list[tuple[int, ...]]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(_split(boxed)[0]):
        owner = jax.tree_util.keystr(path[:-1], simple=True, separator="/") or ROOT
        owners.setdefault(owner, []).append(leaf.shape)
    updated = frozenset(name for name, output in zip(names, outputs, strict=True) if output.update is not None)
    shapes = {name: output.z.shape for name, output in zip(names, outputs, strict=True)}
    return Look(boxed, shapes, updated, owners, paired, f)


def program(
    model: nn.Module, build: Build, loss: Loss, steps: int, *, centred: bool, paired: bool = True
) -> Callable[[jax.Array, PyTree, PyTree], list[jax.Array]]:
    """Return a pure function of (key, inputs, targets) that initialises and trains one network.

    Args:
      model: called on the inputs alone; collections other than 'params' (batch statistics) are carried along.
      build: a function from what `init` returned to the optimizer.
      loss: a function of (outputs, targets) whose mean is trained.
      steps: how many updates T.
      centred: subtract the initial outputs f_0 from those that the loss sees.
      paired: measure the layers' own updates; False where the model cannot be called so.

    Returns:
      For every layer [T + 1, 3]: the mean |z_t|, |z_t - z_0| and |own update| over all coordinates, before each update
      and at last; NaN for the own update of a module without parameters.
    """

    def run(key: jax.Array, inputs: PyTree, targets: PyTree) -> list[jax.Array]:
        boxed = model.init(key, inputs)
        params_0, state = _split(boxed)
        transform = build(boxed)

        f_0 = _apply(model, params_0, state, inputs)[0] if centred else None

        def forward(params: PyTree, state: PyTree) -> tuple[jax.Array, PyTree]:
            f, outputs, state = _apply(model, params, state, inputs, params_0 if paired else None)
            f = jax.tree.map(jnp.subtract, f, f_0) if centred else f
            return jnp.mean(loss(f, targets)), (list(outputs.values()), state)

        def update(carry: PyTree, t: jax.Array) -> tuple[PyTree, list[jax.Array]]:
            params, state, opt_state, start = carry
            (_, (outputs, state)), gradients = jax.value_and_grad(forward, has_aux=True)(params, state)
            start = [jnp.where(t == 0, output.z, z_0) for output, z_0 in zip(outputs, start, strict=True)]
            means = [_means(output, z_0) for output, z_0 in zip(outputs, start, strict=True)]
            updates, opt_state = transform.update(gradients, opt_state, params)
            return (optax.apply_updates(params, updates), state, opt_state, start), means

        _, (shapes, _) = jax.eval_shape(forward, params_0, state)
        start = [jnp.zeros(output.z.shape, output.z.dtype) for output in shapes]
        # One update more than is asked for, after the last measurement: a second program without it would cost more.
        return lax.scan(update, (params_0, state, transform.init(params_0), start), jnp.arange(steps + 1))[1]

    return run


def _means(output: Output, z_0: jax.Array) -> jax.Array:
    own = jnp.full((), jnp.nan, output.z.dtype) if output.update is None else jnp.abs(output.update).mean()
    return jnp.stack([jnp.abs(output.z).mean(), jnp.abs(output.z - z_0).mean(), own])


def builder(optimizer: Any, learning_rate: optim.LearningRate | None, boxed: PyTree) -> Build:
    """Return a function from what `init` returned to the optimizer.

    Where the parameters carry boxes, names mean mupjax's optimizers, and a callable is called as
    (scaling, learning_rate) and checked by `check_optimizer`. Where none does, names mean Optax's, with one rate for
    all parameters, and a callable is called as (learning_rate).

    Args:
      optimizer: a name or a callable.
      learning_rate: a positive number, an Optax schedule, or None for the name's own of `RATES`.
      boxed: what `init` returned, or its shapes.

    Raises:
      ValueError: for an unknown name, a rate out of range or none beside a callable, an optimizer that loses a
        multiplier, parameters of which only some carry a scaling.
      TypeError: where the optimizer cannot be called in this form, or returns no Optax transform.
    """
    scaled = any(map(is_boxed, jax.tree.leaves(boxed, is_leaf=is_boxed)))
    fn, default = optimizer, 0.0
    if isinstance(optimizer, str):
        if optimizer not in RATES:
            raise ValueError(f"Expected `optimizer` to be one of {', '.join(RATES)}, got optimizer={optimizer!r}.")
        fn, default = getattr(optim if scaled else optax, optimizer), RATES[optimizer]
    elif not callable(optimizer):
        raise TypeError(f"Expected `optimizer` to be a name or a callable, got optimizer={optimizer!r}.")
    elif learning_rate is None:
        raise ValueError("Expected `learning_rate` beside an optimizer that is not given by name, got none.")
    rate = default if learning_rate is None else learning_rate
    if not callable(rate) and not 0 < rate < float("inf"):
        raise ValueError(f"Expected `learning_rate` to be finite and positive, got learning_rate={rate!r}.")

    def build(boxed: PyTree) -> Any:
        return fn(scaling_tree(boxed), rate) if scaled else fn(rate)

    form = "(scaling, learning_rate)" if scaled else "(learning_rate)"
    try:
        transform = build(boxed)
    except TypeError as error:
        raise TypeError(f"Expected `optimizer` to be callable as {form} for this model, got: {error}") from error
    if not isinstance(transform, optax.GradientTransformation):
        raise TypeError(f"Expected `optimizer` to return an Optax transform, got {type(transform).__name__}.")
    if scaled and fn is optimizer:
        optim.check_optimizer(fn, scaling_tree(boxed), rule=None)
    return build


def _apply(
    model: nn.Module, params: PyTree, state: Mapping[str, PyTree], inputs: PyTree, params_0: PyTree = None
) -> tuple[PyTree, dict[str, Output], dict[str, PyTree]]:
    """Return what the model and its layers return, and its other collections.

    Own updates are None without `params_0`.
    """
    if params_0 is not None:
        params = jax.tree.map(_Both, params, params_0)
    with nn.intercept_methods(_own_updates()):
        f, changed = model.apply(
            {"params": params, **state}, inputs, capture_intermediates=True, mutable=["intermediates", *state]
        )
    return f, _outputs(changed["intermediates"]), {name: changed[name] for name in state}


def _own_updates() -> Callable[..., Any]:
    """Return an interceptor that sows the own update of every module that owns a `_Both`, beside what it returns.

    What is sown leaves a lifted transform as 'intermediates' do, or not at all: no tracer leaks.
    """
    inside = False

    def interceptor(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal inside
        y = call(*args, **kwargs)
        module: Any = context.module
        if inside or context.method_name != "__call__":
            return y
        params = module.variables.get("params", {})
        own = {name: both for name, both in params.items() if isinstance(both, _Both)}
        if not own:
            return y
        inside = True
        try:
            y_0 = _called_from_start(module, own, args, kwargs)
        except FlaxError:  # a module that leans on its parent's variables cannot be called alone
            return y
        finally:
            inside = False
        # Exactly zero where nothing was learnt: two compilations of one function may differ by rounding.
        same = jnp.stack([jnp.array_equal(both.now, both.start) for both in own.values()]).all()
        module.sow("intermediates", UPDATE, jax.tree.map(lambda z, z_0: _difference(z, z_0, same), y, y_0))
        return y

    return interceptor


def _called_from_start(module: Any, own: Mapping[str, _Both], args: Any, kwargs: Any) -> PyTree:
    """Return what a bound module returns with its own parameters of step 0; nothing flows back through it."""
    copy, variables = module.unbind()
    variables = dict(variables) | {"params": {**variables["params"], **{name: own[name].start for name in own}}}
    variables.pop("intermediates", None)
    variables, args, kwargs = jax.tree.map(
        lambda leaf: lax.stop_gradient(leaf) if isinstance(leaf, jax.Array) else leaf, (variables, args, kwargs)
    )
    return copy.apply(variables, *args, mutable=nn.DenyList("params"), **kwargs)[0]


def _difference(z: jax.Array, z_0: jax.Array, same: jax.Array) -> jax.Array:
    if not jnp.issubdtype(z.dtype, jnp.floating):
        return z
    return jnp.where(same, 0, lax.stop_gradient(z) - z_0)


def _split(boxed: PyTree) -> tuple[PyTree, dict[str, PyTree]]:
    """Return the parameters without boxes, and the other collections that `init` made."""
    collections = dict(nn.meta.unbox(boxed))
    params = collections.pop("params", {})
    return params, {name: value for name, value in collections.items() if name != "intermediates"}


def _outputs(intermediates: Mapping[str, PyTree]) -> dict[str, Output]:
    """Return {path of a module: the array it returned, its own update} in the order of the calls.

    The model's own output is called 'output'. Several arrays, of a tuple or of several calls, are numbered. What a
    module without parameters passes on unchanged is named once, by the module that made it.
    """
    named: dict[str, Output] = {}

    def visit(tree: Mapping[str, PyTree], path: tuple[str, ...]) -> None:
        for name, value in tree.items():
            if isinstance(value, Mapping):
                visit(value, (*path, name))
            elif name == "__call__":
                arrays, updates = jax.tree.leaves(value), jax.tree.leaves(tree.get(UPDATE))
                if len(updates) != len(arrays):  # not measured in every call
                    updates = [None] * len(arrays)
                both = [
                    Output(z, update)
                    for z, update in zip(arrays, updates, strict=True)
                    if jnp.issubdtype(z.dtype, jnp.floating)
                ]
                for index, output in enumerate(both):
                    number = f"[{index}]" if len(both) > 1 else ""
                    if output.update is not None or all(output.z is not other.z for other in named.values()):
                        named["/".join(path or (ROOT,)) + number] = output

    visit(intermediates, ())
    return named
