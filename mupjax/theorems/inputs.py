r"""Assumption 4.1 of Chen et al. 2025 (arXiv:2503.09565) on the training inputs :math:`\xi_1, \ldots, \xi_N` in R^d.

The assumption: no product :math:`\langle \xi_i, \xi_j \rangle` is zero, and in every row i the absolute values
:math:`|\langle \xi_i, \xi_j \rangle|` over j = 1..N, including j = i, are pairwise different.

The check uses the numbers as stored, which are the ones the network sees, and is exact for them: float64 products
select the close cases, integer arithmetic decides them. It does not tell whether the data were in general position
before they were rounded to float32; see `InputCheck.input_rounding`.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from operator import mul
from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["orthogonal", "equal"]
_Product = Callable[[int, int], Fraction]
_BLOCK = 2**22  # products held at a time: 32 MiB, and a few copies
_LISTED = 100  # violations listed of each kind


class Violation(NamedTuple):
    """A violation of Assumption 4.1.

    Attributes:
      kind: 'orthogonal' or 'equal'.
      inputs: indices (i, j) of two inputs with product zero, or (i, j, k) where j and k have the same |product| with i.
    """

    kind: Kind
    inputs: tuple[int, ...]


class NearMiss(NamedTuple):
    r"""The pair or triple of inputs closest to a violation.

    Attributes:
      inputs: indices as in `Violation`.
      gap: for a pair :math:`|\langle\xi_i, \xi_j\rangle| / (|\xi_i| |\xi_j|)`; for a triple the difference of the two
        absolute products divided by :math:`|\xi_i| \max_l |\xi_l|`, an upper bound of row i.
    """

    inputs: tuple[int, ...]
    gap: float


class InputCheck(NamedTuple):
    r"""Result of `check_inputs`.

    Attributes:
      holds: whether Assumption 4.1 holds for the inputs as stored. Exact.
      num_inputs: N.
      num_orthogonal: number of pairs i <= j with product zero. Exact up to 100; beyond, pairs within `resolution` of
        zero count.
      num_equal: number of absolute products, over all rows, that repeat one of a smaller index. Exact up to 100;
        beyond, those within `resolution` of another count in later rows.
      violations: the first violations, at most 100 of each kind.
      nearest_orthogonal: the smallest non-zero product of two inputs, or None.
      nearest_equal: the smallest non-zero difference in a row, or None. The gap is exact below `resolution`, otherwise
        accurate to `resolution`.
      resolution: (d + 4) eps64, the rounding error of a difference of two float64 products, in units of a gap. Closer
        cases are decided exactly.
      input_rounding: 2 eps of the inputs' dtype, the change of a gap by rounding the inputs: rounding moves each input
        by eps/2 of its norm, each product by eps. If a nearest gap is smaller, rounding to float32 alone may have
        broken an equality of the original data. The smallest gap of N inputs is about N^-3, so that this is common for
        N > 100; it marks a limit of the check, not a fault of the data.
    """

    holds: bool
    num_inputs: int
    num_orthogonal: int
    num_equal: int
    violations: tuple[Violation, ...]
    nearest_orthogonal: NearMiss | None
    nearest_equal: NearMiss | None
    resolution: float
    input_rounding: float

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "does not hold"
        lines = [f"Assumption 4.1 (Chen et al. 2025) {verdict} for the {self.num_inputs} training inputs."]
        for kind, number, one, many in (
            ("orthogonal", self.num_orthogonal, "pair has product zero", "pairs have product zero"),
            ("equal", self.num_equal, "product repeats the size of another", "products repeat the size of another"),
        ):
            listed = [_formula(v.inputs, "=") for v in self.violations if v.kind == kind]
            if number:
                more = ", ..." if number > 3 else "."
                lines.append(f"  {number} {one if number == 1 else many}: {', '.join(listed[:3])}{more}")
        for miss in (self.nearest_orthogonal, self.nearest_equal):
            if miss:
                small = miss.gap < self.input_rounding
                moved = f" (rounding the inputs can move it by {self.input_rounding:.1e})" if small else ""
                lines.append(f"  Nearest miss: {_formula(miss.inputs, 'vs')}, relative gap {miss.gap:.1e}{moved}.")
        return "\n".join(lines)


def _formula(inputs: tuple[int, ...], relation: str) -> str:
    i, j = inputs[:2]
    if len(inputs) == 2:
        return f"<x{i}, x{j}> {relation} 0"
    return f"|<x{i}, x{j}>| {relation} |<x{i}, x{inputs[2]}>|"


class _Found:
    """Collects violations of one kind, their number and the nearest miss over blocks of rows."""

    def __init__(self, kind: Kind):
        self.kind: Kind = kind
        self.number = 0
        self.violations: list[Violation] = []
        self.nearest: NearMiss | None = None

    @property
    def full(self) -> bool:
        return len(self.violations) >= _LISTED

    def add(self, *inputs: int) -> None:
        self.number += 1
        if not self.full:
            self.violations.append(Violation(self.kind, inputs))

    def miss(self, gap: float, *inputs: int) -> None:
        if self.nearest is None or gap < self.nearest.gap:
            self.nearest = NearMiss(inputs, gap)


def check_inputs(inputs: np.ndarray) -> InputCheck:
    """Check Assumption 4.1 in O(N^2 (d + log N)) time, holding a block of rows of the N x N products at a time.

    Args:
      inputs: [N, d] float, finite.

    Returns:
      An InputCheck; `print` shows a summary.

    Example:
      >>> import numpy as np
      >>> print(check_inputs(np.array([[1.0, 0.0], [3.0, 1.0], [-3.0, 2.0]])))
      Assumption 4.1 (Chen et al. 2025) does not hold for the 3 training inputs.
        1 product repeats the size of another: |<x0, x1>| = |<x0, x2>|.
        Nearest miss: <x1, x2> vs 0, relative gap 6.1e-01.
        Nearest miss: |<x1, x1>| vs |<x1, x2>|, relative gap 2.6e-01.
    """
    num, dim = inputs.shape
    x = inputs.astype(np.float64)
    largest = np.abs(x).max(initial=0.0)
    x = np.ldexp(x, -int(np.frexp(largest)[1]))  # scaling by a power of two changes no answer and avoids overflow
    norms = np.linalg.norm(x, axis=1)
    positive = np.where(norms > 0, norms, 1.0)
    # Two products, each with an error of at most d eps/2 in any order (Higham 2002, eq. 3.5); 4 for division.
    resolution = (dim + 4) * float(np.finfo(np.float64).eps)
    product = _exact_products(x)
    orthogonal, equal = _Found("orthogonal"), _Found("equal")
    rows = max(1, _BLOCK // num)
    for start in range(0, num, rows):
        block = x[start : start + rows] @ x.T
        np.abs(block, out=block)
        scales = positive[start : start + rows, None] * norms.max(initial=0.0)
        _pairs(block, start, positive, resolution, product, orthogonal)
        _triples(block, start, np.where(scales > 0, scales, 1.0), resolution, product, equal)
    return InputCheck(
        holds=not (orthogonal.number or equal.number),
        num_inputs=num,
        num_orthogonal=orthogonal.number,
        num_equal=equal.number,
        violations=(*orthogonal.violations, *equal.violations),
        nearest_orthogonal=orthogonal.nearest,
        nearest_equal=equal.nearest,
        resolution=resolution,
        input_rounding=2 * float(np.finfo(inputs.dtype).eps),
    )


def _pairs(
    block: np.ndarray, start: int, norms: np.ndarray, resolution: float, product: _Product, found: _Found
) -> None:
    """Search rows start, ... of |X X^T| and columns j >= i for zeros."""
    cosines = block[:, start:] / norms[start : start + len(block), None]
    cosines /= norms[start:]
    cosines[np.tril_indices(len(block), -1)] = np.inf
    close = cosines <= resolution
    candidates = np.argwhere(close) + start
    for done, (i, j) in enumerate(candidates.tolist()):
        if found.full:
            found.number += len(candidates) - done
            break
        value = abs(product(i, j))
        if value:
            found.miss(float(value) / (norms[i] * norms[j]), i, j)
        else:
            found.add(i, j)
    cosines[close] = np.inf
    np.fill_diagonal(cosines, np.inf)  # a non-zero input is not a near miss with itself
    i, j = np.unravel_index(np.argmin(cosines), cosines.shape)
    if np.isfinite(cosines[i, j]):
        found.miss(float(cosines[i, j]), int(i) + start, int(j) + start)


def _triples(
    block: np.ndarray, start: int, scales: np.ndarray, resolution: float, product: _Product, found: _Found
) -> None:
    """Search rows start, ... of |X X^T| for equal values, which are neighbours up to rounding after sorting."""
    if block.shape[1] < 2:
        return
    block /= scales
    gaps = np.diff(np.sort(block, axis=1), axis=1)
    close = gaps <= resolution
    for row in np.flatnonzero(close.any(axis=1)).tolist():
        if found.full:
            found.number += int(close[row].sum())
            continue
        order = np.argsort(block[row], kind="stable")
        for run in np.split(order, np.flatnonzero(~close[row]) + 1):
            if len(run) > 1:
                _decide(row + start, sorted(run.tolist()), float(scales[row, 0]), product, found)
    gaps[close] = np.inf
    row, place = np.unravel_index(np.argmin(gaps), gaps.shape)
    if np.isfinite(gaps[row, place]):
        j, k = sorted(np.argsort(block[row], kind="stable")[place : place + 2].tolist())
        found.miss(float(gaps[row, place]), int(row) + start, j, k)


def _decide(i: int, run: list[int], scale: float, product: _Product, found: _Found) -> None:
    """Compare |<x_i, x_j>| for j in `run` exactly, where float64 cannot distinguish them."""
    equal: dict[Fraction, list[int]] = {}
    for j in run:
        equal.setdefault(abs(product(i, j)), []).append(j)
    for inputs in equal.values():
        for j, k in pairwise(inputs):
            found.add(i, j, k)
    for low, high in pairwise(sorted(equal)):
        found.miss(float(high - low) / scale, i, *sorted((equal[low][0], equal[high][0])))


def _exact_products(x: np.ndarray) -> _Product:
    """Return (i, j) -> <x_i, x_j> as a Fraction: every float is an integer times a power of two common to all x."""
    nonzero = np.abs(x[x != 0])
    unit = int(np.frexp(nonzero.min())[1]) - 53 if nonzero.size else 0

    @lru_cache(maxsize=1024)
    def integers(row: int) -> list[int]:
        mantissas, exponents = np.frexp(x[row])
        shifts = np.where(mantissas == 0, 0, exponents.astype(np.int64) - 53 - unit)
        wholes = np.ldexp(mantissas, 53).astype(np.int64)
        return [whole << shift for whole, shift in zip(wholes.tolist(), shifts.tolist(), strict=True)]

    return lambda i, j: Fraction(sum(map(mul, integers(i), integers(j)))) * Fraction(2) ** (2 * unit)
