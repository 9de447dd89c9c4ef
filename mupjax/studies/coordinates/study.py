r"""The coordinate check: do the outputs of every layer, and their changes in training, keep their size as width grows?

For every layer's output :math:`z_t` (t counts updates of one batch) the check measures the mean
:math:`|z_t|` and the mean :math:`|z_t - z_0|` over inputs and coordinates, and fits the power of the width to each.
Under muP every power is zero; a growing layer blows up at large width, one whose change falls stops learning (Yang &
Hu 2021, arXiv:2011.14522; Yang et al. 2022, arXiv:2203.03466, App. D.1 and Fig. 5).

What it cannot see: constants, which have no power of the width; a weight decay that scales with the rate; attention
logits divided by a wrong power of the head's width, before training has aligned queries with keys; anything that
happens later than its few steps. A network may pass and its best learning rate still drift: check transfer beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mupjax import devices
from mupjax import parametrization as presets
from mupjax.activations import Activation
from mupjax.dynamics import runs
from mupjax.dynamics._arguments import check_memory
from mupjax.network import MLP
from mupjax.parametrization import Parametrization
from mupjax.results import arguments_json, versions
from mupjax.studies.coordinates import measured
from mupjax.studies.coordinates.measured import Look, Loss
from mupjax.studies.coordinates.slopes import judge as judge
from mupjax.sweeps.grid import check_counts
from mupjax.sweeps.progress import progress_bar
from mupjax.task import Task, loss_per_sample

WIDTHS = (64, 128, 256, 512, 1024)
CONTROL = "sp, one rate (control)"


class _Model(NamedTuple):
    """make: width -> module. inputs: what it is called on. looks: at every width."""

    make: Callable[[int], nn.Module]
    inputs: Any
    looks: list[Look]


def coord_check(
    make_model: Callable[[int], nn.Module] | None = None,
    *,
    task: Task | None = None,
    inputs: Any = None,
    targets: Any = None,
    loss: str | Callable[[Any, Any], jax.Array] = "cross_entropy",
    parametrization: str | Parametrization = "mup",
    widths: Sequence[int] = WIDTHS,
    depth: int = 3,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    base_width: int = 64,
    optimizer: str | Callable[..., optax.GradientTransformation] = "sgd",
    learning_rate: Any = None,
    seeds: int = 16,
    steps: int = 3,
    centred: bool = True,
    control: bool = True,
    key: int = 0,
    memory_gb: float | None = None,
    progress: bool = False,
) -> Any:
    """Measure the coordinates of every layer and their changes over a few updates at several widths.

    The batch is all of the task's training inputs, the same at every update and width. Several classes show the powers
    more cleanly than one output, whose size is a matter of chance. `judge` says what the Dataset shows.

    Args:
      make_model: width -> a Flax linen module, called on the inputs alone; None takes the library's MLP.
      task: data and loss, or for a model of one's own
      inputs, targets, loss: what the model is called on; what `loss` compares its outputs with; 'mse',
        'cross_entropy', or a function (outputs, targets) -> losses, which are averaged.
      parametrization, depth, activation, base_width: of the library's MLP.
      widths: ascending.
      optimizer: 'sgd', 'adam', 'adamw' or a callable. Where the parameters carry boxes (as those of `mupjax.Dense`
        do) the names mean mupjax's, and a callable is called as (scaling, learning_rate) and checked by
        `check_optimizer`. Where none does the names mean Optax's, one rate for all parameters, and a callable is
        called as (learning_rate).
      learning_rate: the base rate, a number or an Optax schedule; by default .1 for SGD, .01 for Adam.
      seeds: how many initialisations of each width.
      steps: how many updates.
      centred: train f - f_0. Under muP the initial output f_0 is of order one at the base width and falls as n^-1/2;
        the gradients that it is part of would seem to fall with it.
      control: also check the library's MLP in standard parametrization with one rate for all widths, which must fail.
        It sees the inputs as vectors.
      key: seed of the random keys.
      memory_gb: what the largest cell may take, by default the device's memory (`devices`).
      progress: show a progress bar.

    Returns:
      An xarray.Dataset with dims model, layer, width, seed, step; `coordinate` is the mean |coordinate| of a layer's
      output before each update and after the last, `change` that of the difference from step 0. Modules of a linen
      model are named by their paths, its own output 'output'. Coordinates along (model, layer): `measured`, false
      where a model has no such layer, and `fixed_size`, true where a layer's output has the same shape at every width.

    Raises:
      ValueError: for arguments out of range, widths that are not ascending or fewer than two, models whose layers
        differ between widths or whose parameters do not grow, parameters of which some carry a scaling and some not,
        an optimizer that loses a multiplier.
      TypeError: where make_model returns no linen module, or the optimizer no Optax transform.

    Example:
      >>> import numpy as np
      >>> task = Task(np.eye(4), np.arange(4), loss="cross_entropy")
      >>> data = coord_check(task=task, widths=(8, 16), depth=1, seeds=2, steps=1)
      >>> dict(data.coordinate.sizes)
      {'model': 2, 'layer': 2, 'width': 2, 'seed': 2, 'step': 2}
    """
    arguments = {
        k: repr(v) if callable(v) and not hasattr(v, "__qualname__") else v  # partial functions have no name
        for k, v in locals().items()
        if k not in ("task", "inputs", "targets", "progress")
    }
    check_counts(seeds=seeds, steps=steps)
    widths = _check_widths(widths)
    inputs, targets, loss_of = _data(task, inputs, targets, loss)
    mlp = partial(MLP, depth=depth, activation=activation)
    if make_model is not None:
        name, make = getattr(make_model, "__name__", type(make_model).__name__), make_model
    elif task is not None:
        options: dict[str, Any] = {"base_width": base_width} if isinstance(parametrization, str) else {}
        preset = presets.get(parametrization, depth=depth, **options)
        name, make = preset.name, partial(mlp, out_dim=task.out_dim, parametrization=preset)
    else:
        raise ValueError("Expected `task` for the library's MLP, got none.")
    models = {name: _Model(make, inputs, [measured.look(make(width), inputs) for width in widths])}
    build = measured.builder(optimizer, learning_rate, models[name].looks[-1].boxed)  # no multiplier is 1 there
    if control:
        plain = presets.sp(base_width=base_width, learning_rate_exponent=0.0)
        vectors, out_dim = _vectors(inputs, models[name].looks[0].f)
        make = partial(mlp, out_dim=out_dim, parametrization=plain)
        models[CONTROL] = _Model(make, vectors, [measured.look(make(width), vectors) for width in widths])
    for name, model in models.items():
        _check_model(name, model, widths)
        _check_memory(model.looks[-1], seeds, memory_gb)
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    with progress_bar(len(models) * len(widths), progress) as bar:
        for name, model in models.items():
            for width in widths:
                bar.set_description(f"{name}, width {width}")
                program = measured.program(model.make(width), build, loss_of, steps, centred=centred)
                means = runs.map_runs(program, _keys(key, seeds, width), model.inputs, targets, optimization_level=1)
                for layer, values in zip(model.looks[0].layers, means, strict=True):
                    found.setdefault((name, layer), []).append(np.asarray(values, np.float64))
                bar.update()
    return _dataset(found, models, widths, arguments)


def _data(task: Task | None, inputs: Any, targets: Any, loss: Any) -> tuple[Any, Any, Loss]:
    """Return inputs, targets and the loss of every sample."""
    if (task is None) != (inputs is not None) or (inputs is None) != (targets is None):
        raise ValueError("Expected `task`, or `inputs` and `targets`, got neither or both.")
    if task is not None:
        return task.x_train, task.y_train, partial(loss_per_sample, task.loss)
    if loss not in ("mse", "cross_entropy") and not callable(loss):
        raise ValueError(f"Expected `loss` to be 'mse', 'cross_entropy' or a function, got loss={loss!r}.")
    inputs, targets = jax.tree.map(jnp.asarray, (inputs, targets))
    return inputs, targets, loss if callable(loss) else partial(loss_per_sample, loss)


def _vectors(inputs: Any, f: Any) -> tuple[jax.Array, int]:
    """Return the inputs as vectors [N, d], and the number of outputs C."""
    x = inputs if isinstance(inputs, jax.Array) else jnp.zeros(0, int)
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim < 2 or getattr(f, "shape", ())[:-1] != x.shape[:1]:
        raise ValueError(
            "Expected float `inputs` [N, ...] and outputs [N, C] for the control, got others: control=False."
        )
    return x.reshape(len(x), -1), f.shape[-1]


@partial(jax.jit, static_argnums=1)
def _keys(key: Any, seeds: int, width: Any) -> jax.Array:
    base = jax.random.key(key)
    return jax.vmap(lambda seed: runs.run_key(base, seed, width))(jnp.arange(seeds))


def _check_widths(widths: Sequence[int]) -> list[int]:
    good = [n for n in widths if isinstance(n, int | np.integer) and not isinstance(n, bool) and n > 0]
    if len(good) < 2 or good != list(widths) or sorted(set(good)) != good:
        raise ValueError(f"Expected `widths` to be two or more ascending positive ints, got widths={tuple(widths)!r}.")
    return [int(n) for n in good]


def _check_model(name: str, model: _Model, widths: list[int]) -> None:
    """Raise ValueError where layers have other names at some width, or no parameter grows."""
    first, shapes = model.looks[0], []
    for width, at in zip(widths, model.looks, strict=True):
        other = sorted(set(at.layers) ^ set(first.layers))
        if other:
            raise ValueError(
                f"Expected {name} to have the same layers at every width, got {other[0]} at only one of the widths "
                f"{widths[0]} and {width}."
            )
        shapes.append([leaf.shape for leaf in jax.tree.leaves(at.boxed)])
        if width > widths[0] and shapes[-1] == shapes[-2]:
            raise ValueError(
                f"Expected the parameters of {name} to grow with the width, got the same shapes at the widths "
                f"{widths[len(shapes) - 2]} and {width}."
            )


def _check_memory(widest: Look, seeds: int, memory_gb: float | None) -> None:
    """Count parameters six times (now, next, gradient, update, two of Adam's), outputs three (now, first, change)."""
    at_once = devices.at_once(seeds)
    numbers = 6 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(widest.boxed))
    numbers += 3 * sum(map(math.prod, widest.layers.values()))
    check_memory(4 * numbers * at_once, memory_gb, f"the widest model, {at_once} at once", "take narrower models")


def _dataset(
    found: dict[tuple[str, str], list[np.ndarray]],
    models: Mapping[str, _Model],
    widths: list[int],
    arguments: Mapping[str, Any],
) -> Any:
    """Lay out {(model, layer): a list over widths of [seed, step, 2]}; layers that a model lacks are NaN."""
    import xarray as xr

    layers = list(dict.fromkeys(layer for _, layer in found))
    seeds, steps, _ = next(iter(found.values()))[0].shape
    values = np.full((2, len(models), len(layers), len(widths), seeds, steps), np.nan)
    fixed_size, measured = np.zeros((2, len(models), len(layers)), bool)
    for (model, layer), of_widths in found.items():
        place = list(models).index(model), layers.index(layer)
        values[(slice(None), *place)] = np.moveaxis(np.stack(of_widths), -1, 0)
        measured[place] = True
        fixed_size[place] = len({at.layers[layer] for at in models[model].looks}) == 1
    dims = ("model", "layer", "width", "seed", "step")
    words = ("mean |coordinate| of the layer's output", "mean |change of a coordinate| since step 0")
    variables = {
        name: (dims, array, {"units": "1", "long_name": text})
        for name, array, text in zip(("coordinate", "change"), values, words, strict=True)
    }
    coords = {
        "model": list(models),
        "layer": layers,
        "width": ("width", np.array(widths, float), {"units": "hidden units", "long_name": "width"}),
        "seed": np.arange(seeds),
        "step": ("step", np.arange(steps), {"units": "steps"}),
        "control": ("model", [model == CONTROL for model in models]),
        "measured": (("model", "layer"), measured),
        "fixed_size": (("model", "layer"), fixed_size),
    }
    attrs = {"kind": "coordinate check", "arguments": arguments_json(arguments), **versions()}
    return xr.Dataset(variables, coords, attrs)
