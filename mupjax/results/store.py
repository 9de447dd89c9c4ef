"""Results on disk: one zarr store per directory. The only module that knows zarr.

A study is written cell by cell: its metadata first and once (`create`); then every cell's arrays (`put`), which are
whole chunks of their own, so that no two workers write one file; then, when these are safely on the disk, the cell's
entry in the folder `done`, put in place in one step; at the end what follows from all cells together and
`attrs['complete']` (`finish`). What has no entry reads as NaN. Files are listed with their SHA-256 and checked on
reading: zarr itself takes a missing chunk for fill values. A Dataset that is there already is written whole (`write`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mupjax.results.layout import Layout, Where, blank, places

if TYPE_CHECKING:
    import xarray as xr

STORE = "results.zarr"
_CHECKSUMS = "checksums.json"
_DONE = "done"
_STALE_SECONDS = 3600
_GROUP = {"attributes": {}, "zarr_format": 3, "node_type": "group"}


def check_directory(out: str | os.PathLike[str], arguments: str) -> Path | None:
    """Return the store in `out` if there is one of the same arguments, None if there is none.

    Args:
      out: the results directory; it need not exist.
      arguments: canonical JSON of what is to be computed.

    Raises:
      ValueError: where `out` is no directory or cannot be written, where a store of other arguments lies there (the
        message names the first difference), or one that is not ours, or not whole and not written by cells.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"Expected `out` to be a directory, got the file {out}.")
    parent = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"Expected `out` to be writable, got {out}.")
    path = out / STORE
    if not path.exists():
        return None
    try:
        stored = attributes(path).get("arguments")
        if stored == arguments:
            read(path)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"Expected `out` to be empty or to hold results of mupjax, got {path}: {error}") from error
    if stored is None:
        raise ValueError(f"Expected `out` to be empty or to hold results of mupjax, got {path}.")
    if stored != arguments:
        raise ValueError(
            f"Expected `out` to be empty or of the same arguments, got {path} with {_difference(stored, arguments)}."
        )
    return path


def write(dataset: xr.Dataset, out: str | os.PathLike[str]) -> Path:
    """Write a Dataset to `out`/results.zarr, whole or not at all.

    Raises:
      ValueError: where a store is there already; nothing is ever overwritten.
    """
    return _put_in_place(dataset.assign_attrs(complete=1), Path(out), lambda path: None)


def create(layout: Layout, out: str | os.PathLike[str]) -> Path:
    """Write the metadata of a study to `out`/results.zarr: all but the cells' arrays.

    Args:
      layout: what is known of the Dataset.
      out: the results directory.

    Raises:
      ValueError: where a store is there already.
    """

    def add_variables(path: Path) -> None:
        import zarr

        group = zarr.open_group(path, mode="r+")
        for name, (dims, dtype, attrs) in layout.variables.items():
            group.create_array(
                name,
                shape=[layout.sizes[dim] for dim in dims],
                chunks=tuple(1 if dim in layout.cell_dims else max(1, layout.sizes[dim]) for dim in dims),
                dtype=dtype,
                fill_value=blank((), dtype).item(),
                dimension_names=dims,
                attributes=dict[str, Any](attrs),
                chunk_key_encoding={"name": "default", "separator": "."},
            )
        (path / _DONE).mkdir()
        (path / _DONE / "zarr.json").write_text(json.dumps(_GROUP))  # a group, so that zarr finds nothing foreign

    attrs = {"complete": 0, "cell_dims": list(layout.cell_dims), "cell_variables": list(layout.variables)}
    return _put_in_place(layout.coords.assign_attrs(attrs), Path(out), add_variables)


def put(
    path: str | os.PathLike[str], cell: str, where: Where, arrays: Mapping[str, np.ndarray], seconds: float = 0.0
) -> str:
    """Write a cell's arrays, then its `done` entry; a cell that has one is left as it is. Returns its name.

    Args:
      path: the store.
      cell: its name, a part of a file's name.
      where: the positions that it fills along every dim of cells.
      arrays: by variable, one axis for the positions (where several dims have several, their product in order), then
        the variable's other dims.
      seconds: what it took to compute.

    Raises:
      OSError: where the disk is full or gone; the cell then has no entry.
    """
    import zarr

    path = Path(path)
    if is_done(path, cell):
        return cell
    chunks: dict[str, object] = {}
    with zarr.config.set(
        {"array.write_empty_chunks": True}
    ):  # write computed NaN explicitly, to tell it from a missing chunk
        group = zarr.open_group(path, mode="r+")
        for name, values in arrays.items():
            if is_done(path, cell):  # by another worker in the meantime
                return cell
            array = group[name]
            assert isinstance(array, zarr.Array)
            for place, value in zip(places(_dims(array), where), values, strict=True):
                array[place] = np.asarray(value, array.dtype)
                file = ".".join(["c", *map(str, place), *["0"] * (array.ndim - len(place))])
                chunks[f"{name}/{file}"] = None
    for name in chunks:
        content = (path / name).read_bytes()
        chunks[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        _sync(path / name)
    for folder in {(path / name).parent for name in chunks}:
        _sync(folder)
    along = {dim: list(positions) for dim, positions in where.items()}
    entry = {"cell": cell, "where": along, "chunks": chunks, "seconds": seconds}
    _replace(path / _DONE / f"{cell}.json", json.dumps(entry, indent=0))
    return cell


def is_done(path: str | os.PathLike[str], cell: str) -> bool:
    """Whether a cell is finished."""
    return (Path(path) / _DONE / f"{cell}.json").is_file()


def finish(path: str | os.PathLike[str], cells: Iterable[str], derived: xr.Dataset | None = None) -> None:
    """Add what follows from all cells, then set `attrs['complete']` in one step, with the seconds that all took.

    Args:
      path: the store.
      cells: the names of all.
      derived: variables and coordinates that the store does not have yet.

    Raises:
      RuntimeError: where one of the cells is not done.
    """
    if absent := [cell for cell in cells if not is_done(path, cell)]:
        raise RuntimeError(f"Expected every cell of {path} to be done, got none for {', '.join(absent)}.")
    for stale in [*Path(path).glob("*/*.partial"), *Path(path).glob(f"{_DONE}/*.tmp")]:  # of killed workers
        stale.unlink(missing_ok=True)
    metadata = json.loads((Path(path) / "zarr.json").read_text())
    attrs = metadata["attributes"]
    if derived is not None and derived.variables:
        _add(derived, Path(path))
        named = {*attrs.get("coordinates", "").split(), *map(str, derived.coords)}
        attrs["coordinates"] = " ".join(sorted(named))  # where xarray looks for those that no array names
    seconds = sum(entry["seconds"] for entry in _entries(Path(path)))
    attrs |= {"seconds": round(seconds), "complete": 1}
    _replace(Path(path) / "zarr.json", json.dumps(metadata, indent=2))


def attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the attributes of a store."""
    return json.loads((Path(path) / "zarr.json").read_text())["attributes"]


def read(path: str | os.PathLike[str]) -> xr.Dataset:
    """Return the Dataset of a store; of one that is written by cells, NaN where a cell is not done.

    Raises:
      ValueError: where there is none, none that is whole or written by cells, or one with a missing or torn file; the
        message names it.

    Example:
      >>> dict(read("sweep/results.zarr").sizes)["learning_rate"]
      13
    """
    import xarray as xr

    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = xr.open_zarr(path, consolidated=False, chunks=None)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"Expected a zarr store at {path}, got {type(error).__name__}: {error}") from error
    by_cells = (path / _DONE).is_dir()
    if not (by_cells or dataset.attrs.get("complete")) or not (path / _CHECKSUMS).is_file():
        raise ValueError(f"Expected a complete store at {path}, got one whose writing was interrupted.")
    wanted = json.loads((path / _CHECKSUMS).read_text())
    entries = _entries(path) if by_cells else []
    chunks = {name: chunk["sha256"] for entry in entries for name, chunk in entry["chunks"].items()}
    _check_files(path, wanted | chunks, set() if by_cells else _checksums(path).keys())
    return _filled(dataset, path, entries) if by_cells else dataset.load()


def _check_files(store: Path, wanted: dict[str, str], found: Iterable[str]) -> None:
    """Raise ValueError for the first file that is missing, torn, changed, or found without being wanted."""
    for name in sorted({*wanted, *found}):
        file = store / name
        what = "missing" if not file.is_file() else "torn or changed" if wanted.get(name) != _checksum(file) else ""
        if what:
            raise ValueError(f"Expected the store at {store} as it was written, got {name} {what}.")


def _filled(dataset: xr.Dataset, path: Path, entries: list[Any]) -> xr.Dataset:
    """The Dataset in memory, NaN where a cell is not done: what lies there may be torn, and is not read."""
    import zarr

    group, filled = zarr.open_group(path, mode="r"), {}
    for name in dataset.attrs["cell_variables"]:
        variable, array = dataset[name], group[name]
        assert isinstance(array, zarr.Array)
        values = blank(variable.shape, str(variable.dtype))
        for entry in entries:
            if any(chunk.startswith(f"{name}/") for chunk in entry["chunks"]):
                for place in places(variable.dims, entry["where"]):
                    values[place] = array[place]
        filled[name] = (variable.dims, values, variable.attrs)
    return dataset.drop_vars(filled).load().assign(filled)


def _add(derived: xr.Dataset, store: Path) -> None:
    """Put variables into a store, each in one step, and list their files."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{STORE}-", dir=store.parent))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr: string dtypes have no version 3 specification yet
            derived.to_zarr(scratch / STORE, mode="w", consolidated=False)
        new = {}
        for name in map(str, derived.variables):
            files = sorted(file for file in (scratch / STORE / name).rglob("*") if file.is_file())
            new |= {str(file.relative_to(scratch / STORE)): _checksum(file) for file in files}
            for file in files:
                _sync(file)
            shutil.rmtree(store / name, ignore_errors=True)  # of a run that was killed before it was complete
            os.replace(scratch / STORE / name, store / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _sync(store)
    _replace(store / _CHECKSUMS, json.dumps(json.loads((store / _CHECKSUMS).read_text()) | new, indent=0))


def _dims(array: Any) -> tuple[str, ...]:
    return tuple(array.metadata.dimension_names)


def _entries(store: Path) -> list[Any]:
    return [json.loads(file.read_text()) for file in sorted((store / _DONE).glob("*.json")) if file.name != "zarr.json"]


def _put_in_place(dataset: xr.Dataset, out: Path, complete: Callable[[Path], object]) -> Path:
    """Write into a temporary folder beside the store, `complete` it, list its files, and rename it when it is whole."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / STORE).exists():
        raise ValueError(f"Expected `out` to hold no {STORE} yet, got {out / STORE}.")
    for stale in out.glob(f".{STORE}-*"):  # of a run that was killed while it wrote, and of no live one
        if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(stale, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{STORE}-", dir=out))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr: string dtypes have no version 3 specification yet
            dataset.to_zarr(scratch / STORE, mode="w", consolidated=False)
        complete(scratch / STORE)
        (scratch / STORE / _CHECKSUMS).write_text(json.dumps(_checksums(scratch / STORE), indent=0))
        for written in [*scratch.rglob("*"), scratch]:
            _sync(written)
        os.replace(scratch / STORE, out / STORE)
        _sync(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out / STORE


def _checksums(store: Path) -> dict[str, str]:
    """SHA-256 of every file by its relative path; not of the list, nor of attributes that change at the end."""
    changing = {store / _CHECKSUMS, *([store / "zarr.json"] if (store / _DONE).is_dir() else [])}
    files = sorted(path for path in store.rglob("*") if path.is_file() and path not in changing)
    return {str(path.relative_to(store)): _checksum(path) for path in files}


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _replace(path: Path, text: str) -> None:
    """Put a small file in place in one step, safely on the disk."""
    scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    scratch.write_text(text)
    _sync(scratch)
    os.replace(scratch, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of files, is on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # folders cannot be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _difference(stored: str, wanted: str) -> str:
    """Name the first argument in which two canonical JSON texts differ."""
    try:
        before, now = json.loads(stored), json.loads(wanted)
    except json.JSONDecodeError:
        return "other arguments"
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            return f"{name}={json.dumps(before.get(name))}, not {json.dumps(now.get(name))}"
    return "other arguments"
