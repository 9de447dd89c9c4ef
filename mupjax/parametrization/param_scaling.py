"""The scaling of one parameter: what a network and its optimizer read of a parametrization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mupjax.parametrization.roles import Number, Role


@dataclass(frozen=True)
class ParamScaling:
    """What the parametrization says of one parameter. Not a pytree: it is one leaf of a scaling tree.

    Attributes:
      role: input, hidden, output, bias or output_bias.
      fan_in: inputs of the layer that the parameter belongs to.
      fan_out: outputs of that layer.
      multiplier: the forward factor, `W = multiplier * w`.
      init_std: the standard deviation of the stored `w` at initialisation.
      sgd_lr_mult: what SGD's learning rate for the stored `w` is multiplied by.
      adam_lr_mult: what Adam's learning rate for the stored `w` is multiplied by.
      adam_epsilon_mult: multiplier of Adam's epsilon: the width order of this parameter's gradient (of the stored `w`)
        once the readout's updates dominate. It is that from the start where forward and backward sizes are preserved;
        under ip the first gradients are smaller by n^-1/2 for every hidden product on the way. A forward constant that
        the weight contains (`Parametrization.output_multiplier`) divides it.
      init_mean: the mean of the stored `w` at initialisation.
      sgd_lr_mult_first: what SGD's learning rate is multiplied by in the first step; None where it is as later.
      init_kept: what the initial `w` is multiplied by in the first step; None where it stays.
      normalized: whether SGD's update is divided by its Frobenius norm before it is multiplied.
    """

    role: Role
    fan_in: Number
    fan_out: Number
    multiplier: Number
    init_std: Number
    sgd_lr_mult: Number
    adam_lr_mult: Number
    adam_epsilon_mult: Number
    init_mean: Number = 0.0
    sgd_lr_mult_first: Number | None = None
    init_kept: Number | None = None
    normalized: Any = False

    @property
    def is_switched(self) -> bool:
        """Whether the first step differs from the later ones."""
        return self.sgd_lr_mult_first is not None or self.init_kept is not None
