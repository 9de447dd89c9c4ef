r"""Tasks from digits (part of scikit-learn), CIFAR-10, MNIST and synthetic Gaussian classes.

Symbols: N training inputs, M test inputs, C classes, d pixels of one input :math:`\xi`. The choice of images depends on
the arguments alone: the first images of each class in file order, class after class in the order of `classes`.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from mupjax.datasets import _files, _folders
from mupjax.task import Task

NAMES = ("digits", "cifar10", "mnist", "synthetic")
NUM_CLASSES = 10  # of every data set
SYNTHETIC_DIM = 32


class _Images(NamedTuple):
    """Images in file order.

    Attributes:
      x: [N, d] pixels.
      labels: [N] int.
    """

    x: np.ndarray
    labels: np.ndarray


class _Source(NamedTuple):
    """The images of a data set.

    Attributes:
      train: training images.
      test: test images; None takes the test images from `train`.
      white: value of a white pixel.
    """

    train: _Images
    test: _Images | None
    white: float


def load(
    name: str,
    *,
    classes: Sequence[int] | None = (0, 1),
    train_size: int = 64,
    test_size: int | Literal["auto"] | None = "auto",
    loss: str = "mse",
    grayscale: bool = False,
    standardize: str | tuple[float, float] = "mean",
    scale: str = "sphere",
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Task:
    r"""Return a task on images of some classes of a data set, standardized and scaled to :math:`\|\xi\|^2 = d`.

    Each of the C classes contributes `train_size // C` training images, and each of the first `train_size % C` classes
    one more: the first images of that class in file order, class after class. CIFAR-10 and MNIST take test images from
    their test files in the same way. digits and synthetic have no test files; their test images are the next ones of
    each class.

    CIFAR-10 (`cifar-10-batches-bin`, else `cifar-10-batches-py`) and MNIST (four IDX files, plain or .gz) are read from
    `data_dir`, or else from the folder in the environment variable MUPJAX_DATA: directly there, or in its subfolders
    cifar-10-batches-bin, cifar-10-batches-py, mnist, MNIST/raw. If either is given, nothing is downloaded. If neither
    is, the files are downloaded once, verified by checksum and kept in pooch's cache folder 'mupjax'.

    Args:
      name: digits (d = 64), cifar10 (d = 3072), mnist (d = 784) or synthetic (d = 32, see `synthetic`).
      classes: at least two distinct classes of 0..9, or None for all ten.
      train_size: N; 0 takes every training image of these classes.
      test_size: M; 0 takes every (remaining) test image; None gives no test set. 'auto' is 64, or no test set if the
        training set takes every image there is (digits with `train_size=0`).
      loss: 'mse' gives y [N, 1], +1 for `classes[0]` and -1 for `classes[1]`, or one-hot y [N, C] for more than two
        classes; 'cross_entropy' gives y [N], the position of the label in `classes`.
      grayscale: convert CIFAR-10 to its ITU-R 601 luma (d = 1024), rounded as Pillow's mode L does. The other data sets
        are grey already.
      standardize: 'mean' subtracts the training set's mean of each pixel from both sets; (mean, std) subtracts and
        divides by two numbers, in units of pixels in [0, 1]; 'none' leaves the pixels in [0, 1].
      scale: 'sphere' scales each input to :math:`\|\xi\|^2 = d` afterwards; 'none' does not.
      data_dir: folder with the files of CIFAR-10 or MNIST.
      seed: seed of synthetic data; other data sets ignore it.

    Returns:
      A Task with x_train [N, d], x_test [M, d] or None.

    Raises:
      ValueError: if a name, class or option is unknown, a class has too few images, an input is zero and cannot be
        scaled, or a file is malformed.
      TypeError: if a size or class is not an int.
      FileNotFoundError: if files are missing or cannot be fetched; the message names them and their folder.

    Example:
      >>> from mupjax import datasets
      >>> datasets.load("digits", classes=(3, 8), train_size=32)
      Task(train=32, test=64, input_dim=64, out_dim=1, loss='mse')
    """
    if name not in NAMES:
        raise ValueError(f"Expected `name` to be one of {', '.join(NAMES)}, got name={name!r}.")
    classes = _check_classes(classes)
    _check_size("train_size", train_size)
    if test_size == "auto":
        test_size = None if name == "digits" and train_size == 0 else 64
    if test_size is not None:
        _check_size("test_size", test_size)
    if name == "synthetic" and 0 in (train_size, test_size):
        raise ValueError(
            "Expected `train_size` and `test_size` to be positive for synthetic data, which have no end, "
            f"got train_size={train_size}, test_size={test_size}."
        )
    _check_options(loss, standardize, scale)
    if name == "digits":
        source = _digits()
    elif name == "synthetic":
        source = _gaussian_classes(classes, train_size, test_size, dim=SYNTHETIC_DIM, seed=seed)
    elif name == "mnist":
        source = _mnist(data_dir, with_test=test_size is not None)
    else:
        source = _cifar10(data_dir, with_test=test_size is not None, grayscale=grayscale)
    return _make_task(name, source, classes, train_size, test_size, loss, standardize, scale)


def synthetic(
    *,
    num_train: int = 64,
    num_test: int | None = 64,
    dim: int = 32,
    num_classes: int = 2,
    seed: int = 0,
    loss: str = "mse",
    standardize: str | tuple[float, float] = "mean",
    scale: str = "sphere",
) -> Task:
    r"""Return a task of Gaussian classes, :math:`\xi = m_c + g` with :math:`m_c, g \sim N(0, I_d)`; it needs no files.

    Each class c has one mean m_c; g is drawn for each input. Both depend on the seed and on c alone, so that each class
    of a larger set begins with the inputs of a smaller one. `load('synthetic', ...)` is the same with d = 32.

    Args:
      num_train: N, divided among the classes as in `load`.
      num_test: M, or None for no test set.
      dim: d.
      num_classes: C, at least 2; the classes are 0..C-1.
      seed: a non-negative int.
      loss: as in `load`.
      standardize: as in `load`.
      scale: as in `load`.

    Returns:
      A Task with x_train [N, d], x_test [M, d] or None.

    Raises:
      ValueError: if a size is not positive, and as in `load`.
      TypeError: if a size is not an int.

    Example:
      >>> from mupjax import datasets
      >>> datasets.synthetic(num_train=30, dim=5, num_classes=3, loss="cross_entropy")
      Task(train=30, test=64, input_dim=5, out_dim=3, loss='cross_entropy')
    """
    _check_size("num_classes", num_classes, at_least=2)
    _check_size("dim", dim, at_least=1)
    _check_size("num_train", num_train, at_least=num_classes)
    if num_test is not None:
        _check_size("num_test", num_test, at_least=num_classes)
    _check_options(loss, standardize, scale)
    classes = tuple(range(num_classes))
    source = _gaussian_classes(classes, num_train, num_test, dim=dim, seed=seed)
    return _make_task("synthetic", source, classes, num_train, num_test, loss, standardize, scale)


def _digits() -> _Source:
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    return _Source(_Images(np.asarray(x), np.asarray(labels)), None, white=16.0)


def _mnist(data_dir: str | os.PathLike[str] | None, *, with_test: bool) -> _Source:
    paths = _folders.mnist_paths(data_dir, with_test=with_test)
    train = _Images(*_files.read_mnist(paths[0], paths[1]))
    test = _Images(*_files.read_mnist(paths[2], paths[3])) if with_test else None
    return _Source(train, test, white=255.0)


def _cifar10(data_dir: str | os.PathLike[str] | None, *, with_test: bool, grayscale: bool) -> _Source:
    paths, is_binary = _folders.cifar_paths(data_dir, with_test=with_test)
    read = _files.read_cifar_binary if is_binary else _files.read_cifar_pickle
    batches = [_Images(*read(path)) for path in paths]
    if grayscale:
        batches = [_Images(_files.luma(batch.x), batch.labels) for batch in batches]
    test = batches.pop() if with_test else None
    x, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return _Source(_Images(x, labels), test, white=255.0)


def _gaussian_classes(
    classes: tuple[int, ...], train_size: int, test_size: int | None, *, dim: int, seed: int
) -> _Source:
    """Draw enough inputs of each class for both sets; each class has its own generator."""
    _check_size("seed", seed)
    count = _shares(train_size, len(classes))[0] + _shares(test_size or 0, len(classes))[0]
    draws = [np.random.default_rng([seed, label]).standard_normal((1 + count, dim)) for label in classes]
    x = np.concatenate([draw[:1] + draw[1:] for draw in draws])
    return _Source(_Images(x, np.repeat(classes, count)), None, white=1.0)


def _make_task(
    name: str,
    source: _Source,
    classes: tuple[int, ...],
    train_size: int,
    test_size: int | None,
    loss: str,
    standardize: str | tuple[float, float],
    scale: str,
) -> Task:
    """Select the images, standardize, scale and label them."""
    rows, y_train = _first_of_each(name, "train_size", train_size, classes, source.train.labels)
    x_train = source.train.x[rows] / source.white
    if standardize == "mean":
        shift, divisor = x_train.mean(axis=0), 1.0
    else:
        shift, divisor = (0.0, 1.0) if isinstance(standardize, str) else standardize
    _standardize(x_train, shift, divisor, scale, "`x_train`")
    x_test = y_test = None
    if test_size is not None:
        images, taken = source.test, None
        if images is None:
            images, taken = source.train, np.bincount(y_train)
        rows, y_test = _first_of_each(name, "test_size", test_size, classes, images.labels, taken)
        x_test = images.x[rows] / source.white
        _standardize(x_test, shift, divisor, scale, "`x_test`")
    if loss == "cross_entropy":
        return Task(x_train, y_train, x_test, y_test, loss="cross_entropy", num_classes=len(classes))
    codes = np.array([[1.0], [-1.0]]) if len(classes) == 2 else np.eye(len(classes))
    return Task(x_train, codes[y_train], x_test, None if y_test is None else codes[y_test], loss="mse")


def _first_of_each(
    name: str, argument: str, size: int, classes: tuple[int, ...], labels: np.ndarray, taken: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows [size] of the first images of each class beyond those `taken`, and their class positions."""
    left = [np.flatnonzero(labels == label) for label in classes]
    if taken is not None:
        left = [rows[count:] for rows, count in zip(left, taken, strict=True)]
    wanted = _shares(size, len(classes)) if size else [len(rows) for rows in left]
    for label, rows, count in zip(classes, left, wanted, strict=True):
        if not 0 < count <= len(rows):
            there = "are there" if taken is None else "are left by the training set"
            raise ValueError(
                f"Expected `{argument}` to be 0 (all), or to give every class of {name} at least one and at most all "
                f"of its images, got {argument}={size}: {count} images of class {label}, where {len(rows)} {there}."
            )
    rows = [rows[:count] for rows, count in zip(left, wanted, strict=True)]
    return np.concatenate(rows), np.repeat(np.arange(len(classes)), wanted)


def _shares(size: int, num_classes: int) -> list[int]:
    """Divide `size` images among the classes; the first classes get the remainder, one each."""
    return [size // num_classes + (position < size % num_classes) for position in range(num_classes)]


def _standardize(x: np.ndarray, shift: float | np.ndarray, divisor: float, scale: str, what: str) -> None:
    """Replace x [N, d] in place by (x - shift) / divisor, and scale each input to norm sqrt(d) for 'sphere'."""
    x -= shift
    x /= divisor
    if scale == "none":
        return
    radius = math.sqrt(x.shape[1])
    norms = np.sqrt(np.einsum("nd,nd->n", x, x))
    if norms.min() <= 1e-10 * radius:  # rounding leaves N 2^-53 of equal pixels: 7e-12 for N = 60,000
        raise ValueError(
            f"Expected {what} to hold no zero input for scale='sphere', got one at index {int(norms.argmin())} "
            "after standardisation."
        )
    x *= (radius / norms)[:, None]


def _check_classes(classes: Sequence[int] | None) -> tuple[int, ...]:
    if classes is None:
        return tuple(range(NUM_CLASSES))
    try:
        checked = tuple(operator.index(label) for label in classes)
    except TypeError:
        raise TypeError(f"Expected `classes` to be ints or None, got classes={classes!r}.") from None
    if len(checked) < 2 or len(set(checked)) < len(checked):
        raise ValueError(f"Expected `classes` to be at least two different classes, got classes={checked}.")
    if not set(checked) <= set(range(NUM_CLASSES)):
        raise ValueError(f"Expected `classes` to be in 0..{NUM_CLASSES - 1}, got classes={checked}.")
    return checked


def _check_size(argument: str, value: int, *, at_least: int = 0) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"Expected `{argument}` to be an int, got {argument}={value!r}.")
    if value < at_least:
        raise ValueError(f"Expected `{argument}` to be at least {at_least}, got {argument}={value}.")


def _check_options(loss: str, standardize: str | tuple[float, float], scale: str) -> None:
    if loss not in ("mse", "cross_entropy"):
        raise ValueError(f"Expected `loss` to be 'mse' or 'cross_entropy', got loss={loss!r}.")
    if scale not in ("sphere", "none"):
        raise ValueError(f"Expected `scale` to be 'sphere' or 'none', got scale={scale!r}.")
    if isinstance(standardize, str):
        valid = standardize in ("mean", "none")
    else:
        pair = isinstance(standardize, tuple | list) and len(standardize) == 2
        valid = pair and all(map(math.isfinite, standardize)) and standardize[1] > 0
    if not valid:
        raise ValueError(
            "Expected `standardize` to be 'mean', 'none' or a finite (mean, std) with std > 0, "
            f"got standardize={standardize!r}."
        )
