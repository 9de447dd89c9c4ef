r"""Metrics of features as functions of Gram matrices alone, so that width 64 and infinite width are measured alike.

:math:`K_{tt}[i, j] = \langle z_t(\xi_i), z_t(\xi_j) \rangle / n`, :math:`K_{t0}` between step t and initialisation,
:math:`K_{00}` at initialisation, z a preactivation or activation vector of one layer. All functions take arrays
[..., N, N] with any leading axes and compute in NumPy float64. A matrix with an entry that is not finite (a diverged
run) gives NaN, and nothing but its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Values = np.ndarray | np.float64  # [...]: a scalar where there are no leading axes


class Eigenvalue(NamedTuple):
    """A smallest eigenvalue and what rounding can resolve of it.

    value: [...] as computed, never overwritten; may be negative within the resolution.
    resolution: [...] N eps ||K||_2: smaller values cannot be told from zero. Ratios use max(value, resolution) and
      then say 'at least'.
    """

    value: Values
    resolution: Values


def feature_change(gram: Any, cross_gram: Any, gram_0: Any) -> Values:
    r"""Return the relative distance of the features from their initial values.

    .. math:: \sqrt{\operatorname{tr}(K_{tt} - K_{t0} - K_{t0}^\top + K_{00}) / \operatorname{tr} K_{00}}

    (Chen et al. 2025, arXiv:2503.09565, Sec. 5)

    Args:
      gram: [..., N, N], K_tt.
      cross_gram: [..., N, N], K_t0.
      gram_0: [..., N, N], K_00.

    Returns:
      [...], Theta(1) in width where features are learned, vanishing in the kernel regime; inf where they start at zero.

    Example:
      >>> import numpy as np
      >>> float(feature_change(4 * np.eye(2), 2 * np.eye(2), np.eye(2)))  # z_t = 2 z_0
      1.0
    """
    moved, initial = _moved(gram, cross_gram, gram_0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(np.maximum(moved.sum(-1), 0) / initial.sum(-1))


def feature_change_per_input(gram: Any, cross_gram: Any, gram_0: Any) -> np.ndarray:
    """Return every input's own relative feature change, [..., N]; arguments as in `feature_change`."""
    moved, initial = _moved(gram, cross_gram, gram_0)
    return np.sqrt(np.maximum(moved, 0) / initial)


def diversity(gram: Any) -> Eigenvalue:
    r"""Return :math:`\lambda_{\min}(K_{tt})`, positive where the inputs' features are linearly independent.

    Args:
      gram: [..., N, N].

    Returns:
      An Eigenvalue of [...] arrays. At width n < N the value is zero whatever was learned; see `sampling_factor`.
    """
    return _smallest_eigenvalue(_square("gram", gram), _eps(gram))


def space_time(gram: Any, cross_gram: Any, gram_0: Any) -> Eigenvalue:
    r"""Return the smallest eigenvalue of the joint Gram matrix of initial and current features.

    .. math:: \lambda_{\min} \begin{pmatrix} K_{00} & K_{t0}^\top \\ K_{t0} & K_{tt} \end{pmatrix}

    Positive where no combination of current features is a combination of initial ones (Chen et al. 2025, Sec. 5).

    Args:
      gram: [..., N, N], K_tt.
      cross_gram: [..., N, N], K_t0.
      gram_0: [..., N, N], K_00.
    """
    eps = _eps(gram, cross_gram, gram_0)
    gram, cross, gram_0 = _square("gram", gram), _square("cross_gram", cross_gram), _square("gram_0", gram_0)
    top = np.concatenate([gram_0, np.swapaxes(cross, -1, -2)], axis=-1)
    bottom = np.concatenate([cross, gram], axis=-1)
    return _smallest_eigenvalue(np.concatenate([top, bottom], axis=-2), eps)


def sampling_factor(width: Any, num_vectors: int) -> Values:
    r"""Return :math:`(1 - \sqrt{N/n})^2`, about what sampling n coordinates alone leaves of a smallest eigenvalue.

    The lower Marchenko-Pastur edge: exact in the limit for white spectra, a bound and not a law for others. Zero for
    n <= N, one at n = inf.

    Args:
      width: n, a number or array; inf allowed.
      num_vectors: N; twice the number of inputs for the space-time matrix.
    """
    ratio = num_vectors / np.asarray(width, float)
    return np.maximum(1 - np.sqrt(ratio), 0.0) ** 2


def alignment(gram_1: Any, gram_2: Any) -> Values:
    r"""Return the kernel alignment :math:`\langle K_1, K_2 \rangle_F / (\|K_1\|_F \|K_2\|_F)`, [...]."""
    gram_1, gram_2 = _square("gram_1", gram_1), _square("gram_2", gram_2)
    norms = np.linalg.norm(gram_1, axis=(-2, -1)) * np.linalg.norm(gram_2, axis=(-2, -1))
    return np.sum(gram_1 * gram_2, (-1, -2)) / norms


def effective_rank(gram: Any) -> Values:
    r"""Return :math:`(\operatorname{tr} K)^2 / \operatorname{tr} K^2`, in 1..N."""
    gram = _square("gram", gram)
    return np.trace(gram, axis1=-2, axis2=-1) ** 2 / np.sum(gram * np.swapaxes(gram, -1, -2), (-1, -2))


def label_participation(gram: Any, y: Any) -> Values:
    r"""Return :math:`y^\top K y / (\|y\|^2 \|K\|_2)`, in 0..1: how much of the labels the top directions carry.

    Args:
      gram: [..., N, N].
      y: [N] or [N, C] targets; several outputs are summed before the division.
    """
    gram, y = _square("gram", gram), np.asarray(y, np.float64)
    columns = y[:, None] if y.ndim == 1 else y
    carried = np.einsum("nc,...nm,mc->...", columns, gram, columns)
    return carried / (np.sum(columns**2) * _norm(_spectrum(gram)))


def _square(name: str, matrix: Any) -> np.ndarray:
    """The matrices in float64, all NaN where an entry is not finite."""
    array = np.asarray(matrix)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise ValueError(f"Expected `{name}` to have shape [..., N, N], got shape {array.shape}.")
    finite = np.isfinite(array).all((-1, -2), keepdims=True)
    return np.where(finite, array, np.nan).astype(np.float64)


def _eps(*matrices: Any) -> float:
    """The coarsest rounding among the matrices' types."""
    types = [np.asarray(matrix).dtype for matrix in matrices]
    return max(float(np.finfo(one if np.issubdtype(one, np.floating) else np.float64).eps) for one in types)


def _moved(gram: Any, cross_gram: Any, gram_0: Any) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances from the start and squared initial norms of each input, [..., N]."""
    now, cross, initial = (
        np.diagonal(_square(name, matrix), axis1=-2, axis2=-1)
        for name, matrix in (("gram", gram), ("cross_gram", cross_gram), ("gram_0", gram_0))
    )
    return now - 2 * cross + initial, initial


def _spectrum(gram: np.ndarray) -> np.ndarray:
    """Ascending eigenvalues [..., N]; LAPACK would refuse the whole batch for one NaN."""
    diverged: Any = np.isnan(gram).any((-1, -2))
    return np.where(diverged[..., None], np.nan, np.linalg.eigvalsh(np.where(diverged[..., None, None], 0.0, gram)))


def _norm(spectrum: np.ndarray) -> Values:
    return np.maximum(np.abs(spectrum[..., 0]), np.abs(spectrum[..., -1]))


def _smallest_eigenvalue(gram: np.ndarray, eps: float) -> Eigenvalue:
    spectrum = _spectrum(gram)
    return Eigenvalue(spectrum[..., 0][()], gram.shape[-1] * eps * _norm(spectrum))
