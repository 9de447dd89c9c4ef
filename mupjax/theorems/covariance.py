r"""Covariance preservation: the Gaussian parts of W_0 x and W_0^T dh keep the covariance of what W_0 was asked.

.. math:: \mathrm{Cov}(\hat Z^{W_0 x}, \hat Z^{W_0 y}) = \sigma^2 E[Z^x Z^y], \qquad
   \mathrm{Cov}(\hat Z^{W_0^\top g}, \hat Z^{W_0^\top g'}) = \sigma^2 E[Z^g Z^{g'}]

over all pairs of inputs and steps of training (Chen et al. 2025, arXiv:2503.09565; the rule is that of Tensor Programs,
Yang & Hu 2021, arXiv:2011.14522). Theory promises the equality in the limit of infinite width only. What a network of
width n records as its Gaussian part is fresh noise of full variance for every direction that W_0 is asked; what earlier
answers fix of that noise stands in Zdot. In one network covariances differ by order n^-1/2. Their means are equal at
step 0, where vectors do not depend on the noise that answers them; later vectors do, and means differ by order 1/n.

Symbols: L hidden layers, matrix m = 1..L-1 maps x^m to h^{m+1}, S Gram steps, G Gram inputs, R runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mupjax.trajectory import Trajectory

FIELDS = ("x", "dh", "zhat_forward", "zhat_backward")


class Preservation(NamedTuple):
    """Covariances of one direction over runs, [S, S, L-1, G, G] float64 if not said otherwise; entry [s, t, m-1, i, j].

    Every pair of (step, input) with two different members stands there twice; `pairs` counts it once.

    Attributes:
      predicted: sigma^2 <x_s(i), x_t(j)>/n of what W_0 was asked, the mean over runs.
      empirical: <zhat_s(i), zhat_t(j)>/n of the Gaussian parts of its answers, the mean over runs.
      difference: empirical - predicted.
      stderr: of the difference, over runs.
      z: difference/stderr; 0 where the difference is exactly 0.
      deviation: [R], how far one network is off, sqrt(sum difference^2 / sum predicted^2) of its own differences over
        all pairs and matrices: order n^-1/2.
    """

    predicted: np.ndarray
    empirical: np.ndarray
    difference: np.ndarray
    stderr: np.ndarray
    z: np.ndarray
    deviation: np.ndarray


class CovariancePreservation(NamedTuple):
    """forward: of W_0 x. backward: of W_0^T dh. num_runs: R."""

    forward: Preservation
    backward: Preservation
    num_runs: int


class Summary(NamedTuple):
    """How well covariances agree; rows forward, backward, columns the matrices m = 1..L-1; every pair counts once.

    Attributes:
      relative_difference: [2, L-1], sqrt(sum difference^2 / sum predicted^2).
      relative_stderr: [2, L-1], the same of stderr: what relative_difference is expected to be of the equality alone;
        sqrt(R) times it is how one run fluctuates.
      rms_z, max_z: [2, L-1], of |z|. Of the equality alone rms_z is about sqrt((R-1)/(R-3)).
      num_pairs: pairs of (step, input) of one direction and matrix: K (K + 1)/2 for K = S G.
      bound: what no |z| of all 2 (L-1) num_pairs exceeds with probability at least 1 - level where the equality holds:
        Student's with R-1 degrees of freedom, by Bonferroni's inequality.
      level: the family-wise level of `bound`.
    """

    relative_difference: np.ndarray
    relative_stderr: np.ndarray
    rms_z: np.ndarray
    max_z: np.ndarray
    num_pairs: int
    bound: float
    level: float


def covariance_preservation(runs: Trajectory, *, sigma: float = 1.0) -> CovariancePreservation:
    r"""Return covariances of the Gaussian parts over runs beside those that theory predicts from features.

    Forward Gaussian parts of layers 2..L are compared with x of layers 1..L-1, backward ones of layers 1..L-1 with dh
    of layers 2..L. A mean over runs estimates the expectation over coordinates and initialisations. Backward vectors
    are taken as they are recorded: n dLoss/dh, of order one, from `feature_limit`, dLoss/dh from `matrix_free`; z and
    relative differences are the same for both.

    Args:
      runs: of a network whose layers have equal widths, with `space_time` fields 'x', 'dh', 'zhat_forward' and
        'zhat_backward' [R, S, S, L, G, G], R >= 2: from `dynamics.feature_limit.sample`, or
        `dynamics.matrix_free.train` mapped over keys.
      sigma: of the hidden matrices' initial entries, whose variance is sigma^2/n.

    Returns:
      A CovariancePreservation. A run that diverged makes its entries NaN.

    Raises:
      ValueError: for fields that were not recorded, no axis of runs or fewer than two, no hidden matrix, or a sigma
        that is not finite and positive.

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
    fields: dict[str, Any] = {name: getattr(runs.space_time, name, None) for name in FIELDS}
    missing = [name for name, array in fields.items() if array is None]
    if missing:
        raise ValueError(f"Expected `runs` to have recorded space_time={FIELDS!r}, got none of {', '.join(missing)}.")
    shapes = {np.shape(array) for array in fields.values()}
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
    """Return how large the differences are for each direction and matrix.

    Args:
      found: what `covariance_preservation` returns.
      level: the family-wise level of the bound on |z|, in (0, 1).

    Raises:
      ValueError: for a level out of range.
    """
    from scipy import stats

    if not 0 < level < 1:
        raise ValueError(f"Expected `level` to be between 0 and 1, got level={level!r}.")
    both = found.forward, found.backward
    names = "difference", "stderr", "predicted", "z"
    difference, stderr, predicted, z = (np.stack([pairs(getattr(one, name)) for one in both]) for name in names)
    size = np.sum(predicted**2, -1)
    return Summary(
        np.sqrt(np.sum(difference**2, -1) / size),
        np.sqrt(np.sum(stderr**2, -1) / size),
        np.sqrt(np.mean(z**2, -1)),
        np.max(np.abs(z), -1),
        z.shape[-1],
        float(stats.t.isf(level / (2 * z.size), found.num_runs - 1)),
        level,
    )


def pairs(array: Any) -> np.ndarray:
    """Return every pair of (step, input) once, [L-1, K (K + 1)/2] of [S, S, L-1, G, G] with K = S G.

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
    """Means over the runs axis of [R, S, S, L-1, G, G] and the error of their difference."""
    difference = empirical - predicted
    mean, stderr = difference.mean(0), difference.std(0, ddof=1) / len(difference) ** 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(mean == 0, 0.0, mean / stderr)
    expected = predicted.mean(0)
    deviation = np.sqrt(np.sum(difference**2, axis=tuple(range(1, 6))) / np.sum(expected**2))
    return Preservation(expected, empirical.mean(0), mean, stderr, z, deviation)
