"""Checks of arguments at the public border: random keys, counts, numbers, names, sequences, memory.

Messages name the argument, what was expected and what came. Private functions do not check.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence, Sized

import jax
import jax.numpy as jnp
import numpy as np

Key = int | np.integer | jax.Array  # what `key=` takes


def key(given: Key) -> jax.Array:
    """Return the JAX random key that an argument `key` stands for.

    Args:
      given: an int in 0..2**32 - 1, for which `jax.random.key` makes a key, or a JAX key, which is returned as it is:
        a typed scalar key, a legacy uint32 key, or a tracer of one.

    Raises:
      ValueError: for an int out of range, or an array that is not one key.

    Example:
      >>> key(3) == jax.random.key(3)
      Array(True, dtype=bool)
    """
    if isinstance(given, int | np.integer) and not isinstance(given, bool) and 0 <= given < 2**32:
        return jax.random.key(int(given))
    if isinstance(given, jax.Array) and _is_one_key(given):
        return given
    got = f"{given.dtype}{list(given.shape)}" if isinstance(given, jax.Array) else repr(given)
    raise ValueError(f"Expected `key` to be an int in 0..2**32 - 1 or one JAX random key, got key={got}.")


def _is_one_key(array: jax.Array) -> bool:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array.ndim == 0
    return array.ndim == 1 and array.dtype == jnp.uint32


def check_counts(**counts: object) -> None:
    """Raise ValueError for counts that are not positive ints."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"Expected `{name}` to be a positive int, got {name}={count!r}.")


def check_positive(**numbers: float) -> None:
    """Raise ValueError for numbers that are not finite and positive."""
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"Expected `{name}` to be finite and positive, got {name}={number!r}.")


def check_choice(choices: Sequence[str], **names: object) -> None:
    """Raise ValueError for names that are not among the choices."""
    for name, value in names.items():
        if value not in choices:
            raise ValueError(f"Expected `{name}` to be one of {', '.join(choices)}, got {name}={value!r}.")


def check_sequences(**entries: object) -> None:
    """Raise TypeError for one entry, or a word, where several are meant."""
    for name, given in entries.items():
        if isinstance(given, str | bytes) or not isinstance(given, Sized):
            got = (
                f"{name}={given!r}"
                if isinstance(given, str | bytes | int | float | np.generic)
                else type(given).__name__
            )
            raise TypeError(f"Expected `{name}` to be a sequence, got {got}.")


def check_options(function: str, options: Iterable[str], taken: Iterable[str], what: str = "it") -> None:
    """Raise TypeError for an option that is not among those taken.

    Args:
      function: what was called.
      options: the names that the call gave.
      taken: the names that there are.
      what: takes them, in words.
    """
    if unknown := sorted(set(options) - set(taken)):
        raise TypeError(
            f"{function}() got an unexpected keyword argument {unknown[0]!r}: {what} takes {', '.join(sorted(taken))}."
        )


def check_distinct(**entries: Sequence[Hashable]) -> None:
    """Raise ValueError for sequences that are empty or hold an entry twice."""
    for name, values in entries.items():
        if not len(values):
            raise ValueError(f"Expected `{name}` to name at least one, got none.")
        if len(set(values)) < len(values):
            raise ValueError(f"Expected `{name}` to be distinct, got {name}={list(values)!r}.")


def check_memory(need_bytes: int, budget_gb: float, what: str, advice: str) -> None:
    """Raise ValueError for a run that does not fit a memory budget (`devices.memory_budget`), in GB.

    Args:
      need_bytes: the estimate.
      budget_gb: what the run may take.
      what: what needs the memory, in words.
      advice: what to change, in words.
    """
    if need_bytes / 1e9 > budget_gb:
        raise ValueError(
            f"Expected the run to fit memory_gb={budget_gb:g}, got about {need_bytes / 1e9:.2g} GB for {what}; "
            f"{advice}."
        )
