"""Parts of a reproduction: studies with their own settings, each stored in its own folder and read back from there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mupjax import datasets
from mupjax.results import arguments_json, store
from mupjax.studies.catapults import catapult_study
from mupjax.studies.comparison import compare
from mupjax.studies.comparison.variables import VARIABLES
from mupjax.studies.covariance import covariance_study
from mupjax.studies.training import training_study
from mupjax.task import Task

if TYPE_CHECKING:
    import xarray as xr

MAIN = "main"  # the part whose results lie in the study's own folder
WIDE = "wide"  # the same for few steps, at widths that main cannot reach


class Part(NamedTuple):
    """One experiment of a paper, kept in a folder of its own.

    Attributes:
      name: also its folder's.
      title: in words.
      data: keywords of `datasets.load`.
      settings: keywords of `compare`, or of another function of KINDS.
      change: what is done to the second training input: a name in CHANGES.
      kind: a name in KINDS.
      dataset: where it is another than the paper's; 'line' and 'noise' are made here.
    """

    name: str
    title: str
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    change: str = "none"
    kind: str = "compare"
    dataset: str | None = None


KINDS: dict[str, Callable[..., Any]] = {
    "compare": compare,
    "covariance": covariance_study,
    "training": training_study,
    "catapults": catapult_study,
}

CHANGES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "none": lambda first, second: second,
    "duplicated": lambda first, second: first,
    "opposite": lambda first, second: -first,
    "correlated": lambda first, second: first + 0.1 * (second - first),
}


def run_part(
    part: Part,
    dataset: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    memory_gb: float | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Return a part's Dataset, computed now or read where `out` holds it already.

    Args:
      part: what to compare.
      dataset: 'digits', 'cifar10', ...
      data_dir: where files are.
      out: the study's folder, in which every finished cell is kept; None keeps nothing.
      memory_gb, progress: as in `compare`.

    Returns:
      What the function of the part's kind returns; a comparison with the `targets` of its training inputs, and with
      `test_error` where there is a test set.

    Raises:
      ValueError: as `compare`, and where `out` holds results of other arguments.
    """
    if out is not None and (kept := finished(part, dataset, out)) is not None:
        return kept
    if progress:
        print(f"{part.name}: {part.title}")
    task = task_of(part, dataset, data_dir)
    return KINDS[part.kind](
        task,
        **part.settings,
        memory_gb=memory_gb,
        progress=progress,
        out=None if out is None else folder_of(part.name, out),
        about=_about(part, dataset),
        derive=partial(_with_targets, task=task) if part.kind == "compare" else None,
    )


def run_parts(
    parts: Sequence[Part],
    dataset: str,
    *,
    names: Sequence[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    memory_gb: float | None = None,
    progress: bool = False,
) -> dict[str, xr.Dataset]:
    """Return {part: Dataset} of the named parts, all by default, and of others that `out` holds already.

    Arguments and errors as in `run_part`; ValueError also for an unknown name.
    """
    every = [part.name for part in parts]
    if unknown := [name for name in names or () if name not in every]:
        raise ValueError(f"Expected `parts` to be drawn from {', '.join(every)}, got {unknown[0]!r}.")
    found = {}
    for part in parts:
        if names is None or part.name in names:
            common: dict[str, Any] = {"data_dir": data_dir, "out": out, "memory_gb": memory_gb, "progress": progress}
            found[part.name] = run_part(part, dataset, **common)
        elif out is not None and (kept := finished(part, dataset, out)) is not None:
            found[part.name] = kept
    return found


def finished(part: Part, dataset: str, out: str | os.PathLike[str]) -> xr.Dataset | None:
    """Return a part's Dataset where `out` holds it whole, else None; no data are read for it.

    Raises:
      ValueError: where `out` holds a part of other arguments.
    """
    place = folder_of(part.name, out)
    if not (place / store.STORE).is_dir():
        return None
    try:
        stored = json.loads(store.attributes(place / store.STORE).get("arguments", "{}"))
    except (OSError, ValueError, KeyError):
        stored = {}  # not ours, or harmed: `check_directory` says which
    wanted = stored | json.loads(arguments_json({**_about(part, dataset), **part.settings}))
    path = store.check_directory(place, arguments_json(wanted))
    return store.read(path) if path and store.attributes(path)["complete"] else None


def papers_or_digits(names: Sequence[str], data_dir: str | os.PathLike[str] | None) -> tuple[str, str]:
    """Return the first of a paper's datasets where the files of all are at hand, else 'digits'; and why, in words."""
    if data_dir is None:
        return "digits", f"No directory of the files of {' and '.join(names)} was given."
    for name in names:
        try:
            datasets.load(name, classes=(0, 1), train_size=2, test_size=None, data_dir=data_dir)
        except FileNotFoundError as missing:
            return "digits", f"No {name}, as in the paper: {missing}"
    return names[0], f"The files of {' and '.join(names)} are in {data_dir}."


def _about(part: Part, dataset: str) -> dict[str, Any]:
    return {"part": part.name, "dataset": part.dataset or dataset, "change": part.change, **part.data}


def folder_of(name: str, out: str | os.PathLike[str]) -> Path:
    """Return the folder of a part: the study's own for the main one."""
    return Path(out) if name == MAIN else Path(out) / name


def task_of(part: Part, dataset: str, data_dir: str | os.PathLike[str] | None = None) -> Task:
    """Return the part's task, its second training input changed."""
    if part.dataset in MADE:
        return MADE[part.dataset](**part.data)
    task = datasets.load(part.dataset or dataset, data_dir=data_dir, **part.data)
    if part.change == "none":
        return task
    x = np.array(task.x_train)
    x[1] = CHANGES[part.change](x[0], x[1])
    return Task(x, task.y_train, task.x_test, task.y_test, task.loss)


def line(num_train: int, num_test: int) -> Task:
    """Return a task in one variable: sin(2 x) + x/2 at uneven points of [-2, 2], tested on a grid of [-3, 3].

    Example:
      >>> line(num_train=6, num_test=61)
      Task(train=6, test=61, input_dim=1, out_dim=1, loss='mse')
    """
    x = 2 * np.sin(np.linspace(-1.3, 1.4, num_train))[:, None]
    grid = np.linspace(-3, 3, num_test)[:, None]
    target = [np.sin(2 * points) + points / 2 for points in (x, grid)]
    return Task(x, target[0], grid, target[1])


def noise(num_train: int, dim: int, out_dim: int = 1, seed: int = 0) -> Task:
    """Return a task that can only be learned by heart: Gaussian inputs, targets of random signs.

    Example:
      >>> noise(num_train=24, dim=4)
      Task(train=24, test=0, input_dim=4, out_dim=1, loss='mse')
    """
    random = np.random.default_rng(seed)
    x = random.standard_normal((num_train, dim))
    return Task(x, random.choice([-1.0, 1.0], (num_train, out_dim)))


MADE: dict[str, Callable[..., Task]] = {"line": line, "noise": noise}


def _with_targets(data: xr.Dataset, task: Task) -> xr.Dataset:
    """Return a comparison with the targets of its training inputs, and with test errors where there is a test set."""
    y = np.asarray(task.y_train)
    one_hot = y if y.ndim > 1 else np.eye(task.out_dim)[y]
    data = data.assign(targets=(VARIABLES["targets"].dims, one_hot, VARIABLES["targets"].attrs))
    return data if task.x_test is None else data.assign(test_error=_test_error(data, task))


def _test_error(data: xr.Dataset, task: Task) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
    """The share of test inputs put into a wrong class at the last step: by the sign of one output, else the largest."""
    f = data["predictions"].isel(step=-1, input=slice(task.num_train, None))
    f = f.transpose("parametrization", "width", "seed", "input", "output").values
    y = np.asarray(task.y_test)
    if task.out_dim == 1:
        wrong = (f[..., 0] > 0) != (y[:, 0] > 0)
    else:
        wrong = f.argmax(-1) != (y if y.ndim == 1 else y.argmax(-1))
    error = np.where(np.isfinite(f).all((-2, -1)), wrong.mean(-1), np.nan)
    return VARIABLES["test_error"].dims, error, VARIABLES["test_error"].attrs
