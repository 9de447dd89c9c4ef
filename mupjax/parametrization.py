r"""abc-parametrizations: how initial sizes and learning rates depend on width.

The weights of layer :math:`l` are :math:`W^l = n^{-a_l} w^l` with :math:`w^l \sim N(0, \sigma^2 n^{-2 b_l})`, and SGD
moves :math:`w^l` with the rate :math:`\eta n^{-c_l}` (Yang & Hu 2021, arXiv:2011.14522, Sec. 3). Only
:math:`v_l = a_l + b_l` (the effective standard deviation is :math:`n^{-v_l}`) and :math:`e_l = 2 a_l + c_l` (the
effective rate is :math:`\eta n^{-e_l}`) matter to SGD; Adam's effective rate is :math:`\eta n^{-(a_l + c'_l)}` with its
own exponents :math:`c'`. The presets store :math:`a = 0`, so a kernel holds the effective :math:`W^l`.

This module is arithmetic on numbers: it imports neither JAX nor NumPy.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

Role = Literal["input", "hidden", "output", "bias", "output_bias"]
Number = Any  # an int or float, or a tracer where widths are padded


class PerRole(NamedTuple):
    """One number for each role a parameter can have.

    `input`, `hidden`, `output`: the kernels of layer 1, layers 2..L, and the readout. `bias`: the biases of layers
    1..L. `output_bias`: the bias of the readout.
    """

    input: float
    hidden: float
    output: float
    bias: float = 0.0
    output_bias: float = 0.0


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
      adam_epsilon_mult: what Adam's epsilon is multiplied by: the order in width of the gradient of the stored `w`
        once the readout carries it. It is that from the start where forward and backward sizes are preserved; under
        ip the first gradients are smaller by n^-1/2 for every hidden product on the way.
    """

    role: Role
    fan_in: Number
    fan_out: Number
    multiplier: Number
    init_std: Number
    sgd_lr_mult: Number
    adam_lr_mult: Number
    adam_epsilon_mult: Number


@dataclass(frozen=True)
class Parametrization:
    r"""Exponents of width for the forward factor, the initial size and the learning rates of every role.

    Attributes:
      name: what tables and plots call it.
      a: the forward factor is :math:`n^{-a}`.
      b: the standard deviation of the stored parameter is :math:`n^{-b}`.
      c: SGD's rate for the stored parameter is :math:`\eta n^{-c}`.
      adam_c: Adam's rate for the stored parameter is :math:`\eta n^{-c'}`.
      base_width: the width :math:`n_0` at which the network is the standard one (SP's variances, one rate
        :math:`\eta`); powers are taken of :math:`n/n_0`. 1 gives the bare powers of :math:`n`.
      spectral: for layers of unequal width, scale a hidden layer by its aspect ratio (Yang, Simon & Bernstein 2023,
        arXiv:2310.17813, Condition 1): the standard deviation by min(1, sqrt(fan_out/fan_in)), SGD's rate by
        fan_out/fan_in. Of no effect where all widths are equal.
      bias_std: the standard deviation of biases at the base width; 0 starts them at zero.

    Raises:
      ValueError: for exponents that are not finite, a base width that is not a positive int, a negative `bias_std`.

    Example:
      >>> mup().scales("output", fan_in=64, fan_out=1).init_std == 1 / 64
      True
    """

    name: str
    a: PerRole
    b: PerRole
    c: PerRole
    adam_c: PerRole
    base_width: int = 1
    spectral: bool = False
    bias_std: float = 0.0

    def __post_init__(self) -> None:
        for field in ("a", "b", "c", "adam_c"):
            exponents = getattr(self, field)
            if not isinstance(exponents, PerRole) or not all(math.isfinite(number) for number in exponents):
                raise ValueError(f"Expected `{field}` to be a PerRole of finite exponents, got {field}={exponents!r}.")
        if isinstance(self.base_width, bool) or not isinstance(self.base_width, int) or self.base_width < 1:
            raise ValueError(f"Expected `base_width` to be a positive int, got base_width={self.base_width!r}.")
        if not (self.bias_std >= 0 and math.isfinite(self.bias_std)):
            raise ValueError(f"Expected `bias_std` to be finite and >= 0, got bias_std={self.bias_std!r}.")

    @property
    def v(self) -> PerRole:
        """Exponents `a + b`: the effective standard deviation falls as `n**-v`."""
        return PerRole(*(a + b for a, b in zip(self.a, self.b, strict=True)))

    @property
    def e(self) -> PerRole:
        """Exponents `2a + c`: SGD's effective rate falls as `n**-e`."""
        return PerRole(*(2 * a + c for a, c in zip(self.a, self.c, strict=True)))

    def shift(self, t: float | PerRole) -> Parametrization:
        r"""Return another form of the same parametrization: (a+t, b-t, c-2t) for SGD, (a+t, b-t, c'-t) for Adam.

        Training is the same function of time in every form (Yang & Hu 2021, Sec. 3 for SGD; Yang et al. 2022,
        Lemma J.1 for Adam): only the split of a weight into forward factor and stored number differs.

        Args:
          t: one number for all roles, or one for each.

        Example:
          >>> ntp().shift(0.5).b.hidden  # not 1/2 any more: the forward factor carries it
          0.0
        """
        by_role = t if isinstance(t, PerRole) else PerRole(t, t, t, t, t)

        def moved(exponents: PerRole, step: float) -> PerRole:
            return PerRole(*(e + step * s for e, s in zip(exponents, by_role, strict=True)))

        return replace(
            self, a=moved(self.a, 1), b=moved(self.b, -1), c=moved(self.c, -2), adam_c=moved(self.adam_c, -1)
        )

    def scales(self, role: Role, fan_in: Number, fan_out: Number) -> ParamScaling:
        r"""Return the scaling of one parameter of a layer with `fan_in` inputs and `fan_out` outputs.

        Pure arithmetic, so that `fan_in` and `fan_out` may be tracers. The width that counts is `fan_out` for the
        input kernel and the biases, `fan_in` for hidden kernels and the readout; the input dimension and the number
        of outputs are constants and never enter.

        Args:
          role: input, hidden, output, bias or output_bias; for a bias give its layer's fans.
          fan_in: inputs of the layer.
          fan_out: outputs of the layer.
        """
        if role not in PerRole._fields:
            raise ValueError(f"Expected `role` to be one of {', '.join(PerRole._fields)}, got role={role!r}.")
        a, b, c, adam_c = (getattr(x, role) for x in (self.a, self.b, self.c, self.adam_c))
        n0 = self.base_width
        ratio = (fan_out if role in ("input", "bias") else fan_in) / n0
        multiplier = ratio**-a
        base_std = {"input": 1.0, "hidden": n0**-0.5, "output": n0**-0.5}.get(role, self.bias_std)
        init_std = base_std * ratio**-b
        sgd_lr_mult = ratio**-c
        if self.spectral and role == "hidden":
            aspect = fan_out / fan_in
            init_std = init_std * ((1 + aspect - abs(1 - aspect)) / 2) ** 0.5  # min(1, aspect), also for tracers
            sgd_lr_mult = aspect * (fan_out / n0) ** -(2 * a + c) / multiplier**2
        # Where sizes are preserved through the layers, backward vectors have the readout's, so dLoss/dW does too; the
        # readout's own gradient is x^L chi = Theta(1). (ip's first gradients are smaller still: see ParamScaling.)
        gradient = 1.0 if role in ("output", "output_bias") else (fan_out / n0) ** -self.v.output
        return ParamScaling(
            role=role,
            fan_in=fan_in,
            fan_out=fan_out,
            multiplier=multiplier,
            init_std=init_std,
            sgd_lr_mult=sgd_lr_mult,
            adam_lr_mult=ratio**-adam_c,
            adam_epsilon_mult=multiplier * gradient,
        )

    def to_json(self) -> str:
        """Return the parametrization as JSON, to be kept beside a checkpoint's parameters."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Parametrization:
        """Return the parametrization that `to_json` wrote.

        Raises:
          ValueError: for text that is not such JSON.
        """
        try:
            fields = json.loads(text)
            exponents = {key: PerRole(*fields.pop(key)) for key in ("a", "b", "c", "adam_c")}
            return cls(**exponents, **fields)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"Expected `text` to be JSON of a Parametrization, got {text[:80]!r}.") from error


ZERO = PerRole(0.0, 0.0, 0.0)


def sp(*, base_width: int = 1, learning_rate_exponent: float = 1.0, bias_std: float = 0.0) -> Parametrization:
    r"""Standard parametrization: variances (1, 1/n, 1/n), one rate :math:`\eta n^{-e}` for all layers.

    With the default exponent 1 its limit is a kernel one in which the input layer's share of the NTK vanishes. With
    `learning_rate_exponent=0` it is what practice calls standard: one rate :math:`\eta`, unstable in width; its best
    learning rate drifts.

    Args:
      base_width: see Parametrization.
      learning_rate_exponent: the exponent e, for SGD and Adam alike.
      bias_std: see Parametrization.
    """
    rates = PerRole(*(float(learning_rate_exponent),) * 5)
    return Parametrization("sp", ZERO, PerRole(0.0, 0.5, 0.5), rates, rates, base_width, bias_std=bias_std)


def ntp(*, base_width: int = 1, bias_std: float = 0.0) -> Parametrization:
    r"""NTK parametrization: variances (1, 1/n, 1/n), SGD rates :math:`\eta` (1, 1/n, 1/n). Kernel limit, full NTK.

    Adam's rates are (1, 1/n, 1/n) too: the full-alignment row of Everett et al. 2024 (arXiv:2407.05872) in effective
    form, in which preactivations move by O(1) and logits by up to :math:`n^{1/2}` in the first step.
    """
    b, c = PerRole(0.0, 0.5, 0.5), PerRole(0.0, 1.0, 1.0)
    return Parametrization("ntp", ZERO, b, c, c, base_width, bias_std=bias_std)


def mup(*, base_width: int = 1, bias_std: float = 0.0) -> Parametrization:
    r"""Maximal update parametrization: variances (1, 1/n, 1/n^2), SGD rates :math:`\eta` (n, 1, 1/n).

    The one stable choice in which every layer learns features at infinite width (Yang & Hu 2021, Sec. 5). Adam's rates
    are :math:`\eta` (1, 1/n, 1/n): an entry of Adam's update has size 1, a product over fan_in aligned entries has size
    fan_in, and h must move by O(1) (Yang et al. 2022, arXiv:2203.03466, Table 3).
    """
    b, c, adam_c = PerRole(0.0, 0.5, 1.0), PerRole(-1.0, 0.0, 1.0, bias=-1.0), PerRole(0.0, 1.0, 1.0)
    return Parametrization("mup", ZERO, b, c, adam_c, base_width, spectral=True, bias_std=bias_std)


def ip(*, base_width: int = 1, bias_std: float = 0.0) -> Parametrization:
    r"""Integrable (mean-field) parametrization: muP with hidden variances 1/n^2 instead of 1/n.

    With four or more weight layers it is stuck at f = 0 for any fixed number of steps as n grows (Hajjar, Chizat &
    Giraud 2021, arXiv:2110.15596, Thm 2); a finite network escapes after a number of steps that grows with n. Adam's
    rates are muP's; what is small at initialisation stays small in Adam's first step (three hidden layers: h^3 and f
    move by n^-1/2, a figure of tests/test_optim.py).
    """
    b, c, adam_c = PerRole(0.0, 1.0, 1.0), PerRole(-1.0, 0.0, 1.0, bias=-1.0), PerRole(0.0, 1.0, 1.0)
    return Parametrization("ip", ZERO, b, c, adam_c, base_width, spectral=True, bias_std=bias_std)


PRESETS = {"sp": sp, "ntp": ntp, "mup": mup, "ip": ip}


def get(name: str | Parametrization, **options: Any) -> Parametrization:
    """Return the preset `name` built with `options`; a Parametrization is returned as it is.

    Raises:
      ValueError: for an unknown name, or options beside a finished Parametrization.

    Example:
      >>> get("mup", base_width=64).base_width
      64
    """
    if isinstance(name, Parametrization):
        if options:
            raise ValueError(f"Expected no options beside a Parametrization, got {', '.join(options)}.")
        return name
    if name not in PRESETS:
        raise ValueError(f"Expected `parametrization` to be one of {', '.join(PRESETS)}, got {name!r}.")
    return PRESETS[name](**options)
