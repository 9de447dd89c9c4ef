r"""Scalings of all parameters of a network with implicit hidden matrices, at finite width and in the limit.

Both are those of the equivalent form without forward factors, which SGD cannot tell from others.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from mupjax.activations import Activation
from mupjax.parametrization import Parametrization, ParamScaling, PerRole, Role
from mupjax.parametrization.classification import classify
from mupjax.task import Task

_TOLERANCE = 1e-9  # of exponents, as in the classification


class Scalings(NamedTuple):
    """Scalings of a network's parameters.

    Attributes:
      kernels: of layers 1..L and of the readout.
      biases: likewise; None where a layer has none.
    """

    kernels: tuple[ParamScaling, ...]
    biases: tuple[ParamScaling | None, ...]


def scalings_of(parametrization: Parametrization, task: Task, widths: tuple[int, ...]) -> Scalings:
    """Return the scalings of all parameters at these widths.

    Raises:
      ValueError: for input weights of non-zero mean, a parametrization made for another depth.
    """
    parametrization.check_depth(len(widths))
    _check_means(parametrization)
    _check_branches(parametrization)
    plain = parametrization.shift(PerRole(*(-a for a in parametrization.a)))
    fans = list(pairwise((task.input_dim, *widths, task.out_dim)))
    depth = len(widths)
    roles: list[Role] = ["input", *("hidden" for _ in range(depth - 1)), "output"]
    kernels = [plain.scales(role, *fan, layer=row) for row, (role, fan) in enumerate(zip(roles, fans, strict=True), 1)]
    biases = [
        plain.scales("output_bias" if row > depth else "bias", *fan, layer=row) if plain.has_bias(row) else None
        for row, fan in enumerate(fans, 1)
    ]
    return Scalings(tuple(kernels), tuple(biases))


def _check_branches(parametrization: Parametrization) -> None:
    if parametrization.traits.residual:
        raise ValueError(f"Expected layers without residual branches, got {parametrization.name}.")


def _check_means(parametrization: Parametrization) -> None:
    if parametrization.mean.input:
        raise ValueError(f"Expected `mean` of the input weights to be 0, got mean={parametrization.mean!r}.")


def limit_scalings(
    parametrization: Parametrization, activation: Activation, task: Task, widths: tuple[int, ...]
) -> Scalings:
    """Return scalings at these widths whose ratio to muP's does not vanish with the width; those that do are 0.

    Raises:
      ValueError: for a parametrization whose limit is not known here.
    """
    form = _hybrid(parametrization, len(widths), activation) if parametrization.c_first else parametrization
    found = scalings_of(form, task, widths)
    return Scalings(
        tuple(_kept(scaling, form, row) for row, scaling in enumerate(found.kernels, 1)),
        tuple(None if scaling is None else _kept(scaling, form, row) for row, scaling in enumerate(found.biases, 1)),
    )


_MUP = {
    "input": (0.0, -1.0),
    "hidden": (0.5, 0.0),
    "output": (1.0, 1.0),
    "bias": (0.0, -1.0),
    "output_bias": (0.0, 0.0),
}


def _kept(scaling: ParamScaling, p: Parametrization, layer: int) -> ParamScaling:
    mup_v, mup_e = _MUP[scaling.role]
    v, e = getattr(p.v, scaling.role), getattr(p.e, scaling.role)
    later = v if p.b_later is None else getattr(p.a, scaling.role) + getattr(p.b_later, scaling.role)
    first = None
    if p.c_first is not None:
        rate = p.exponent_first(scaling.role, layer) + 2 * getattr(p.a, scaling.role)
        first = scaling.sgd_lr_mult_first if abs(rate - mup_e) < _TOLERANCE else 0.0
    mean_v = 1.0 if scaling.role in ("hidden", "output") else mup_v  # a sum over n units of one sign
    return replace(
        scaling,
        init_std=scaling.init_std if abs(v - mup_v) < _TOLERANCE else 0.0,
        init_mean=scaling.init_mean if abs(v - mean_v) < _TOLERANCE else 0.0,
        sgd_lr_mult=scaling.sgd_lr_mult if abs(e - mup_e) < _TOLERANCE else 0.0,
        sgd_lr_mult_first=first,
        init_kept=scaling.init_kept if abs(later - v) < _TOLERANCE else 0.0,
    )


def _hybrid(p: Parametrization, depth: int, activation: Activation) -> Parametrization:
    r"""Return the equivalent form with hidden variances 1/n in the first step.

    For phi homogeneous of degree p the first pass with hidden weights of variance 1/n^2 is that with 1/n, layer l's
    preactivations times :math:`n^{-s_l}`, the outputs times :math:`n^{-S}` (see `ip_llr`), so the same updates come of
    rates with exponents e + S - 1/2 for hidden kernels, e + S for the others, e + S - s_l for biases.
    """
    degree = activation.degree
    is_integrable = max(abs(p.v.input), abs(p.v.hidden - 1), abs(p.v.output - 1)) < _TOLERANCE
    if degree is None or p.b_later is not None or any(p.mean) or not is_integrable:
        raise ValueError(
            f"Expected a homogeneous activation where {p.name} has first rates of its own, got {activation.name}: its "
            "limit is known for these alone."
            if degree is None
            else f"Expected first rates of an integrable parametrization with centred weights, got {p.name}."
        )
    if p.biases == "all" and depth > 1 and p.sigma.bias:
        raise ValueError(f"Expected hidden biases to start at 0, got {p.name}, whose limit is not known here.")
    shrinks = [0.5 * sum(degree**k for k in range(layer - 1)) for layer in range(1, depth + 1)]
    total = degree * shrinks[-1]

    def moved(role: str, layer: int, by: float) -> float:
        return p.exponent_first(role, layer) + by

    first = PerRole(
        moved("input", 1, total),
        tuple(moved("hidden", layer, total - 0.5) for layer in range(2, depth + 1)),
        moved("output", depth + 1, total),
        bias=tuple(moved("bias", layer, total - shrinks[layer - 1]) for layer in range(1, depth + 1)),
        output_bias=moved("output_bias", depth + 1, 0.0),
    )
    return replace(p, b=p.b._replace(hidden=p.b.hidden - 0.5), b_later=p.b, c_first=first)


def check_known(parametrization: Parametrization, depth: int, activation: Activation, momentum: float) -> None:
    """Raise ValueError for a parametrization that learns features, but whose limit is not known here."""
    if parametrization.c_first is not None and momentum:
        raise ValueError(
            f"Expected no `momentum` in the limit of {parametrization.name}, got {momentum}: the first gradient is of "
            "another order than the later ones, which this limit's momentum would not know."
        )
    if parametrization.biases == "all" and parametrization.sigma.output_bias:
        raise ValueError(
            f"Expected the bias of the readout to start at 0, got sigma={parametrization.sigma!r}: f_0 would be "
            "random, and the limit with it."
        )
    _check_means(parametrization)
    _check_branches(parametrization)
    bases = parametrization.base_width
    if isinstance(bases, tuple) and len(set(bases)) > 1:
        raise ValueError(
            f"Expected one `base_width` for all layers in the feature-learning limit, got base_width={bases}: the "
            "limit depends on the ratios of the widths, and is known here for layers of one width."
        )
    if parametrization.traits.normalized:
        raise ValueError(f"Expected SGD's updates, got {parametrization.name}, which normalizes them.")
    if parametrization.c_first is not None:
        _hybrid(parametrization, depth, activation)


def check_limit(parametrization: Parametrization, depth: int, activation: Activation, *, force: bool) -> str:
    """Return the kind of a parametrization that has this limit.

    Raises:
      ValueError: for others; a kernel regime passes where `force` is set.
    """
    kind = classify(parametrization, depth, activation).kind
    if kind == "feature" or (force and kind == "kernel"):
        return kind
    expected = f"Expected a parametrization that learns features at infinite width, got {parametrization.name}"
    raise ValueError(
        f"{expected} at depth {depth}, "
        + {
            "kernel": "which has a kernel limit: use dynamics.kernel_limit.train (or force=True).",
            "trivial": "whose outputs stay at their start for any fixed number of steps.",
            "unstable": "which grows with the width and has no limit.",
        }[kind]
    )
