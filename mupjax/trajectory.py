r"""The result of every dynamics, `Trajectory`, and the specification of what it records, `TrajectorySpec`.

Symbols: L hidden layers, C outputs, P = N_train + N_test inputs (training inputs first), R recorded steps, S recorded
Gram steps, G Gram inputs, n the width, :math:`h^l` preactivations, :math:`x^l = \phi(h^l)` activations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from mupjax.task import Task

DEFAULT_GRAM_INPUTS = 64

Gram = Float[Array | np.ndarray, "*runs S L G G"]
SpaceTimeGram = Float[Array | np.ndarray, "*runs S S L G G"]


class SpaceTime(NamedTuple):
    r"""Gram matrices between all pairs of Gram steps; every field is [S, S, L, G, G] float64, or None if not recorded.

    Entry [s, t, l-1, i, j] is <z_s(i), z_t(j)>/n, the inner product over the width of two vectors of layer l.

    Attributes:
      h: preactivations.
      x: activations.
      dh: dLoss/dh of the training loss, so each vector carries its input's chi = dLoss/df. In the feature-learning
        limit n dLoss/dh, which converges.
      dx: dLoss/dx, in the same units as dh.
      zhat_forward: the Gaussian part of W_0 x^{l-1}; for l = 1 all of W_0 xi. Theory predicts
        E[zhat_s zhat_t] = sigma^2 E[x_s x_t], the 'covariance preservation' of Chen et al. 2025.
      zdot_forward: the remainder of W_0 x^{l-1}, its response to earlier backward passes; 0 for l = 1.
      zhat_backward: the Gaussian part of W_0^T dh^{l+1}; for l = L the contribution of the initial readout to dx^L.
      zdot_backward: the remainder of W_0^T dh^{l+1}; 0 for l = L.
    """

    h: SpaceTimeGram | None = None
    x: SpaceTimeGram | None = None
    dh: SpaceTimeGram | None = None
    dx: SpaceTimeGram | None = None
    zhat_forward: SpaceTimeGram | None = None
    zdot_forward: SpaceTimeGram | None = None
    zhat_backward: SpaceTimeGram | None = None
    zdot_backward: SpaceTimeGram | None = None


class Trajectory(NamedTuple):
    r"""A training run as losses, predictions and Gram matrices over time. A pytree.

    The entry at step t is the state BEFORE the update of step t; the last entry is the final state. Several runs
    (seeds, rates) add leading axes to every leaf. `repr` shows the dtype and shape of every field that is not None.

    Attributes:
      step: [R] int.
      train_loss: [R], mean loss over the whole training set, not the batch.
      test_loss: [R], mean loss over the test set, or None without one.
      predictions: [R, P, C], outputs on the inputs of `TrajectorySpec.eval_inputs`; f - f_0 for a centred run.
      h_gram: [S, L, G, G] float64, <h_t(i), h_t(j)>/n, or None if not recorded.
      x_gram: [S, L, G, G] float64, the same for activations x.
      h_cross_gram: [S, L, G, G] float64, <h_t(i), h_0(j)>/n.
      x_cross_gram: [S, L, G, G] float64, the same for activations x.
      space_time: a SpaceTime if `TrajectorySpec.space_time` names fields (`dynamics.matrix_free`,
        `dynamics.feature_limit`), else None.
      stderr: a Trajectory of standard errors if several draws were averaged, else None.
      info: further results of one dynamics (a covariance, a quadrature error, bytes), else None.
      observed: {name: [ceil((steps + 1)/every), ...]}, the results of the observers, or None.

    Example:
      >>> Trajectory(np.arange(3, dtype=np.int32), np.zeros(3), None, np.zeros((3, 4, 1)))
      Trajectory(
        step: int32[3]
        train_loss: float64[3]
        predictions: float64[3, 4, 1]
      )
    """

    step: Int[Array | np.ndarray, "*runs R"]
    train_loss: Float[Array | np.ndarray, "*runs R"]
    test_loss: Float[Array | np.ndarray, "*runs R"] | None
    predictions: Float[Array | np.ndarray, "*runs R P C"]
    h_gram: Gram | None = None
    x_gram: Gram | None = None
    h_cross_gram: Gram | None = None
    x_cross_gram: Gram | None = None
    space_time: SpaceTime | None = None
    stderr: Trajectory | None = None
    info: PyTree = None
    observed: PyTree = None

    def __repr__(self) -> str:
        lines = [f"  {name}: {_shapes(value)}" for name, value in self._asdict().items() if value is not None]
        return "\n".join(["Trajectory(", *lines, ")"])


@dataclass(frozen=True)
class TrajectorySpec:
    """Quantities that a dynamics records, and at which steps. Frozen and hashable: a static argument under `jit`.

    Negative steps count from the end; -1 is the final state.

    Attributes:
      steps: steps at which losses and predictions are recorded, ascending; None records every step. Each of them
        evaluates the whole training and test set, so that few steps are cheaper.
      gram_steps: steps at which Gram matrices are recorded, ascending.
      gram_inputs: the G inputs of the Gram matrices: indices into all inputs (training inputs first), an int k for the
        first k inputs, or None for the first min(64, N_train).
      grams: recorded features, any of 'h' and 'x'; () records no Gram matrices.
      eval_inputs: indices into all inputs whose predictions are recorded; None records all, () none.
      space_time: names of the SpaceTime fields to record at `gram_steps`.

    Raises:
      ValueError: if `grams` or `space_time` holds an unknown name.

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
        """Return a spec with the same steps and predictions and no Gram matrices."""
        return replace(self, grams=(), space_time=())

    def resolve_steps(self, steps: int) -> tuple[int, ...]:
        """Return the recorded steps as non-negative ints.

        Raises:
          ValueError: if a step is outside 0..steps, or the steps do not ascend.
        """
        return tuple(range(steps + 1)) if self.steps is None else _resolve("steps", self.steps, steps)

    def resolve_gram_steps(self, steps: int) -> tuple[int, ...]:
        """Return the Gram steps as non-negative ints, () if no Gram matrices are recorded.

        Raises:
          ValueError: if a step is outside 0..steps, or the steps do not ascend.
        """
        return _resolve("gram_steps", self.gram_steps, steps) if self.grams or self.space_time else ()

    def resolve_gram_inputs(self, task: Task) -> tuple[int, ...]:
        """Return the Gram inputs as indices into all inputs.

        Raises:
          ValueError: if an index is out of range.
        """
        chosen = self.gram_inputs
        if chosen is None:
            return tuple(range(min(DEFAULT_GRAM_INPUTS, task.num_train)))
        return _check_inputs("gram_inputs", range(chosen) if isinstance(chosen, int) else chosen, task.num_inputs)

    def resolve_eval_inputs(self, task: Task) -> tuple[int, ...] | None:
        """Return the indices of the inputs whose predictions are recorded, or None for all.

        Raises:
          ValueError: if an index is out of range.
        """
        if self.eval_inputs is None:
            return None
        return _check_inputs("eval_inputs", self.eval_inputs, task.num_inputs) if self.eval_inputs else ()


def _check_inputs(name: str, indices: Iterable[int], num_inputs: int) -> tuple[int, ...]:
    indices = tuple(indices)
    if not indices or min(indices) < 0 or max(indices) >= num_inputs:
        raise ValueError(f"Expected `{name}` to be indices in 0..{num_inputs - 1}, got {indices!r}.")
    return indices


def _resolve(name: str, given: tuple[int, ...], steps: int) -> tuple[int, ...]:
    resolved = tuple(step + steps + 1 if step < 0 else step for step in given)
    if not resolved or list(resolved) != sorted(set(resolved)) or resolved[0] < 0 or resolved[-1] > steps:
        raise ValueError(f"Expected `{name}` to be ascending steps in 0..{steps}, got {given!r}.")
    return resolved


def _shapes(tree: PyTree) -> str:
    """Return the dtype and shape of an array, or those of every leaf of a pytree with its path."""
    rows = [
        (jax.tree_util.keystr(path, simple=True, separator="."), _shape(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    return ", ".join(f"{path} {shape}" if path else shape for path, shape in rows)


def _shape(leaf: object) -> str:
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    return repr(leaf) if shape is None or dtype is None else f"{dtype}[{', '.join(map(str, shape))}]"


def leaves_nbytes(tree: PyTree) -> int:
    """Return the number of bytes of all arrays, or `jax.ShapeDtypeStruct`s, of a pytree.

    Example:
      >>> leaves_nbytes({"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32)})
      36
    """
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
