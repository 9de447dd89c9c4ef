r"""Assumption 4.1 of Chen et al. 2025 (arXiv:2503.09565) on the training inputs :math:`\xi_1, \ldots, \xi_N` in R^d.

No product :math:`\langle \xi_i, \xi_j \rangle` is zero, and in every row i the absolute values
:math:`|\langle \xi_i, \xi_j \rangle|`, j = 1..N with j = i among them, are all different.

The numbers are taken as they are stored, for those are what the network sees, and about them the answer is exact:
float64 products only find what is close, and what is close is decided in integer arithmetic. Whether the data were
in general position before they were rounded to float32 is another question: see `InputCheck.input_rounding`.
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
_BLOCK = 2**22  # products held at once: 32 MiB, and a few copies of it
_LISTED = 100


class Violation(NamedTuple):
    """Indices (i, j) of two inputs with product zero, or (i, j, k): j and k have the same |product| with i."""

    kind: Kind
    inputs: tuple[int, ...]


class NearMiss(NamedTuple):
    r"""The closest that a pair or a triple comes to a violation, and how close.

    `gap` is :math:`|\langle\xi_i, \xi_j\rangle| / (|\xi_i| |\xi_j|)` for a pair; for a triple it is the difference of
    the two absolute products divided by :math:`|\xi_i| \max_l |\xi_l|`, the largest that row i can hold.
    """

    inputs: tuple[int, ...]
    gap: float


class InputCheck(NamedTuple):
    r"""What `check_inputs` found.

    Attributes:
      holds: whether Assumption 4.1 holds of the inputs as they are stored. Exact.
      num_inputs: N.
      num_orthogonal: pairs i <= j of product zero. Exact up to 100; beyond, those within `resolution` of zero.
      num_equal: over all rows, the absolute products that repeat a smaller index's. Exact up to 100; beyond, in later
        rows, those within `resolution` of another.
      violations: the first ones, at most 100 of a kind.
      nearest_orthogonal: the smallest product of two inputs that is not zero; None where there is none.
      nearest_equal: the smallest difference in a row that is not zero; None where there is none. The gap is exact where
        it is below `resolution`, else good to `resolution`.
      resolution: (d + 4) eps64, what rounding can add to the difference of two products of float64, in the units of a
        gap. What is closer was decided exactly.
      input_rounding: 2 eps of the inputs' own type, what rounding the inputs can change of a gap: rounding moves each
        input by eps/2 of its norm, each product by eps. An equality among data that were standardised and then rounded
        to float32 may have been broken by that alone where a nearest gap is below this. With N inputs some gap is
        about N^-3, so that for N > 100 one usually is: it says what cannot be known, not that something is wrong.
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
    """Violations, their number and the nearest miss of one kind, collected over blocks of rows."""

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
    """Check Assumption 4.1 in O(N^2 (d + log N)) time and memory for a block of rows of the N x N products.

    Args:
      inputs: [N, d] float, finite.

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
    x = np.ldexp(x, -int(np.frexp(largest)[1]))  # a power of two for all changes no answer, and nothing overflows
    norms = np.linalg.norm(x, axis=1)
    positive = np.where(norms > 0, norms, 1.0)
    # Two products, each off by at most d eps/2 in any order of summing (Higham 2002, eq. 3.5); 4 for the divisions.
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
    """Look for products of zero among rows start, ... of |X X^T| and the columns j >= i."""
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
    np.fill_diagonal(cosines, np.inf)  # an input that is not zero is no near miss with itself
    i, j = np.unravel_index(np.argmin(cosines), cosines.shape)
    if np.isfinite(cosines[i, j]):
        found.miss(float(cosines[i, j]), int(i) + start, int(j) + start)


def _triples(
    block: np.ndarray, start: int, scales: np.ndarray, resolution: float, product: _Product, found: _Found
) -> None:
    """Look for equal values within rows start, ... of |X X^T|: sorted, they are neighbours up to rounding."""
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
    """Compare exactly what float64 cannot tell apart: |<x_i, x_j>| for j in `run`."""
    equal: dict[Fraction, list[int]] = {}
    for j in run:
        equal.setdefault(abs(product(i, j)), []).append(j)
    for inputs in equal.values():
        for j, k in pairwise(inputs):
            found.add(i, j, k)
    for low, high in pairwise(sorted(equal)):
        found.miss(float(high - low) / scale, i, *sorted((equal[low][0], equal[high][0])))


def _exact_products(x: np.ndarray) -> _Product:
    """Return (i, j) -> <x_i, x_j> as a Fraction: every float is an integer times a power of two that all x share."""
    nonzero = np.abs(x[x != 0])
    unit = int(np.frexp(nonzero.min())[1]) - 53 if nonzero.size else 0

    @lru_cache(maxsize=1024)
    def integers(row: int) -> list[int]:
        mantissas, exponents = np.frexp(x[row])
        shifts = np.where(mantissas == 0, 0, exponents.astype(np.int64) - 53 - unit)
        wholes = np.ldexp(mantissas, 53).astype(np.int64)
        return [whole << shift for whole, shift in zip(wholes.tolist(), shifts.tolist(), strict=True)]

    return lambda i, j: Fraction(sum(map(mul, integers(i), integers(j)))) * Fraction(2) ** (2 * unit)
