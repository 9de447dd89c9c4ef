"""What a sweep says over its seeds: losses at the last step, best rates, which runs diverged, which are missing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mupjax.statistics.seeds import OverSeeds, over_seeds

LOSSES = ("train_loss", "test_loss")


class Outcomes(NamedTuple):
    """The runs of a sweep at the last recorded step; P parametrizations, D depths, O optimizers, W widths, R rates.

    asked: bool [O, R], the rates that each optimizer was run with.
    loss: statistics over the seeds whose loss is finite, arrays [P, D, O, W, R].
    diverged: [P, D, O, W, R], how many seeds have no finite loss; 0 at rates that the optimizer was not asked for and
      in cells that are not done.
    done: [P, D, O, W], whether any loss of the cell is finite. A run that diverges starts from a finite loss; where
      step 0 was not recorded, a cell whose runs all diverged cannot be told from a missing one.
    best: [P, D, O, W], the index of the rate of smallest mean loss among those at which no seed diverged; -1 where
      there is none.
    """

    asked: np.ndarray
    loss: OverSeeds
    diverged: np.ndarray
    done: np.ndarray
    best: np.ndarray


def outcomes(dataset: Any, loss: str = "train_loss") -> Outcomes:
    """Return the losses of a sweep at the last recorded step, over seeds.

    Args:
      dataset: what `mupjax.sweep` returns; train_loss, and test_loss where there is a test set, have the dims
        (parametrization, depth, optimizer, width, learning_rate, seed, step), `asked` has (optimizer, learning_rate).
      loss: 'train_loss' or 'test_loss'.

    Raises:
      ValueError: for a loss that the sweep does not have.
    """
    present = [name for name in LOSSES if name in dataset]
    if loss not in present:
        raise ValueError(f"Expected `loss` to be one of {', '.join(present)}, got loss={loss!r}.")
    dims = ("parametrization", "depth", "optimizer", "width", "learning_rate", "seed", "step")
    values = dataset[loss].transpose(*dims).values
    asked = dataset["asked"].transpose("optimizer", "learning_rate").values
    done = np.isfinite(values).any(axis=(-3, -2, -1))
    final = over_seeds(values[..., -1])
    diverged = np.where(asked[:, None, :] & done[..., None], values.shape[-2] - final.seeds, 0)
    eligible = np.where((diverged == 0) & (final.seeds > 0), final.mean, np.inf)
    best = np.where(np.isfinite(eligible).any(-1), eligible.argmin(-1), -1)
    return Outcomes(asked, final, diverged, done, best)
