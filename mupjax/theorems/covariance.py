r"""Covariance preservation: the Gaussian parts of W_0 x and W_0^T dh have the covariances of x and dh.

.. math:: \mathrm{Cov}(\hat Z^{W_0 x}, \hat Z^{W_0 y}) = \sigma^2 E[Z^x Z^y], \qquad
   \mathrm{Cov}(\hat Z^{W_0^\top g}, \hat Z^{W_0^\top g'}) = \sigma^2 E[Z^g Z^{g'}]

for all pairs of inputs and training steps (Chen et al. 2025, arXiv:2503.09565; the rule is that of Tensor Programs,
Yang & Hu 2021, arXiv:2011.14522). The equality holds in the limit of infinite width. At width n the Gaussian part is
fresh noise of full variance for every new query direction of W_0; the part that earlier products determine is in Zdot.
Covariances of one network deviate by order n^-1/2. Their means are equal at step 0, where the queries do not depend on
the noise of their products; later queries do, and the means deviate by order 1/n.

Symbols: L hidden layers, matrix m = 1..L-1 maps x^m to h^{m+1}, S Gram steps, G Gram inputs, R runs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from mupjax.trajectory import Trajectory

FIELDS = ("x", "dh", "zhat_forward", "zhat_backward")


class Preservation(NamedTuple):
    """Covariances of one direction (forward or backward) over runs.

    Entry [s, t, m-1, i, j] of an array [S, S, L-1, G, G] belongs to the pair of (step s, input i) and (step t, input
    j). Pairs of two different members appear twice; `pairs` returns each once.

    Attributes:
      predicted: [S, S, L-1, G, G], mean over runs of sigma^2 <x_s(i), x_t(j)>/n, for queries x of W_0.
      empirical: [S, S, L-1, G, G], mean over runs of <zhat_s(i), zhat_t(j)>/n, for the Gaussian parts of the products.
      difference: [S, S, L-1, G, G], empirical - predicted.
      stderr: [S, S, L-1, G, G], standard error of the difference over runs.
      z: [S, S, L-1, G, G], difference/stderr; 0 if the difference is exactly 0.
      deviation: [R], relative deviation of each network, sqrt(sum difference^2 / sum predicted^2) over all pairs and
        matrices, of order n^-1/2.
    """

    predicted: Float[np.ndarray, "S S M G G"]
    empirical: Float[np.ndarray, "S S M G G"]
    difference: Float[np.ndarray, "S S M G G"]
    stderr: Float[np.ndarray, "S S M G G"]
    z: Float[np.ndarray, "S S M G G"]
    deviation: Float[np.ndarray, " R"]


class CovariancePreservation(NamedTuple):
    """Result of `covariance_preservation`.

    Attributes:
      forward: of W_0 x.
      backward: of W_0^T dh.
      num_runs: R.
    """

    forward: Preservation
    backward: Preservation
    num_runs: int


class Summary(NamedTuple):
    """Agreement of the covariances; rows are forward and backward, columns the matrices m = 1..L-1.

    Every pair counts once.

    Attributes:
      relative_difference: [2, L-1], sqrt(sum difference^2 / sum predicted^2).
      relative_stderr: [2, L-1], the same for stderr. It is the expected relative_difference if the equality holds;
        sqrt(R) times it is the fluctuation of one run.
      max_z: [2, L-1], largest |z|.
      bound: if the equality holds, no |z| of all (L-1) K (K + 1) pairs, K = S G, exceeds it with probability at least
        1 - level (Student's distribution with R-1 degrees of freedom, Bonferroni's inequality).
      level: family-wise level of `bound`.
    """

    relative_difference: Float[np.ndarray, "2 M"]
    relative_stderr: Float[np.ndarray, "2 M"]
    max_z: Float[np.ndarray, "2 M"]
    bound: float
    level: float


def covariance_preservation(runs: Trajectory, *, sigma: float = 1.0) -> CovariancePreservation:
    r"""Compare the covariances of the Gaussian parts over runs with those that theory predicts from the features.

    Forward Gaussian parts of layers 2..L are compared with x of layers 1..L-1, backward ones of layers 1..L-1 with dh
    of layers 2..L. The mean over runs estimates the expectation over coordinates and initialisations. Backward vectors
    are used as recorded: n dLoss/dh by `feature_limit`, dLoss/dh by `matrix_free`. z and relative differences do not
    depend on this factor.

    Args:
      runs: runs of a network whose layers have equal widths, with `space_time` fields 'x', 'dh', 'zhat_forward' and
        'zhat_backward' [R, S, S, L, G, G], R >= 2: from `dynamics.feature_limit.sample`, or
        `dynamics.matrix_free.train` mapped over keys.
      sigma: the initial entries of hidden matrices have variance sigma^2/n.

    Returns:
      A CovariancePreservation. A diverged run makes the entries NaN.

    Raises:
      ValueError: if a field was not recorded, there are fewer than two runs or no runs axis, there is no hidden matrix,
        or `sigma` is not finite and positive.

    Example:
      >>> import jax, numpy as np
      >>> from mupjax.dynamics import feature_limit
      >>> from mupjax.parametrization import mup
      >>> from mupjax.task import Task
      >>> from mupjax.trajectory import TrajectorySpec
      >>> settings = {"depth": 2, "learning_rate": 0.5, "steps": 2, "num_particles": 256, "num_runs": 4}
      >>> task, spec = Task(np.eye(4), np.ones((4, 1))), TrajectorySpec(space_time=FIELDS)
      >>> runs = feature_limit.sample(task, mup(), key=jax.random.key(0), spec=spec, **settings)
      >>> found = covariance_preservation(runs)
      >>> found.forward.predicted.shape, bool((summarize(found).relative_difference < 0.05).all())
      ((2, 2, 1, 4, 4), True)
    """
    if not (np.isfinite(sigma) and sigma > 0):
        raise ValueError(f"Expected `sigma` to be finite and positive, got sigma={sigma!r}.")
    fields = {name: getattr(runs.space_time, name, None) for name in FIELDS}
    missing = [name for name, array in fields.items() if array is None]
    if missing:
        raise ValueError(f"Expected `runs` to have recorded space_time={FIELDS!r}, got none of {', '.join(missing)}.")
    shapes = {np.shape(array) for array in fields.values() if array is not None}
    shape = min(shapes)
    if len(shapes) > 1 or len(shape) != 6 or shape[0] < 2 or shape[3] < 2:
        raise ValueError(
            "Expected `space_time` of `runs` to be [R, S, S, L, G, G] with at least 2 runs R and 2 hidden layers L, "
            f"got {' and '.join(map(str, sorted(shapes)))}."
        )
    x, dh, forward, backward = (np.asarray(array, np.float64) for array in fields.values())
    return CovariancePreservation(
        _over_runs(sigma**2 * x[:, :, :, :-1], forward[:, :, :, 1:]),
        _over_runs(sigma**2 * dh[:, :, :, 1:], backward[:, :, :, :-1]),
        shape[0],
    )


def summarize(found: CovariancePreservation, *, level: float = 1e-3) -> Summary:
    """Summarise the differences of each direction and matrix.

    Args:
      found: a result of `covariance_preservation`.
      level: family-wise level of the bound on |z|, in (0, 1).

    Raises:
      ValueError: if `level` is out of range.
    """
    from scipy import stats

    if not 0 < level < 1:
        raise ValueError(f"Expected `level` to be between 0 and 1, got level={level!r}.")
    both = found.forward, found.backward
    names = "difference", "stderr", "predicted", "z"
    difference, stderr, predicted, z = (np.stack([pairs(getattr(part, name)) for part in both]) for name in names)
    size = np.sum(predicted**2, -1)
    return Summary(
        np.sqrt(np.sum(difference**2, -1) / size),
        np.sqrt(np.sum(stderr**2, -1) / size),
        np.max(np.abs(z), -1),
        float(stats.t.isf(level / (2 * z.size), found.num_runs - 1)),
        level,
    )


def pairs(array: npt.ArrayLike) -> Float[np.ndarray, "M pairs"]:
    """Return every pair of (step, input) once: [S, S, L-1, G, G] becomes [L-1, K (K + 1)/2] with K = S G.

    Example:
      >>> steps = np.array([[1.0, 2.0], [2.0, 3.0]])  # two steps, one matrix, one input
      >>> pairs(steps[:, :, None, None, None]).tolist()
      [[1.0, 2.0, 3.0]]
    """
    array = np.asarray(array)
    steps, _, matrices, inputs, _ = array.shape
    square = array.transpose(2, 0, 3, 1, 4).reshape(matrices, steps * inputs, steps * inputs)
    rows, columns = np.triu_indices(steps * inputs)
    return square[:, rows, columns]


def _over_runs(predicted: np.ndarray, empirical: np.ndarray) -> Preservation:
    """Return the means over runs of two arrays [R, S, S, L-1, G, G] and the error of their difference."""
    difference = empirical - predicted
    mean, stderr = difference.mean(0), difference.std(0, ddof=1) / len(difference) ** 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(mean == 0, 0.0, mean / stderr)
    expected = predicted.mean(0)
    deviation = np.sqrt(np.sum(difference**2, axis=tuple(range(1, 6))) / np.sum(expected**2))
    return Preservation(expected, empirical.mean(0), mean, stderr, z, deviation)
