r"""Counterexamples to clauses 3 and 4 of a GOOD activation: identities that phi satisfies up to rounding.

Both identities are linear in their coefficients. Least squares fits these on a sample in [-10, 10]; the identity is
then verified on new points up to 40 times as far out, relative to the size of its terms at each point.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mupjax.activations._evaluation import INNER, Derivatives, near_zero

_STEPS = (1.0, np.pi, np.pi / 2, 2 * np.pi / 3, 2 * np.pi)  # shifts in identities of polynomials, exp and sines
_APART = 0.3


class Dependence(NamedTuple):
    """The sum of a_i phi(b_i x + c_i) is constant at every tested point up to |x| = 400: refutes clause 3.

    Attributes:
      a: coefficients.
      b: slopes.
      c: shifts.
      constant: value of the sum.
      residual: largest deviation from the constant, relative to the size of the terms.
    """

    a: tuple[float, ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    constant: float
    residual: float

    clause = 3

    def __str__(self) -> str:
        terms = [f"{a:+.6g} phi({b:.6g} x {c:+.6g})" for a, b, c in zip(self.a, self.b, self.c, strict=True)]
        return f"{' '.join(terms)} = {self.constant:.6g}, to {self.residual:.0e} of its terms"


class ConstantProduct(NamedTuple):
    """(r_1 + phi)(r_2 + phi') is constant at every tested point up to |x| = 400: refutes clause 4.

    Attributes:
      r_1: constant added to phi.
      r_2: constant added to phi'.
      constant: value of the product.
      residual: largest deviation from the constant, relative to the size of the terms.
    """

    r_1: float
    r_2: float
    constant: float
    residual: float

    clause = 4

    def __str__(self) -> str:
        return (
            f"({self.r_1:.6g} + phi)({self.r_2:.6g} + phi') = {self.constant:.6g}, to {self.residual:.0e} of its terms"
        )


def tolerance(phi: Derivatives) -> float:
    """Return the largest relative residual at which an identity still counts as exact.

    Known identities (of ReLUs, polynomials, exp and sines; 20 keys) have residuals of at most 5e-16. The bound of 1e4
    eps, 2e-12 in float64, leaves room for rounded coefficients and worse conditioning. Among 524 sets of terms of each
    smooth activation of the table the smallest residual is 2e-3 (sigmoid), also in float32: hence the cap of 1e-4.
    """
    return min(1e4 * phi.eps, 1e-4)


def find_dependence(phi: Derivatives, trials: int, rng: np.random.Generator) -> Dependence | None:
    """Search for a constant combination of terms phi(b_i x + c_i) whose (b_i, c_i) differ up to sign."""
    for b, c in parameter_sets(trials, rng):
        singular, a = decompose(phi, b, c, rng.uniform(-INNER, INNER, 96))
        for index in np.flatnonzero(singular <= 10 * tolerance(phi)):
            witness = _confirm(phi, a[index], b[index], c[index], rng)
            if witness is not None:
                return witness
    return None


def decompose(phi: Derivatives, b: np.ndarray, c: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest singular value [sets] of the centred terms and its right vector a [sets, terms].

    `b` and `c` are [sets, terms]. Each term is divided by its largest value, so that the singular value is relative.
    """
    values = phi(0, b[:, None, :] * x[:, None] + c[:, None, :])  # [sets, points, terms]
    usable = np.asarray(np.isfinite(values).all(axis=(1, 2)))
    values = np.where(usable[:, None, None], values, 0)
    size = np.abs(values).max(axis=1, keepdims=True)
    size = np.where(size > 0, size, 1)
    values = values / size
    _, singular, rows = np.linalg.svd(values - values.mean(axis=1, keepdims=True), full_matrices=False)
    return np.where(usable, singular[:, -1] / np.sqrt(len(x)), np.inf), rows[:, -1] / size[:, 0]


def parameter_sets(trials: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (b, c), both [sets, terms], for 2, 3 and 4 terms: known identities, then random sets."""
    sets = []
    for terms in (2, 3, 4):
        k = np.arange(terms)
        b = [np.ones(terms) for _ in _STEPS] + [1.0 + k, 2.0**k, 2.0**-k]
        c = [step * k for step in _STEPS] + [0 * k] * 3
        drawn = -(-trials // 3)
        signs = rng.choice([-1.0, 1.0], (drawn, terms))
        spread = np.where(rng.random((drawn, terms)) < 0.5, rng.choice([0.5, 1, 2, 3], (drawn, terms)), 1.0)
        structured = signs * spread, rng.choice([-2, -1, 0, 1, 2], (drawn, terms)) * rng.choice(_STEPS, (drawn, 1))
        free = signs * 3 ** rng.uniform(-1, 1, (drawn, terms)), rng.uniform(-3, 3, (drawn, terms))
        half = rng.random((drawn, 1)) < 0.5
        b_all, c_all = np.where(half, structured[0], free[0]), np.where(half, structured[1], free[1])
        b_all, c_all = np.concatenate([b, b_all]), np.concatenate([c, c_all])
        apart = _distance(b_all, c_all) > _APART
        sets.append((b_all[apart], c_all[apart]))
    return sets


def _distance(b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return the distance, up to sign, of the two closest (b_i, c_i) of each set. Close ones look dependent."""
    terms = np.stack([b, c], axis=-1)
    first, last = np.triu_indices(b.shape[1], 1)
    gaps = [np.abs(terms[:, first] - sign * terms[:, last]).max(axis=-1) for sign in (1, -1)]
    return np.minimum(*gaps).min(axis=1)


def _far_points(rng: np.random.Generator) -> np.ndarray:
    uniform = [rng.uniform(-radius, radius, 1024) for radius in (INNER, 4 * INNER, 40 * INNER)]
    return np.concatenate([*uniform, near_zero(512, rng)])


def _off(total: np.ndarray, terms: np.ndarray, phi: Derivatives) -> tuple[float, float]:
    """Return the median of `total` and the largest deviation from it, relative to the size of the terms at each point.

    A thousandth of the median non-zero term is added to that size, since all terms may vanish at a point.
    """
    usable = np.isfinite(total) & np.isfinite(terms)
    if usable.sum() < len(total) / 4:
        return 0.0, np.inf
    total, terms = total[usable], terms[usable]
    constant, size = float(np.median(total)), float(np.median(terms[terms > 0])) if terms.any() else 0.0
    constant = constant if abs(constant) > 4 * phi.eps * size else 0.0
    off = np.abs(total - constant) / (terms + abs(constant) + 1e-3 * size + np.finfo(float).tiny)
    return constant, float(off.max())


def _confirm(
    phi: Derivatives, a: np.ndarray, b: np.ndarray, c: np.ndarray, rng: np.random.Generator
) -> Dependence | None:
    a = a / a[np.argmax(np.abs(a))]
    residual, constant = off_constant(phi, a, b, c, rng)
    if residual > tolerance(phi):
        return None
    return Dependence(tuple(a.tolist()), tuple(b.tolist()), tuple(c.tolist()), constant, residual)


def off_constant(
    phi: Derivatives, a: np.ndarray, b: np.ndarray, c: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the relative deviation of sum_i a_i phi(b_i x + c_i) from a constant on new points, and the constant."""
    near = [(near_zero(512, rng) - shift) / slope for slope, shift in zip(b, c, strict=True)]
    u = b * np.concatenate([_far_points(rng), *near])[:, None] + c
    with np.errstate(invalid="ignore", over="ignore"):
        values = a * phi(0, u)
        # The rounding of the argument, eps |u| phi'(u), counts as a term.
        terms = (np.abs(values) + np.abs(a * u * phi(1, u))).sum(axis=1)
        constant, residual = _off(values.sum(axis=1), terms, phi)
    return residual, constant


def find_constant_product(phi: Derivatives, rng: np.random.Generator) -> ConstantProduct | None:
    """Search for r_1, r_2 with (r_1 + phi)(r_2 + phi') constant; phi phi' + r_2 phi + r_1 phi' is linear in them."""
    with np.errstate(invalid="ignore", over="ignore"):
        x = rng.uniform(-INNER, INNER, 512)
        values, slopes = phi(0, x), phi(1, x)
        columns = np.stack([values, slopes, np.ones_like(x)], axis=1)
        if not np.isfinite(columns).all() or not np.isfinite(values * slopes).all():
            return None
        size = np.abs(columns).max(axis=0)
        size = np.where(size > 0, size, 1)
        fit = np.linalg.lstsq(columns / size, -values * slopes, rcond=None)[0] / size
        r = np.where(np.abs(fit[:2]) > 4 * phi.eps * np.array(phi.typical[1::-1]), fit[:2], 0.0)
        r_2, r_1 = float(r[0]), float(r[1])
        x = _far_points(rng)
        values, slopes, curvatures = (phi(order, x) for order in range(3))
        products = [values * slopes, r_2 * values, r_1 * slopes]
        rounding = [slopes**2, values * curvatures, r_2 * slopes, r_1 * curvatures]  # of the argument, times x
        terms = np.abs(products).sum(axis=0) + np.abs(x) * np.abs(rounding).sum(axis=0)
        constant, residual = _off(np.sum(products, axis=0), terms, phi)
    return ConstantProduct(r_1, r_2, constant + r_1 * r_2, residual) if residual <= tolerance(phi) else None
