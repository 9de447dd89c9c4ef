"""Optimizers with keywords: equal where their function and keywords are, and SGD's settings read from them.

Two `functools.partial`s are never equal: as static arguments of a program each would be compiled again, and a store
would not recognise its own run. `canonical` turns them into values that can be compared.
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
    """Keywords of `mupjax.sgd` that the infinite-width limits and implicit matrices know.

    Attributes:
      momentum: in [0, 1), as `optax.trace` has it.
      nesterov: whether the momentum is Nesterov's.
      weight_decay: lambda >= 0, decoupled from the gradient.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True)
class WithKeywords:
    """An optimizer with keywords set; equal, with equal hashes, where function and keywords are.

    Attributes:
      function: the optimizer that takes the keywords.
      keywords: names and values in alphabetical order, without those that the function has by default.
    """

    function: Optimizer
    keywords: tuple[tuple[str, Hashable], ...]

    def __call__(self, scaling: ScalingTree, learning_rate: LearningRate, /) -> optax.GradientTransformation:
        return self.function(scaling, learning_rate, **dict(self.keywords))

    @property
    def __name__(self) -> str:
        return f"{_name(self.function)}({', '.join(f'{name}={value!r}' for name, value in self.keywords)})"


def canonical(optimizer: Callable[..., Any]) -> Optimizer:
    """Return an optimizer that is equal to all others of the same function and keywords.

    Partials without positional arguments whose keywords are hashable become values with a stable `__name__`, nested
    ones a single one; keywords that equal the function's defaults go. All other optimizers are returned as they are.

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
    """Return the name of one of mupjax's own optimizers, keywords and all, None for other functions.

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
    """Whether an optimizer is `mupjax.sgd`, or a partial of it with keywords of SgdSettings alone."""
    function, keywords = _parts(optimizer)
    numbers = all(isinstance(value, int | float) for value in keywords.values())
    return function is sgd and numbers and set(keywords) <= set(SgdSettings._fields)


def sgd_settings(optimizer: Optimizer) -> SgdSettings:
    """Return the settings of `mupjax.sgd`, or of a partial of it.

    Raises:
      ValueError: for any other optimizer, other keywords, arrays as their values, numbers out of range.

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
    """The function inside partials, and their keywords; the optimizer itself where one sets positional arguments."""
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
