r"""Signal propagation at the edge of chaos: mean squares, correlations and tangent kernels of (a, b)-ReLU layers.

With kernels of variance :math:`1 / ((a^2 + b^2) n)` and no biases, the mean square of :math:`h^k` and the sum of
squares of :math:`\partial f / \partial h^k` are preserved in expectation at every depth, and the correlation of two
inputs follows, at infinite width, with :math:`\Delta = b^2 / (a^2 + b^2)`,

.. math:: \rho_{k+1} = (1 - \Delta) \rho_k
          + \Delta \tfrac{2}{\pi} \bigl(\sqrt{1 - \rho_k^2} + \rho_k \arcsin \rho_k\bigr), \qquad
          1 - \rho_k \sim \frac{9 \pi^2}{8 \Delta^2 k^2}

(Terjek 2025, arXiv:2502.13110; for ReLU the map is that of Cho & Saul 2009). The functions work with the gap
:math:`1 - \rho` in float64 NumPy: it falls as :math:`k^{-2}` with depth k, and :math:`\rho` itself would round it away.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, ArrayLike, Float

from mupjax.activations import delta, gain


def gap_map(gap: Float[ArrayLike, "*pairs"], a: float, b: float) -> Float[np.ndarray, "*pairs"]:
    r"""Return the gap :math:`1 - \rho` after one layer.

    With :math:`\rho = \cos \theta` it is :math:`g - \Delta \tfrac{2}{\pi} (\sin \theta - \theta \cos \theta)`, which is
    evaluated without cancellation: :math:`\theta = 2 \arcsin \sqrt{g / 2}`, and a series for small angles.

    Args:
      gap: [...] in [0, 2].
      a, b: slopes of the activation.

    Raises:
      ValueError: if a gap is out of range, a slope is not finite or both slopes are 0.

    Example:
      >>> round(float(gap_map(1.0, 0.5, 0.5)), 6)  # orthogonal inputs, relu: 1 - 1/pi
      0.68169
    """
    found = _checked(gap)
    theta = 2 * np.arcsin(np.sqrt(found / 2))
    # sin t - t cos t = t^3/3 - t^5/30 + t^7/840 - ...; the difference itself loses t^-3 digits.
    small = theta**3 * (1 / 3 - theta**2 * (1 / 30 - theta**2 * (1 / 840 - theta**2 / 45360)))
    turned = np.where(theta < 0.1, small, np.sin(theta) - theta * np.cos(theta))
    return np.asarray(found - delta(a, b) * (2 / np.pi) * turned)


def gaps(gap: Float[ArrayLike, "*pairs"], depth: int, a: float, b: float) -> Float[np.ndarray, "*layers_and_pairs"]:
    r"""Return the gaps :math:`1 - \rho_k` of the preactivations of layers 1..depth; that of layer 1 is the inputs' gap.

    Args:
      gap: [...] gaps of pairs of inputs, in [0, 2].
      depth: number of hidden layers, at least 1.
      a, b: slopes of the activation.

    Returns:
      [depth, ...].

    Raises:
      ValueError: if `depth` is below 1, or as in `gap_map`.

    Example:
      >>> gaps(0.5, 3, 1.0, 0.0).tolist()  # linear: unchanged
      [0.5, 0.5, 0.5]
    """
    if depth < 1:
        raise ValueError(f"Expected `depth` to be at least 1, got depth={depth!r}.")
    rows = [_checked(gap)]
    for _ in range(depth - 1):
        rows.append(gap_map(rows[-1], a, b))
    return np.stack(rows)


def asymptotic_gap(layer: Float[ArrayLike, "*layers"], a: float, b: float) -> Float[np.ndarray, "*layers"]:
    r"""Return :math:`9 \pi^2 / (8 \Delta^2 k^2)`, which :math:`1 - \rho_k` approaches from below as k grows.

    The approach is slow: for ReLU and orthogonal inputs the ratio is 0.81 at k = 100 and 0.97 at k = 1000.

    Args:
      layer: [...] layer numbers k.
      a, b: slopes of the activation.

    Raises:
      ValueError: if a slope is not finite or both slopes are 0.

    Example:
      >>> round(float(asymptotic_gap(1000, 0.0, 1.0)), 9)
      1.1103e-05
    """
    return np.asarray(9 * math.pi**2 / (8 * delta(a, b) ** 2 * np.asarray(layer, float) ** 2))


def kernels(
    inputs: Float[ArrayLike, "P d"], depth: int, a: float, b: float
) -> tuple[Float[np.ndarray, "P P"], Float[np.ndarray, "P P"]]:
    r"""Return the covariance of :math:`f_0` and the tangent kernel at infinite width, in the NTK parametrization.

    Layer 1 is :math:`\theta^1 \xi / \sqrt d`, hidden layers :math:`\sigma n^{-1/2} \theta^k x^{k-1}`, the readout
    :math:`\sigma n^{-1/2} \theta x^L`, all trained with one learning rate.

    Args:
      inputs: [P, d].
      depth: number of hidden layers.
      a, b: slopes of the activation.

    Returns:
      [P, P] covariance of the outputs and [P, P] tangent kernel, float64.

    Raises:
      ValueError: if `depth` is below 1, `inputs` is not [P, d], a slope is not finite or both slopes are 0.

    Example:
      >>> nngp, ntk = kernels(np.eye(2) * 2**0.5, depth=1, a=1.0, b=0.0)  # linear, unit inputs: 1 + 1
      >>> nngp.tolist(), ntk.tolist()
      ([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 2.0]])
    """
    if depth < 1 or np.ndim(inputs) != 2:
        what = f"depth={depth!r} and inputs of shape {np.shape(inputs)}"
        raise ValueError(f"Expected `depth` to be at least 1 and `inputs` to be [P, d], got {what}.")
    x = np.asarray(inputs, np.float64) / np.shape(inputs)[1] ** 0.5
    sizes = np.sqrt(np.sum(x**2, axis=1))
    units = x / np.where(sizes > 0, sizes, 1)[:, None]
    # |u - v|^2 / 2 keeps small gaps, which 1 - u.v rounds away
    gap = np.clip(np.sum((units[:, None] - units[None]) ** 2, axis=-1) / 2, 0, 2)
    scale = sizes[:, None] * sizes[None]
    linear = 1 - delta(a, b)
    ntk = scale * (1 - gap)
    for _ in range(depth):
        theta = 2 * np.arcsin(np.sqrt(gap / 2))
        slope = linear + delta(a, b) * (2 / np.pi) * (np.pi / 2 - theta)
        gap = gap_map(gap, a, b)
        ntk = ntk * slope + scale * (1 - gap)
    return scale * (1 - gap), ntk


class Signals(NamedTuple):
    """Preactivations and gradients of every hidden layer, for one input and one output.

    Attributes:
      h: L arrays [m_k] of preactivations.
      dh: L arrays [m_k] of gradients df/dh^k.
    """

    h: tuple[Float[Array, " units"], ...]
    dh: tuple[Float[Array, " units"], ...]


def sampled_signals(
    key: jax.Array, inputs: Float[ArrayLike, " d"], widths: tuple[int, ...], a: float, b: float
) -> Signals:
    r"""Sample the preactivations of one input and the gradients of one output from their exact law, without matrices.

    Given :math:`x^{k-1}`, the units of :math:`h^k` are independent Gaussians of variance
    :math:`\sigma^2 \|x^{k-1}\|^2 / m_{k-1}`. Given both, :math:`W^\top v` is :math:`x (h \cdot v) / \|x\|^2` along x
    plus independent Gaussians of variance :math:`\sigma^2 \|v\|^2 / m_{k-1}` orthogonal to x. Depth and width are
    limited by the vectors alone. The readout has variance :math:`\sigma^2 / m_L`.

    Args:
      key: random key.
      inputs: [d], one input.
      widths: units of every hidden layer.
      a, b: slopes of the activation.

    Raises:
      ValueError: if `widths` is empty, `inputs` is not [d], a slope is not finite or both slopes are 0.

    Example:
      >>> found = sampled_signals(jax.random.key(0), np.ones(3), (16, 64), 0.5, 0.5)
      >>> [h.shape for h in found.h], [dh.shape for dh in found.dh]
      ([(16,), (64,)], [(16,), (64,)])
    """
    if not widths or np.ndim(inputs) != 1:
        what = f"widths={widths!r} and inputs of shape {np.shape(inputs)}"
        raise ValueError(f"Expected `widths` of at least one layer and `inputs` to be [d], got {what}.")
    xi, sigma, depth = jnp.asarray(inputs, float), gain(a, b), len(widths)
    keys = jax.random.split(key, 2 * depth)
    std, hs = jnp.sqrt(jnp.mean(xi**2)), []
    for layer, width in enumerate(widths):
        hs.append(std * jax.random.normal(keys[layer], (width,), xi.dtype))
        x = a * hs[-1] + b * jnp.abs(hs[-1])
        std = sigma * jnp.sqrt(jnp.mean(x**2))
    dx = sigma / widths[-1] ** 0.5 * jax.random.normal(keys[depth], (widths[-1],), xi.dtype)
    dhs = [(a + b * jnp.sign(hs[-1])) * dx]
    for layer in reversed(range(depth - 1)):
        h = hs[layer]
        x = a * h + b * jnp.abs(h)
        length = jnp.sum(x**2)
        std = sigma * jnp.sqrt(jnp.sum(dhs[0] ** 2) / widths[layer])
        noise = std * jax.random.normal(keys[depth + 1 + layer], h.shape, h.dtype)
        passed = jnp.matmul(hs[layer + 1], dhs[0], precision="highest") - jnp.matmul(noise, x, precision="highest")
        along = passed / jnp.where(length > 0, length, 1)
        dhs.insert(0, (a + b * jnp.sign(h)) * (along * x + noise))
    return Signals(tuple(hs), tuple(dhs))


def _checked(gap: npt.ArrayLike) -> np.ndarray:
    found = np.asarray(gap, np.float64)
    if not np.all((found >= 0) & (found <= 2)):
        raise ValueError(f"Expected gaps 1 - rho in [0, 2], got {gap!r}.")
    return found
