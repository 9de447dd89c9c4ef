r"""Integrable (mean-field) parametrizations and what makes them train (Hajjar et al. 2021, arXiv:2110.15596).

Hidden weights of variance :math:`1/n^2` let every deep network start at a point where it cannot move: with L >= 3
hidden layers, phi(0) = 0 and no biases the outputs stay at 0 for any fixed number of steps as the width n grows. Three
ways out: large learning rates in the first step, biases, and weights of non-zero mean. All take the options of every
preset (`mupjax.parametrization.presets`); exponents below are of :math:`a = 0`, where kernels are effective weights.
"""

from __future__ import annotations

from typing import Any

from mupjax.parametrization.common import made
from mupjax.parametrization.roles import PerRole
from mupjax.parametrization.scaling import Parametrization

B = PerRole(0.0, 1.0, 1.0)
C = PerRole(-1.0, 0.0, 1.0, bias=-1.0)
ADAM_C = PerRole(0.0, 1.0, 1.0)


def ip(**common: Any) -> Parametrization:
    r"""Integrable (mean-field) parametrization: muP with hidden variances 1/n^2 instead of 1/n.

    With four or more weight layers it is stuck at f = 0 for any fixed number of steps as n grows (Hajjar, Chizat &
    Giraud 2021, arXiv:2110.15596, Thm 2); a finite network escapes after a number of steps that grows with n. Adam's
    rates are muP's; what is small at initialisation stays small in Adam's first step (three hidden layers: h^3 and f
    move by n^-1/2, a figure of tests/optim/test_transforms.py).

    Example:
      >>> ip().scales("hidden", 256, 256).init_std  # 1 / 256; muP's is 1 / 16
      0.00390625
    """
    return made("ip", b=B, c=C, adam_c=ADAM_C, spectral=True, **common)


def ip_llr(depth: int, *, degree: float = 1.0, **common: Any) -> Parametrization:
    r"""IP with large initial learning rates: the first step makes up for what initial weights shrink; then IP's rates.

    For a positively homogeneous phi of degree p, :math:`S = \tfrac12 \sum_{k=1}^{L-1} p^k`, the first step's rates are
    :math:`\eta` (n^{1+S}, n^{S-1/2}, n^{S-1}); p = 1 is the paper's. The bias of layer l has :math:`n^{1+S-s_l}`,
    :math:`s_l = \tfrac12 \sum_{k=0}^{l-2} p^k` (derived here, for biases that start at zero). For SGD. What the first
    step does depends on the constants too: its base rates are best calibrated (`mupjax.calibrate_initial_rates`).

    Args:
      depth: number of hidden layers L.
      degree: the degree of homogeneity p of the activation. Where the activation has none, and phi(0) = 0, the first
        forward pass sees a linear phi: p = 1, but preactivations of layers 3..L shrink with n after the first step.
      **common: as of every preset.

    Raises:
      ValueError: for a depth below 1, a degree that is not positive.

    Example:
      >>> llr = ip_llr(3)
      >>> llr.scales("hidden", 256, 256, layer=2).sgd_lr_mult, llr.c_first.hidden  # later steps, exponent of the first
      (1.0, -0.5)
    """
    _check_depth(depth)
    if not degree > 0:
        raise ValueError(f"Expected `degree` to be positive, got degree={degree!r}.")
    shrinks = [0.5 * sum(degree**k for k in range(layer - 1)) for layer in range(1, depth + 1)]  # of h^l: n^-s_l
    total = degree * shrinks[-1]
    bias = tuple(-(1 + total - shrink) for shrink in shrinks)
    first = PerRole(-(1 + total), 0.5 - total, 1 - total, bias=bias)
    return made("ip_llr", b=B, c=C, adam_c=ADAM_C, c_first=first, depth=depth, spectral=True, **common)


def ip_bias(depth: int, *, sigma: float | PerRole = 1.0, biases: Any = "all", **common: Any) -> Parametrization:
    r"""IP with initial biases of order one and rates of the first step to match.

    Features then start at order one, but in layers 2..L without sight of the input. First rates of the kernels:
    :math:`\eta` (n^{(L+1)/2}, n^{(L-l)/2}, n^{-1}), of the bias of layer l: n^{(L-l+2)/2}, of the readout's: 1.

    Args:
      depth: number of hidden layers L.
      sigma: one number for kernels and biases of the hidden layers (the readout's have 1), or a PerRole.
      biases: which layers have one.
      **common: as of every preset.

    Raises:
      ValueError: for a depth below 1.

    Example:
      >>> ip_bias(3).c_first.hidden  # of layers 2 and 3
      (-0.5, 0.0)
    """
    _check_depth(depth)
    first = PerRole(
        -(depth + 1) / 2,
        tuple((layer - depth) / 2 for layer in range(2, depth + 1)),
        1.0,
        bias=tuple(-(depth - layer + 2) / 2 for layer in range(1, depth + 1)),
    )
    if not isinstance(sigma, PerRole):
        sigma = PerRole(sigma, sigma, 1.0, bias=sigma, output_bias=1.0)
    return made(
        "ip_bias",
        b=B,
        c=C,
        adam_c=ADAM_C,
        c_first=first,
        depth=depth,
        sigma=sigma,
        biases=biases,
        spectral=True,
        **common,
    )


def ip_non_centered(*, mean: float = 1.0, **common: Any) -> Parametrization:
    r"""IP whose hidden and output Gaussians have a mean: W = (mean + sigma g)/n.

    Preactivations of layers 2..L then start at order one, the same for all units of a layer.

    Args:
      mean: of the Gaussians, beside `sigma`.
      **common: as of every preset.

    Example:
      >>> ip_non_centered(mean=2.0).mean.hidden
      2.0
    """
    means = PerRole(0.0, mean, mean)
    return made("ip_non_centered", b=B, c=C, adam_c=ADAM_C, mean=means, spectral=True, **common)


def hp(**common: Any) -> Parametrization:
    r"""Hybrid of muP and IP: muP's first step, then hidden weights sigma U/n + DeltaW_0.

    For homogeneous phi and the same Gaussians, no hidden biases and no momentum, it is `ip_llr` at every width n, given
    the same derivative of the loss in the first step; their first outputs differ, and vanish with n. For SGD.

    Example:
      >>> hp().b.hidden, hp().b_later.hidden  # the standard deviation of W_0 is n^-1/2 in the first step, then n^-1
      (0.5, 1.0)
    """
    return made("hp", b=PerRole(0.0, 0.5, 1.0), c=C, adam_c=ADAM_C, b_later=B, spectral=True, **common)


def hpz(**common: Any) -> Parametrization:
    r"""`hp` that keeps nothing of the initial hidden weights: after muP's first step they are DeltaW_0 alone.

    Example:
      >>> hpz().b_later.hidden  # nothing is left of W_0
      inf
    """
    later = PerRole(0.0, float("inf"), 1.0)
    return made("hpz", b=PerRole(0.0, 0.5, 1.0), c=C, adam_c=ADAM_C, b_later=later, spectral=True, **common)


def _check_depth(depth: int) -> None:
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValueError(f"Expected `depth` to be a positive int, got depth={depth!r}.")
