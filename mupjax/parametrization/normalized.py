r"""Normalized updates: every parameter moves by a distance that its gradient does not change.

Widths may grow with depth, :math:`m_k = k^q m`; see `Parametrization.width_profile`.
"""

from __future__ import annotations

from typing import Any

from mupjax.parametrization.common import made
from mupjax.parametrization.roles import PerRole
from mupjax.parametrization.scaling import Parametrization


def nup(*, q: float = 2.0, gain: float = 1.0, **common: Any) -> Parametrization:
    r"""Normalized update parametrization: widths :math:`m_k = k^q m` and updates of fixed size. A RECONSTRUCTION.

    .. math:: h^1 = \theta^1 \xi / \sqrt d, \quad h^k = \sigma m_{k-1}^{-1/2} \theta^k x^{k-1}, \quad
              f = \sigma m_L^{-1} \theta x^L, \qquad
              \theta^k \leftarrow \theta^k - \eta \sqrt m \, G^k / \|G^k\|_F

    with the readout's step :math:`\eta \sqrt{m_L}`; in effective form hidden steps have the size
    :math:`\eta \sigma (k-1)^{-q/2}`, the first layer's :math:`\eta \sqrt m`, the readout's
    :math:`\eta \sigma m_L^{-1/2}`. So the own-layer part of :math:`\|dh^k\| / \|h^k\|` is at most about
    :math:`\eta k^{-q/2}` in every step, with equality for one sample. Terjek 2025 (arXiv:2502.13110) proposes such a
    parametrization; its text was not at hand, so every constant here is a reconstruction and a parameter.

    Args:
      q: exponent of the widths' growth with depth; 2 is the paper's, 0 and 1 are ablations.
      gain: sigma, the edge-of-chaos gain of the activation, :math:`(a^2 + b^2)^{-1/2}`
        (`mupjax.activations.gain`; sqrt(2) for relu).
      **common: as of every preset; `sigma` and `rates` follow from the gain where they are not given.

    Example:
      >>> nup(q=1.0).layer_widths(8, 3)
      (8, 16, 24)
    """
    if not isinstance(common.get("sigma"), PerRole):
        std = common.pop("bias_std", 0.0)
        common = {"sigma": PerRole(1.0, gain, gain, bias=std, output_bias=std)} | common
    common = {"rates": PerRole(1.0, gain, gain, 1.0, 1.0)} | common
    c, adam_c = PerRole(-0.5, 0.0, 0.5, bias=-0.5), PerRole(0.0, 1.0, 1.0)
    exponents: dict[str, Any] = {"b": PerRole(0.0, 0.5, 1.0), "c": c, "adam_c": adam_c}
    return made("nup", update="normalized", width_profile=float(q), **exponents, **common)
