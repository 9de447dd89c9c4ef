"""The roles that a parameter can have in a network, and one number for each."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Role = Literal["input", "hidden", "output", "bias", "output_bias"]
Number = Any  # an int or float, or a tracer where widths are padded


class PerRole(NamedTuple):
    """One number for each role a parameter can have.

    Attributes:
      input: of the kernel of layer 1.
      hidden: of the kernels of layers 2..L; in `Parametrization.c_first` it may be a tuple, one number a layer.
      output: of the kernel of the readout.
      bias: of the biases of layers 1..L; in `Parametrization.c_first` it may be a tuple likewise.
      output_bias: of the bias of the readout.

    Example:
      >>> PerRole(0.0, 0.5, 1.0).bias
      0.0
    """

    input: float
    hidden: Any
    output: float
    bias: Any = 0.0
    output_bias: float = 0.0


ZERO = PerRole(0.0, 0.0, 0.0)
ONE = PerRole(1.0, 1.0, 1.0, 1.0, 1.0)
UNIT_GAUSSIANS = PerRole(1.0, 1.0, 1.0)  # biases start at zero
