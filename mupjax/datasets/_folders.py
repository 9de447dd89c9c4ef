"""Find the files of CIFAR-10 and MNIST in the user's data folder, or fetch them into pooch's cache."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

DATA_VARIABLE = "MUPJAX_DATA"

CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR_HASH = "md5:c32a1d4ab5d03f1284b67883e8d87530"
CIFAR_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
CIFAR_BINARY, CIFAR_PICKLED = "cifar-10-batches-bin", "cifar-10-batches-py"

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_HASHES = {
    "train-images-idx3-ubyte": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}
MNIST_FOLDERS = ("mnist", "MNIST/raw")


def cifar_paths(
    data_dir: str | os.PathLike[str] | None, *, with_test: bool, url: str = CIFAR_URL, known_hash: str = CIFAR_HASH
) -> tuple[list[Path], bool]:
    """Return the five training batches (and the test batch if `with_test`), and whether they are binary files.

    Args:
      data_dir: where they are; by default MUPJAX_DATA, and without it the cache, into which they are fetched.
      with_test: whether the test batch is needed.
      url, known_hash: of the archive that is fetched.

    Raises:
      FileNotFoundError: if files are missing or cannot be fetched.
    """
    names = CIFAR_BATCHES if with_test else CIFAR_BATCHES[:-1]
    binary = [f"{name}.bin" for name in names]
    root = _root(data_dir)
    if root is None:
        return _fetch_cifar(binary, url, known_hash), True
    forms = [([root / CIFAR_BINARY, root], binary, True), ([root / CIFAR_PICKLED, root], names, False)]
    for folders, files, is_binary in forms:
        if paths := _find(folders, files):
            return paths, is_binary
    missing = f"{', '.join(binary)} (or, as pickles, {', '.join(names)})"
    raise _not_found("cifar10", missing, [root / CIFAR_BINARY, root / CIFAR_PICKLED, root])


def mnist_paths(
    data_dir: str | os.PathLike[str] | None,
    *,
    with_test: bool,
    url: str = MNIST_URL,
    hashes: Mapping[str, str] = MNIST_HASHES,
) -> list[Path]:
    """Return the files of training images and labels (and of test images and labels if `with_test`).

    Args:
      data_dir: as in `cifar_paths`.
      with_test: whether the test images and labels are needed.
      url, hashes: the folder that files are fetched from, and what each must hash to.

    Raises:
      FileNotFoundError: if files are missing or cannot be fetched.
    """
    names = list(MNIST_HASHES)[: 4 if with_test else 2]
    root = _root(data_dir)
    if root is None:
        files = [f"{name}.gz" for name in names]
        return [_fetch(url + file, "mnist", hashes[file[:-3]], files) for file in files]
    folders = [*(root / folder for folder in MNIST_FOLDERS), root]
    if paths := _find(folders, names, suffixes=("", ".gz")):
        return paths
    raise _not_found("mnist", f"{', '.join(names)} (each plain or .gz)", folders)


def _root(data_dir: str | os.PathLike[str] | None) -> Path | None:
    named = data_dir if data_dir is not None else os.environ.get(DATA_VARIABLE)
    return Path(named).expanduser() if named else None


def _find(folders: Sequence[Path], names: Sequence[str], suffixes: Sequence[str] = ("",)) -> list[Path] | None:
    """Return the files of the first folder that holds all of them, or None."""
    for folder in folders:
        found = [[path for suffix in suffixes if (path := folder / (name + suffix)).is_file()] for name in names]
        if all(found):
            return [paths[0] for paths in found]
    return None


def _not_found(dataset: str, files: str, folders: Sequence[Path]) -> FileNotFoundError:
    return FileNotFoundError(
        f"Expected all files of {dataset} in one folder, got none of {', '.join(map(str, folders))} with {files}. "
        f"Put them there, name another folder by `data_dir` or {DATA_VARIABLE}, or unset both to have them fetched."
    )


def _fetch_cifar(files: Sequence[str], url: str, known_hash: str) -> list[Path]:
    """Fetch the archive and unpack its six batches once; each batch is moved into place when it is complete."""
    folder = _cache() / CIFAR_BINARY
    paths = [folder / file for file in files]
    if not all(path.is_file() for path in paths):
        archive = _fetch(url, "", known_hash, files)
        with tarfile.open(archive) as tar, tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
            for batch in CIFAR_BATCHES:
                tar.extract(f"{CIFAR_BINARY}/{batch}.bin", scratch, filter="data")
            folder.mkdir(exist_ok=True)
            for batch in CIFAR_BATCHES:
                os.replace(Path(scratch, CIFAR_BINARY, f"{batch}.bin"), folder / f"{batch}.bin")
    return paths


def _fetch(url: str, subfolder: str, known_hash: str, needed: Sequence[str]) -> Path:
    """Return the path of a file in the cache, fetched if absent; pooch moves it into place once its hash matches."""
    import pooch

    file = url.rsplit("/", 1)[-1]
    try:
        return Path(pooch.retrieve(url, known_hash, fname=file, path=_cache() / subfolder, progressbar=True))
    except (OSError, ValueError) as error:  # no network, no room, or another checksum
        raise FileNotFoundError(
            f"Expected to fetch {url}, got {type(error).__name__}: {error}. Without network, put the files "
            f"{', '.join(needed)} into a folder and name it by `data_dir` or {DATA_VARIABLE}."
        ) from error


def _cache() -> Path:
    import pooch

    return Path(pooch.os_cache("mupjax"))
