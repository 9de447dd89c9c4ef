r"""abc-parametrizations: how initial sizes and learning rates depend on width.

The weights of layer :math:`l` are :math:`W^l = n^{-a_l} w^l` with :math:`w^l \sim N(0, \sigma^2 n^{-2 b_l})`, and SGD
moves :math:`w^l` with the rate :math:`\eta n^{-c_l}` (Yang & Hu 2021, arXiv:2011.14522, Sec. 3). Only
:math:`v_l = a_l + b_l` (the effective standard deviation is :math:`n^{-v_l}`) and :math:`e_l = 2 a_l + c_l` (the
effective rate is :math:`\eta n^{-e_l}`) matter to SGD; Adam's effective rate is :math:`\eta n^{-(a_l + c'_l)}` with its
own exponents :math:`c'`. The presets store :math:`a = 0`, so a kernel holds the effective :math:`W^l`.

Integrable parametrizations with large initial learning rates (Hajjar, Chizat & Giraud 2021, arXiv:2110.15596) have
exponents of their own for the first SGD step, and some lose their initial weights in it.

This module is arithmetic on numbers: it imports neither JAX nor NumPy.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from mupjax.parametrization.base_width import BaseWidth, bases_of_layer, check_base_width
from mupjax.parametrization.param_scaling import ParamScaling
from mupjax.parametrization.roles import ONE, UNIT_GAUSSIANS, ZERO, Number, PerRole, Role
from mupjax.parametrization.table import table
from mupjax.parametrization.traits import Traits

Biases = Literal["none", "first", "all"]


@dataclass(frozen=True, repr=False)
class Parametrization:
    r"""Exponents of width for the forward factor, the initial size and the learning rates of every role.

    Printed as a table of exponents and of every field that differs from its default.

    Attributes:
      name: what tables and plots call it.
      a: the forward factor is :math:`n^{-a}`.
      b: the standard deviation of the stored parameter is :math:`n^{-b}`.
      c: SGD's rate for the stored parameter is :math:`\eta n^{-c}`.
      adam_c: Adam's rate for the stored parameter is :math:`\eta n^{-c'}`.
      base_width: the width :math:`n_0` at which the network is the standard one (SP's variances, one rate
        :math:`\eta`); powers are taken of :math:`n/n_0`. 1 gives the bare powers of :math:`n`. A tuple has one number
        for each hidden layer: the network of these widths is the standard one, and every fan is divided by the number
        of its own layer.
      spectral: for layers of unequal width, scale a hidden layer by its aspect ratio (Yang, Simon & Bernstein 2023,
        arXiv:2310.17813, Condition 1): the standard deviation by min(1, sqrt(fan_out/fan_in)), SGD's rate by
        fan_out/fan_in, where a tuple `base_width` divides both fans. Of no effect where all widths are equal.
      sigma: the standard deviation of the initial Gaussians at the base width, in SP's units there (1 for the input
        kernel and biases, :math:`n_0^{-1/2}` for the others); 0 starts biases at zero.
      mean: the mean of the initial Gaussians, in the same units.
      rates: constant factors of the learning rate, the same for SGD and Adam.
      c_first: SGD's exponents in the first step, where they differ from `c`; layers may have their own.
      b_later: where given, the initial part of a parameter is multiplied by :math:`n^{-(b' - b)}` in the first step;
        inf leaves nothing of it.
      biases: which layers have one: 'none', 'first' (layer 1 alone) or 'all' (the readout too).
      depth: the number of hidden layers that the exponents are made for; None for any.
      update: 'sgd', or 'normalized': every parameter moves by its rate times its gradient over the gradient's
        Frobenius norm (`nup`).
      width_profile: the exponent q of hidden widths that grow with depth, :math:`m_k = k^q m`, which a `width` given as
        a number then means. Normalized updates of layer k are :math:`(k-1)^{-q/2}` as large.
      residual: where given, hidden layers are branches beside the identity,
        :math:`h^l = h^{l-1} + L^{-r} W^l x^{l-1}`, with this exponent r of depth.
      input_multiplier: a constant :math:`\alpha` of the forward pass, :math:`h^1 = \alpha W^1 \xi / \sqrt d`. Kernels
        hold the effective :math:`\alpha W^1`, so that the forward pass stays as it is: the initial size, Adam's rate
        and normalized steps are multiplied by :math:`\alpha`, SGD's rate by :math:`\alpha^2`, Adam's epsilon by
        :math:`1 / \alpha`. Biases are outside of it.
      output_multiplier: likewise of the readout, :math:`f = \alpha W^{L+1} x^L`.

    Raises:
      ValueError: for exponents or constants that are not finite, a base width that is not a positive int or a tuple of
        one a layer, multipliers that are not positive, a negative `sigma` or profile, an unknown word for `biases` or
        `update`, normalized updates with a first step of its own.

    Example:
      >>> from mupjax.parametrization import mup
      >>> mup().scales("output", fan_in=64, fan_out=1).init_std == 1 / 64
      True
      >>> narrowing = mup(base_width=(64, 16)).scales("hidden", fan_in=256, fan_out=64, layer=2)
      >>> narrowing.init_std, narrowing.sgd_lr_mult, narrowing.adam_lr_mult  # 256**-0.5, and the rates over eta
      (0.0625, 1.0, 0.25)
      >>> mup(output_multiplier=3.0).scales("output", fan_in=64, fan_out=1).sgd_lr_mult == 9 / 64
      True
      >>> mup(base_width=64)
      mup: base_width=64, spectral=True
                   a    b   c  adam_c
      input        0    0  -1       0
      hidden       0  0.5   0       1
      output       0    1   1       1
      bias         0    0  -1       0
      output_bias  0    0   0       0
    """

    name: str
    a: PerRole
    b: PerRole
    c: PerRole
    adam_c: PerRole
    base_width: BaseWidth = 1
    spectral: bool = False
    sigma: PerRole = UNIT_GAUSSIANS
    mean: PerRole = ZERO
    rates: PerRole = ONE
    c_first: PerRole | None = None
    b_later: PerRole | None = None
    biases: Biases = "none"
    depth: int | None = None
    update: str = "sgd"
    width_profile: float = 0.0
    residual: float | None = None
    input_multiplier: float = 1.0
    output_multiplier: float = 1.0

    def __post_init__(self) -> None:
        for field in _PER_ROLE:
            numbers = getattr(self, field)
            if numbers is None and field in ("c_first", "b_later"):
                continue
            if not isinstance(numbers, PerRole) or not all(_is_number(number, field) for number in numbers):
                raise ValueError(f"Expected `{field}` to be a PerRole of finite numbers, got {field}={numbers!r}.")
        if min(self.sigma) < 0:
            raise ValueError(f"Expected `sigma` to be >= 0, got sigma={self.sigma!r}.")
        if self.biases not in ("none", "first", "all"):
            raise ValueError(f"Expected `biases` to be 'none', 'first' or 'all', got biases={self.biases!r}.")
        if self.update not in ("sgd", "normalized"):
            raise ValueError(f"Expected `update` to be 'sgd' or 'normalized', got update={self.update!r}.")
        if self.traits.normalized and self.traits.first_step:
            raise ValueError("Expected `update` to be 'sgd' where the first step differs, got update='normalized'.")
        if not 0 <= self.width_profile < math.inf:
            raise ValueError(f"Expected `width_profile` to be >= 0, got width_profile={self.width_profile!r}.")
        if self.residual is not None and not math.isfinite(self.residual):
            raise ValueError(f"Expected `residual` to be finite or None, got residual={self.residual!r}.")
        for name in ("input_multiplier", "output_multiplier"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"Expected `{name}` to be finite and positive, got {name}={getattr(self, name)!r}.")
        check_base_width(self.base_width)
        if self.depth is not None:
            self.check_depth(self.depth)

    def __repr__(self) -> str:
        """Return a table that tells any two parametrizations apart."""
        differs = {field.name: getattr(self, field.name) != field.default for field in fields(self)[1:]}
        rest = {name: getattr(self, name) for name, shown in differs.items() if shown}
        columns = {name: rest.pop(name) for name in _PER_ROLE if name in rest}
        words = ", ".join(f"{name}={value!r}" for name, value in rest.items())
        return table(f"{self.name}: {words}" if words else self.name, columns)

    @property
    def traits(self) -> Traits:
        """Which parts of a network or of its training there are that other parametrizations lack.

        Example:
          >>> from mupjax.parametrization import nup
          >>> nup().traits.normalized, nup().traits.biases
          (True, False)
        """
        return Traits(
            multipliers=any(self.a),
            first_step=self.c_first is not None or self.b_later is not None,
            biases=self.biases != "none",
            normalized=self.update == "normalized",
            residual=self.residual is not None,
        )

    @property
    def v(self) -> PerRole:
        """Exponents `a + b`: the effective standard deviation falls as `n**-v`."""
        return PerRole(*(a + b for a, b in zip(self.a, self.b, strict=True)))

    @property
    def e(self) -> PerRole:
        """Exponents `2a + c`: SGD's effective rate falls as `n**-e`; `a + c` where updates are normalized."""
        times = 1 if self.traits.normalized else 2  # a normalized gradient does not carry the forward factor
        return PerRole(*(times * a + c for a, c in zip(self.a, self.c, strict=True)))

    def layer_widths(self, width: int, depth: int) -> tuple[int, ...]:
        r"""Return the hidden widths :math:`k^q m` of layers k = 1..L that the number `width` m means.

        Example:
          >>> from mupjax.parametrization import nup
          >>> nup().layer_widths(16, depth=3)
          (16, 64, 144)
        """
        return tuple(round(k**self.width_profile * width) for k in range(1, depth + 1))

    def check_widths(self, widths: tuple[int, ...]) -> None:
        """Raise ValueError for hidden widths that the parametrization is not made for.

        These are: another number of layers than that of `check_depth`; widths that do not grow as `width_profile` has
        it; unequal widths beside residual branches.
        """
        self.check_depth(len(widths))
        if self.traits.residual and len(set(widths)) > 1:
            raise ValueError(f"Expected layers of one width where there are residual branches, got width={widths}.")
        grown = self.layer_widths(widths[0], len(widths))
        if self.width_profile and widths != grown:
            raise ValueError(f"Expected `width` to grow as the rates of {self.name} have it, {grown}, got {widths}.")

    def residual_factors(self, depth: int) -> tuple[Number, Number] | None:
        r"""Return the factors of :math:`h^{l-1}` and of :math:`W^l x^{l-1}` in :math:`h^l`; None without branches.

        Example:
          >>> from dataclasses import replace
          >>> from mupjax.parametrization import mup
          >>> replace(mup(), residual=0.5).residual_factors(depth=4)
          (1.0, 0.5)
        """
        return None if self.residual is None else (1.0, depth**-self.residual)

    def shift(self, t: float | PerRole) -> Parametrization:
        r"""Return another form of the same parametrization: (a+t, b-t, c-2t) for SGD, (a+t, b-t, c'-t) for Adam.

        Training is the same function of time in every form (Yang & Hu 2021, Sec. 3 for SGD; Yang et al. 2022,
        Lemma J.1 for Adam; normalized updates move c as Adam's): only the split of a weight into forward factor and
        stored number differs.

        Args:
          t: one number for all roles, or one for each.

        Example:
          >>> from mupjax.parametrization import ntp
          >>> ntp().shift(0.5).b.hidden  # not 1/2 any more: the forward factor carries it
          0.0
        """
        by_role = t if isinstance(t, PerRole) else PerRole(t, t, t, t, t)

        def moved(exponents: Any, step: float) -> Any:
            if exponents is None:
                return None
            pairs = zip(exponents, by_role, strict=True)
            numbers: list[Any] = [
                tuple(one + step * s for one in e) if isinstance(e, tuple) else e + step * s for e, s in pairs
            ]
            return PerRole(*numbers)

        of_rate = -1 if self.traits.normalized else -2
        steps = {"a": 1, "b": -1, "c": of_rate, "adam_c": -1, "c_first": -2, "b_later": -1}
        return replace(self, **{field: moved(getattr(self, field), step) for field, step in steps.items()})

    def has_bias(self, layer: int) -> bool:
        """Whether a layer has a bias: 1..L, or L+1, the readout."""
        return self.biases == "all" or (self.biases == "first" and layer == 1)

    def check_depth(self, depth: int) -> None:
        """Raise ValueError where the exponents or the base widths were made for another depth."""
        if self.depth is not None and depth != self.depth:
            raise ValueError(
                f"Expected `depth` to be {self.depth}, which the exponents of {self.name} were made for, got {depth}."
            )
        if isinstance(self.base_width, tuple) and len(self.base_width) != depth:
            raise ValueError(
                f"Expected `base_width` to be one number, or one for each of {depth} hidden layers, got "
                f"base_width={self.base_width}."
            )

    def forward_multiplier(self, role: Role) -> float:
        """Return the constant of the forward pass that a role's effective weights contain.

        Example:
          >>> from mupjax.parametrization import mup
          >>> mup(output_multiplier=3.0).forward_multiplier("output")
          3.0
        """
        return {"input": self.input_multiplier, "output": self.output_multiplier}.get(role, 1.0)

    def scales(self, role: Role, fan_in: Number, fan_out: Number, layer: int | None = None) -> ParamScaling:
        r"""Return the scaling of one parameter of a layer with `fan_in` inputs and `fan_out` outputs.

        Pure arithmetic, so that `fan_in` and `fan_out` may be tracers. The width that counts is `fan_out` for the
        input kernel and the biases, `fan_in` for hidden kernels and the readout; the input dimension and the number
        of outputs are constants and never enter.

        Args:
          role: input, hidden, output, bias or output_bias; for a bias give its layer's fans.
          fan_in: inputs of the layer.
          fan_out: outputs of the layer.
          layer: its number, 1 for the first, L+1 for the readout; needed where layers have exponents or base widths of
            their own.

        Raises:
          ValueError: for an unknown role, a layer that is missing or out of range.
        """
        if role not in PerRole._fields:
            raise ValueError(f"Expected `role` to be one of {', '.join(PerRole._fields)}, got role={role!r}.")
        a, b, c, adam_c = (getattr(x, role) for x in (self.a, self.b, self.c, self.adam_c))
        sigma, mean, constant = (getattr(x, role) for x in (self.sigma, self.mean, self.rates))
        base_in, base_out = bases_of_layer(self.base_width, role, layer)
        alpha, normalized = self.forward_multiplier(role), self.traits.normalized
        if normalized and self.width_profile and role == "hidden":
            if layer is None or layer < 2:
                raise ValueError(f"Expected `layer` >= 2 of a hidden kernel of {self.name}, got layer={layer}.")
            constant = constant * (layer - 1) ** (-self.width_profile / 2)
        ratio = fan_out / base_out if role in ("input", "bias") else fan_in / base_in
        multiplier = ratio**-a
        unit = (base_in**-0.5 if role in ("hidden", "output") else 1.0) * ratio**-b * alpha
        spectral = self.spectral and role == "hidden"
        aspect = 1
        if spectral:
            aspect = fan_out / fan_in if base_in == base_out else (fan_out / base_out) / ratio
            unit = unit * ((1 + aspect - abs(1 - aspect)) / 2) ** 0.5  # min(1, aspect), also for tracers

        def lr_mult(c: float) -> Number:
            if spectral and not normalized:
                return constant * aspect * (fan_out / base_out) ** -(2 * a + c) / multiplier**2
            return constant * (alpha if normalized else alpha**2) * ratio**-c

        # Where sizes are preserved through the layers, backward vectors have the readout's, so dLoss/dW does too; the
        # readout's own gradient is x^L chi = Theta(1). (ip's first gradients are smaller still: see ParamScaling.)
        gradient = 1.0 if role in ("output", "output_bias") else (fan_out / base_out) ** -self.v.output
        return ParamScaling(
            role=role,
            fan_in=fan_in,
            fan_out=fan_out,
            multiplier=multiplier,
            init_std=sigma * unit,
            sgd_lr_mult=lr_mult(c),
            adam_lr_mult=constant * alpha * ratio**-adam_c,
            adam_epsilon_mult=multiplier * gradient / alpha,
            init_mean=mean * unit,
            sgd_lr_mult_first=None if self.c_first is None else lr_mult(self.exponent_first(role, layer)),
            init_kept=None if self.b_later is None else _power(ratio, b - getattr(self.b_later, role)),
            normalized=normalized,
        )

    def exponent_first(self, role: str, layer: int | None) -> float:
        """Return the exponent c of a role, or of its layer, in the first step, where that has its own.

        Raises:
          ValueError: for a layer that is missing or out of range where layers have their own.
        """
        exponent = getattr(self.c_first, role)
        if not isinstance(exponent, tuple):
            return exponent
        index = -1 if layer is None else layer - (2 if role == "hidden" else 1)
        if not 0 <= index < len(exponent):
            raise ValueError(
                f"Expected `layer` to be one of the {len(exponent)} that {self.name} has {role} exponents for, got "
                f"layer={layer}."
            )
        return exponent[index]

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
            per_role = {key: _per_role(fields.pop(key)) for key in _PER_ROLE}
            if isinstance(fields.get("base_width"), list):
                fields["base_width"] = tuple(fields["base_width"])
            return cls(**per_role, **fields)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"Expected `text` to be JSON of a Parametrization, got {text[:80]!r}.") from error


_PER_ROLE = ("a", "b", "b_later", "c", "c_first", "adam_c", "sigma", "mean", "rates")


def _is_number(value: Any, field: str) -> bool:
    if isinstance(value, tuple):
        return field == "c_first" and all(map(math.isfinite, value))
    return math.isfinite(value) or (field == "b_later" and value == math.inf)


def _per_role(numbers: Any) -> PerRole | None:
    if numbers is None:
        return None
    values: list[Any] = [tuple(one) if isinstance(one, list) else one for one in numbers]
    return PerRole(*values)


def _power(ratio: Number, exponent: float) -> Number:
    return 0.0 if exponent == -math.inf else ratio**exponent
