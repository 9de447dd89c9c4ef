r"""The coordinate check: do the outputs of every layer, and their changes in training, keep their size as width grows?

For every layer's output :math:`z_t` (t counts updates of one batch) the check measures the mean :math:`|z_t|`, the mean
:math:`|z_t - z_0|` and, where the layer owns parameters, the mean size of its own update
:math:`|(W_t - W_0) x_t|` over inputs and coordinates, and fits the power of the width to each. Under muP every power is
zero; a growing layer blows up at large width, one whose update falls stops learning (Yang & Hu 2021, arXiv:2011.14522;
Yang et al. 2022, arXiv:2203.03466, App. D.1 and Fig. 5). An output that moves with its input changes though its own
layer learns nothing, above all in residual networks: the own update tells the two apart.

A layer that owns parameters which grow with the width and was not measured is in the Dataset too, as NaN, and `judge`
does not pass it.

What it cannot see: constants, which have no power of the width; a weight decay that scales with the rate; attention
logits divided by a wrong power of the head's width, before training has aligned queries with keys; anything that
happens later than its few steps. A network may pass and its best learning rate still drift: check transfer beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Unpack

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import ArrayLike, PyTree

from mupjax import devices, optim, results
from mupjax import parametrization as presets
from mupjax._checks import check_counts, check_sequences
from mupjax.activations import Activation
from mupjax.dynamics import runs
from mupjax.network import MLP
from mupjax.parametrization import Parametrization
from mupjax.studies.coordinates import measured
from mupjax.studies.coordinates.measured import Look, Loss
from mupjax.studies.coordinates.slopes import judge as judge
from mupjax.studies.coordinates.variables import QUANTITIES, VARIABLES
from mupjax.sweeps import runner
from mupjax.task import Task, loss_per_sample

if TYPE_CHECKING:
    import xarray as xr

WIDTHS = (64, 128, 256, 512)
CONTROL = "sp, one rate (control)"


class _Model(NamedTuple):
    """make: width -> module. inputs: what it is called on. looks: at every width."""

    make: Callable[[int], nn.Module]
    inputs: PyTree
    looks: list[Look]


class _How(NamedTuple):
    """How every network is trained."""

    optimizer: str | Callable[..., optax.GradientTransformation]
    learning_rate: optim.LearningRate | None
    loss: Loss
    seeds: int
    steps: int
    centred: bool
    key: jax.Array


class Options(runner.Options, total=False):
    """Options of the check beyond those of every study."""

    base_width: int | tuple[int, ...]
    centred: bool
    control: bool


def coord_check(
    make_model: Callable[[int], nn.Module] | None = None,
    *,
    task: Task | None = None,
    inputs: PyTree = None,
    targets: PyTree = None,
    loss: str | Callable[[PyTree, PyTree], jax.Array] = "cross_entropy",
    parametrization: str | Parametrization = "mup",
    widths: Sequence[int] = WIDTHS,
    depth: int = 3,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    optimizer: str | Callable[..., optax.GradientTransformation] = "sgd",
    learning_rate: optim.LearningRate | None = None,
    seeds: int = 8,
    steps: int = 3,
    **options: Unpack[Options],
) -> xr.Dataset:
    """Measure the coordinates of every layer and their changes over a few updates at several widths.

    The batch is all of the task's training inputs, the same at every update and width. Several classes show the powers
    more cleanly than one output, whose size is a matter of chance. `judge` says what the Dataset shows.

    Args:
      make_model: width -> a Flax linen module, called on the inputs alone; None takes the library's MLP.
      task: data and loss, or for a model of one's own
      inputs, targets, loss: what the model is called on; what `loss` compares its outputs with; 'mse',
        'cross_entropy', or a function (outputs, targets) -> losses, which are averaged.
      parametrization, depth, activation: of the library's MLP.
      widths: ascending.
      optimizer: 'sgd', 'adam', 'adamw' or a callable. Where the parameters carry boxes (as those of `mupjax.Dense`
        do) the names mean mupjax's, and a callable is called as (scaling, learning_rate) and checked by
        `check_optimizer`. Where none does the names mean Optax's, one rate for all parameters, and a callable is
        called as (learning_rate).
      learning_rate: the base rate, a number or an Optax schedule; by default .1 for SGD, .01 for Adam.
      seeds: how many initialisations of each width.
      steps: how many updates.
      **options: base_width: the width at which a parametrization given by name is the standard network, or a tuple of
        one a hidden layer.
        centred: train f - f_0. Under muP the initial output f_0 is of order one at the base width and falls as
        n^-1/2; uncentred, gradients would appear to fall with width.
        control: also check the library's MLP in standard parametrization with one rate for all widths, which must
        fail. It sees the inputs as vectors.
        key, memory_gb, out, executor, about, derive, progress: as in every study (`sweeps.runner.Running`).

    Returns:
      An xarray.Dataset with dims model, layer, width, seed, step; `coordinate` is the mean |coordinate| of a layer's
      output before each update and after the last, `change` that of the difference from step 0, `update` that of the
      difference from the layer with its own parameters of step 0 on the same input (NaN where it owns none). Modules of
      a linen model are named by their paths, its own output 'output'. Coordinates along (model, layer): `measured`,
      false where the layer's output was not seen or a model has no such layer; `updated`, true where its own update was
      measured; `owns`, true where it owns parameters whose shapes grow with the width; `fixed_size`, true where its
      output has the same shape at every width.

    Raises:
      ValueError: for arguments out of range, widths that are not ascending or fewer than two, models whose layers
        differ between widths or whose parameters do not grow, outputs that do not fit the targets, parameters of which
        some carry a scaling and some not, an optimizer that loses a multiplier.
      TypeError: where make_model returns no linen module, or the optimizer no Optax transform; for one width.

    Example:
      >>> import numpy as np
      >>> task = Task(np.eye(4), np.arange(4), loss="cross_entropy")
      >>> data = coord_check(task=task, widths=(8, 16), depth=1, seeds=2, steps=1)
      >>> dict(data.coordinate.sizes)
      {'model': 2, 'layer': 2, 'width': 2, 'seed': 2, 'step': 2}
    """
    given = {name: value for name, value in locals().items() if name not in ("task", "inputs", "targets", "options")}
    own, running = runner.split("coord_check", options, {"base_width": 64, "centred": True, "control": True})
    base_width = own["base_width"]
    check_counts(seeds=seeds, steps=steps)
    widths = _check_widths(widths)
    inputs, targets, loss_of = _data(task, inputs, targets, loss)
    mlp = partial(MLP, depth=depth, activation=activation)
    if make_model is not None:
        name, make = getattr(make_model, "__name__", type(make_model).__name__), make_model
    elif task is not None:
        preset = parametrization
        if isinstance(preset, str):
            preset = presets.get(preset, depth=depth, base_width=base_width)
        name, make = preset.name, partial(mlp, out_dim=task.out_dim, parametrization=preset)
    else:
        raise ValueError("Expected `task` for the library's MLP, got none.")
    models = {name: _Model(make, inputs, [measured.look(make(width), inputs) for width in widths])}
    known_loss = loss if task is None else task.loss
    if isinstance(known_loss, str):
        for width, at in zip(widths, models[name].looks, strict=True):
            _check_outputs(f"{name} at width {width}", at.f, targets, known_loss)
    measured.builder(optimizer, learning_rate, models[name].looks[-1].boxed)  # checks it, where no multiplier is 1
    if own["control"]:
        plain = presets.sp(base_width=base_width, learning_rate_exponent=0.0)
        vectors, out_dim = _vectors(inputs, models[name].looks[0].f)
        make = partial(mlp, out_dim=out_dim, parametrization=plain)
        models[CONTROL] = _Model(make, vectors, [measured.look(make(width), vectors) for width in widths])
    how = _How(optimizer, learning_rate, loss_of, seeds, steps, own["centred"], running.base())
    layers = list(dict.fromkeys(layer for model in models.values() for layer in _all_layers(model)))
    todo, at_once = [], devices.at_once(seeds)
    for row, (name, model) in enumerate(models.items()):
        _check_model(name, model, widths)
        mine = tuple(layers.index(layer) for layer in model.looks[0].layers)
        for column, (width, at) in enumerate(zip(widths, model.looks, strict=True)):
            todo.append(
                runner.Cell(
                    name=f"{row}-width{width}",
                    label=f"{name}, width {width}",
                    where={"model": (row,), "layer": mine, "width": (column,)},
                    compute=networks,
                    args=(model.make, width, model.inputs, targets, how),
                    work=_numbers(at),
                    need=runner.Need(4 * _numbers(at) * at_once, f"the widest model, {at_once} at once"),
                )
            )
    data = results.digest_of((inputs, targets))
    about = dict(running.about) | ({"data": data} if task is None else {"task": f"{task!r}, {data}"})
    attrs = results.attributes("coordinate check", given | own | {"key": running.key}, about)
    return runner.run(runner.Study(_layout(models, layers, widths, how, attrs), tuple(todo)), running)


def networks(
    make: Callable[[int], nn.Module], width: int, inputs: PyTree, targets: PyTree, how: _How
) -> dict[str, np.ndarray]:
    """Train one model at one width; a cell's function."""
    model = make(width)
    at = measured.look(model, inputs)
    build = measured.builder(how.optimizer, how.learning_rate, at.boxed)
    program = measured.program(model, build, how.loss, how.steps, centred=how.centred, paired=at.paired)
    means = runs.map_runs(program, _keys(how.key, how.seeds, width), inputs, targets, optimization_level=1)
    whole = np.stack([np.asarray(values, np.float64) for values in means])  # [layer, seed, step, 3]
    return dict(zip(QUANTITIES, np.moveaxis(whole, -1, 0), strict=True))


def _data(task: Task | None, inputs: PyTree, targets: PyTree, loss: str | Loss) -> tuple[PyTree, PyTree, Loss]:
    """Return inputs, targets and the loss of every sample."""
    if (task is None) != (inputs is not None) or (inputs is None) != (targets is None):
        raise ValueError("Expected `task`, or `inputs` and `targets`, got neither or both.")
    if task is not None:
        return task.x_train, task.y_train, partial(loss_per_sample, task.loss)
    if loss not in ("mse", "cross_entropy") and not callable(loss):
        raise ValueError(f"Expected `loss` to be 'mse', 'cross_entropy' or a function, got loss={loss!r}.")
    inputs, targets = jax.tree.map(jnp.asarray, (inputs, targets))
    return inputs, targets, loss if callable(loss) else partial(loss_per_sample, loss)


def _vectors(inputs: PyTree, f: PyTree) -> tuple[jax.Array, int]:
    """Return the inputs as vectors [N, d], and the number of outputs C."""
    x = inputs if isinstance(inputs, jax.Array) else jnp.zeros(0, int)
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim < 2 or getattr(f, "shape", ())[:-1] != x.shape[:1]:
        raise ValueError(
            "Expected float `inputs` [N, ...] and outputs [N, C] for the control, got others: control=False."
        )
    return x.reshape(len(x), -1), f.shape[-1]


def _check_outputs(name: str, f: PyTree, targets: PyTree, loss: str) -> None:
    """Raise ValueError where a model's outputs cannot be compared with the targets: they might broadcast silently."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(targets)]
    shape = getattr(f, "shape", None)
    if loss == "mse":
        if shape is None or shapes != [shape]:
            raise ValueError(f"Expected outputs of {name} in the shape of the targets, {shapes}, got {shape or f}.")
        return
    labels = np.asarray(targets)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected `targets` to be int labels for cross_entropy, got dtype {labels.dtype}.")
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if not shape or shape[:-1] != labels.shape or low < 0 or high >= shape[-1]:
        raise ValueError(
            f"Expected outputs of {name} [N, C] with C > {high}, for {labels.shape} labels of the classes {low} to "
            f"{high}, got {shape or f}."
        )


@partial(jax.jit, static_argnums=1)
def _keys(base: jax.Array, seeds: int, width: ArrayLike) -> jax.Array:
    return jax.vmap(lambda seed: runs.run_key(base, seed, width))(jnp.arange(seeds))


def _check_widths(widths: Sequence[int]) -> list[int]:
    check_sequences(widths=widths)
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


def _numbers(at: Look) -> int:
    """Count parameters seven times (now, first, next, gradient, update, two of Adam's) and outputs four times.

    Of outputs there are: now, first, change, own update.
    """
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(at.boxed))
    return 7 * parameters + 4 * sum(map(math.prod, at.layers.values()))


def _all_layers(model: _Model) -> list[str]:
    """Return the layers of a model, at the end those that own growing parameters and were not measured."""
    return list(dict.fromkeys([*model.looks[0].layers, *_growing(model)]))


def _growing(model: _Model) -> list[str]:
    """Return the layers that own parameters whose shapes grow with the width.

    Of a module with several outputs these are all of them; of one that was not measured its name.
    """
    growing = []
    for owner, shapes in model.looks[0].owners.items():
        if all(at.owners.get(owner) == shapes for at in model.looks):
            continue
        mine = [layer for layer in model.looks[0].layers if layer.split("[")[0] == owner]
        growing += mine or [owner]
    return growing


def _layout(
    models: Mapping[str, _Model], layers: list[str], widths: list[int], how: _How, attrs: dict[str, str]
) -> results.Layout:
    """Lay out what every layer of every model is measured to be; layers that a model lacks are NaN."""
    import xarray as xr

    fixed_size, found, updated, owns = np.zeros((4, len(models), len(layers)), bool)
    for row, model in enumerate(models.values()):
        growing = _growing(model)
        for layer in _all_layers(model):
            place = row, layers.index(layer)
            owns[place] = layer in growing
            if layer in model.looks[0].layers:
                found[place] = True
                updated[place] = all(layer in at.updated for at in model.looks)
                fixed_size[place] = len({at.layers[layer] for at in model.looks}) == 1
    coords = {
        "model": list(models),
        "layer": layers,
        "width": ("width", np.array(widths, float), VARIABLES["width"].attrs),
        "seed": np.arange(how.seeds),
        "step": ("step", np.arange(how.steps + 1), {"units": "steps"}),
        "control": ("model", [model == CONTROL for model in models]),
        "measured": (("model", "layer"), found),
        "updated": (("model", "layer"), updated),
        "owns": (("model", "layer"), owns),
        "fixed_size": (("model", "layer"), fixed_size),
    }
    known = xr.Dataset(coords=coords, attrs=attrs)
    variables = results.filled(VARIABLES, dict.fromkeys(QUANTITIES, "float64"))
    return results.Layout(
        known, variables, {str(dim): size for dim, size in known.sizes.items()}, ("model", "layer", "width")
    )
