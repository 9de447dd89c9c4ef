r"""Presets by name, and those that Tensor Programs began with: standard, neural tangent and maximal update.

All take `base_width` (a number, or a tuple of one a hidden layer), `sigma` (the standard deviations at the base width:
one number for the kernels of the hidden layers 1..L, or a PerRole), `bias_std` (of the biases there), `rates` (a
PerRole of constant factors of the learning rate), `biases` ('none', 'first' or 'all' layers have one),
`input_multiplier` and `output_multiplier` (constants of the forward pass); see Parametrization.

A new preset is a function in a file of its own, a line of the table below, and a test. Its signature says whether it
takes the depth of the network or the degree of homogeneity of the activation.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

from mupjax.parametrization import integrable, normalized
from mupjax.parametrization.common import made
from mupjax.parametrization.roles import PerRole
from mupjax.parametrization.scaling import Parametrization


def sp(*, learning_rate_exponent: float = 1.0, **common: Any) -> Parametrization:
    r"""Standard parametrization: variances (1, 1/n, 1/n), one rate :math:`\eta n^{-e}` for all layers.

    With the default exponent 1 its limit is a kernel one in which the input layer's share of the NTK vanishes. With
    `learning_rate_exponent=0` it is what practice calls standard: one rate :math:`\eta`, unstable in width; its best
    learning rate drifts.

    Args:
      learning_rate_exponent: the exponent e, for SGD and Adam alike.
      **common: as of every preset.

    Example:
      >>> [sp(learning_rate_exponent=e).scales("hidden", 256, 256).sgd_lr_mult for e in (1, 0)]
      [0.00390625, 1.0]
    """
    rates = PerRole(*(float(learning_rate_exponent),) * 5)
    return made("sp", b=PerRole(0.0, 0.5, 0.5), c=rates, adam_c=rates, **common)


def ntp(**common: Any) -> Parametrization:
    r"""NTK parametrization: variances (1, 1/n, 1/n), SGD rates :math:`\eta` (1, 1/n, 1/n). Kernel limit, full NTK.

    Adam's rates are (1, 1/n, 1/n) too: the full-alignment row of Everett et al. 2024 (arXiv:2407.05872) in effective
    form, in which preactivations move by O(1) and logits by up to :math:`n^{1/2}` in the first step.

    Example:
      >>> hidden = ntp().scales("hidden", 256, 256)
      >>> hidden.init_std, hidden.sgd_lr_mult  # 256**-0.5, 1 / 256
      (0.0625, 0.00390625)
    """
    rates = PerRole(0.0, 1.0, 1.0)
    return made("ntp", b=PerRole(0.0, 0.5, 0.5), c=rates, adam_c=rates, **common)


def mup(**common: Any) -> Parametrization:
    r"""Maximal update parametrization: variances (1, 1/n, 1/n^2), SGD rates :math:`\eta` (n, 1, 1/n).

    The one stable choice in which every layer learns features at infinite width (Yang & Hu 2021, Sec. 5). Adam's rates
    are :math:`\eta` (1, 1/n, 1/n): an entry of Adam's update has size 1, a product over fan_in aligned entries has size
    fan_in, and h must move by O(1) (Yang et al. 2022, arXiv:2203.03466, Table 3).

    Example:
      >>> readout = mup().scales("output", 256, 1)
      >>> readout.init_std, readout.sgd_lr_mult  # 1 / 256 each: standard deviation and rate
      (0.00390625, 0.00390625)
    """
    c, adam_c = PerRole(-1.0, 0.0, 1.0, bias=-1.0), PerRole(0.0, 1.0, 1.0)
    return made("mup", b=PerRole(0.0, 0.5, 1.0), c=c, adam_c=adam_c, spectral=True, **common)


_ALL = (
    sp,
    ntp,
    mup,
    integrable.ip,
    integrable.ip_llr,
    integrable.ip_bias,
    integrable.ip_non_centered,
    integrable.hp,
    integrable.hpz,
    normalized.nup,
)
PRESETS = {preset.__name__: preset for preset in _ALL}


def get(
    name: str | Parametrization, *, depth: int | None = None, degree: float | None = None, **options: Any
) -> Parametrization:
    """Return the preset `name` built with `options`; a Parametrization is returned as it is.

    Args:
      name: of a preset.
      depth: the number of hidden layers, for presets that take it.
      degree: of homogeneity of the activation, for presets that take it; None is their own default.
      **options: of the preset.

    Raises:
      ValueError: for an unknown name, a preset that depends on the depth where none is given, or options beside a
        finished Parametrization.

    Example:
      >>> get("mup", base_width=64).base_width, get("ip_llr", depth=3).depth
      (64, 3)
    """
    if isinstance(name, Parametrization):
        if options:
            raise ValueError(f"Expected no options beside a Parametrization, got {', '.join(options)}.")
        return name
    if name not in PRESETS:
        raise ValueError(f"Expected `parametrization` to be one of {', '.join(PRESETS)}, got {name!r}.")
    taken = signature(PRESETS[name]).parameters
    if "depth" in taken:
        if depth is None:
            raise ValueError(f"Expected one `depth` with {name}, whose exponents depend on it, got none or several.")
        options["depth"] = depth
    if "degree" in taken and degree is not None:
        options["degree"] = degree
    return PRESETS[name](**options)
