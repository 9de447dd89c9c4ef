"""What every training loop of this package refuses before it starts."""

from __future__ import annotations

import math
from typing import Any

from jax.core import Tracer

from mupjax.task import Task, check_batches


def check_training(
    task: Task, learning_rate: Any, num_steps: int, batches: Any, momentum: float, weight_decay: float
) -> None:
    """Raise ValueError for numbers of steps, rates, momenta, decays or batches out of range; tracers pass."""
    if isinstance(num_steps, bool) or not isinstance(num_steps, int) or num_steps < 1:
        raise ValueError(f"Expected `num_steps` to be a positive int, got num_steps={num_steps!r}.")
    check_batches(batches, num_steps, task.num_train)
    if not callable(learning_rate) and not isinstance(learning_rate, Tracer) and not 0 <= learning_rate < math.inf:
        raise ValueError(f"Expected `learning_rate` to be finite and >= 0, got learning_rate={learning_rate!r}.")
    for name, value in (("momentum", momentum), ("weight_decay", weight_decay)):
        if not (value >= 0 and (name != "momentum" or value < 1)):
            raise ValueError(f"Expected `{name}` to be >= 0 (momentum also < 1), got {name}={value!r}.")


def refuse_optimizer(optimizer: Any) -> None:
    """Raise ValueError for any optimizer but SGD with momentum, Nesterov and decoupled decay."""
    if optimizer is not None:
        raise ValueError(
            "Expected SGD (momentum, nesterov, weight_decay, a schedule as learning_rate), got `optimizer`: Adam and "
            "its kin act on entries of the weights, and hidden matrices that are never formed have none."
        )


def check_memory(need_bytes: int, memory_gb: float, what: str, advice: str) -> None:
    """Raise ValueError where a run does not fit its memory budget."""
    if not memory_gb > 0:
        raise ValueError(f"Expected `memory_gb` to be positive, got memory_gb={memory_gb!r}.")
    if need_bytes / 1e9 > memory_gb:
        raise ValueError(
            f"Expected the run to fit memory_gb={memory_gb:g}, got about {need_bytes / 1e9:.2g} GB for {what}; "
            f"{advice}."
        )
