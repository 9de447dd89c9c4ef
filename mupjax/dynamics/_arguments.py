"""Checks and warnings common to all dynamics, and the types of their shared arguments."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from mupjax import _checks, activations, devices
from mupjax._checks import check_counts
from mupjax.activations import Activation
from mupjax.optim import LearningRate
from mupjax.parametrization import Parametrization, classification
from mupjax.task import Task, check_batches

Batches = (
    jax.Array | np.ndarray | Sequence[Sequence[int]] | None
)  # [T, B] indices into the training set; None is the full batch
FirstRates = ArrayLike | Sequence[float] | None  # [L + 1] base rates of the first step


def check_training(task: Task, learning_rate: LearningRate, steps: int, batches: Batches) -> None:
    """Raise ValueError for a number of steps, a rate or batches out of range; tracers pass."""
    check_counts(steps=steps)
    check_batches(batches, steps, task.num_train)
    if not callable(learning_rate) and not isinstance(learning_rate, Tracer) and not 0 <= learning_rate < math.inf:
        raise ValueError(f"Expected `learning_rate` to be finite and >= 0, got learning_rate={learning_rate!r}.")


def first_step_factors(
    initial_rates: FirstRates, learning_rate: LearningRate, depth: int, dtype: DTypeLike
) -> Float[Array, " layers"] | None:
    """Return [L + 1] factors from the learning rate of the first step to base rates of its own; None for None."""
    if initial_rates is None:
        return None
    if np.shape(initial_rates) != (depth + 1,):
        raise ValueError(
            f"Expected `initial_rates` to have shape [{depth + 1}], one a kernel, got shape {np.shape(initial_rates)}."
        )
    rate = learning_rate(0) if callable(learning_rate) else learning_rate
    if not isinstance(rate, Tracer) and not rate > 0:  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"Expected `learning_rate` to be positive at step 0 with `initial_rates`, got {rate!r}.")
    return jnp.asarray(initial_rates, dtype) / jnp.asarray(rate, dtype)


def check_first_rate(parametrization: Parametrization, learning_rate: LearningRate) -> None:
    """Raise ValueError where a schedule holds a first step that is to be large, or that drops weights, at zero."""
    if not parametrization.traits.first_step or not callable(learning_rate):
        return
    if not isinstance(rate := learning_rate(0), Tracer) and rate == 0:
        raise ValueError(
            f"Expected `learning_rate` to be positive at step 0, the one step that {parametrization.name} has rates of "
            "its own for, got a schedule that starts at 0."
        )


def warn_of_regime(
    parametrization: Parametrization, depth: int, activation: str | Activation | Callable[[jax.Array], jax.Array]
) -> None:
    """Warn, once, where theory says that an integrable parametrization does not learn, or does not cover a phi."""
    _warn_once(parametrization, depth, activations.get(activation))


@cache
def _warn_once(parametrization: Parametrization, depth: int, activation: Activation) -> None:
    parametrization.check_depth(depth)
    if parametrization.traits.residual:
        return
    name, phi = parametrization.name, activation.name
    if parametrization.traits.normalized and activation.degree == 1:
        needed, found = activations.gain(*activations.slopes(activation)), parametrization.sigma.hidden
        if abs(found / needed - 1) > 0.01 and depth > 1:
            warnings.warn(
                f"{name} with {phi} is not at the edge of chaos: its hidden kernels have the gain {found:g}, not "
                f"{needed:g} (`gain=`), and signals grow or shrink by a factor at every layer.",
                stacklevel=4,
            )
    kind = classification.classify(parametrization, depth, activation).kind
    if parametrization.c_first is not None and parametrization.biases != "all" and activation.degree is None:
        warnings.warn(
            f"{name} is derived for positively homogeneous activations, which {phi} is not: after the first step "
            "preactivations of layers 3..L shrink with the width, which calibrated rates hide at moderate widths "
            "(Hajjar et al. 2021, arXiv:2110.15596, cover homogeneous ones).",
            stacklevel=4,
        )
    elif parametrization.c_first is not None and kind in ("trivial", "unstable"):
        warnings.warn(
            f"{name} at depth {depth} with {phi} is {kind} as the width grows: its first rates must be made for the "
            "degree of homogeneity of this activation (`degree=`), which must not be odd.",
            stacklevel=4,
        )
    elif kind == "trivial" and parametrization.v.hidden > 0.5:
        warnings.warn(
            f"{name} at depth {depth} with {phi} does not train at large width: for any fixed number of steps its "
            "outputs stay where they start as the width grows (Hajjar et al. 2021, arXiv:2110.15596); a finite network "
            "leaves after a number of steps that grows with its width. ip_llr, hp and mup do train.",
            stacklevel=4,
        )


def check_memory(need_bytes: int, memory_gb: float | None, what: str, advice: str) -> None:
    """Raise ValueError where a run does not fit its memory budget, by default the device's."""
    _checks.check_memory(need_bytes, devices.memory_budget(memory_gb), what, advice)
