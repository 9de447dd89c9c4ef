"""A grid of learning rates and widths of one depth, with the best rate of every network and its drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

import jax
import numpy as np

from mupjax.activations import Activation
from mupjax.optim import Optimizer
from mupjax.parametrization import Parametrization, sp
from mupjax.studies.transfer.best import best_rates
from mupjax.sweeps.sweep import Options, run_grid
from mupjax.task import Task

if TYPE_CHECKING:
    import xarray as xr

RATES = {"sgd": tuple(np.geomspace(2**-2.5, 8, 12)), "adam": tuple(np.geomspace(2**-9.5, 2**-3, 14))}


def transfer(
    task: Task,
    *,
    parametrizations: Sequence[str | Parametrization] | None = None,
    widths: Sequence[int] = (64, 128, 256, 512),
    depth: int = 2,
    learning_rates: Sequence[float] | np.ndarray | Mapping[str, Sequence[float]] = RATES,
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
      parametrizations: names or Parametrizations; by default muP beside its control, a standard network with one rate
        for all widths (`sp` with learning_rate_exponent=0).
      widths: two or more.
      depth: number of hidden layers.
      learning_rates, seeds, optimizers, steps, batch_size, activation, base_width, **options: as in `sweep`.

    Returns:
      The sweep's Dataset with what `best_rates` finds in it.

    Raises:
      ValueError: for one width, and as `sweep`.

    Example:
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> rates = {"learning_rates": (0.1, 0.2, 0.4), "optimizers": ("sgd",)}
      >>> data = transfer(task, widths=(8, 16), depth=1, seeds=2, steps=3, batch_size=None, **rates)
      >>> dict(data.best_rate.sizes)
      {'parametrization': 2, 'optimizer': 1, 'width': 2, 'seed': 2}
    """
    given = {name: value for name, value in locals().items() if name not in ("task", "options")}
    if parametrizations is None:
        given["parametrizations"] = (sp(base_width=base_width, learning_rate_exponent=0.0), "mup")
    if len(widths) < 2:
        raise ValueError(f"Expected `widths` to name two or more, got widths={tuple(widths)!r}.")
    given["depths"] = (given.pop("depth"),)
    return run_grid("transfer", task, given, options, lambda data: data.merge(best_rates(data)))
