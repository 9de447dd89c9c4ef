r"""Infinite-width kernels of a network at initialisation, with a learning rate for each layer.

Symbols: P inputs, L hidden layers, n the width, :math:`\Sigma^l` the covariance of preactivations :math:`h^l`,
:math:`K^l` the covariance of :math:`x^l = \phi(h^l)`, :math:`\dot K^l` that of :math:`\phi'(h^l)`,
:math:`\Theta` the tangent kernel: one SGD step with rate eta moves the outputs by :math:`-\eta \Theta \chi / B`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from mupjax import activations, devices
from mupjax.activations import QUADRATURE_DEGREE, Activation
from mupjax.dynamics._neural_tangents import load
from mupjax.parametrization import Parametrization, Role
from mupjax.parametrization.classification import classify

ERROR_SAMPLE = 16  # inputs on which the quadrature error is estimated
_TOLERANCE = 1e-9
_Matrices = tuple[jax.Array, jax.Array, jax.Array]


class Kernels(NamedTuple):
    """Kernels of an infinitely wide network at initialisation, in NumPy float64.

    Attributes:
      h: [L, P, P], covariance of the preactivations of each layer, the limit of <h_0, h_0>/n.
      x: [L, P, P], the same for activations.
      nngp: [P, P], covariance of the outputs f_0; zero if the readout's variance falls faster than 1/n.
      ntk: [P, P], the tangent kernel, with every layer's term weighted by its rate.
      weights: [L + 1], the weight of each layer's term, see `layer_weights`.
      quadrature_error: estimate of the largest error of these kernels, relative to the largest entry of each; None for
        closed forms. See `kernels`.
    """

    h: Float[np.ndarray, "L P P"]
    x: Float[np.ndarray, "L P P"]
    nngp: Float[np.ndarray, "P P"]
    ntk: Float[np.ndarray, "P P"]
    weights: Float[np.ndarray, " layers"]
    quadrature_error: float | None


def layer_weights(
    parametrization: Parametrization,
    *,
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
) -> Float[np.ndarray, " layers"]:
    r"""Return the weight of every layer's term in the tangent kernel.

    .. math:: w_l = \lim_{n \to \infty} r_l(n) \, n^{[l \geq 2]} \, (n v(n))^{[l \leq L]}

    Here :math:`r_l` is the effective SGD rate of layer l divided by eta, and v the effective variance of the readout.
    The product is a power of n. If it is constant, its value is that at n = base_width: 1 for the input layer and
    base_width (of the layer below) for the others, times the constants of the rate, of the readout's variance and of
    the forward pass. If it falls, the weight is 0. Ratios of the widths do not enter.

    Args:
      parametrization: the exponents, without biases.
      depth: number of hidden layers L.
      activation: a name, an Activation or a function.

    Returns:
      [L + 1] weights of layers 1..L and the readout.

    Raises:
      ValueError: if the parametrization has no kernel limit, or its initial variances are not of order 1 in the input
        layer and 1/n in hidden layers.

    Example:
      >>> from mupjax.parametrization import ntp, sp
      >>> layer_weights(ntp(), depth=2), layer_weights(sp(), depth=2)
      (array([1., 1., 1.]), array([0., 1., 1.]))
    """
    activation = activations.get(activation)
    kind = classify(parametrization, depth, activation).kind
    if kind != "kernel":
        instead = "; the feature-learning limit is the one that applies" if kind == "feature" else ""
        raise ValueError(
            f"Expected `parametrization` to have a kernel limit, got '{parametrization.name}', whose limit at depth "
            f"{depth} with {activation.name} is of kind '{kind}'{instead}."
        )
    v, e = parametrization.v, parametrization.e
    if abs(v.input) > _TOLERANCE or (depth > 1 and abs(v.hidden - 0.5) > _TOLERANCE):
        raise ValueError(
            "Expected `parametrization` to start with variances of order 1 (input) and 1/n (hidden), got "
            f"'{parametrization.name}' with n^{-2 * v.input:g} and n^{-2 * v.hidden:g}."
        )
    traits = parametrization.traits
    if any(parametrization.mean) or traits.biases or traits.normalized or traits.first_step:
        raise ValueError(
            "Expected `parametrization` without biases, means, normalized updates or a first step of its own, got "
            f"'{parametrization.name}': its kernel limit is not known here."
        )
    roles: list[Role] = ["input", *("hidden" for _ in range(depth - 1)), "output"]
    powers = [-getattr(e, role) + (role != "input") + (role != "output") * (1 - 2 * v.output) for role in roles]
    base_width = parametrization.base_width
    bases = base_width if isinstance(base_width, tuple) else (base_width,) * depth
    readout = (parametrization.sigma.output * parametrization.output_multiplier) ** 2
    at_base = [
        value
        * getattr(parametrization.rates, role)
        * parametrization.forward_multiplier(role) ** 2
        * (1.0 if role == "output" else readout)
        for role, value in zip(roles, (1.0, *map(float, bases)), strict=True)
    ]
    return np.array([_limit(value, power) for value, power in zip(at_base, powers, strict=True)])


def _limit(value: float, power: float) -> float:
    """Return the limit of `value * (n / n_0)**power`; ValueError if it grows."""
    if power > _TOLERANCE:
        raise ValueError(f"Expected a share that does not grow with width, got n^{power:g}.")
    return value if power > -_TOLERANCE else 0.0


def kernels(
    inputs: Float[Array, "P d"] | Float[np.ndarray, "P d"],
    parametrization: Parametrization,
    *,
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
) -> Kernels:
    r"""Return the kernels of an infinitely wide network at initialisation, computed by neural-tangents in float64.

    .. math:: \Sigma^1 = \xi \xi^\top / d, \quad \Sigma^{l+1} = K^l, \quad
              \Theta = \sum_{l=1}^{L+1} w_l \, K^{l-1} \odot \dot K^l \odot \dots \odot \dot K^L,
              \quad K^0 = \Sigma^1

    (Jacot, Gabriel & Hongler 2018, arXiv:1806.07572, Thm 1, with a rate for each layer.) erf, relu, leaky_relu,
    abs_relu and linear have closed forms (with a kink, the diagonal of the ntk is accurate to 1e-8). Other activations
    use neural-tangents' Gauss-Hermite quadrature (Han et al. 2022, arXiv:2209.04121) with QUADRATURE_DEGREE nodes per
    dimension. A second rule with twice as many nodes estimates its error on the at most 16 inputs of largest norm. The
    error grows with the norm (two hidden layers of tanh: 1e-6 at ||xi||^2 = d, 5e-3 at 4 d). For smooth activations it
    is largest on the diagonal, and the estimate is accurate to a few per cent; for others it is an order of magnitude.

    Args:
      inputs: [P, d] of any floating type.
      parametrization: a parametrization with a kernel limit.
      depth: number of hidden layers L.
      activation: a name, an Activation or a function.

    Raises:
      ValueError: as in `layer_weights`, or if the inputs are not finite or not [P, d].
      ImportError: if neural-tangents cannot be loaded; the message names the command that installs it.

    Example:
      >>> import numpy as np
      >>> from mupjax.parametrization import ntp
      >>> kernels(np.eye(2), ntp(), depth=1, activation="linear").ntk
      array([[1., 0.],
             [0., 1.]])
    """
    activation = activations.get(activation)
    weights = layer_weights(parametrization, depth=depth, activation=activation)
    inputs = np.asarray(inputs, np.float64)
    if inputs.ndim != 2 or not inputs.size or not np.all(np.isfinite(inputs)):
        raise ValueError(f"Expected `inputs` to be finite and of shape [P, d], got shape {inputs.shape}.")
    sigma = parametrization.sigma
    stds = [sigma.input * parametrization.input_multiplier, *[sigma.hidden] * (depth - 1)]
    variances = np.array(stds, float) ** 2
    h, x, ntk = _propagate(inputs, weights, variances, activation, QUADRATURE_DEGREE)
    error = None
    if activation.neural_tangents is None:
        sample = np.argsort(-np.sum(inputs**2, axis=1), kind="stable")[:ERROR_SAMPLE]
        finer = _propagate(inputs[sample], weights, variances, activation, 2 * QUADRATURE_DEGREE)
        pairs = np.ix_(sample, sample)
        error = max(_change(a[pairs], b) for a, b in zip((*h, *x, ntk), (*finer[0], *finer[1], finer[2]), strict=True))
    readout = (sigma.output * parametrization.output_multiplier) ** 2
    nngp = _limit(readout, 1 - 2 * parametrization.v.output) * x[-1]
    return Kernels(h, x, nngp, ntk, weights, error)


def _change(coarse: np.ndarray, fine: np.ndarray) -> float:
    return float(np.max(np.abs(coarse - fine)) / max(np.max(np.abs(fine)), np.finfo(float).tiny))


def _propagate(
    inputs: np.ndarray, weights: np.ndarray, variances: np.ndarray, activation: Activation, degree: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the covariances of h and x, [L, P, P] each, and the tangent kernel [P, P]."""
    load()  # before tracing, which would bury an ImportError
    with devices.with_float64(), jax.enable_x64(True):
        h, x, ntk = _propagate_jit(*map(jnp.asarray, (inputs, weights, variances)), activation, degree)
        return np.asarray(h), np.asarray(x), np.asarray(ntk)


@partial(jax.jit, static_argnums=(3, 4))
def _propagate_jit(
    inputs: jax.Array, weights: jax.Array, variances: jax.Array, activation: Activation, degree: int
) -> _Matrices:
    """Propagate neural-tangents' Kernel through the layers, adding each layer's term with its own weight."""
    stax = load().stax
    dense = stax.Dense(1, W_std=1.0, parameterization="ntk")[2]
    activate = _activation_layer(stax, activation, degree)

    start = stax.Identity()[2](inputs, None, get=None)

    def layer(carry: _Matrices, of_layer: tuple[jax.Array, jax.Array]) -> tuple[_Matrices, tuple[jax.Array, jax.Array]]:
        (nngp, ntk, cov), (weight, variance) = carry, of_layer
        before = dense(start.replace(nngp=variance * nngp, cov1=variance * cov))
        before = before.replace(ntk=variance * ntk + weight * nngp)
        after = activate(before)
        return (after.nngp, after.ntk, after.cov1), (before.nngp, after.nngp)

    carry = (start.nngp, jnp.zeros_like(start.nngp), start.cov1)
    (nngp, ntk, _), (h, x) = jax.lax.scan(layer, carry, (weights[:-1], variances))
    return h, x, ntk + weights[-1] * nngp


def _activation_layer(stax: ModuleType, activation: Activation, degree: int) -> Callable[[PyTree], PyTree]:
    if activation.neural_tangents is not None:
        return activation.neural_tangents(stax)[2]

    def phi(s: jax.Array) -> jax.Array:
        return activation.phi(s.astype(jnp.float64)).astype(jnp.float64)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the numerical error, which `kernels` estimates
        layer = stax.ElementwiseNumerical(phi, deg=degree)[2]

    def activate(kernel: PyTree) -> PyTree:
        """Apply the quadrature in blocks of rows, since it holds degree^2 numbers for every entry."""
        cov = jnp.maximum(kernel.cov1, np.finfo(np.float64).tiny)  # an input of zeros would be 0/0

        def row(entries: _Matrices) -> _Matrices:
            nngp, ntk, cov_row = (array[None] for array in entries)
            before = kernel.replace(nngp=nngp, ntk=ntk, cov1=cov_row, cov2=cov, shape1=(1, *kernel.shape1[1:]))
            after = layer(before)
            return after.nngp[0], after.ntk[0], after.cov1[0]

        rows = max(1, devices.traits().quadrature // (len(cov) * degree**2))
        nngp, ntk, cov = jax.lax.map(row, (kernel.nngp, kernel.ntk, cov), batch_size=min(rows, len(cov)))
        # The rule treats its two dimensions differently, so that its error is not symmetric.
        return kernel.replace(nngp=(nngp + nngp.T) / 2, ntk=(ntk + ntk.T) / 2, cov1=cov, is_gaussian=False)

    return activate
