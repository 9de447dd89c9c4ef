"""Parts of a network or of its training that some parametrizations have and others lack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mupjax.parametrization.scaling import Parametrization


class Traits(NamedTuple):
    """Whether a parametrization has a part that others lack.

    A program that trains several parametrizations computes a part only where one of them has it.

    Attributes:
      multipliers: forward factors other than 1.
      first_step: rates or weights of the first step that differ from those of later steps.
      biases: a bias in some layer.
      normalized: updates divided by their Frobenius norms.
      residual: hidden layers that are branches beside the identity.
    """

    multipliers: bool = False
    first_step: bool = False
    biases: bool = False
    normalized: bool = False
    residual: bool = False


def traits_of(parametrizations: Iterable[Parametrization]) -> Traits:
    """Return the traits that at least one of several parametrizations has.

    Example:
      >>> from mupjax.parametrization import hp, mup
      >>> traits_of([mup(), hp(biases="first")])
      Traits(multipliers=False, first_step=True, biases=True, normalized=False, residual=False)
    """
    return Traits(*map(any, zip(*(one.traits for one in parametrizations), strict=True)))
