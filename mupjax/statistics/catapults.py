r"""Detect catapults: the loss grows, falls again, and the run ends where the curvature is small.

At rates between :math:`2 / \lambda_0` and about :math:`4 / \lambda_0` gradient descent on a wide network starts out
unstable and ends in a flatter minimum (Lewkowycz, Bahri, Dyer, Sohl-Dickstein & Gur-Ari 2020, arXiv:2003.02218).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float


class Catapult(NamedTuple):
    """Result of `detect_catapults`, one entry per run.

    Attributes:
      growth: largest loss / first loss.
      ending: last loss / first loss.
      edge: learning rate * last sharpness; 2 is the edge of stability.
      happened: whether the loss grew by more than `grown` and fell below its start, and the run ended below the edge.
      diverged: whether a loss or the sharpness is not finite.
    """

    growth: Float[np.ndarray, "*runs"]
    ending: Float[np.ndarray, "*runs"]
    edge: Float[np.ndarray, "*runs"]
    happened: Bool[np.ndarray, "*runs"]
    diverged: Bool[np.ndarray, "*runs"]


def detect_catapults(
    losses: npt.ArrayLike,
    sharpness: npt.ArrayLike,
    rates: npt.ArrayLike,
    *,
    grown: float = 1.05,
) -> Catapult:
    """Detect which runs were catapulted, from losses at every step, the final sharpness and the rates.

    Args:
      losses: [..., T + 1], arrays or DataArrays, over the full training set.
      sharpness: [...], after the last step, with the parametrization's rates in it.
      rates: [...], base learning rates.
      grown: smallest max(loss)/loss[0] that counts as a catapult; stable rates give 1.

    Example:
      >>> found = detect_catapults(np.array([[1.0, 5.0, 0.1], [1.0, 0.5, 0.1]]), np.ones(2), np.ones(2))
      >>> found.happened.tolist(), found.growth.tolist()
      ([True, False], [5.0, 1.0])
    """
    values, last = np.asarray(losses, np.float64), np.asarray(sharpness, np.float64)
    diverged = ~(np.isfinite(values).all(-1) & np.isfinite(last))
    filled = np.where(np.isfinite(values), values, np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        growth = np.asarray(filled.max(-1) / filled[..., 0])
        ending = np.asarray(filled[..., -1] / filled[..., 0])
    edge = np.asarray(np.asarray(rates, np.float64) * last)
    happened = np.asarray(~diverged & (growth > grown) & (ending < 1) & (edge < 2))
    return Catapult(growth, ending, edge, happened, np.asarray(diverged))


def rises(losses: npt.ArrayLike, *, grown: float = 1.05, floor: float = 1e-6) -> Bool[np.ndarray, "*runs T"]:
    """Return at which steps the loss grew, above what rounding does near zero loss.

    Near the end of training a loss of 1e-12 doubles and halves by rounding alone: a rise counts where the loss after it
    exceeds `floor` times the first one.

    Args:
      losses: [..., T + 1], over the full training set.
      grown: smallest ratio of a loss to the one before that counts as a rise.
      floor: smallest loss, over the first one, that counts.

    Example:
      >>> rises(np.array([1.0, 0.5, 0.8, 1e-9, 1e-8])).tolist()
      [False, True, False, False]
    """
    values = np.asarray(losses, np.float64)
    return (values[..., 1:] > grown * values[..., :-1]) & (values[..., 1:] > floor * values[..., :1])
