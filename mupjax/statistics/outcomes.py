"""Summarise a sweep over seeds: final losses, best rates, diverged and missing runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from mupjax.statistics.seeds import OverSeeds, over_seeds

if TYPE_CHECKING:
    import xarray as xr

LOSSES = ("train_loss", "test_loss")


class Outcomes(NamedTuple):
    """A sweep at the last recorded step; P parametrizations, D depths, O optimizers, W widths, R rates.

    Attributes:
      was_run: [O, R] bool, whether the optimizer was run at this rate.
      loss: statistics over the seeds with a finite loss, arrays [P, D, O, W, R].
      diverged: [P, D, O, W, R], number of seeds without a finite loss; 0 at rates that the optimizer was not run with,
        and in cells that are not done.
      done: [P, D, O, W] bool, whether any loss of the cell is finite. Diverging runs start from a finite loss; if step
        0 was not recorded, a cell in which all runs diverged looks like a missing one.
      best: [P, D, O, W], index of the rate with the smallest mean loss among those without a diverged seed, else -1.
    """

    was_run: Bool[np.ndarray, "O R"]
    loss: OverSeeds
    diverged: Int[np.ndarray, "P D O W R"]
    done: Bool[np.ndarray, "P D O W"]
    best: Int[np.ndarray, "P D O W"]


def outcomes(dataset: xr.Dataset, loss: str = "train_loss") -> Outcomes:
    """Return the losses of a sweep at the last recorded step, over seeds.

    Args:
      dataset: a result of `mupjax.sweep`, with train_loss and optionally test_loss of dims (parametrization, depth,
        optimizer, width, learning_rate, seed, step), and `was_run` of dims (optimizer, learning_rate).
      loss: 'train_loss' or 'test_loss'.

    Raises:
      ValueError: if the sweep does not have this loss.
    """
    present = [name for name in LOSSES if name in dataset]
    if loss not in present:
        raise ValueError(f"Expected `loss` to be one of {', '.join(present)}, got loss={loss!r}.")
    dims = ("parametrization", "depth", "optimizer", "width", "learning_rate", "seed", "step")
    values = dataset[loss].transpose(*dims).values
    was_run = dataset["was_run"].transpose("optimizer", "learning_rate").values
    done = np.asarray(np.isfinite(values).any(axis=(-3, -2, -1)))
    final = over_seeds(values[..., -1])
    diverged = np.where(was_run[:, None, :] & done[..., None], values.shape[-2] - final.seeds, 0)
    eligible = np.where((diverged == 0) & (final.seeds > 0), final.mean, np.inf)
    best = np.where(np.isfinite(eligible).any(-1), eligible.argmin(-1), -1)
    return Outcomes(was_run, final, diverged, done, best)
