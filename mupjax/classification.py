r"""What a parametrization does at infinite width, decided by exponents of n alone.

Every quantity of the network is followed as a power of n through initialisation and the first two SGD steps, with the
sizes that Tensor Programs IV (Yang & Hu 2021, arXiv:2011.14522) derives for random and for aligned products:

- a fresh Gaussian matrix times a vector of independent coordinates of size s: :math:`n^{1/2 - v} s`;
- a gradient outer product times a vector it is aligned with: :math:`n` times the product of the coordinates' sizes;
- the readout times a change of features: aligned, :math:`n^{1 - v} s`.

Two steps, since a readout that starts smaller than its updates lets the features move only in the second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax

from mupjax import activations
from mupjax.activations import Activation
from mupjax.parametrization import Parametrization

Kind = Literal["feature", "kernel", "trivial", "unstable"]
_TOLERANCE = 1e-9


class Exponents(NamedTuple):
    """Powers of n of typical coordinates; index t is the step, index l-1 the layer.

    h: preactivations, [3][L]. dh: df/dh, [3][L]. delta_h: change since initialisation, [2][L] (steps 1, 2).
    f: outputs, [3]. delta_f: change of the outputs, [2].
    """

    h: tuple[tuple[float, ...], ...]
    dh: tuple[tuple[float, ...], ...]
    delta_h: tuple[tuple[float, ...], ...]
    f: tuple[float, ...]
    delta_f: tuple[float, ...]


class Classification(NamedTuple):
    """kind: feature, kernel, trivial or unstable. r: TP4's exponent where it is defined, else None. exponents: all.

    Where the kind is unstable the exponents are upper bounds: phi may saturate, and growing terms may be orthogonal.
    """

    kind: Kind
    r: float | None
    exponents: Exponents


def classify(
    parametrization: Parametrization,
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
) -> Classification:
    r"""Return which infinite-width regime SGD training is in, for any exponents (a, b, c).

    'unstable': a preactivation or output grows with n; 'trivial': the outputs do not change in two steps; 'feature':
    outputs and some preactivations change by O(1); 'kernel': outputs change by O(1), preactivations by o(1). For
    initialisations that Tensor Programs IV covers (v_1 = 0, v_l = 1/2) this is its Theorem 3.5 ff., extended to rates
    per layer, and `r` is :math:`\min_l [\min(v_{L+1}, e_{L+1}) - 1 + e_l + 1_{l=1}]`; the layers move by n^-r. For
    others (the integrable parametrization) the propagation is the library's own.

    It speaks of a fixed number of steps as n grows; a finite network may leave a 'trivial' regime after a number of
    steps that grows with n.

    Args:
      parametrization: the exponents.
      depth: number of hidden layers L, at least 1.
      activation: a name, an Activation or a function; phi(0) and the degree of homogeneity enter.

    Raises:
      ValueError: for a depth below 1 or an unknown activation.

    Example:
      >>> from mupjax.parametrization import ip, mup
      >>> classify(mup(), depth=3).kind, classify(ip(), depth=3).kind
      ('feature', 'trivial')
    """
    if depth < 1:
        raise ValueError(f"Expected `depth` to be a positive int, got depth={depth}.")
    exponents = _propagate(parametrization, depth, activations.get(activation))
    return Classification(_kind(exponents), _tp4_r(parametrization, depth), exponents)


def _kind(exponents: Exponents) -> Kind:
    sizes = [*exponents.f, *exponents.delta_f]
    sizes += [size for rows in (exponents.h, exponents.delta_h) for row in rows for size in row]
    if max(sizes) > _TOLERANCE:
        return "unstable"
    if max(exponents.delta_f) < -_TOLERANCE:
        return "trivial"
    return "feature" if max(map(max, exponents.delta_h)) > -_TOLERANCE else "kernel"


def _tp4_r(parametrization: Parametrization, depth: int) -> float | None:
    v, e = parametrization.v, parametrization.e
    if abs(v.input) > _TOLERANCE or (depth > 1 and abs(v.hidden - 0.5) > _TOLERANCE):
        return None
    slowest = min([e.input + 1] + [e.hidden] * (depth > 1))
    return min(v.output, e.output) - 1 + slowest


def _propagate(parametrization: Parametrization, depth: int, activation: Activation) -> Exponents:
    roles = ["input"] + ["hidden"] * (depth - 1)
    v = [getattr(parametrization.v, role) for role in roles]
    e = [getattr(parametrization.e, role) for role in roles]
    v_out, e_out = parametrization.v.output, parametrization.e.output
    aligned = [0] + [1] * (depth - 1)  # a sum over the d inputs is O(1), over n coordinates O(n)
    degree = activation.degree
    constant = degree is None and abs(activation.at_zero()) > _TOLERANCE

    def phi(h: float) -> float:  # size of phi(h): near 0 a smooth phi is phi(0) + phi'(0) h
        return max(h, 0.0) if constant else (1 if degree is None else degree) * h

    def dphi(h: float) -> float:
        return 0.0 if degree is None else (degree - 1) * h

    def forward(change: list[float], updates: list[tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
        """Sizes of the change of h (per layer) and of x, given the updates (x_s, dh_s) so far; x[0] is the input."""
        x, change_of_x = [0.0], float("-inf")
        for layer in range(depth):
            moved = [0.5 - v[layer] + change_of_x]
            moved += [-e[layer] + dh_s[layer] + x_s[layer] + x[layer] + aligned[layer] for x_s, dh_s in updates]
            change.append(max(moved))
            h = max(h_0[layer], change[layer])
            change_of_x = dphi(h) + change[layer]
            x.append(phi(h))
        change.append(max([1 - v_out + change_of_x] + [-e_out + x_s[depth] + x[depth] + 1 for x_s, _ in updates]))
        return change, x

    def backward(h: list[float], updates: list[tuple[list[float], list[float]]]) -> list[float]:
        dx = max([-v_out] + [-e_out + x_s[depth] for x_s, _ in updates])
        dh = [0.0] * depth
        for layer in reversed(range(depth)):
            dh[layer] = dphi(h[layer]) + dx
            dx = max(
                [0.5 - v[layer] + dh[layer]]
                + [-e[layer] + x_s[layer] + dh_s[layer] + dh[layer] + 1 for x_s, dh_s in updates]
            )
        return dh

    h_0 = []
    x = [0.0]
    for layer in range(depth):
        h_0.append(-v[layer] + (0.5 * aligned[layer]) + x[layer])
        x.append(phi(h_0[layer]))
    f_0 = 0.5 - v_out + x[depth]
    h, dh, delta_h, f, delta_f = [h_0], [backward(h_0, [])], [], [f_0], []
    updates = [(x, dh[0])]  # chi = f - y is O(1) wherever f is
    for _ in range(2):
        change, x = forward([], updates)
        delta_h.append(change[:depth])
        delta_f.append(change[depth])
        h.append([max(a, b) for a, b in zip(h_0, change, strict=False)])
        f.append(max(f_0, change[depth]))
        dh.append(backward(h[-1], updates))
        updates.append((x, dh[-1]))
    return Exponents(tuple(map(tuple, h)), tuple(map(tuple, dh)), tuple(map(tuple, delta_h)), tuple(f), tuple(delta_f))
