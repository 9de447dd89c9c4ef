"""A supervised task: inputs, targets and a loss, validated once and passed around as a pytree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from mupjax import _checks
from mupjax._checks import Key
from mupjax.theorems.inputs import InputCheck, check_inputs

Loss = Literal["mse", "cross_entropy"]


@jax.tree_util.register_pytree_with_keys_class
class Task:
    r"""Training data, optional test data and a per-sample loss. A pytree; the loss and the class count are static.

    'mse' is :math:`\tfrac12 \|f - y\|^2`, summed over the C outputs; 'cross_entropy' is the softmax cross-entropy. The
    loss of a set is the mean over its samples. Inputs should have :math:`\|\xi\|^2 \approx d`.

    Args:
      x_train: [N, d] float, N >= 1. float64 NumPy arrays are accepted and cast once (under x64 they stay float64).
      y_train: [N, C] float for mse, [N] int in 0..C-1 for cross_entropy.
      x_test: [M, d] float, or None.
      y_test: [M, C] or [M]; required with x_test, None without it.
      loss: 'mse' or 'cross_entropy'.
      num_classes: C for cross_entropy; defaults to the largest label plus one. For mse it follows from y_train.

    Raises:
      ValueError: if a shape or rank is wrong, a set is empty, a value is not finite, a label is out of range, there is
        only one class, or the loss is unknown.
      TypeError: if labels are not integers.

    Example:
      >>> import numpy as np
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> task.num_train, task.input_dim, task.out_dim
      (4, 4, 1)
    """

    x_train: Float[Array, "N d"]
    y_train: Float[Array, "N C"] | Int[Array, " N"]
    x_test: Float[Array, "M d"] | None
    y_test: Float[Array, "M C"] | Int[Array, " M"] | None
    loss: Loss
    num_classes: int

    def __init__(
        self,
        x_train: npt.ArrayLike,
        y_train: npt.ArrayLike,
        x_test: npt.ArrayLike | None = None,
        y_test: npt.ArrayLike | None = None,
        loss: Loss = "mse",
        num_classes: int | None = None,
    ):
        if loss not in ("mse", "cross_entropy"):
            raise ValueError(f"Expected `loss` to be 'mse' or 'cross_entropy', got loss={loss!r}.")
        if (x_test is None) != (y_test is None):
            raise ValueError("Expected `x_test` and `y_test` to be given together, got only one of them.")
        self.loss = loss
        self.x_train = _inputs("x_train", x_train)
        self.x_test = None if x_test is None else _inputs("x_test", x_test)
        if self.x_test is not None and self.x_test.shape[1] != self.x_train.shape[1]:
            raise ValueError(
                f"Expected `x_test` to have x_train's {self.x_train.shape[1]} columns, got {self.x_test.shape[1]}."
            )
        targets = _labels if loss == "cross_entropy" else _values
        self.y_train = targets("y_train", y_train, len(self.x_train))
        self.y_test = None if self.x_test is None or y_test is None else targets("y_test", y_test, len(self.x_test))
        self.num_classes = self._check_classes(num_classes)

    def _check_classes(self, num_classes: int | None) -> int:
        y_train, y_test = np.asarray(self.y_train), None if self.y_test is None else np.asarray(self.y_test)
        if self.loss == "mse":
            outputs = y_train.shape[1]
            if num_classes not in (None, outputs):
                raise ValueError(f"Expected `num_classes` to be y_train's {outputs} columns, got {num_classes}.")
            if y_test is not None and y_test.shape[1] != outputs:
                raise ValueError(f"Expected `y_test` to have y_train's {outputs} columns, got {y_test.shape[1]}.")
            return outputs
        classes = int(y_train.max()) + 1 if num_classes is None else int(num_classes)
        for name, labels in (("y_train", y_train), ("y_test", y_test)):
            if labels is not None and labels.max() >= classes:
                raise ValueError(f"Expected `{name}` to hold labels in 0..{classes - 1}, got {int(labels.max())}.")
        if len(y_train) > 1 and np.unique(y_train).size < 2:
            raise ValueError(f"Expected `y_train` to hold at least two classes, got only class {int(y_train[0])}.")
        if classes < 2:
            raise ValueError(f"Expected `num_classes` to be at least 2, got num_classes={classes}.")
        return classes

    @property
    def num_train(self) -> int:
        """Number of training inputs N."""
        return self.x_train.shape[0]

    @property
    def num_test(self) -> int:
        """Number of test inputs M, 0 without a test set."""
        return 0 if self.x_test is None else self.x_test.shape[0]

    @property
    def num_inputs(self) -> int:
        """Number of all inputs, P = N + M."""
        return self.num_train + self.num_test

    @property
    def input_dim(self) -> int:
        """Dimension d of one input."""
        return self.x_train.shape[1]

    @property
    def out_dim(self) -> int:
        """Number of outputs C."""
        return self.num_classes

    @property
    def inputs(self) -> Float[Array, "P d"]:
        """All inputs, training inputs first."""
        return self.x_train if self.x_test is None else jnp.concatenate([self.x_train, self.x_test])

    def check_inputs(self) -> InputCheck:
        r"""Check Assumption 4.1 of Chen et al. 2025 (arXiv:2503.09565) on the training set. Theorem 4.5 requires it.

        The assumption: no product :math:`\langle \xi_i, \xi_j \rangle` is zero, and for every i the values
        :math:`|\langle \xi_i, \xi_j \rangle|` over all j, including j = i, are pairwise different. The answer is
        exact for the inputs as the task stores them. Time grows as N^2; 10,000 inputs take seconds.

        Returns:
          A `mupjax.theorems.inputs.InputCheck`: whether the assumption holds, its violations and its nearest misses.

        Example:
          >>> import numpy as np
          >>> Task(np.array([[1.0, 0.0], [3.0, 1.0]]), np.ones((2, 1))).check_inputs().holds
          True
        """
        return check_inputs(np.asarray(self.x_train))

    def tree_flatten_with_keys(self) -> tuple[list[tuple[object, PyTree]], tuple[Loss, int]]:
        """Return the arrays with their names, and the static fields (`jax.tree_util`)."""
        names = ("x_train", "y_train", "x_test", "y_test")
        return [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names], (self.loss, self.num_classes)

    @classmethod
    def tree_unflatten(cls, static: tuple[Loss, int], arrays: Iterable[PyTree]) -> Task:
        """Rebuild a Task without validation: its leaves may be tracers or placeholders (`jax.tree_util`)."""
        task = object.__new__(cls)
        task.x_train, task.y_train, task.x_test, task.y_test = arrays
        task.loss, task.num_classes = static
        return task

    def __repr__(self) -> str:
        return (
            f"Task(train={self.num_train}, test={self.num_test}, input_dim={self.input_dim}, "
            f"out_dim={self.out_dim}, loss={self.loss!r})"
        )


def batch_order(key: Key, num_inputs: int, batch_size: int, steps: int) -> Int[Array, "steps B"]:
    """Return the training inputs of each step: a new permutation every epoch, without the incomplete last batch.

    Pass the result to several dynamics as `batches=` to train all of them on the same batches.

    Args:
      key: an int or a JAX random key.
      num_inputs: number of training inputs N.
      batch_size: B, in 1..N.
      steps: number of SGD steps, at least 1.

    Raises:
      ValueError: if `batch_size` or `steps` is out of range.

    Example:
      >>> batch_order(0, num_inputs=8, batch_size=4, steps=3).shape
      (3, 4)
    """
    if not 1 <= batch_size <= num_inputs:
        raise ValueError(f"Expected `batch_size` to be in 1..{num_inputs}, got batch_size={batch_size}.")
    if steps < 1:
        raise ValueError(f"Expected `steps` to be a positive int, got steps={steps}.")
    per_epoch = num_inputs // batch_size
    epochs = -(-steps // per_epoch)
    orders = jax.vmap(lambda k: jax.random.permutation(k, num_inputs))(jax.random.split(_checks.key(key), epochs))
    batches = orders[:, : per_epoch * batch_size].reshape(-1, batch_size)
    return batches[:steps].astype(jnp.int32)


def check_batches(batches: npt.ArrayLike | None, steps: int, num_train: int) -> None:
    """Check a `batches=` argument of the dynamics. Only the shape and dtype of a tracer are checked.

    Args:
      batches: [steps, B] int, or None for the full batch.
      steps: number of steps.
      num_train: number of training inputs N.

    Raises:
      ValueError: if the shape is not [steps, B] with B >= 1, or an index is outside 0..num_train - 1.
      TypeError: if the indices are not integers.

    Example:
      >>> check_batches([[0, 1], [2, 3]], steps=2, num_train=4)
    """
    if batches is None:
        return
    traced = isinstance(batches, Tracer)
    array = batches if isinstance(batches, Tracer) else np.asarray(batches)
    if array.ndim != 2 or array.shape[0] != steps or not array.shape[1]:
        raise ValueError(f"Expected `batches` to have shape [{steps}, B], got shape {array.shape}.")
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"Expected `batches` to hold integer indices, got dtype {array.dtype}.")
    if not traced and (array.min() < 0 or array.max() >= num_train):
        wrong = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"Expected `batches` to index 0..{num_train - 1}, got {wrong}.")


def _inputs(name: str, values: npt.ArrayLike) -> jax.Array:
    array = np.asarray(values)
    if array.ndim != 2:
        raise ValueError(f"Expected `{name}` to have shape [N, d], got shape {array.shape}.")
    return _finite(name, array)


def _values(name: str, values: npt.ArrayLike, num: int) -> jax.Array:
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[0] != num:
        raise ValueError(f"Expected `{name}` to have shape [{num}, C] for loss='mse', got shape {array.shape}.")
    return _finite(name, array)


def _finite(name: str, array: np.ndarray) -> jax.Array:
    if array.size == 0:
        raise ValueError(f"Expected `{name}` to be non-empty, got shape {array.shape}.")
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise TypeError(f"Expected `{name}` to hold real numbers, got dtype {array.dtype}.")
    dtype = jax.dtypes.canonicalize_dtype(float)
    with np.errstate(over="ignore"):  # float64 values beyond float32's range become inf and are rejected below
        array = array.astype(dtype)
    if not np.all(np.isfinite(array)):
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ValueError(f"Expected `{name}` to be finite in {dtype}, got a value that is not in row {row}.")
    return jnp.asarray(array)


def _labels(name: str, values: npt.ArrayLike, num: int) -> jax.Array:
    array = np.asarray(values)
    if array.shape != (num,):
        raise ValueError(f"Expected `{name}` to have shape [{num}] for loss='cross_entropy', got shape {array.shape}.")
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"Expected `{name}` to hold integer labels, got dtype {array.dtype}.")
    if array.min() < 0 or array.max() > np.iinfo(np.int32).max:
        wrong = int(array.min() if array.min() < 0 else array.max())
        raise ValueError(f"Expected `{name}` to hold labels in 0..C-1, got {wrong}.")
    return jnp.asarray(array, dtype=jnp.int32)


def loss_per_sample(
    loss: Loss, f: Float[Array, "N C"], y: Float[ArrayLike, "N C"] | Int[ArrayLike, " N"]
) -> Float[Array, " N"]:
    r"""Return the loss of every sample: :math:`\tfrac12 \|f - y\|^2` for 'mse', else the softmax cross-entropy.

    Args:
      loss: 'mse' or 'cross_entropy'.
      f: [N, C] outputs.
      y: [N, C] targets for 'mse', [N] int labels for 'cross_entropy'.

    Example:
      >>> loss_per_sample("mse", jnp.array([[1.0], [3.0]]), jnp.array([[0.0], [1.0]])).tolist()
      [0.5, 2.0]
    """
    if loss == "mse":
        return 0.5 * jnp.sum((f - y) ** 2, axis=-1)
    return optax.softmax_cross_entropy_with_integer_labels(f, y)
