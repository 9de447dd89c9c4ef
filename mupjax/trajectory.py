r"""What every dynamics returns, and what to record.

Symbols: L hidden layers, C outputs, P = N_train + N_test inputs (train first), R recorded steps, S recorded Gram steps,
G Gram inputs, n the width, :math:`h^l` preactivations, :math:`x^l = \phi(h^l)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax

from mupjax.task import Task

DEFAULT_GRAM_INPUTS = 64


class SpaceTime(NamedTuple):
    r"""Inner products over the width of vectors of all inputs at all pairs of Gram steps, [S, S, L, G, G] or None.

    Entry [s, t, l-1, i, j] is <z_s(i), z_t(j)>/n in float64.

    Attributes:
      h, x: preactivations and activations.
      dh, dx: dLoss/dh and dLoss/dx of the training loss, so each carries its input's chi = dLoss/df. In the
        feature-learning limit n dLoss/dh and n dLoss/dx, which have a limit.
      zhat_forward: the Gaussian part of W_0 x^{l-1}; at l = 1 of the input layer, all of it. Theory has
        E[zhat_s zhat_t] = sigma^2 E[x_s x_t], the paper's 'covariance preservation' (Chen et al. 2025).
      zdot_forward: the rest of W_0 x^{l-1}, its response to earlier backward passes; 0 at l = 1.
      zhat_backward: the Gaussian part of W_0^T dh^{l+1}; at l = L of the readout's initial part in dx^L.
      zdot_backward: the rest of W_0^T dh^{l+1}; 0 at l = L.
    """

    h: Any = None
    x: Any = None
    dh: Any = None
    dx: Any = None
    zhat_forward: Any = None
    zdot_forward: Any = None
    zhat_backward: Any = None
    zdot_backward: Any = None


class Trajectory(NamedTuple):
    r"""Training as a theorist sees it: losses, predictions and Gram matrices over time. A pytree.

    The entry at step t is the state BEFORE that step's update; the last one is final. Runs (seeds, learning rates) are
    leading axes on every leaf, where there are any.

    Attributes:
      step: [R] int.
      train_loss: [R], over the whole training set, not the batch.
      test_loss: [R], or None without test set.
      predictions: [R, P, C] (the inputs of `TrajectorySpec.eval_inputs`); f - f_0 where the run is centred.
      h_gram: [S, L, G, G] float64, <h_t(i), h_t(j)>/n, or None where not asked for.
      x_gram: the same for x.
      h_cross_gram: [S, L, G, G] float64, <h_t(i), h_0(j)>/n.
      x_cross_gram: the same for x.
      space_time: a SpaceTime where one was asked for (`dynamics.matrix_free`, `dynamics.feature_limit`), else None.
      stderr: a Trajectory of standard errors where several draws were averaged, else None.
      info: what a dynamics knows beyond this (a covariance, a quadrature's error, bytes), else None.
      observed: {name: [ceil((steps + 1)/every), ...]} of what the observers returned, or None.
    """

    step: Any
    train_loss: Any
    test_loss: Any
    predictions: Any
    h_gram: Any = None
    x_gram: Any = None
    h_cross_gram: Any = None
    x_cross_gram: Any = None
    space_time: Any = None
    stderr: Any = None
    info: Any = None
    observed: Any = None


@dataclass(frozen=True)
class TrajectorySpec:
    """What to record, and when. Frozen and hashable: a static argument under `jit`.

    Attributes:
      steps: recorded steps in 0..steps, ascending; None records all. Evaluating whole sets costs: ask for few.
      gram_steps: steps at which Grams are recorded; negative ones count from the end (-1 is the final state).
      gram_inputs: indices into all inputs (train, then test) of the Grams, an int k for the first k inputs, or None for
        the first min(64, N_train).
      grams: which features: any of 'h' and 'x'.
      eval_inputs: indices into all inputs whose predictions are kept; None keeps all, () none.
      space_time: which fields of SpaceTime to record, at `gram_steps`, where a dynamics has them.

    Example:
      >>> TrajectorySpec(steps=(0, -1)).resolve_steps(steps=100)
      (0, 100)
    """

    steps: tuple[int, ...] | None = None
    gram_steps: tuple[int, ...] = (0, -1)
    gram_inputs: int | tuple[int, ...] | None = None
    grams: tuple[str, ...] = ("h", "x")
    eval_inputs: tuple[int, ...] | None = None
    space_time: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "gram_steps", "gram_inputs", "eval_inputs"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int):
                object.__setattr__(self, name, tuple(int(index) for index in value))
        if not set(self.grams) <= {"h", "x"}:
            raise ValueError(f"Expected `grams` to be drawn from 'h' and 'x', got grams={self.grams!r}.")
        object.__setattr__(self, "space_time", tuple(self.space_time))
        if not set(self.space_time) <= set(SpaceTime._fields):
            raise ValueError(
                f"Expected `space_time` to be drawn from {', '.join(SpaceTime._fields)}, got {self.space_time!r}."
            )

    def without_grams(self) -> TrajectorySpec:
        """The same steps and predictions, and nothing else."""
        return replace(self, grams=(), space_time=())

    def resolve_steps(self, steps: int) -> tuple[int, ...]:
        """Recorded steps as non-negative ints. ValueError where one is outside 0..steps or out of order."""
        return tuple(range(steps + 1)) if self.steps is None else _resolve("steps", self.steps, steps)

    def resolve_gram_steps(self, steps: int) -> tuple[int, ...]:
        """Gram steps as non-negative ints; empty where no Grams are asked for."""
        return _resolve("gram_steps", self.gram_steps, steps) if self.grams or self.space_time else ()

    def resolve_gram_inputs(self, task: Task) -> tuple[int, ...]:
        """Gram inputs as indices into all inputs."""
        chosen = self.gram_inputs
        if chosen is None:
            return tuple(range(min(DEFAULT_GRAM_INPUTS, task.num_train)))
        return _check_inputs("gram_inputs", range(chosen) if isinstance(chosen, int) else chosen, task.num_inputs)

    def resolve_eval_inputs(self, task: Task) -> tuple[int, ...] | None:
        """Inputs whose predictions are kept, or None for all."""
        if self.eval_inputs is None:
            return None
        return _check_inputs("eval_inputs", self.eval_inputs, task.num_inputs) if self.eval_inputs else ()


def _check_inputs(name: str, indices: Any, num_inputs: int) -> tuple[int, ...]:
    indices = tuple(indices)
    if not indices or min(indices) < 0 or max(indices) >= num_inputs:
        raise ValueError(f"Expected `{name}` to be indices in 0..{num_inputs - 1}, got {indices!r}.")
    return indices


def _resolve(name: str, given: tuple[int, ...], steps: int) -> tuple[int, ...]:
    resolved = tuple(step + steps + 1 if step < 0 else step for step in given)
    if not resolved or list(resolved) != sorted(set(resolved)) or resolved[0] < 0 or resolved[-1] > steps:
        raise ValueError(f"Expected `{name}` to be ascending steps in 0..{steps}, got {given!r}.")
    return resolved


def leaves_nbytes(tree: Any) -> int:
    """Bytes of all arrays (or shape structures) of a pytree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
