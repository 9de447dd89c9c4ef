"""The widths at which a network is the standard one: one number for all hidden layers, or one for each."""

from __future__ import annotations

from typing import Any

from mupjax.parametrization.roles import Role

BaseWidth = int | tuple[int, ...]


def check_base_width(base_width: Any) -> None:
    """Raise ValueError for anything but a positive int or a tuple of them, one a hidden layer."""
    bases = base_width if isinstance(base_width, tuple) and base_width else (base_width,)
    if any(isinstance(base, bool) or not isinstance(base, int) or base < 1 for base in bases):
        raise ValueError(
            f"Expected `base_width` to be a positive int, or a tuple of one a layer, got base_width={base_width!r}."
        )


def bases_of_layer(base_width: BaseWidth, role: Role, layer: int | None) -> tuple[int, int]:
    """Return the base widths of the inputs and of the outputs of a parameter's layer.

    The input dimension and the number of outputs are constants and have no base: their place holds a number that no
    power is taken of.

    Args:
      base_width: one number, or one for each of L hidden layers.
      role: of the parameter.
      layer: its layer, 1..L, or L+1 for the readout; without effect where `base_width` is one number.

    Raises:
      ValueError: for a tuple without the layer's number, or with the number of another role's layer.

    Example:
      >>> bases_of_layer((64, 32), "hidden", 2), bases_of_layer(64, "hidden", None)
      ((64, 32), (64, 64))
    """
    if not isinstance(base_width, tuple):
        return base_width, base_width
    depth = len(base_width)
    first, last = {"input": (1, 1), "hidden": (2, depth), "bias": (1, depth)}.get(role, (depth + 1, depth + 1))
    if layer is None or not first <= layer <= last:
        raise ValueError(
            f"Expected `layer` to be one that has {role} parameters in a network of {depth} hidden layers, for each of "
            f"which base_width={base_width} has a number, got layer={layer}."
        )
    ends = (base_width[0], *base_width, base_width[-1])
    return ends[layer - 1], ends[layer]
