"""Datasets. A test on CIFAR-10 or MNIST runs twice: on files that it writes itself, and on the real ones (`data`)."""

from __future__ import annotations

import codecs
import functools
import gzip
import http.server
import io
import itertools
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pooch
import pytest
from sklearn.datasets import load_digits

from mupjax import datasets
from mupjax.datasets import _files, _folders

BINARY, PICKLED = "cifar-10-batches-bin", "cifar-10-batches-py"
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
IDX = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]

# x is rounded to float32, each coordinate by a factor 1 + delta with |delta| <= 2^-24, so ||x||^2 by at most 2^-23.
NORM_TOLERANCE = 2.0**-23

SMALL = {"train_size": 8, "test_size": 4}


# Files that the tests write


def random_batch(seed: int, num: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """num / 10 images of each class in random order."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num, 3072), dtype=np.uint8), rng.permutation(np.arange(num) % 10).astype(np.uint8)


def write_binary(folder: Path, batches=None, num: int = 160) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(BATCHES):
        images, labels = random_batch(seed, num) if batches is None else batches[seed]
        (folder / f"{name}.bin").write_bytes(np.concatenate([labels[:, None], images], axis=1).tobytes())


def python_2_pickle(images: np.ndarray, labels: np.ndarray) -> bytes:
    """What Python 2 and an old NumPy wrote in protocol 2: 8-bit strings, `numpy.core`, no `_codecs`."""
    num, pixels = images.shape
    label_list = b"".join(b"K" + bytes([label]) for label in labels)
    minus_one = b"J\xff\xff\xff\xff"
    return (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05("
        + label_list
        + b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08"
        + b"K\x00\x85U\x01b\x87Rq\x09(K\x01"
        + (b"M" + struct.pack("<H", num) + b"M" + struct.pack("<H", pixels) + b"\x86")
        + (b"cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNN" + minus_one * 2 + b"K\x00tb\x89")
        + (b"T" + struct.pack("<i", images.size) + images.tobytes() + b"tbu.")
    )


def pickle_of(protocol: int, images: np.ndarray, labels: np.ndarray) -> bytes:
    return pickle.dumps({b"data": images, b"labels": labels.tolist(), b"filenames": [b"a.png"]}, protocol=protocol)


PICKLERS = {"python 2": python_2_pickle} | {
    f"protocol {protocol}": functools.partial(pickle_of, protocol) for protocol in range(6)
}


def idx(array: np.ndarray, magic: int | None = None) -> bytes:
    magic = 0x0800 + array.ndim if magic is None else magic
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.astype(np.uint8).tobytes()


def random_mnist(seed: int, num: int = 200) -> tuple[np.ndarray, np.ndarray]:
    images, labels = random_batch(seed, num)
    return images[:, :784].reshape(-1, 28, 28), labels


def write_mnist(folder: Path, suffix: str = ".gz") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = [array for seed in (0, 1) for array in random_mnist(seed)]
    for name, array in zip(IDX, arrays, strict=True):
        (folder / (name + suffix)).write_bytes(gzip.compress(idx(array)) if suffix else idx(array))
    return [folder / (name + suffix) for name in IDX]


def real(folder: str) -> Path:
    """Where the real files of a test marked `data` are."""
    return Path(os.environ["MUPJAX_DATA"]) / folder


@pytest.fixture(params=["written", pytest.param("real", marks=pytest.mark.data("cifar10"))])
def cifar10(request, monkeypatch, tmp_path) -> Path:
    """The folder of the binary batches; MUPJAX_DATA leads to it."""
    if request.param == "real":
        return real(BINARY)
    write_binary(tmp_path / BINARY)
    monkeypatch.setenv("MUPJAX_DATA", str(tmp_path))
    return tmp_path / BINARY


@pytest.fixture(params=["written", pytest.param("real", marks=pytest.mark.data("mnist"))])
def mnist(request, monkeypatch, tmp_path) -> Path:
    if request.param == "real":
        return real("mnist")
    write_mnist(tmp_path / "mnist")
    monkeypatch.setenv("MUPJAX_DATA", str(tmp_path))
    return tmp_path / "mnist"


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """An empty cache for pooch, and no MUPJAX_DATA."""
    monkeypatch.delenv("MUPJAX_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache"


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def rows_of(x) -> set[bytes]:
    return {row.tobytes() for row in np.asarray(x)}


def squared_norms(x) -> np.ndarray:
    return np.sum(np.asarray(x, dtype=np.float64) ** 2, axis=1)


# Which images, in which order


def test_cifar10_pair_is_the_protocol_of_the_feature_tables(cifar10):
    """The first 16 of class 0, then of class 1, of data_batch_1.bin; their mean subtracted; ||x||^2 = d; y = +-1."""
    records = np.frombuffer((cifar10 / "data_batch_1.bin").read_bytes(), np.uint8).reshape(-1, 3073)
    pixels = np.concatenate([records[records[:, 0] == label][:16, 1:] for label in (0, 1)]) / 255.0
    expected = pixels - pixels.mean(axis=0)
    expected *= np.sqrt(3072 / np.sum(expected**2, axis=1, keepdims=True))
    task = datasets.load("cifar10", classes=(0, 1), train_size=32, test_size=None)
    np.testing.assert_allclose(task.x_train, expected, rtol=2**-23, atol=1e-12)  # one rounding to float32
    np.testing.assert_array_equal(task.y_train, np.repeat([[1.0], [-1.0]], 16, axis=0))
    np.testing.assert_allclose(squared_norms(task.x_train), 3072, rtol=NORM_TOLERANCE)
    assert task.x_test is None


def test_digits_are_the_first_of_each_class_in_file_order():
    x, labels = load_digits(return_X_y=True)
    task = datasets.load("digits", classes=(8, 3), train_size=33, test_size=7, standardize="none", scale="none")
    eights, threes = x[labels == 8] / 16, x[labels == 3] / 16
    np.testing.assert_array_equal(task.x_train, np.concatenate([eights[:17], threes[:16]]))
    np.testing.assert_array_equal(task.x_test, np.concatenate([eights[17:21], threes[16:19]]))  # no overlap: the next
    np.testing.assert_array_equal(task.y_train[:, 0], [1.0] * 17 + [-1.0] * 16)
    np.testing.assert_array_equal(task.y_test[:, 0], [1.0] * 4 + [-1.0] * 3)


def test_cifar10_test_images_come_from_the_test_batch(cifar10):
    records = np.frombuffer((cifar10 / "test_batch.bin").read_bytes(), np.uint8).reshape(-1, 3073)
    task = datasets.load("cifar10", classes=(2, 7), train_size=4, test_size=6, standardize="none", scale="none")
    expected = [records[records[:, 0] == label][:3, 1:] for label in (2, 7)]
    np.testing.assert_allclose(task.x_test, np.concatenate(expected) / 255.0, rtol=2**-24)


def test_mnist_test_images_come_from_the_test_files(mnist):
    images = np.frombuffer(gzip.decompress((mnist / f"{IDX[2]}.gz").read_bytes())[16:], np.uint8).reshape(-1, 784)
    labels = np.frombuffer(gzip.decompress((mnist / f"{IDX[3]}.gz").read_bytes())[8:], np.uint8)
    task = datasets.load("mnist", classes=(2, 7), train_size=4, test_size=6, standardize="none", scale="none")
    expected = [images[labels == label][:3] for label in (2, 7)]
    np.testing.assert_allclose(task.x_test, np.concatenate(expected) / 255.0, rtol=2**-24)


def test_zero_takes_all_images_of_digits():
    """The counts are those of the file's own description (UCI, optical recognition of handwritten digits)."""
    task = datasets.load("digits", classes=None, train_size=0, loss="cross_entropy")
    assert np.bincount(task.y_train).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert task.x_test is None
    rest = datasets.load("digits", train_size=100, test_size=0)
    assert rest.num_train + rest.num_test == 178 + 182


def test_zero_takes_all_images_of_cifar10(cifar10):
    count = sum((cifar10 / f"{name}.bin").stat().st_size for name in BATCHES[:5]) // 3073
    labels = [(cifar10 / f"{name}.bin").read_bytes()[::3073] for name in BATCHES]
    task = datasets.load("cifar10", classes=None, train_size=0, test_size=0, loss="cross_entropy", grayscale=True)
    assert task.x_train.shape == (count, 1024)
    np.testing.assert_array_equal(task.y_train, sorted(b"".join(labels[:5])))
    np.testing.assert_array_equal(task.y_test, sorted(labels[5]))


def test_written_mnist_is_read_back(tmp_path):
    for suffix in ("", ".gz"):
        paths = write_mnist(tmp_path / suffix, suffix)
        for seed, pair in enumerate((paths[:2], paths[2:])):
            images, labels = random_mnist(seed)
            read_images, read_labels = _files.read_mnist(*pair)
            np.testing.assert_array_equal(read_images.reshape(-1, 28, 28), images)
            np.testing.assert_array_equal(read_labels, labels)


@pytest.mark.data("mnist")
def test_real_mnist_is_what_everyone_knows_of_it():
    """Twin: test_written_mnist_is_read_back. Counts and first labels are public; .1307 and .3081 have four digits."""
    folder = real("mnist")
    paths = [folder / f"{name}.gz" for name in IDX]
    images, labels = _files.read_mnist(paths[0], paths[1])
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    histogram = np.bincount(images.reshape(-1), minlength=256) / images.size
    mean = histogram @ np.arange(256) / 255
    std = np.sqrt(histogram @ (np.arange(256) / 255 - mean) ** 2)
    assert (round(mean, 4), round(std, 4)) == (0.1307, 0.3081)
    images, labels = _files.read_mnist(paths[2], paths[3])
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# Standardisation, scale, targets


def every_small_task(**options):
    yield datasets.load("digits", **options)
    yield datasets.load("synthetic", seed=1, **options)
    yield datasets.synthetic(num_train=20, num_test=10, dim=7)


def test_inputs_lie_on_the_sphere_of_radius_root_d():
    for task in every_small_task(train_size=20, test_size=10):
        np.testing.assert_allclose(squared_norms(task.inputs), task.input_dim, rtol=NORM_TOLERANCE)
    unscaled = datasets.load("digits", scale="none")  # negative control
    assert np.abs(squared_norms(unscaled.x_train) / 64 - 1).max() > 0.5


def test_mnist_inputs_lie_on_the_sphere_of_radius_root_d(mnist):
    task = datasets.load("mnist", classes=None, train_size=40, test_size=20)
    np.testing.assert_allclose(squared_norms(task.inputs), 784, rtol=NORM_TOLERANCE)


def test_the_training_mean_is_subtracted_from_both_sets():
    raw = datasets.load("digits", standardize="none", scale="none")
    centred = datasets.load("digits", scale="none")
    mean = np.asarray(raw.x_train, dtype=np.float64).mean(axis=0)
    np.testing.assert_allclose(
        centred.x_train, np.asarray(raw.x_train) - mean, atol=2**-24
    )  # numbers below 1, rounded once
    np.testing.assert_allclose(centred.x_test, np.asarray(raw.x_test) - mean, atol=2**-24)
    assert np.abs(np.asarray(centred.x_test).mean(axis=0)).max() > 0.01


def test_two_numbers_standardize_pixels_between_0_and_1():
    raw = datasets.load("digits", standardize="none", scale="none")
    assert (raw.x_train.min(), raw.x_train.max()) == (0, 1)
    task = datasets.load("digits", standardize=(0.25, 0.5), scale="none")
    np.testing.assert_array_equal(task.inputs, (raw.inputs - 0.25) / 0.5)  # exact: all are multiples of 1/16


def test_targets():
    task = datasets.load("digits", classes=(4, 9, 2), train_size=4, test_size=3)
    np.testing.assert_array_equal(task.y_train, np.eye(3)[[0, 0, 1, 2]])
    task = datasets.load("digits", classes=(4, 9), train_size=3, test_size=2, loss="cross_entropy")
    np.testing.assert_array_equal(task.y_train, [0, 0, 1])
    np.testing.assert_array_equal(task.y_test, [0, 1])
    assert task.num_classes == 2


def test_luma_is_that_of_pillow(cifar10):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    records = np.frombuffer((cifar10 / "data_batch_1.bin").read_bytes(), np.uint8).reshape(-1, 3073)
    pixels = np.concatenate([records[records[:, 0] == label][:5, 1:] for label in (0, 1)])
    planes = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    grey = [np.asarray(image_module.fromarray(np.ascontiguousarray(image)).convert("L")) for image in planes]
    task = datasets.load("cifar10", train_size=10, test_size=None, grayscale=True, standardize="none", scale="none")
    np.testing.assert_array_equal(np.round(np.asarray(task.x_train) * 255), np.reshape(grey, (10, 1024)))


def test_luma_weighs_the_planes():
    red, green, blue, white = np.repeat(np.eye(4, 3, dtype=np.uint8) * 255, 1024, axis=1)
    white[:] = 255
    luma = _files.luma(np.stack([red, green, blue, white]))
    np.testing.assert_array_equal(luma[:, 0], [76, 150, 29, 255])  # 255 times .299, .587, .114, 1, rounded


@pytest.mark.data("cifar10")
def test_real_cifar10_has_the_known_grey_mean_and_deviation():
    """Twin: test_luma_weighs_the_planes. .4809 and .2392 are of all 50,000 images: z-scores over the images here."""
    folder = real(BINARY)
    images = np.concatenate([_files.read_cifar_binary(folder / f"{name}.bin")[0] for name in BATCHES[:5]])
    grey = _files.luma(images) / 255
    for values, known in ((grey, 0.4809), ((grey - 0.4809) ** 2, 0.2392**2)):
        means = values.mean(axis=1)
        assert abs(means.mean() - known) < 4.5 * means.std() / np.sqrt(len(means)) + 1e-4


# Synthetic classes


def test_synthetic_classes_have_one_mean_each_in_train_and_test():
    """Differences of a class's two empirical means, squared and scaled, are chi^2 with d degrees of freedom."""
    options = {"train_size": 400, "test_size": 200, "classes": (0, 5), "standardize": "none", "scale": "none"}
    task = datasets.load("synthetic", seed=3, **options)
    train = np.asarray(task.x_train, dtype=np.float64).reshape(2, 200, 32)
    test = np.asarray(task.x_test, dtype=np.float64).reshape(2, 100, 32)

    def z_score(a, b):
        return (np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) / (1 / len(a) + 1 / len(b)) - 32) / 8

    assert abs(z_score(train[0], test[0])) < 4.5
    assert abs(z_score(train[1], test[1])) < 4.5
    assert z_score(train[0], train[1]) > 100  # negative control: two classes differ
    assert not rows_of(task.x_test) & rows_of(task.x_train)


def test_synthetic_depends_on_the_seed_and_begins_with_the_smaller_set():
    raw = {"num_classes": 3, "standardize": "none", "scale": "none"}
    small, large = datasets.synthetic(num_train=6, **raw), datasets.synthetic(num_train=9, **raw)
    np.testing.assert_array_equal(small.x_train.reshape(3, 2, 32), large.x_train.reshape(3, 3, 32)[:, :2])
    again, other = datasets.synthetic(num_train=6, **raw), datasets.synthetic(num_train=6, seed=1, **raw)
    np.testing.assert_array_equal(small.inputs, again.inputs)
    assert not rows_of(small.inputs) & rows_of(other.inputs)
    np.testing.assert_array_equal(datasets.load("synthetic").inputs, datasets.synthetic().inputs)
    assert datasets.synthetic(num_test=None).x_test is None


# Bad arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mnits"}, "`name` to be one of digits, cifar10, mnist, synthetic, got name='mnits'"),
        ({"classes": (1,)}, r"`classes` to be at least two different classes, got classes=\(1,\)"),
        ({"classes": (1, 1)}, "`classes` to be at least two different classes"),
        ({"classes": (0, 10)}, r"`classes` to be in 0..9, got classes=\(0, 10\)"),
        ({"classes": (-1, 1)}, r"`classes` to be in 0..9"),
        ({"train_size": -1}, "`train_size` to be at least 0, got train_size=-1"),
        ({"train_size": 1}, "`train_size` to be 0 .* got train_size=1: 0 images of class 1, where 182 are there"),
        ({"train_size": 358}, "got train_size=358: 179 images of class 0, where 178 are there"),
        ({"train_size": 350}, "got test_size=64: 32 images of class 0, where 3 are left by the training set"),
        ({"train_size": 0, "test_size": 64}, "32 images of class 0, where 0 are left"),
        ({"train_size": 0, "test_size": 0}, "got test_size=0: 0 images of class 0, where 0 are left"),
        ({"loss": "mae"}, "`loss` to be 'mse' or 'cross_entropy', got loss='mae'"),
        ({"scale": "unit"}, "`scale` to be 'sphere' or 'none', got scale='unit'"),
        ({"standardize": "std"}, r"`standardize` to be 'mean', 'none' or a finite \(mean, std\)"),
        ({"standardize": (0.0, 0.0)}, r"got standardize=\(0.0, 0.0\)"),
        ({"standardize": (float("nan"), 1.0)}, r"got standardize=\(nan, 1.0\)"),
        ({"name": "synthetic", "train_size": 0}, "positive for synthetic data, which have no end, got train_size=0"),
        ({"name": "synthetic", "seed": -1}, "`seed` to be at least 0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    options = {"name": "digits"} | options
    with pytest.raises(ValueError, match=f"^Expected .*{message}"):
        datasets.load(options.pop("name"), **options)


@pytest.mark.parametrize("options", [{"train_size": 1.5}, {"train_size": True}, {"classes": (0.0, 1.0)}])
def test_arguments_of_the_wrong_kind_are_type_errors(options):
    with pytest.raises(TypeError, match=next(iter(options))):
        datasets.load("digits", **options)


@pytest.mark.parametrize(
    "options", [{"num_classes": 1}, {"num_train": 2, "num_classes": 3}, {"num_test": 0}, {"dim": 0}]
)
def test_bad_sizes_of_synthetic_data_are_named(options):
    with pytest.raises(ValueError, match=f"^Expected `{next(iter(options))}` to be at least"):
        datasets.synthetic(**options)


def test_too_few_images_of_a_class_of_cifar10_are_counted(cifar10):
    labels = np.frombuffer(b"".join((cifar10 / f"{name}.bin").read_bytes()[::3073] for name in BATCHES[:5]), np.uint8)
    count = int(np.sum(labels == 3))
    with pytest.raises(ValueError, match=f"{count + 1} images of class 3, where {count} are there"):
        datasets.load("cifar10", classes=(3, 5), train_size=2 * count + 2, test_size=None)


def test_an_input_that_is_zero_is_named(tmp_path):
    batches = [random_batch(seed, 40) for seed in range(6)]
    batches[0][0][np.flatnonzero(batches[0][1] == 1)[2]] = 0  # third image of class 1: index 4 + 2
    batches[5][0][np.flatnonzero(batches[5][1] == 0)[1]] = 0
    write_binary(tmp_path, batches)
    load = functools.partial(datasets.load, "cifar10", train_size=8, standardize="none", data_dir=tmp_path)
    with pytest.raises(ValueError, match="`x_train` to hold no zero input for scale='sphere', got one at index 6"):
        load(test_size=None)
    with pytest.raises(ValueError, match=r"`x_test` to hold no zero input .* index 1 "):
        load(train_size=4, test_size=4)
    assert load(train_size=4, test_size=2).num_test == 2
    for images, _ in batches:
        images[:] = 77  # equal images: zero once the mean is subtracted
    write_binary(tmp_path, batches)
    with pytest.raises(ValueError, match="`x_train` to hold no zero input"):
        load(train_size=6, test_size=None, standardize="mean")


# Pickles


@pytest.mark.parametrize("pickler", PICKLERS)
def test_pickled_and_binary_batches_are_the_same(tmp_path, pickler):
    batches = [random_batch(seed, 20) for seed in range(6)]
    write_binary(tmp_path / "binary" / BINARY, batches)
    folder = tmp_path / "pickled" / PICKLED
    folder.mkdir(parents=True)
    for name, (images, labels) in zip(BATCHES, batches, strict=True):
        (folder / name).write_bytes(PICKLERS[pickler](images, labels))
        plain = pickle.loads((folder / name).read_bytes(), encoding="bytes")  # our own bytes: the reference
        np.testing.assert_array_equal(plain[b"data"], images)
        for read, path in (
            (_files.read_cifar_pickle, folder / name),
            (_files.read_cifar_binary, tmp_path / "binary" / BINARY / f"{name}.bin"),
        ):
            read_images, read_labels = read(path)
            np.testing.assert_array_equal(read_images, images)
            np.testing.assert_array_equal(read_labels, labels)
    tasks = [
        datasets.load("cifar10", train_size=12, test_size=4, data_dir=tmp_path / form) for form in ("binary", "pickled")
    ]
    np.testing.assert_array_equal(tasks[0].inputs, tasks[1].inputs)


def test_binary_batches_are_preferred_to_pickled_ones(tmp_path):
    write_binary(tmp_path / BINARY)
    (tmp_path / PICKLED).mkdir()
    for name in BATCHES:
        (tmp_path / PICKLED / name).write_bytes(b"not read")
    assert datasets.load("cifar10", **SMALL, data_dir=tmp_path).num_train == 8
    (tmp_path / BINARY / "data_batch_3.bin").unlink()  # negative control: now the pickles are
    with pytest.raises(ValueError, match="to be a pickle of CIFAR-10"):
        datasets.load("cifar10", data_dir=tmp_path)


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def attacks(marker: Path) -> dict[str, bytes]:
    """Pickles that make the folder `marker` when they are loaded as a program."""
    images, labels = random_batch(0, 10)
    code = f"__import__('os').mkdir({str(marker)!r})"
    path = str(marker).encode()
    calls = {"mkdir": Call(os.mkdir, str(marker)), "eval": Call(eval, code), "exec": Call(exec, code)}
    calls["system"] = Call(os.system, f"mkdir {marker}")
    calls["subprocess"] = Call(subprocess.call, ["mkdir", str(marker)])
    found = {
        f"{name}, protocol {protocol}": pickle.dumps(
            {b"data": images, b"labels": labels.tolist(), b"x": call}, protocol
        )
        for (name, call), protocol in itertools.product(calls.items(), (0, 2, 5))
    }
    return found | {
        "instead of the dict": pickle.dumps(calls["mkdir"], 2),
        "INST": b"(V" + path + b"\nios\nmkdir\n.",
        "OBJ": b"(cos\nmkdir\nV" + path + b"\no.",
        "before a good batch": b"cos\nmkdir\n(V" + path + b"\ntR0" + python_2_pickle(images, labels),
        "through getattr": b"cbuiltins\ngetattr\n(cos\npath\nVos\ntR0(V" + path + b"\nios\nmkdir\n.",
        "dotted name": b"\x80\x04\x8c\x07os.path\x8c\x02os\x93\x8c\x05mkdir0(V" + path + b"\nios\nmkdir\n.",
        "inside numpy": b"\x80\x04\x8c\x05numpy\x8c\x08os.mkdir\x930(V" + path + b"\nios\nmkdir\n.",
        "after a torn array": python_2_pickle(images, labels)[:-2] + b"0cos\nmkdir\n(V" + path + b"\ntR.",
    }


@pytest.mark.parametrize("attack", attacks(Path("marker")))
def test_a_malicious_pickle_runs_nothing(tmp_path, attack):
    marker, file = tmp_path / "marker", tmp_path / "data_batch_1"
    file.write_bytes(attacks(marker)[attack])
    with pytest.raises(ValueError, match=r"^Expected .*data_batch_1 to be a pickle of CIFAR-10 .* which is refused"):
        _files.read_cifar_pickle(file)
    assert not marker.exists()


@pytest.mark.parametrize("attack", ["system, protocol 2", "eval, protocol 5", "before a good batch", "INST"])
def test_the_malicious_pickles_are_malicious(tmp_path, attack):
    """The negative control of the test above: plain `pickle` runs what these files name."""
    pickle.loads(attacks(tmp_path / "marker")[attack], encoding="bytes")
    assert (tmp_path / "marker").is_dir()


def test_a_malicious_batch_is_refused_by_load(tmp_path):
    marker, folder = tmp_path / "marker", tmp_path / PICKLED
    folder.mkdir()
    for name in BATCHES:
        (folder / name).write_bytes(attacks(marker)["system, protocol 2"])
    with pytest.raises(ValueError, match="data_batch_1 to be a pickle of CIFAR-10"):
        datasets.load("cifar10", data_dir=tmp_path)
    assert not marker.exists()


GOOD_IMAGES, GOOD_LABELS = random_batch(0, 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({b"data": GOOD_IMAGES.astype(object), b"labels": GOOD_LABELS.tolist()}, "dtype 'O8', which is refused"),
        ({b"data": GOOD_IMAGES / 255, b"labels": GOOD_LABELS.tolist()}, "dtype 'f8', which is refused"),
        ({b"data": GOOD_IMAGES.view("V1"), b"labels": []}, "dtype 'V1', which is refused"),
        ({b"data": GOOD_IMAGES.astype(np.int32), b"labels": GOOD_LABELS.tolist()}, "dtype uint8, got .* dtype int32"),
        ({b"data": GOOD_IMAGES[:, :-1], b"labels": GOOD_LABELS.tolist()}, r"got shape \[10, 3071\]"),
        ({b"data": GOOD_IMAGES[:0], b"labels": []}, r"(got shape \[0, 3072\]|__builtin__.bytes', which is refused)"),
        ({b"data": GOOD_IMAGES, b"labels": GOOD_LABELS.tolist()[1:]}, r"hold 10 labels, got shape \[9\]"),
        ({b"data": GOOD_IMAGES, b"labels": [*GOOD_LABELS.tolist()[1:], 10]}, "labels in 0..9, got 10 at record 9"),
        ({b"data": GOOD_IMAGES, b"labels": [-1, *GOOD_LABELS.tolist()[1:]]}, "labels in 0..9, got -1 at record 0"),
        ({b"data": GOOD_IMAGES, b"labels": [None] * 10}, "a list of other things than ints"),
        ({b"data": GOOD_IMAGES, b"labels": [2**70] * 10}, "OverflowError"),
        ({b"data": GOOD_IMAGES}, "KeyError: 'labels'"),
        ({b"data": 3, b"labels": []}, "a int where an array should be"),
        ([1, 2], "a list instead of a dict"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_pickles_that_hold_something_else_are_refused(tmp_path, content, message, protocol):
    file = tmp_path / "data_batch_2"
    file.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(ValueError, match=f"^Expected .*data_batch_2 to .*{message}"):
        _files.read_cifar_pickle(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        python_2_pickle(GOOD_IMAGES, GOOD_LABELS)[:-100],
        python_2_pickle(GOOD_IMAGES, GOOD_LABELS).replace(b"M\x0a\x00", b"M\x0b\x00"),  # says 11 images
        b"\x80\x02}(U\x04datac_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00base64\x86RU\x06labels]u.",
        b"\x80\x02c_codecs\nencode\n}U\x04nameK\x01s\x86b.",  # sets attributes of what a name stands for
        b"(" * 100_000,
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
    ids=["empty", "torn", "lying shape", "other codec", "build", "deep", "frame"],
)
def test_torn_and_odd_pickles_are_refused(tmp_path, content):
    file = tmp_path / "data_batch_2"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="data_batch_2 to be a pickle of CIFAR-10"):
        _files.read_cifar_pickle(file)
    assert codecs.encode("a", "latin1") == b"a"


def test_labels_may_be_an_array(tmp_path):
    file = tmp_path / "batch"
    for dtype in (np.uint8, np.int64, ">i4"):
        file.write_bytes(pickle.dumps({"data": np.asfortranarray(GOOD_IMAGES), "labels": GOOD_LABELS.astype(dtype)}, 2))
        images, labels = _files.read_cifar_pickle(file)
        np.testing.assert_array_equal(images, GOOD_IMAGES)
        np.testing.assert_array_equal(labels, GOOD_LABELS)


# Torn and wrong files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(3073 * 2 + 5), r"whole number of records of 3073 bytes, got 6151 bytes"),
        (bytes(3072), "got 3072 bytes"),
        (b"", "got 0 bytes"),
        (bytes(3073) + b"\x0a" + bytes(3072), "labels in 0..9, got 10 at record 1"),
    ],
)
def test_torn_binary_batches_are_refused_by_name(tmp_path, content, message):
    write_binary(tmp_path)
    (tmp_path / "data_batch_4.bin").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^Expected .*data_batch_4.bin to hold .*{message}"):
        datasets.load("cifar10", data_dir=tmp_path)


def test_batches_may_have_any_number_of_records(tmp_path):
    write_binary(tmp_path, [random_batch(seed, 10 * (1 + seed)) for seed in range(6)])
    task = datasets.load("cifar10", train_size=0, test_size=0, data_dir=tmp_path)
    assert (task.num_train, task.num_test) == (2 * (1 + 2 + 3 + 4 + 5), 2 * 6)


IMAGES, LABELS = random_mnist(0, 10)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("which", "content", "message"),
    [
        (0, idx(IMAGES)[:-1], r"to hold 7856 bytes for shape \[10, 28, 28\], got 7855 bytes"),
        (0, idx(IMAGES) + b"\0", "got 7857 bytes"),
        (0, idx(IMAGES)[:3], "magic number 0x00000803 and 3 sizes, got 3 bytes that begin with 0x000008"),
        (0, idx(IMAGES, magic=0x0D03), "magic number 0x00000803 .* begin with 0x00000d03"),
        (0, idx(LABELS), "magic number 0x00000803 .* begin with 0x00000801"),
        (0, idx(IMAGES[:, 1:]), r"images of 28 x 28 pixels, got shape \[10, 27, 28\]"),
        (0, idx(IMAGES[:0]), r"got shape \[0, 28, 28\]"),
        (0, idx(IMAGES[:5]), "train-labels-idx1-ubyte.* to hold 5 labels, got 10"),
        (1, idx(LABELS)[:-1], "to hold 18 bytes"),
        (1, idx(IMAGES), "magic number 0x00000801"),
        (1, idx(LABELS + 1), "labels in 0..9, got 10"),
    ],
)
def test_wrong_idx_files_are_refused_by_name(tmp_path, which, content, message, compressed):
    contents = [idx(IMAGES), idx(LABELS)]
    contents[which] = content
    for name, raw in zip(IDX, contents, strict=False):
        (tmp_path / (name + ".gz" * compressed)).write_bytes(gzip.compress(raw) if compressed else raw)
    name = IDX[1] if "train-labels" in message else IDX[which]
    with pytest.raises(ValueError, match=f"^Expected .*{name}.*{message.split('.* ', 1)[-1]}"):
        datasets.load("mnist", train_size=2, test_size=None, data_dir=tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-20], lambda raw: raw + b"x", lambda raw: b"no gzip", lambda raw: b""]
)
def test_torn_gzip_files_are_refused_by_name(tmp_path, damage):
    paths = write_mnist(tmp_path)
    paths[3].write_bytes(damage(paths[3].read_bytes()))
    with pytest.raises(ValueError, match=r"^Expected .*t10k-labels-idx1-ubyte.gz to (be a whole gzip file|begin with)"):
        datasets.load("mnist", data_dir=tmp_path)


# Where the files are


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("folder", [".", "mnist", "MNIST/raw"])
def test_mnist_is_found_in_its_folders(tmp_path, monkeypatch, folder, suffix):
    monkeypatch.delenv("MUPJAX_DATA", raising=False)
    write_mnist(tmp_path / folder, suffix)
    given = datasets.load("mnist", **SMALL, data_dir=str(tmp_path))
    monkeypatch.setenv("MUPJAX_DATA", str(tmp_path))
    np.testing.assert_array_equal(datasets.load("mnist", **SMALL).inputs, given.inputs)


def test_the_argument_goes_before_the_variable(tmp_path, monkeypatch):
    write_binary(tmp_path / "right")
    monkeypatch.setenv("MUPJAX_DATA", str(tmp_path / "wrong"))
    assert datasets.load("cifar10", **SMALL, data_dir=tmp_path / "right").num_train == 8


@pytest.mark.parametrize("through_variable", [False, True])
@pytest.mark.parametrize(
    ("name", "files"),
    [("cifar10", ["data_batch_5.bin", "test_batch.bin", "data_batch_1,"]), ("mnist", [*IDX, ".gz"])],
)
def test_missing_files_are_named_and_never_fetched(tmp_path, cache, monkeypatch, name, files, through_variable):
    monkeypatch.setattr(pooch, "retrieve", lambda *args, **kwargs: pytest.fail("fetched"))
    (tmp_path / BINARY).mkdir()
    (tmp_path / BINARY / "data_batch_1.bin").write_bytes(bytes(3073))  # one of six is not enough
    if through_variable:
        monkeypatch.setenv("MUPJAX_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"^Expected all files of") as caught:
        datasets.load(name, data_dir=None if through_variable else tmp_path)
    folders = [tmp_path / BINARY, tmp_path / PICKLED] if name == "cifar10" else [tmp_path / "mnist", tmp_path / "MNIST"]
    for part in [*files, *map(str, folders), "`data_dir`", "MUPJAX_DATA"]:
        assert part in str(caught.value)
    assert not cache.exists()


def test_the_test_files_are_not_needed_without_a_test_set(tmp_path):
    write_binary(tmp_path)
    (tmp_path / "test_batch.bin").unlink()
    assert datasets.load("cifar10", test_size=None, data_dir=tmp_path).num_train == 64
    with pytest.raises(FileNotFoundError, match=r"test_batch\.bin"):
        datasets.load("cifar10", data_dir=tmp_path)


# Fetching


@pytest.fixture
def server(tmp_path):
    """A web server on this machine: (its address, the folder that it serves)."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", folder
        running.shutdown()
        thread.join()


def serve_cifar(server, members: dict[str, bytes]) -> tuple[Path, dict[str, str]]:
    """Serve an archive of these members: the archive, and the arguments by which it is fetched."""
    address, folder = server
    archive = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return archive, {"url": address + archive.name, "known_hash": checksum(archive)}


def checksum(path: Path) -> str:
    return f"md5:{pooch.file_hash(str(path), alg='md5')}"


def cifar_members(tmp_path: Path) -> dict[str, bytes]:
    write_binary(tmp_path / "made")
    return {f"{BINARY}/{name}.bin": (tmp_path / "made" / f"{name}.bin").read_bytes() for name in BATCHES}


def test_cifar10_is_fetched_checked_and_kept(tmp_path, cache, server, monkeypatch):
    members = cifar_members(tmp_path)
    others = {"../outside": b"", "/absolute": b"", f"{BINARY}/readme.html": b""}
    archive, source = serve_cifar(server, others | members)
    paths, is_binary = _folders.cifar_paths(None, with_test=True, **source)
    assert is_binary
    assert {f"{BINARY}/{path.name}": path.read_bytes() for path in paths} == members
    assert files_under(cache) == sorted(f"mupjax/{name}" for name in [*members, archive.name])
    monkeypatch.setattr(pooch, "retrieve", lambda *args, **kwargs: pytest.fail("fetched twice"))
    expected = datasets.load("cifar10", **SMALL, data_dir=tmp_path / "made")
    np.testing.assert_array_equal(datasets.load("cifar10", **SMALL).inputs, expected.inputs)


def test_an_archive_that_lacks_a_batch_leaves_no_batches(tmp_path, cache, server):
    members = cifar_members(tmp_path)
    del members[f"{BINARY}/test_batch.bin"]
    archive, source = serve_cifar(server, members)
    with pytest.raises(KeyError, match="test_batch"):
        _folders.cifar_paths(None, with_test=True, **source)
    assert files_under(cache) == [f"mupjax/{archive.name}"]


def test_mnist_is_fetched_and_checked(tmp_path, cache, server):
    paths = write_mnist(server[1])
    hashes = {path.stem: checksum(path) for path in paths}
    fetched = _folders.mnist_paths(None, with_test=True, url=server[0], hashes=hashes)
    assert {path.name: path.read_bytes() for path in fetched} == {path.name: path.read_bytes() for path in paths}
    assert files_under(cache) == sorted(f"mupjax/mnist/{path.name}" for path in paths)


PATHS = {"cifar10": _folders.cifar_paths, "mnist": _folders.mnist_paths}


@pytest.mark.parametrize("name", PATHS)
def test_another_checksum_is_refused_and_nothing_kept(tmp_path, cache, server, name):
    archive, _ = serve_cifar(server, cifar_members(tmp_path))
    write_mnist(server[1])
    url = server[0] + (archive.name if name == "cifar10" else "")
    with pytest.raises(FileNotFoundError, match="hash"):
        PATHS[name](None, with_test=True, url=url)
    assert files_under(cache) == []


@pytest.mark.parametrize(
    ("name", "files"), [("cifar10", [f"{name}.bin" for name in BATCHES]), ("mnist", [f"{name}.gz" for name in IDX])]
)
def test_without_network_the_error_says_what_to_put_where(cache, name, files):
    url = "http://127.0.0.1:1/" + ("cifar-10-binary.tar.gz" if name == "cifar10" else "")  # nobody listens
    with pytest.raises(
        FileNotFoundError, match=r"^Expected to fetch http://127.0.0.1:1/.*, got ConnectionError"
    ) as caught:
        PATHS[name](None, with_test=True, url=url)
    for part in [*files, "`data_dir`", "MUPJAX_DATA"]:
        assert part in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert files_under(cache) == []


@pytest.mark.data("mnist")
def test_the_checksums_are_the_published_ones():
    """Twin: test_mnist_is_fetched_and_checked. The training images are left out: copies recompressed are about."""
    folder = real("mnist")
    hashes = {name: f"md5:{pooch.file_hash(str(folder / f'{name}.gz'), alg='md5')}" for name in IDX[1:]}
    assert hashes == {name: _folders.MNIST_HASHES[name] for name in IDX[1:]}


def test_importing_does_not_import_what_only_loading_needs():
    code = "import sys, mupjax.datasets; print([name for name in ('sklearn', 'pooch', 'tqdm') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
