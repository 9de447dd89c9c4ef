"""Read the standard files of CIFAR-10 and MNIST into validated uint8 arrays.

N is the number of images, d the number of pixels of one image. A truncated, overlong or malformed file raises a
ValueError that names it; partial arrays are never returned.
"""

from __future__ import annotations

import gzip
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

CIFAR_PIXELS = 3072  # 32 x 32, the red plane, then the green, then the blue
NUM_CLASSES = 10

# The globals that a pickle may name. None of them is imported: find_class returns inert stand-ins.
_RECONSTRUCT, _FROMBUFFER, _ENCODE = "_reconstruct", "_frombuffer", "encode"
_ADMITTED = {
    ("numpy.core.multiarray", _RECONSTRUCT),
    ("numpy._core.multiarray", _RECONSTRUCT),
    ("numpy.core.numeric", _FROMBUFFER),
    ("numpy._core.numeric", _FROMBUFFER),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", _ENCODE),  # how Python 3 writes bytes in protocol 2
}
_INTEGERS = {"u1": np.uint8, "i4": np.int32, "i8": np.int64}  # admissible dtypes of pixels and labels


def read_cifar_binary(path: Path) -> tuple[UInt8[np.ndarray, "N d"], UInt8[np.ndarray, " N"]]:
    """Read one file of `cifar-10-batches-bin`: records of 1 label byte and 3072 pixel bytes.

    Returns:
      [N, 3072] uint8 pixels and [N] uint8 labels, in file order.

    Raises:
      ValueError: if the file is empty or truncated, or a label exceeds 9.
    """
    size, record = path.stat().st_size, 1 + CIFAR_PIXELS
    if size == 0 or size % record:
        raise ValueError(f"Expected {path} to hold a whole number of records of {record} bytes, got {size} bytes.")
    records = np.fromfile(path, dtype=np.uint8).reshape(-1, record)
    return records[:, 1:], _check_labels(path, records[:, 0])


def read_cifar_pickle(path: Path) -> tuple[UInt8[np.ndarray, "N d"], UInt8[np.ndarray, " N"]]:
    """Read one file of `cifar-10-batches-py`, a pickled dict with keys 'data' and 'labels', without executing it.

    A pickle is a program. This reader lets it build dicts, lists, tuples, strings, bytes, numbers and the stand-ins of
    `_Unpickler`, from which the integer arrays are then made here. Any other global raises.

    Returns:
      [N, 3072] uint8 pixels and [N] uint8 labels, in file order.

    Raises:
      ValueError: if the pickle names another global, is truncated, or does not hold such arrays.
    """
    try:
        with path.open("rb") as file:
            batch = _Unpickler(file, encoding="bytes").load()
        if not isinstance(batch, dict):
            raise ValueError(f"a {type(batch).__name__} instead of a dict")
        entries = {_text(key): value for key, value in batch.items()}
        images, labels = (_array(entries[key]) for key in ("data", "labels"))
    except Exception as error:  # a hostile or truncated pickle may raise anything
        raise ValueError(
            f"Expected {path} to be a pickle of CIFAR-10 that holds dicts, lists, bytes and arrays of integers only, "
            f"got {type(error).__name__}: {error}."
        ) from error
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != CIFAR_PIXELS or len(images) == 0:
        raise ValueError(
            f"Expected {path} to hold `data` of shape [N, {CIFAR_PIXELS}] and dtype uint8, "
            f"got shape {list(images.shape)} and dtype {images.dtype}."
        )
    if labels.shape != (len(images),):
        raise ValueError(f"Expected {path} to hold {len(images)} labels, got shape {list(labels.shape)}.")
    return images, _check_labels(path, labels)


def read_mnist(images_path: Path, labels_path: Path) -> tuple[UInt8[np.ndarray, "N d"], UInt8[np.ndarray, " N"]]:
    """Read a pair of IDX files of images and labels; the suffix .gz marks compressed ones.

    Returns:
      [N, 784] uint8 pixels and [N] uint8 labels, in file order.

    Raises:
      ValueError: if a magic number is wrong, images are not 28 x 28, a file is truncated or overlong, the counts
        differ, or a label exceeds 9.
    """
    images, labels = _read_idx(images_path, ndim=3), _read_idx(labels_path, ndim=1)
    if images.shape[1:] != (28, 28) or len(images) == 0:
        raise ValueError(f"Expected {images_path} to hold images of 28 x 28 pixels, got shape {list(images.shape)}.")
    if len(labels) != len(images):
        raise ValueError(f"Expected {labels_path} to hold {len(images)} labels, got {len(labels)}.")
    return images.reshape(len(images), -1), _check_labels(labels_path, labels)


def luma(images: UInt8[np.ndarray, "N d"]) -> UInt8[np.ndarray, "N d_grey"]:
    """Return the ITU-R 601 luma .299 R + .587 G + .114 B of [N, 3 * P] planes as [N, P], rounded as Pillow does.

    Example:
      >>> luma(np.array([[255, 0, 0]], np.uint8)).tolist()  # pure red
      [[76]]
    """
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)  # they sum to 2^16
    planes = images.reshape(len(images), 3, -1)
    return ((np.einsum("c,ncp->np", weights, planes, dtype=np.uint32) + 0x8000) >> 16).astype(np.uint8)


def _read_idx(path: Path, *, ndim: int) -> UInt8[np.ndarray, ...]:
    """Read an IDX file of unsigned bytes: a magic number, `ndim` big-endian sizes of 4 bytes, then the values."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"Expected {path} to be a whole gzip file, got {type(error).__name__}: {error}.") from error
    magic, header = 0x0800 + ndim, 4 * (1 + ndim)
    if len(content) < header or int.from_bytes(content[:4], "big") != magic:
        raise ValueError(
            f"Expected {path} to begin with the IDX magic number {magic:#010x} and {ndim} sizes, "
            f"got {len(content)} bytes that begin with 0x{content[:4].hex()}."
        )
    shape = [int(size) for size in np.frombuffer(content[4:header], dtype=">u4")]
    expected = header + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise ValueError(f"Expected {path} to hold {expected} bytes for shape {shape}, got {len(content)} bytes.")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _check_labels(path: Path, labels: np.ndarray) -> UInt8[np.ndarray, " N"]:
    if labels.size and not 0 <= labels.min() <= labels.max() < NUM_CLASSES:
        row = int(np.flatnonzero((labels < 0) | (labels >= NUM_CLASSES))[0])
        raise ValueError(f"Expected {path} to hold labels in 0..9, got {int(labels[row])} at record {row}.")
    return labels.astype(np.uint8)


class _StandIn:
    """Stand-in for a global that a pickle names: records calls and state without executing anything."""

    __slots__ = ("args", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...] = ()):
        self.name = name
        self.args = args
        self.state: Any = ()  # whatever the file holds

    def __call__(self, *args: object) -> _StandIn:
        return _StandIn(self.name, args)

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Builds plain values and stand-ins; imports and calls nothing that the file names."""

    def find_class(self, module_name: str, global_name: str) -> _StandIn:
        if (module_name, global_name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"the name {f'{module_name}.{global_name}'!r}, which is refused")
        return _StandIn(global_name)


def _array(value: object) -> np.ndarray:
    """Make the array that a stand-in or a list of ints describes."""
    if isinstance(value, list):
        if not all(type(entry) is int for entry in value):
            raise ValueError("a list of other things than ints")
        return np.array(value, dtype=np.int64)
    if isinstance(value, _StandIn) and value.name == _RECONSTRUCT:
        _, shape, dtype, fortran, raw = value.state  # as ndarray.__reduce__ writes it
        in_fortran_order = bool(fortran)
    elif isinstance(value, _StandIn) and value.name == _FROMBUFFER:
        raw, dtype, shape, order = value.args[:4]
        in_fortran_order = _text(order) == "F"
    else:
        raise ValueError(f"a {type(value).__name__} where an array should be")
    checked = _dtype(dtype)
    return np.frombuffer(_bytes(raw), dtype=checked).reshape(shape, order="F" if in_fortran_order else "C")


def _dtype(value: object) -> np.dtype:
    if not isinstance(value, _StandIn) or value.name != "dtype":
        raise ValueError("an array without a dtype")
    code, byte_order = _text(value.args[0]), _text(value.state[1])
    if code not in _INTEGERS or byte_order not in ("|", "<", ">"):
        raise ValueError(f"an array of dtype {code!r}, which is refused")
    return np.dtype(_INTEGERS[code]).newbyteorder(byte_order)


def _bytes(value: object) -> bytes | bytearray:
    if isinstance(value, _StandIn) and value.name == _ENCODE and value.args[1:] == ("latin1",):
        return value.args[0].encode("latin1")
    if not isinstance(value, bytes | bytearray):
        raise ValueError(f"a {type(value).__name__} where bytes should be")
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else bytes(_bytes(value)).decode("latin1")
