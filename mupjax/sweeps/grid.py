"""Grids of runs, with their arguments checked before anything starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from mupjax import activations, devices, network, optim
from mupjax import parametrization as presets
from mupjax._checks import check_choice, check_counts, check_distinct, check_sequences
from mupjax.activations import Activation
from mupjax.dynamics import padded
from mupjax.observers.named import OF_FEATURES as OBSERVABLE
from mupjax.optim import Optimizer
from mupjax.parametrization import Parametrization
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec

PADDING = ("auto", "always", "never")


class Grid(NamedTuple):
    """A grid: every parametrization, depth, optimizer, width, learning rate and seed with each other.

    Attributes:
      optimizers: names and optimizers.
      rates: of each optimizer in turn, ascending.
      batch_size: None is the full batch.
      padding: 'auto', 'always' or 'never'.
      parametrizations, depths, widths, seeds, steps, activation, centred, spec, key, memory_gb, observe, observe_every:
        as in `mupjax.sweep`.
    """

    parametrizations: tuple[Parametrization, ...]
    depths: tuple[int, ...]
    optimizers: tuple[tuple[str, Optimizer], ...]
    widths: tuple[int | tuple[int, ...], ...]
    rates: tuple[tuple[float, ...], ...]
    seeds: int
    steps: int
    batch_size: int | None
    activation: Activation
    centred: bool
    spec: TrajectorySpec
    key: jax.Array
    memory_gb: float
    padding: str
    observe: tuple[str, ...] = ()
    observe_every: int = 1


def grid_of(
    task: Task,
    *,
    parametrizations: Sequence[str | Parametrization],
    widths: Sequence[int | tuple[int, ...]],
    depths: Sequence[int],
    learning_rates: Sequence[float] | np.ndarray | Mapping[str, Sequence[float]],
    seeds: int,
    optimizers: Sequence[str | Optimizer] | Mapping[str, Optimizer],
    steps: int,
    batch_size: int | None,
    activation: str | Activation | Callable[[jax.Array], jax.Array],
    base_width: int | tuple[int, ...],
    centred: bool,
    spec: TrajectorySpec,
    padding: str,
    key: jax.Array,
    memory_gb: float | None,
    observe: Sequence[str] = (),
    observe_every: int | None = None,
) -> Grid:
    """Return a checked grid; arguments as in `mupjax.sweep`.

    Raises:
      ValueError: for empty or duplicate entries, rates that are not positive, other numbers out of range.
      TypeError: for one entry where several are meant, or words as rates.
    """
    check_sequences(parametrizations=parametrizations, widths=widths, depths=depths, optimizers=optimizers)
    by_optimizer = learning_rates.values() if isinstance(learning_rates, Mapping) else (learning_rates,)
    for rates in by_optimizer:
        check_sequences(learning_rates=rates)
    check_sequences(observe=observe)
    one_depth = depths[0] if len(depths) == 1 else None
    phi = activations.get(activation)
    options: dict[str, Any] = {"base_width": base_width, "depth": one_depth, "degree": phi.degree}
    chosen = tuple(presets.get(p, **options) if isinstance(p, str) else p for p in parametrizations)
    named = named_optimizers(optimizers)
    widths = tuple(tuple(w) if isinstance(w, list) else w for w in widths)
    check_distinct(parametrizations=[p.name for p in chosen], widths=widths, depths=depths)
    check_distinct(optimizers=[name for name, _ in named])
    check_counts(seeds=seeds, steps=steps, **({} if batch_size is None else {"batch_size": batch_size}))
    for depth in depths:
        for width in widths:
            network.hidden_widths(width, depth)
        for preset in chosen:
            _check_profile(preset, widths, depth)
            for width in widths:
                network.hidden_widths(width, depth, preset)
    if batch_size is not None and not 1 <= batch_size <= task.num_train:
        raise ValueError(f"Expected `batch_size` to be in 1..{task.num_train}, got batch_size={batch_size}.")
    for depth in depths:
        check_distinct(widths=[network.hidden_widths(width, depth) for width in widths])  # 4 is (4, 4)
    if unknown := [name for name in observe if name not in OBSERVABLE]:
        raise ValueError(f"Expected `observe` to be drawn from {', '.join(OBSERVABLE)}, got {unknown[0]!r}.")
    observe_every = steps if observe_every is None else observe_every
    check_counts(observe_every=observe_every)
    check_choice(PADDING, padding=padding)
    if spec.grams and 0 not in spec.resolve_gram_steps(steps):
        raise ValueError(f"Expected `spec.gram_steps` to begin with 0, got {spec.gram_steps!r}.")
    built_in = [_is_built_in(optimizer) for _, optimizer in named]
    for (_, optimizer), known in zip(named, built_in, strict=True):
        for preset in chosen:
            if known and (preset.traits.first_step or preset.traits.normalized):
                optimizer(_scaling(task, widths[0], depths[0], preset, phi), 1.0)  # refuses Adam
            elif not known:
                furthest = max(widths, key=lambda width, base=preset.base_width: _octaves(width, base))
                scaling = _scaling(task, furthest, depths[0], preset, phi)  # at the base width all are 1
                optim.check_optimizer(optimizer, scaling, rule=None)
    # Averages over a kernel's entries would count absent units, and only our own optimizers are known to take none.
    paddable = padded.can_pad(phi) and all(built_in)
    if padding == "always" and not paddable:
        raise ValueError(
            "Expected `padding` to be 'auto' or 'never' with an optimizer of one's own or an activation without a "
            "finite derivative at 0, got padding='always'."
        )
    return Grid(
        chosen,
        tuple(depths),
        named,
        widths,
        _rates(learning_rates, [name for name, _ in named]),
        seeds,
        steps,
        batch_size,
        phi,
        centred,
        spec,
        key,
        devices.memory_budget(memory_gb),
        padding if paddable else "never",
        tuple(observe),
        observe_every,
    )


def _scaling(
    task: Task, width: int | tuple[int, ...], depth: int, preset: Parametrization, phi: Activation
) -> optim.ScalingTree:
    model = network.MLP(width, depth, task.out_dim, preset, phi)
    return network.scaling_tree(jax.eval_shape(partial(model.init, jax.random.key(0)), task.x_train[:1]))


def _check_profile(preset: Parametrization, widths: tuple[int | tuple[int, ...], ...], depth: int) -> None:
    """Raise ValueError if an int width meets a parametrization whose widths grow with depth."""
    for width in widths:
        if preset.width_profile and depth > 1 and isinstance(width, int):
            raise ValueError(
                f"Expected `widths` as tuples beside {preset.name}, whose layers grow with depth, such as "
                f"{preset.layer_widths(width, depth)}, got {width}: `layer_widths` gives them."
            )


def _is_built_in(optimizer: Optimizer) -> bool:
    return optim.is_sgd(optimizer) or optimizer in (optim.adam, optim.adamw)


def _octaves(width: int | tuple[int, ...], base_width: int | tuple[int, ...]) -> float:
    """How far a width is from the base width."""
    layers = max(len(one) if isinstance(one, tuple) else 1 for one in (width, base_width))
    widths, bases = (one if isinstance(one, tuple) else (one,) * layers for one in (width, base_width))
    return max(abs(math.log2(one / base)) for one, base in zip(widths, bases, strict=True))


def named_optimizers(given: Sequence[str | Optimizer] | Mapping[str, Optimizer]) -> tuple[tuple[str, Optimizer], ...]:
    """Return names and optimizers, equal for equal arguments.

    Raises:
      ValueError: for an unknown name, or a callable without one.
    """
    if isinstance(given, Mapping):
        return tuple((name, optim.canonical(optimizer)) for name, optimizer in given.items())
    named = []
    for one in given:
        if isinstance(one, str):
            check_choice(tuple(optim.OPTIMIZERS), optimizers=one)
            named.append((one, optim.OPTIMIZERS[one]))
            continue
        one = optim.canonical(one)
        name = getattr(one, "__name__", "")
        if not name.partition("(")[0].isidentifier():
            raise ValueError(
                f"Expected `optimizers` to have names (a function's `__name__`), or to be a dict of them, got {one!r}."
            )
        named.append((name, one))
    return tuple(named)


def _rates(given: Any, names: list[str]) -> tuple[tuple[float, ...], ...]:
    """The rates of every optimizer, ascending."""
    by_name: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {name: given for name in names}
    if set(by_name) != set(names):
        raise ValueError(
            f"Expected `learning_rates` for each of {', '.join(names)}, got them for {', '.join(by_name)}."
        )
    for rates in by_name.values():
        check_distinct(learning_rates=tuple(rates))
        for rate in rates:
            if isinstance(rate, str):
                raise TypeError(f"Expected `learning_rates` to be numbers, got {rate!r}.")
            if not (math.isfinite(rate) and rate > 0):
                raise ValueError(f"Expected `learning_rates` to be finite and positive, got {rate!r}.")
    return tuple(tuple(sorted(float(rate) for rate in by_name[name])) for name in names)
