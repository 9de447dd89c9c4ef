r"""Counterexamples to clauses 1 and 2 of a GOOD activation: jumps of phi, phi', phi'' and growth of phi', phi''."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mupjax.activations._evaluation import INNER, Derivatives

_OUTER = 100.0
_INTERVALS = 2**14
_HALVINGS, _EARLY = 34, 20
_RADII = (1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
_HUGE = 1e100  # larger values grow like an exponential and soon overflow
_NAMES = ("phi", "phi'", "phi''")


class Kink(NamedTuple):
    """A jump of phi^(order) within 1e-12 of x: refutes clause 1.

    Attributes:
      order: 0, 1 or 2.
      x: where the jump is.
      left: value before the jump; may be infinite or NaN.
      right: value after the jump; may be infinite or NaN.
    """

    order: int
    x: float
    left: float
    right: float

    clause = 1

    def __str__(self) -> str:
        place = f"at x = {round(self.x, 6) + 0.0:.6f}"  # never -0
        if np.isfinite(self.left) and np.isfinite(self.right):
            return f"{_NAMES[self.order]} jumps from {self.left:.6g} to {self.right:.6g} {place}"
        return f"{_NAMES[self.order]} is not finite {place}"


class WrongDerivative(NamedTuple):
    """A point at which JAX's derivative of phi^(order - 1) disagrees with difference quotients.

    Attributes:
      order: 1 or 2.
      x: the point.
      automatic: JAX's derivative.
      quotient: central difference quotient.
    """

    order: int
    x: float
    automatic: float
    quotient: float

    clause = 1

    def __str__(self) -> str:
        return (
            f"JAX gives {_NAMES[self.order]} = {self.automatic:.6g} at x = {self.x:.6f}, difference quotients "
            f"{self.quotient:.6g}; (2) and (4) were not tried with such derivatives"
        )


class Growth(NamedTuple):
    """Growth of |phi^(order)| with |x|: refutes clause 2.

    Attributes:
      order: 1 or 2.
      x: where |phi^(order)| is largest.
      value: |phi^(order)| at x.
      suprema: largest values for |x| up to 10, 100, ..., 10^6.
    """

    order: int
    x: float
    value: float
    suprema: tuple[float, ...]

    clause = 2

    def __str__(self) -> str:
        return f"|{_NAMES[self.order]}| is {self.value:.3g} at x = {self.x:.6g} and grows, from {self.suprema[0]:.3g}"


def find_kink(phi: Derivatives, rng: np.random.Generator) -> Kink | None:
    """Search for a jump of phi, then of phi', then of phi''.

    Every interval of a grid is halved 34 times, each time keeping the half with the larger change. The change of a
    smooth function falls by 2^-14 in the last 14 halvings, that of a jump stays. Automatic differentiation gives
    phi'' = 0 for ReLU, so that its kink shows in phi' alone.
    """
    return next((kink for order in range(3) if (kink := _jump(phi, order, rng)) is not None), None)


def _jump(phi: Derivatives, order: int, rng: np.random.Generator) -> Kink | None:
    edges = [radius * np.linspace(-1, 1, _INTERVALS + 1) for radius in (INNER, _OUTER)]
    edges = [edge + rng.uniform(0, edge[1] - edge[0]) for edge in edges]  # so that no kink lies on an edge
    left, right = (np.concatenate(part) for part in zip(*((e[:-1], e[1:]) for e in edges), strict=True))
    at_left, at_right = phi(order, left), phi(order, right)
    early = np.zeros_like(left)
    with np.errstate(invalid="ignore", over="ignore"):
        for halving in range(_HALVINGS):
            middle = (left + right) / 2
            at_middle = phi(order, middle)
            first, last = _change(at_left, at_middle), _change(at_middle, at_right)
            go_left = first >= last
            left, at_left = np.where(go_left, left, middle), np.where(go_left, at_left, at_middle)
            right, at_right = np.where(go_left, middle, right), np.where(go_left, at_middle, at_right)
            if halving + 1 == _EARLY:
                early = _change(at_left, at_right)
        change = _change(at_left, at_right)
        sizes = np.maximum(np.abs(at_left), np.abs(at_right))
        # phi'' loses a few digits where terms cancel, hence 3e4 eps: 7e-12 in float64, 4e-3 in float32. The factor 1/2
        # separates a jump's ratio, 1, from a smooth function's, 2^-14.
        jumps = (change > 3e4 * phi.eps * (sizes + phi.typical[order])) & (change > 0.5 * early)
        finite = np.isfinite(at_left) & np.isfinite(at_right)
        flagged = np.flatnonzero(jumps & finite)
        noise = _noise(phi, order, left[flagged], right[flagged])
        jumps[flagged] = change[flagged] > 20 * noise  # a second difference of noise is about twice the noise
        overflows = bool(np.any(sizes[np.isfinite(sizes)] > _HUGE))  # smooth but growing: clause 2
        jumps = np.where(finite, jumps, not overflows)
    if not jumps.any():
        return None
    where = int(np.argmax(np.where(jumps, change, -1)))
    return Kink(order, float((left + right)[where] / 2), float(at_left[where]), float(at_right[where]))


def _noise(phi: Derivatives, order: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the median second difference beside each interval, the noise of formulas that cancel, as in sin(x)/x."""
    step = np.maximum(right - left, 4 * phi.eps * np.abs(left))
    away = step[:, None] * np.arange(1, 33)
    sides = [phi(order, left[:, None] - away), phi(order, right[:, None] + away)]
    return np.max([np.median(np.abs(np.diff(side, 2)), axis=1) for side in sides], axis=0)


def _change(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    change = np.abs(last - first)
    return np.where(np.isnan(change), np.inf, change)


def find_wrong_derivative(phi: Derivatives, rng: np.random.Generator) -> WrongDerivative | None:
    """Compare JAX's derivatives with difference quotients: a user's own differentiation rule may be wrong.

    Quotients are wrong beside a kink, so that more than 1 % of the points must disagree.
    """
    x = rng.uniform(-INNER, INNER, 2048)
    step = phi.eps ** (1 / 3)  # balances rounding, eps/step, with the truncation error step^2
    for order in (1, 2):
        exact = phi(order, x)
        with np.errstate(invalid="ignore", over="ignore"):
            quotients = [(phi(order - 1, x + h) - phi(order - 1, x - h)) / (2 * h) for h in (step, 8 * step)]
            error = np.abs(quotients[0] - exact)
            bound = max(1e-3, 100 * phi.eps ** (2 / 3)) * (np.abs(exact) + phi.typical[order] + phi.typical[order - 1])
            settled = np.abs(quotients[0] - quotients[1]) < bound  # not yet so for steep functions
            differs = error > bound
            wrong = differs & settled
        if wrong.mean() > 0.01 and wrong.sum() > 0.5 * differs.sum():  # quotients of a fast sine agree by chance
            where = int(np.argmax(np.where(wrong, error, -1)))
            return WrongDerivative(order, float(x[where]), float(exact[where]), float(quotients[0][where]))
    return None


def find_growth(phi: Derivatives, rng: np.random.Generator) -> Growth | None:
    """Search for growth of |phi'| or |phi''| up to |x| = 10^6, logarithmic or faster, or until it overflows.

    No finite sample proves a function unbounded. The criterion: suprema over decades rise by steady or growing steps.
    """
    radii = np.repeat(_RADII, 4096)
    x = np.concatenate([radii * 10 ** rng.uniform(-1, 0, radii.size), _RADII])
    inner = rng.uniform(-INNER, INNER, 4096)
    x = np.concatenate([x, -x, inner])
    decade = np.searchsorted(_RADII, np.abs(x))
    for order in (1, 2):
        values = np.abs(phi(order, x))
        values = np.where(np.isfinite(values), values, 0)  # NaN far out is an overflow of the formula, not growth
        suprema = np.array([values[decade <= k].max() for k in range(len(_RADII))])
        rises = np.diff(suprema)[-3:]
        # A logarithm rises by equal steps, the last one 1/6 of its supremum; sampling misses the supremum of a bounded
        # function by about 1e-7.
        keeps_rising = rises[-1] > 1e-3 * suprema[-1] and np.all(rises[1:] > 0.9 * rises[:-1])
        if keeps_rising or suprema[-1] > _HUGE:
            where = int(np.argmax(values))
            return Growth(order, float(x[where]), float(values[where]), tuple(suprema.tolist()))
    return None
