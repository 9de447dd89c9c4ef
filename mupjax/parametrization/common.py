"""Options that all presets take."""

from __future__ import annotations

import math
from typing import Any

from mupjax.parametrization.base_width import BaseWidth
from mupjax.parametrization.roles import ONE, ZERO, PerRole
from mupjax.parametrization.scaling import Biases, Parametrization


def made(
    name: str,
    *,
    base_width: BaseWidth = 1,
    sigma: float | PerRole = 1.0,
    bias_std: float = 0.0,
    rates: PerRole = ONE,
    biases: Biases = "none",
    input_multiplier: float = 1.0,
    output_multiplier: float = 1.0,
    **exponents: Any,
) -> Parametrization:
    """Return a Parametrization without forward factors (a = 0).

    Args:
      name: of the preset.
      base_width, rates, biases, input_multiplier, output_multiplier: see Parametrization.
      sigma: standard deviations at the base width: one number for the kernels of the hidden layers 1..L, whose gain
        depends on the activation, or a PerRole.
      bias_std: the standard deviation of biases there, where `sigma` is a number.
      **exponents: of Parametrization.

    Raises:
      ValueError: for standard deviations that are negative or not finite or given twice, and as Parametrization does.
    """
    for field, value in (("sigma", sigma), ("bias_std", bias_std)):
        if not isinstance(value, PerRole) and not 0 <= value < math.inf:
            raise ValueError(f"Expected `{field}` to be finite and >= 0, got {field}={value!r}.")
    if isinstance(sigma, PerRole) and bias_std:
        raise ValueError(f"Expected `bias_std` within `sigma`, which names every role, got bias_std={bias_std!r} too.")
    if not isinstance(sigma, PerRole):
        sigma = PerRole(sigma, sigma, 1.0, bias=bias_std, output_bias=bias_std)
    return Parametrization(
        name,
        ZERO,
        base_width=base_width,
        sigma=sigma,
        rates=rates,
        biases=biases,
        input_multiplier=input_multiplier,
        output_multiplier=output_multiplier,
        **exponents,
    )
