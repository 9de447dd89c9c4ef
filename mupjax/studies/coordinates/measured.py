"""Mean |coordinate| of what every module of a Flax linen model returns, while one network trains on one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from mupjax import optim
from mupjax.network import is_boxed, scaling_tree

RATES = {"sgd": 0.1, "adam": 0.01, "adamw": 0.01}  # by the optimizer's name: in Optax, and in mupjax.optim

Loss = Callable[..., jax.Array]
Build = Callable[[PyTree], optax.GradientTransformation]


class Look(NamedTuple):
    """A model at one width, as shapes.

    Attributes:
      boxed: what `init` returns.
      layers: {layer: shape of its output}.
      f: the model's output.
    """

    boxed: PyTree
    layers: dict[str, tuple[int, ...]]
    f: PyTree


def look(model: object, inputs: PyTree) -> Look:
    """Return the shapes and names of a model's layers; nothing is computed.

    Raises:
      TypeError: where the model is no linen module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"Expected `make_model` to return a flax.linen.Module, got {type(model).__name__}.")
    names: list[str] = []

    def forward(key: jax.Array) -> tuple[PyTree, list[PyTree], PyTree]:
        boxed = model.init(key, inputs)
        f, outputs, _ = _apply(model, *_split(boxed), inputs)
        names[:] = outputs  # in the order of the calls, which a pytree would not keep
        return boxed, list(outputs.values()), f

    boxed, outputs, f = jax.eval_shape(forward, jax.random.key(0))
    return Look(boxed, {name: z.shape for name, z in zip(names, outputs, strict=True)}, f)


def program(
    model: nn.Module, build: Build, loss: Loss, steps: int, *, centred: bool
) -> Callable[[jax.Array, PyTree, PyTree], list[jax.Array]]:
    """Return a pure function of (key, inputs, targets) that initialises and trains one network.

    Args:
      model: called on the inputs alone; collections other than 'params' (batch statistics) are carried along.
      build: a function from what `init` returned to the optimizer.
      loss: a function of (outputs, targets) whose mean is trained.
      steps: how many updates T.
      centred: subtract the initial outputs f_0 from those that the loss sees.

    Returns:
      For every layer [T + 1, 2]: the mean |z_t| and |z_t - z_0| over all coordinates, before each update and at last.
    """

    def run(key: jax.Array, inputs: PyTree, targets: PyTree) -> list[jax.Array]:
        boxed = model.init(key, inputs)
        params, state = _split(boxed)
        transform = build(boxed)

        f_0 = _apply(model, params, state, inputs)[0] if centred else None

        def forward(params: PyTree, state: PyTree) -> tuple[jax.Array, PyTree]:
            f, outputs, state = _apply(model, params, state, inputs)
            f = jax.tree.map(jnp.subtract, f, f_0) if centred else f
            return jnp.mean(loss(f, targets)), (list(outputs.values()), state)

        def update(carry: PyTree, t: jax.Array) -> tuple[PyTree, list[jax.Array]]:
            params, state, opt_state, start = carry
            (_, (outputs, state)), gradients = jax.value_and_grad(forward, has_aux=True)(params, state)
            start = [jnp.where(t == 0, z, z_0) for z, z_0 in zip(outputs, start, strict=True)]
            means = [
                jnp.stack([jnp.abs(z).mean(), jnp.abs(z - z_0).mean()]) for z, z_0 in zip(outputs, start, strict=True)
            ]
            updates, opt_state = transform.update(gradients, opt_state, params)
            return (optax.apply_updates(params, updates), state, opt_state, start), means

        _, (shapes, _) = jax.eval_shape(forward, params, state)
        start = [jnp.zeros(z.shape, z.dtype) for z in shapes]
        # One update more than is asked for, after the last measurement: a second program without it would cost more.
        return jax.lax.scan(update, (params, state, transform.init(params), start), jnp.arange(steps + 1))[1]

    return run


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
    model: nn.Module, params: PyTree, state: Mapping[str, PyTree], inputs: PyTree
) -> tuple[PyTree, dict[str, jax.Array], dict[str, PyTree]]:
    """Return what the model and its layers return, and its other collections."""
    f, changed = model.apply(
        {"params": params, **state}, inputs, capture_intermediates=True, mutable=[*state, "intermediates"]
    )
    return f, _outputs(changed["intermediates"]), {name: changed[name] for name in state}


def _split(boxed: PyTree) -> tuple[PyTree, dict[str, PyTree]]:
    """Return the parameters without boxes, and the other collections that `init` made."""
    collections = dict(nn.meta.unbox(boxed))
    params = collections.pop("params", {})
    return params, {name: value for name, value in collections.items() if name != "intermediates"}


def _outputs(intermediates: Mapping[str, PyTree]) -> dict[str, jax.Array]:
    """Return {path of a module: the array it returned} in the order of the calls.

    The model's own output is called 'output'. Several arrays, of a tuple or of several calls, are numbered. What a
    module passes on unchanged is named once, by the module that made it.
    """
    named: dict[str, jax.Array] = {}

    def visit(tree: Mapping[str, PyTree], path: tuple[str, ...]) -> None:
        for name, value in tree.items():
            if isinstance(value, Mapping):
                visit(value, (*path, name))
            elif name == "__call__":
                arrays = [leaf for leaf in jax.tree.leaves(value) if jnp.issubdtype(leaf.dtype, jnp.floating)]
                for index, array in enumerate(arrays):
                    number = f"[{index}]" if len(arrays) > 1 else ""
                    if all(array is not other for other in named.values()):
                        named["/".join(path or ("output",)) + number] = array

    visit(intermediates, ())
    return named
