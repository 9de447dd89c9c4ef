"""A grid of learning rates and widths of one depth, with the best rate of every network and its drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

import jax
import numpy as np

from mupjax import parametrization
from mupjax._checks import check_sequences
from mupjax.activations import Activation
from mupjax.optim import Optimizer
from mupjax.parametrization import Parametrization
from mupjax.studies.transfer.best import CONTROL, best_rates
from mupjax.sweeps.grid import named_optimizers
from mupjax.sweeps.sweep import Options, run_grid
from mupjax.task import Task

if TYPE_CHECKING:
    import xarray as xr

# Rates of each optimizer where none are given: three steps and two an octave, about the best ones of these widths.
RATES = {"sgd": tuple(np.geomspace(2**-2.5, 8, 12)), "adam": tuple(np.geomspace(2**-9.5, 2**-3, 14))}


def transfer(
    task: Task,
    *,
    parametrizations: Sequence[str | Parametrization] = ("mup",),
    control: bool = True,
    widths: Sequence[int | tuple[int, ...]] = (64, 128, 256, 512),
    depth: int = 2,
    learning_rates: Sequence[float] | np.ndarray | Mapping[str, Sequence[float]] | None = None,
    seeds: int = 12,
    optimizers: Sequence[str | Optimizer] | Mapping[str, Optimizer] = ("sgd", "adam"),
    steps: int = 20,
    batch_size: int | None = 64,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    base_width: int | tuple[int, ...] = 64,
    **options: Unpack[Options],
) -> xr.Dataset:
    """Train networks at many learning rates and widths, and measure how the best rate moves with the width.

    The rates of an optimizer should bracket the best one of every width, the control's widest too. `judge` says what
    the Dataset shows.

    Args:
      task: data and loss.
      parametrizations: names or Parametrizations.
      control: also run the control, a standard network with one rate for all widths (`sp` with
        learning_rate_exponent=0), before the others. The name 'sp' among these is the control then, and a
        Parametrization of this name stands in for it.
      widths: two or more.
      depth: number of hidden layers.
      learning_rates: as in `sweep`; by default those of RATES.
      seeds, optimizers, steps, batch_size, activation, base_width, **options: as in `sweep`.

    Returns:
      The sweep's Dataset with what `best_rates` finds in it.

    Raises:
      ValueError: for one width, an optimizer that RATES has no rates for where none are given, and as `sweep`.
      TypeError: as `sweep`.

    Example:
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> rates = {"learning_rates": (0.1, 0.2, 0.4), "optimizers": ("sgd",)}
      >>> data = transfer(task, widths=(8, 16), depth=1, seeds=2, steps=3, batch_size=None, **rates)
      >>> dict(data.best_rate.sizes)
      {'parametrization': 2, 'optimizer': 1, 'width': 2, 'seed': 2}
    """
    given = {name: value for name, value in locals().items() if name not in ("task", "options", "control")}
    check_sequences(parametrizations=parametrizations, widths=widths, optimizers=optimizers)
    if control:
        given["parametrizations"] = _with_control(parametrizations, base_width)
    if learning_rates is None:
        given["learning_rates"] = _default_rates(optimizers)
    if len(widths) < 2:
        raise ValueError(f"Expected `widths` to name two or more, got widths={tuple(widths)!r}.")
    given["depths"] = (given.pop("depth"),)
    return run_grid("transfer", task, given, options, lambda data: data.merge(best_rates(data)))


def _with_control(
    given: Sequence[str | Parametrization], base_width: int | tuple[int, ...]
) -> tuple[str | Parametrization, ...]:
    """Return the parametrizations with the control, first unless it is among them."""
    plain = parametrization.sp(base_width=base_width, learning_rate_exponent=0.0)
    chosen = tuple(plain if one == CONTROL else one for one in given)
    named = [one if isinstance(one, str) else one.name for one in chosen]
    return chosen if CONTROL in named else (plain, *chosen)


def _default_rates(optimizers: Sequence[str | Optimizer] | Mapping[str, Optimizer]) -> dict[str, tuple[float, ...]]:
    names = [name for name, _ in named_optimizers(optimizers)]
    if unknown := [name for name in names if name not in RATES]:
        raise ValueError(
            f"Expected `learning_rates` with {unknown[0]}: only {' and '.join(RATES)} have default ones, got none."
        )
    return {name: RATES[name] for name in names}
