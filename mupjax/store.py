"""Results on disk: one zarr store per directory, put in place whole or not at all.

A list of every file's SHA-256 lies in the store and is checked on reading: zarr itself takes a missing chunk for fill
values. The only module that knows zarr.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

STORE = "results.zarr"
_CHECKSUMS = "checksums.json"


def check_directory(out: str | os.PathLike[str], arguments: str) -> Path | None:
    """Return the finished store in `out` if there is one of the same arguments, None if there is none.

    Args:
      out: the results directory; it need not exist.
      arguments: canonical JSON of what is to be computed.

    Raises:
      ValueError: where `out` is no directory or cannot be written, where a store of other arguments lies there (the
        message names the first difference), or one that is not complete or not ours.
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
        stored = read(path).attrs["arguments"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"Expected `out` to be empty or to hold a finished comparison, got {path}: {error}") from error
    if stored != arguments:
        raise ValueError(
            f"Expected `out` to be empty or of the same arguments, got {path} with {_difference(stored, arguments)}."
        )
    return path


def write(dataset: Any, out: str | os.PathLike[str]) -> Path:
    """Write a Dataset to `out`/results.zarr: into a temporary folder beside it first, renamed when it is whole.

    Raises:
      ValueError: where a store is there already; nothing is ever overwritten.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if (out / STORE).exists():
        raise ValueError(f"Expected `out` to hold no {STORE} yet, got {out / STORE}.")
    for stale in out.glob(f".{STORE}-*"):  # of a run that was killed while it wrote
        shutil.rmtree(stale, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{STORE}-", dir=out))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr: string dtypes have no version 3 specification yet
            dataset.assign_attrs(complete=1).to_zarr(scratch / STORE, mode="w", consolidated=False)
        (scratch / STORE / _CHECKSUMS).write_text(json.dumps(_checksums(scratch / STORE), indent=0))
        os.replace(scratch / STORE, out / STORE)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out / STORE


def read(path: str | os.PathLike[str]) -> Any:
    """Return the Dataset that `write` wrote.

    Raises:
      ValueError: where there is none, none that is complete, or one with a missing or torn file; the message names it.
    """
    import xarray as xr

    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = xr.open_zarr(path, consolidated=False, chunks=None)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"Expected a zarr store at {path}, got {type(error).__name__}: {error}") from error
    if not dataset.attrs.get("complete") or not (path / _CHECKSUMS).is_file():
        raise ValueError(f"Expected a complete store at {path}, got one whose writing was interrupted.")
    wanted, found = json.loads((path / _CHECKSUMS).read_text()), _checksums(path)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            what = "missing" if name not in found else "torn or changed"
            raise ValueError(f"Expected the store at {path} as it was written, got {name} {what}.")
    return dataset.load()


def _checksums(store: Path) -> dict[str, str]:
    """SHA-256 of every file of a store by its relative path, the list itself left out."""
    files = sorted(path for path in store.rglob("*") if path.is_file() and path.name != _CHECKSUMS)
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


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
