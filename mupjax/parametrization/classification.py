r"""Classify the infinite-width regime of a parametrization from its exponents of n.

The module propagates every quantity of the network as a power of n through initialisation and the first two SGD steps.
Tensor Programs IV (Yang & Hu 2021, arXiv:2011.14522) derives the sizes of random and of aligned products:

- a fresh Gaussian matrix times a vector of independent coordinates of size s: :math:`n^{1/2 - v} s`;
- a gradient outer product times an aligned vector: :math:`n` times the product of the coordinates' sizes;
- the readout times a change of features: aligned, :math:`n^{1 - v} s`;
- weights of non-zero mean times a vector: :math:`n^{1 - v}` times the size of its average over coordinates.

Features of two steps are aligned if both contain their initial part. If the first step dominates it (`ip_llr`, `hp`),
their averages over coordinates decide: features are fully aligned unless phi is odd or sees values near 0 only, where
it is linear.

Two steps are needed: with a readout that starts smaller than its updates, features move in the second step only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import jax
import numpy as np

from mupjax import activations
from mupjax.activations import Activation
from mupjax.parametrization import Parametrization, PerRole

Kind = Literal["feature", "kernel", "trivial", "unstable"]
_TOLERANCE = 1e-9
_NEVER = float("-inf")


class Exponents(NamedTuple):
    """Powers of n of typical coordinates; the first index is the step, the second the layer minus 1.

    Attributes:
      h: [3][L], preactivations.
      dh: [3][L], df/dh.
      delta_h: [2][L], change of the preactivations since initialisation, at steps 1 and 2.
      f: [3], outputs.
      delta_f: [2], change of the outputs since initialisation.
    """

    h: tuple[tuple[float, ...], ...]
    dh: tuple[tuple[float, ...], ...]
    delta_h: tuple[tuple[float, ...], ...]
    f: tuple[float, ...]
    delta_f: tuple[float, ...]


class Classification(NamedTuple):
    """Result of `classify`.

    Attributes:
      kind: 'feature', 'kernel', 'trivial' or 'unstable'.
      r: the exponent r of Tensor Programs IV if it is defined, else None.
      exponents: all exponents. They are upper bounds if `kind` is 'unstable': phi may saturate, and growing terms may
        be orthogonal.
    """

    kind: Kind
    r: float | None
    exponents: Exponents


def classify(
    parametrization: Parametrization,
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
) -> Classification:
    r"""Return the infinite-width regime of SGD training for any exponents (a, b, c).

    'unstable': a preactivation or output grows with n; 'trivial': the outputs do not change in two steps; 'feature':
    outputs and some preactivations change by O(1); 'kernel': outputs change by O(1), preactivations by o(1). For
    initialisations that Tensor Programs IV covers (v_1 = 0, v_l = 1/2) the result is its Theorem 3.5 ff., extended to
    rates per layer. There `r` is :math:`\min_l [\min(v_{L+1}, e_{L+1}) - 1 + e_l + 1_{l=1}]`, and layers move by n^-r.
    For other initialisations (the integrable parametrization) the propagation is this library's own.

    The number of steps is fixed as n grows. A finite network may leave a 'trivial' regime after a number of steps that
    grows with n.

    Normalized updates (`nup`) are treated as SGD with rates divided by the sizes of the first gradients, under sizes
    that are preserved through the layers (derived here).

    Args:
      parametrization: the exponents.
      depth: number of hidden layers L, at least 1.
      activation: a name, an Activation or a function; phi(0) and the degree of homogeneity matter.

    Raises:
      ValueError: if `depth` is below 1 or not the depth that the parametrization was made for, the activation is
        unknown, or there are residual branches.

    Example:
      >>> from mupjax.parametrization import ip, mup
      >>> classify(mup(), depth=3).kind, classify(ip(), depth=3).kind
      ('feature', 'trivial')
    """
    if depth < 1:
        raise ValueError(f"Expected `depth` to be a positive int, got depth={depth}.")
    parametrization.check_depth(depth)
    if parametrization.traits.residual:
        raise ValueError(f"Expected a network without residual branches, got {parametrization.name}.")
    if parametrization.traits.normalized:
        parametrization = _as_sgd(parametrization)
    exponents = _propagate(parametrization, depth, activations.get(activation))
    return Classification(_kind(exponents), _tp4_r(parametrization, depth), exponents)


def _as_sgd(p: Parametrization) -> Parametrization:
    r"""Return the SGD parametrization with updates of equal size: rates divided by the norms of the first gradients.

    Entries of backward vectors are of order :math:`n^{-v_{out}}`, features of O(1). Gradient norms are therefore
    :math:`n^{1 - v_{out}}` for hidden kernels, :math:`n^{1/2 - v_{out}}` for the input kernel, :math:`n^{1/2}` for the
    readout and O(1) for its bias.
    """
    norms = PerRole(0.5 - p.v.output, 1 - p.v.output, 0.5, bias=0.5 - p.v.output)
    rates = PerRole(*(e + norm - 2 * a for e, norm, a in zip(p.e, norms, p.a, strict=True)))
    return replace(p, c=rates, update="sgd")


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
    if parametrization.traits.first_step or any(parametrization.mean):
        return None
    if abs(v.input) > _TOLERANCE or (depth > 1 and abs(v.hidden - 0.5) > _TOLERANCE):
        return None
    slowest = min([e.input + 1] + [e.hidden] * (depth > 1))
    return min(v.output, e.output) - 1 + slowest


class _Phi:
    """The effect of an activation on sizes of coordinates."""

    def __init__(self, activation: Activation):
        x = np.linspace(0.1, 3, 30, dtype=np.float32)
        with jax.ensure_compile_time_eval():  # jitted, since vmap would trace jax.nn.relu even here
            plus, minus = (np.asarray(jax.jit(activation.phi)(points), np.float64) for points in (x, -x))
        self.degree = activation.degree
        self.constant = self.degree is None and abs(activation.at_zero()) > _TOLERANCE
        self._odd = bool(np.allclose(plus, -minus, rtol=0, atol=1e-5 * np.abs(plus).max()))

    def of(self, h: float) -> float:
        """Return the size of phi(h); near 0 a smooth phi is phi(0) + phi'(0) h."""
        return max(h, 0.0) if self.constant else (1 if self.degree is None else self.degree) * h

    def derivative(self, h: float) -> float:
        return 0.0 if self.degree is None else (self.degree - 1) * h

    def is_odd(self, h: float) -> bool:
        return self._odd or (self.degree is None and not self.constant and h < -_TOLERANCE)


class _Pass(NamedTuple):
    """Sizes in a forward and backward pass, as powers of n.

    Attributes:
      x: [L + 1], inputs and activations.
      average_x: [L + 1], averages of x over coordinates.
      h: [L], preactivations.
      initial: [L], contribution of the initial weights to h.
      late: [L], contribution of updates after the first to h.
      dh: [L], df/dh.
      average_dh: [L], averages of dh over coordinates.
      f: outputs.
    """

    x: list[float]
    average_x: list[float]
    h: list[float]
    initial: list[float]
    late: list[float]
    dh: list[float]
    average_dh: list[float]
    f: float


def _propagate(parametrization: Parametrization, depth: int, activation: Activation) -> Exponents:
    phi = _Phi(activation)
    first = _pass(parametrization, depth, phi, [])
    passes, delta_h, delta_f = [first], [], []
    for _ in range(2):
        passes.append(_pass(parametrization, depth, phi, passes))
        changes, moved_f = _change(parametrization, depth, phi, passes)
        passes[-1] = passes[-1]._replace(f=max(passes[-1].f, moved_f))
        delta_h.append(tuple(changes[:depth]))
        delta_f.append(changes[depth])
    return Exponents(
        tuple(tuple(sizes.h) for sizes in passes),
        tuple(tuple(sizes.dh) for sizes in passes),
        tuple(delta_h),
        tuple(sizes.f for sizes in passes),
        tuple(delta_f),
    )


class _Layers(NamedTuple):
    """Exponents of layers 1..L and the readout.

    Attributes:
      v: [L + 1], of the weights.
      e: [L + 1], of their rates.
      bias_e: [L + 1], of the biases' rates, None without bias.
    """

    v: list[float]
    e: list[float]
    bias_e: list[float | None]


def _layers(parametrization: Parametrization, depth: int, step: int) -> _Layers:
    """Return the exponents of the update of a step, and (v) of the initial weights in the pass of that step."""
    p, layers = parametrization, range(1, depth + 2)
    b = p.b if step == 0 or p.b_later is None else p.b_later
    roles = ["input", *["hidden"] * (depth - 1), "output"]

    def rate(role: str, layer: int) -> float:
        c = p.exponent_first(role, layer) if step == 0 and p.c_first is not None else getattr(p.c, role)
        return 2 * getattr(p.a, role) + c

    return _Layers(
        [getattr(p.a, role) + getattr(b, role) for role in roles],
        [rate(role, layer) for role, layer in zip(roles, layers, strict=True)],
        [rate("output_bias" if layer > depth else "bias", layer) if p.has_bias(layer) else None for layer in layers],
    )


def _pass(p: Parametrization, depth: int, phi: _Phi, earlier: list[_Pass]) -> _Pass:
    v, means, bias = _layers(p, depth, len(earlier)).v, _means(p, depth), [p.sigma.bias] * depth + [p.sigma.output_bias]
    now = _Pass([0.0], [_NEVER], [], [], [], [], [], 0.0)
    for layer in range(depth + 1):  # the last is the readout
        n = 1 if layer else 0  # a sum over d inputs is O(1), over n coordinates O(n)
        initial = [0.5 * n - v[layer] + now.x[layer], n - v[layer] + now.average_x[layer] if means[layer] else _NEVER]
        if p.has_bias(layer + 1) and bias[layer]:
            initial.append(0.0)
        updates = [_update(p, depth, layer, now, earlier, s) for s in range(len(earlier))]
        h = max([*initial, *updates])
        if layer == depth:
            now = now._replace(f=h)
            break
        now.h.append(h)
        now.initial.append(max(initial))
        now.late.append(max([_NEVER, *updates[1:]]))
        now.x.append(phi.of(h))
        alike = [initial[1]]  # parts that are equal for all units
        alike += [u + s.average_dh[layer] - s.dh[layer] for u, s in zip(updates, earlier, strict=True)]
        centred = phi.is_odd(h) and max(alike) < h - _TOLERANCE
        now.average_x.append(now.x[-1] - 0.5 * centred)
    return _backward(p, depth, phi, now, earlier)


def _means(p: Parametrization, depth: int) -> list[float]:
    return [p.mean.input, *[p.mean.hidden] * (depth - 1), p.mean.output]


def _update(p: Parametrization, depth: int, layer: int, now: _Pass, earlier: list[_Pass], s: int) -> float:
    """Return the size of the contribution of the update of step s to a layer's h (to f for the last layer)."""
    layers, old = _layers(p, depth, s), earlier[s]
    n = 0 if layer == 0 else _alignment(layer - 1, now, old, now.late[layer - 1] if layer < depth else _NEVER)
    dh = old.dh[layer] if layer < depth else 0.0
    bias = layers.bias_e[layer]
    return max(-layers.e[layer] + dh + old.x[layer] + now.x[layer] + n, _NEVER if bias is None else -bias + dh)


def _alignment(layer: int, now: _Pass, old: _Pass, late: float) -> float:
    """Return the power of n in a layer's inner product with an earlier step beyond the vectors' sizes; 1 if aligned.

    `late` is the size of the contribution of updates after the first, which consist of that step's vectors.
    """
    if layer == 0:
        return 1.0
    drowned = now.h[layer] > now.initial[layer] + _TOLERANCE
    independent = drowned or _alignment(layer - 1, now, old, _NEVER) < 1  # of earlier preactivations of the layer
    if not independent or old.h[layer] > old.initial[layer] + _TOLERANCE or late >= now.h[layer] - _TOLERANCE:
        return 1.0
    lost = sum(sizes.x[layer + 1] - sizes.average_x[layer + 1] for sizes in (now, old))
    return max(0.5, 1 - lost)


def _backward(p: Parametrization, depth: int, phi: _Phi, now: _Pass, earlier: list[_Pass]) -> _Pass:
    v, means, steps = _layers(p, depth, len(earlier)).v, _means(p, depth), range(len(earlier))
    dx = max([-v[depth]] + [-_layers(p, depth, s).e[depth] + earlier[s].x[depth] for s in steps])
    alike = -v[depth] if means[depth] else _NEVER
    dh, average = [0.0] * depth, [0.0] * depth
    is_late = True  # dx^L is the readout, at every step
    for layer in reversed(range(depth)):
        dh[layer] = phi.derivative(now.h[layer]) + dx
        average[layer] = dh[layer] - 0.5 * (alike < dx - _TOLERANCE)
        alike = 1 - v[layer] + average[layer] if means[layer] else _NEVER
        moved = [
            -_layers(p, depth, s).e[layer]
            + earlier[s].x[layer]
            + earlier[s].dh[layer]
            + dh[layer]
            + (1 if is_late or s > 0 else _alignment(layer, now, earlier[s], _NEVER))
            for s in steps
        ]
        dx = max([0.5 - v[layer] + dh[layer], alike, *moved])
        is_late = max([_NEVER, *moved[1:]]) >= dx - _TOLERANCE
    return now._replace(dh=dh, average_dh=average)


def _change(p: Parametrization, depth: int, phi: _Phi, passes: list[_Pass]) -> tuple[list[float], float]:
    """Return the sizes of the changes of every h and of f from first to last pass, and of f by updates alone."""
    first, earlier, now = passes[0], passes[:-1], passes[-1]
    v_0, v = _layers(p, depth, 0).v, _layers(p, depth, 1).v
    means = _means(p, depth)
    changes, moved, moved_x, lost_x = [], _NEVER, _NEVER, _NEVER  # of x: by updates, and by lost initial weights
    for layer in range(depth + 1):
        n = 1 if layer == depth or means[layer] else 0.5  # dx consists of the readout's weights
        moved = [_update(p, depth, layer, now, earlier, s) for s in range(len(earlier))]
        moved = max([n - v[layer] + moved_x, *moved])
        lost = (1 if means[layer] else 0.5) - v[layer] + lost_x
        if abs(v[layer] - v_0[layer]) > _TOLERANCE and layer < depth:
            lost = max(lost, first.initial[layer])
        changes.append(max(moved, lost))
        if layer < depth:
            slope = phi.derivative(max(first.h[layer], now.h[layer]))
            moved_x, lost_x = slope + moved, slope + lost
    return changes, moved
