r"""Metrics of features as functions of Gram matrices alone: the same code measures width 64 and infinite width.

Symbols: z is a preactivation or activation vector of one layer, of length n;
:math:`K_{tt}[i, j] = \langle z_t(\xi_i), z_t(\xi_j) \rangle / n` at step t; :math:`K_{t0}` pairs step t with
initialisation; :math:`K_{00}` is the Gram matrix at initialisation.

All functions take arrays [..., N, N] with any leading axes and compute in NumPy float64. A matrix with a non-finite
entry (a diverged run) gives NaN in its own place only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = np.ndarray | np.float64  # [...]: a scalar if there are no leading axes


class Eigenvalue(NamedTuple):
    """A smallest eigenvalue and the resolution that rounding leaves it.

    Attributes:
      value: [...], as computed; may be negative by up to the resolution.
      resolution: [...], N eps ||K||_2. A smaller value cannot be distinguished from zero, so ratios use
        max(value, resolution) and are lower bounds.
    """

    value: Values
    resolution: Values


def feature_change(gram: npt.ArrayLike, cross_gram: npt.ArrayLike, gram_0: npt.ArrayLike) -> Values:
    r"""Return the relative distance of the features from their initial values.

    .. math:: \sqrt{\operatorname{tr}(K_{tt} - K_{t0} - K_{t0}^\top + K_{00}) / \operatorname{tr} K_{00}}

    (Chen et al. 2025, arXiv:2503.09565, Sec. 5)

    Args:
      gram: [..., N, N], K_tt.
      cross_gram: [..., N, N], K_t0.
      gram_0: [..., N, N], K_00.

    Returns:
      [...], Theta(1) in width if features are learned, vanishing in the kernel regime; inf if they start at zero.

    Raises:
      ValueError: if an argument is not [..., N, N].

    Example:
      >>> import numpy as np
      >>> float(feature_change(4 * np.eye(2), 2 * np.eye(2), np.eye(2)))  # z_t = 2 z_0
      1.0
    """
    moved, initial = _moved(gram, cross_gram, gram_0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(np.maximum(moved.sum(-1), 0) / initial.sum(-1))


def feature_change_per_input(gram: npt.ArrayLike, cross_gram: npt.ArrayLike, gram_0: npt.ArrayLike) -> np.ndarray:
    """Return the relative feature change of every input, [..., N]; arguments and errors as in `feature_change`.

    Example:
      >>> feature_change_per_input(np.diag([4.0, 1.0]), np.diag([2.0, 1.0]), np.eye(2)).tolist()
      [1.0, 0.0]
    """
    moved, initial = _moved(gram, cross_gram, gram_0)
    return np.sqrt(np.maximum(moved, 0) / initial)


def diversity(gram: npt.ArrayLike) -> Eigenvalue:
    r"""Return :math:`\lambda_{\min}(K_{tt})`, positive if the features of the N inputs are linearly independent.

    Args:
      gram: [..., N, N].

    Returns:
      An Eigenvalue of [...] arrays. For n < N the value is zero for any features; see `sampling_factor`.

    Raises:
      ValueError: if `gram` is not [..., N, N].

    Example:
      >>> float(diversity(np.diag([3.0, 2.0])).value)
      2.0
    """
    return _smallest_eigenvalue(_square("gram", gram), _eps(gram))


def space_time(gram: npt.ArrayLike, cross_gram: npt.ArrayLike, gram_0: npt.ArrayLike) -> Eigenvalue:
    r"""Return the smallest eigenvalue of the joint Gram matrix of initial and current features.

    .. math:: \lambda_{\min} \begin{pmatrix} K_{00} & K_{t0}^\top \\ K_{t0} & K_{tt} \end{pmatrix}

    It is positive if the 2N current and initial feature vectors are linearly independent (Chen et al. 2025, Sec. 5).

    Args:
      gram: [..., N, N], K_tt.
      cross_gram: [..., N, N], K_t0.
      gram_0: [..., N, N], K_00.

    Returns:
      An Eigenvalue of [...] arrays.

    Raises:
      ValueError: if an argument is not [..., N, N].

    Example:
      >>> float(space_time(np.eye(2), np.zeros((2, 2)), np.eye(2)).value)  # orthogonal to the start
      1.0
    """
    eps = _eps(gram, cross_gram, gram_0)
    gram, cross, gram_0 = _square("gram", gram), _square("cross_gram", cross_gram), _square("gram_0", gram_0)
    top = np.concatenate([gram_0, np.swapaxes(cross, -1, -2)], axis=-1)
    bottom = np.concatenate([cross, gram], axis=-1)
    return _smallest_eigenvalue(np.concatenate([top, bottom], axis=-2), eps)


def sampling_factor(width: npt.ArrayLike, num_vectors: int) -> Values:
    r"""Return :math:`(1 - \sqrt{N/n})^2`, the fraction of a smallest eigenvalue that n sampled coordinates retain.

    This is the lower Marchenko-Pastur edge: exact in the limit for white spectra, a bound for others. It is 0 for
    n <= N and 1 for n = inf.

    Args:
      width: n, a number or array; inf is allowed.
      num_vectors: N; twice the number of inputs for the space-time matrix.

    Example:
      >>> float(sampling_factor(64, num_vectors=16))
      0.25
    """
    ratio = num_vectors / np.asarray(width, float)
    return np.maximum(1 - np.sqrt(ratio), 0.0) ** 2


def alignment(gram_1: npt.ArrayLike, gram_2: npt.ArrayLike) -> Values:
    r"""Return the kernel alignment :math:`\langle K_1, K_2 \rangle_F / (\|K_1\|_F \|K_2\|_F)`, [...].

    Args:
      gram_1: [..., N, N].
      gram_2: [..., N, N].

    Raises:
      ValueError: if an argument is not [..., N, N].

    Example:
      >>> round(float(alignment(np.eye(2), np.diag([1.0, 0.0]))), 3)  # 1/sqrt(2)
      0.707
    """
    gram_1, gram_2 = _square("gram_1", gram_1), _square("gram_2", gram_2)
    norms = np.linalg.norm(gram_1, axis=(-2, -1)) * np.linalg.norm(gram_2, axis=(-2, -1))
    return np.sum(gram_1 * gram_2, (-1, -2)) / norms


def effective_rank(gram: npt.ArrayLike) -> Values:
    r"""Return the participation ratio :math:`(\operatorname{tr} K)^2 / \operatorname{tr} K^2`, [...], between 1 and N.

    Args:
      gram: [..., N, N].

    Raises:
      ValueError: if `gram` is not [..., N, N].

    Example:
      >>> float(effective_rank(np.eye(3)))
      3.0
    """
    gram = _square("gram", gram)
    return np.trace(gram, axis1=-2, axis2=-1) ** 2 / np.sum(gram * np.swapaxes(gram, -1, -2), (-1, -2))


def label_participation(gram: npt.ArrayLike, y: npt.ArrayLike) -> Values:
    r"""Return :math:`y^\top K y / (\|y\|^2 \|K\|_2)`, [...]: 1 if y lies in the top eigenspace, 0 if in the kernel.

    Args:
      gram: [..., N, N].
      y: [N] or [N, C] targets; numerator and :math:`\|y\|^2` are summed over the C outputs.

    Raises:
      ValueError: if `gram` is not [..., N, N].

    Example:
      >>> float(label_participation(np.diag([2.0, 1.0]), np.array([0.0, 3.0])))
      0.5
    """
    gram, y = _square("gram", gram), np.asarray(y, np.float64)
    columns = y[:, None] if y.ndim == 1 else y
    carried = np.einsum("nc,...nm,mc->...", columns, gram, columns)
    return carried / (np.sum(columns**2) * _norm(_spectrum(gram)))


def _square(name: str, matrix: npt.ArrayLike) -> np.ndarray:
    """Return the matrices in float64; a matrix with a non-finite entry becomes all NaN."""
    array = np.asarray(matrix)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise ValueError(f"Expected `{name}` to have shape [..., N, N], got shape {array.shape}.")
    finite = np.isfinite(array).all((-1, -2), keepdims=True)
    return np.where(finite, array, np.nan).astype(np.float64)


def _eps(*matrices: npt.ArrayLike) -> float:
    """Return the largest machine epsilon among the matrices' dtypes; integers count as float64."""
    dtypes = [np.asarray(matrix).dtype for matrix in matrices]
    return max(float(np.finfo(dtype if np.issubdtype(dtype, np.floating) else np.float64).eps) for dtype in dtypes)


def _moved(gram: npt.ArrayLike, cross_gram: npt.ArrayLike, gram_0: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the squared distance from the start and the squared initial norm of each input, both [..., N]."""
    now, cross, initial = (
        np.diagonal(_square(name, matrix), axis1=-2, axis2=-1)
        for name, matrix in (("gram", gram), ("cross_gram", cross_gram), ("gram_0", gram_0))
    )
    return now - 2 * cross + initial, initial


def _spectrum(gram: np.ndarray) -> np.ndarray:
    """Return ascending eigenvalues [..., N]. NaN matrices are masked: LAPACK fails on a batch that contains one."""
    diverged = np.asarray(np.isnan(gram).any((-1, -2)))
    return np.where(diverged[..., None], np.nan, np.linalg.eigvalsh(np.where(diverged[..., None, None], 0.0, gram)))


def _norm(spectrum: np.ndarray) -> Values:
    return np.maximum(np.abs(spectrum[..., 0]), np.abs(spectrum[..., -1]))


def _smallest_eigenvalue(gram: np.ndarray, eps: float) -> Eigenvalue:
    spectrum = _spectrum(gram)
    return Eigenvalue(spectrum[..., 0][()], gram.shape[-1] * eps * _norm(spectrum))
