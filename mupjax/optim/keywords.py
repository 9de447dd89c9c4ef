"""Comparable optimizers with keywords, and the settings of SGD that they hold.

Two `functools.partial`s never compare equal: as static arguments each would compile its program again, and a store
would not recognise its own run. `canonical` turns them into comparable values.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import optax

from mupjax.optim.optimizers import LearningRate, Optimizer, ScalingTree, check_range, sgd


class SgdSettings(NamedTuple):
    """Keywords of `mupjax.sgd` that infinite-width limits and implicit matrices support.

    Attributes:
      momentum: decay of the momentum as in `optax.trace`, in [0, 1).
      nesterov: whether to use Nesterov's momentum.
      weight_decay: lambda >= 0, decoupled from the gradient.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True)
class WithKeywords:
    """An optimizer with keywords; it compares and hashes by its function and keywords.

    Attributes:
      function: the optimizer that takes the keywords.
      keywords: (name, value) pairs in alphabetical order, without the function's defaults.
    """

    function: Optimizer
    keywords: tuple[tuple[str, Hashable], ...]

    def __call__(self, scaling: ScalingTree, learning_rate: LearningRate, /) -> optax.GradientTransformation:
        return self.function(scaling, learning_rate, **dict(self.keywords))

    @property
    def __name__(self) -> str:
        return f"{_name(self.function)}({', '.join(f'{name}={value!r}' for name, value in self.keywords)})"


def canonical(optimizer: Callable[..., Any]) -> Optimizer:
    """Return an optimizer that compares equal to all others with the same function and keywords.

    A partial with hashable keywords and no positional arguments becomes a value with a stable `__name__`. Nested
    partials become one, and keywords that equal the function's defaults are dropped. Other optimizers are returned
    unchanged.

    Example:
      >>> from functools import partial
      >>> import mupjax
      >>> one, other = (canonical(partial(mupjax.sgd, momentum=0.9)) for _ in range(2))
      >>> one == other, one.__name__
      (True, 'sgd(momentum=0.9)')
      >>> canonical(partial(mupjax.sgd, nesterov=False)) is mupjax.sgd
      True
    """
    function, keywords = _parts(optimizer)
    if function is optimizer or not _is_hashable(tuple(keywords.values())):
        return optimizer
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    kept = {name: value for name, value in keywords.items() if name not in defaults or value != defaults[name]}
    return WithKeywords(function, tuple(sorted(kept.items()))) if kept else function


def own_name(function: Callable[..., object]) -> str | None:
    """Return the name of one of mupjax's own optimizers with its keywords, None for other functions.

    Example:
      >>> from functools import partial
      >>> import mupjax
      >>> own_name(partial(mupjax.adam, b1=0.8))
      'adam(b1=0.8)'
    """
    inner, _ = _parts(function)
    ours = getattr(inner, "__module__", "").startswith("mupjax.optim.")
    return _name(canonical(function)) if ours else None


def is_sgd(optimizer: Optimizer) -> bool:
    """Return whether an optimizer is `mupjax.sgd`, or a partial of it with keywords of SgdSettings only.

    Example:
      >>> is_sgd(partial(sgd, momentum=0.9))
      True
    """
    function, keywords = _parts(optimizer)
    numbers = all(isinstance(value, int | float) for value in keywords.values())
    return function is sgd and numbers and set(keywords) <= set(SgdSettings._fields)


def sgd_settings(optimizer: Optimizer) -> SgdSettings:
    """Return the settings of `mupjax.sgd`, or of a partial of it.

    Raises:
      ValueError: if the optimizer or a keyword is another one, a value is an array, or a number is out of range.

    Example:
      >>> from functools import partial
      >>> import mupjax
      >>> sgd_settings(partial(mupjax.sgd, momentum=0.9))
      SgdSettings(momentum=0.9, nesterov=False, weight_decay=0.0)
    """
    if not is_sgd(optimizer):
        raise ValueError(
            "Expected `optimizer` to be mupjax.sgd, or a functools.partial of it that sets momentum, nesterov or "
            f"weight_decay to numbers, got {_name(canonical(optimizer))}: implicit matrices and infinite-width limits "
            "need updates that are linear in the gradient, and have no entries for another optimizer to act on."
        )
    settings = SgdSettings(**_parts(optimizer)[1])
    check_range(momentum=settings.momentum, weight_decay=settings.weight_decay)
    return settings


def _parts(optimizer: Callable[..., Any]) -> tuple[Optimizer, dict[str, Any]]:
    """Return the function inside partials and their keywords; a partial with positional arguments stays whole."""
    function, keywords = optimizer, {}
    while isinstance(function, partial | WithKeywords):
        if isinstance(function, WithKeywords):
            function, inner = function.function, dict(function.keywords)
        elif function.args:
            return optimizer, {}
        else:
            function, inner = function.func, function.keywords
        keywords = {name: _plain(value) for name, value in inner.items()} | keywords
    return function, keywords


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def _is_hashable(values: tuple[object, ...]) -> bool:
    try:
        hash(values)
    except TypeError:  # arrays and tracers among them
        return False
    return True


def _name(optimizer: Optimizer) -> str:
    return getattr(optimizer, "__name__", repr(optimizer))
