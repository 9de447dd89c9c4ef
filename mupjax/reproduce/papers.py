"""The papers that `mupjax reproduce` knows, and how one is run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from mupjax.reproduce.parts import Part, run_parts
from mupjax.results import Caption, Table
from mupjax.statistics import Verdict

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

# Where each paper's record PAPER is, by the name of its command.
PAPERS: dict[str, str] = {
    "rich-features": "mupjax.reproduce.rich_features",
    "edge-of-chaos": "mupjax.reproduce.edge_of_chaos",
    "integrable": "mupjax.reproduce.integrable",
}


class Setting(NamedTuple):
    """Settings that a paper is run with.

    Attributes:
      dataset: whose images.
      quick: fewer widths, seeds and steps.
      data_dir: where files are.
    """

    dataset: str
    quick: bool = False
    data_dir: str | os.PathLike[str] | None = None


class Paper(NamedTuple):
    """A paper's experiment.

    Attributes:
      name: of its command.
      title: one line, with authors and year.
      dataset: by default; 'auto' is the first of `datasets` where the files of all of them are found, else 'digits'.
      datasets: the paper's own.
      dataset_help: what the option --dataset may be.
      quick_help: what --quick leaves out.
      parts: the parts of a setting.
      judge: verdicts on the claims of the parts that were run, {part: Dataset}.
      figures: {part: {file name: Figure}} of figures beside those of each part's kind.
      captions: of these, by the names of their files.
      tables: of several parts side by side, for the terminal.
      example: a command line.
    """

    name: str
    title: str
    dataset: str
    datasets: tuple[str, ...]
    dataset_help: str
    quick_help: str
    parts: Callable[[Setting], list[Part]]
    judge: Callable[[Mapping[str, xr.Dataset], Setting], list[Verdict]]
    figures: Callable[[Mapping[str, xr.Dataset]], dict[str, dict[str, Figure]]]
    captions: Mapping[str, Caption]
    tables: Callable[[Mapping[str, xr.Dataset]], list[Table]]
    example: str


def get(name: str) -> Paper:
    """Return the record of a paper.

    Raises:
      ValueError: for an unknown name.

    Example:
      >>> get("integrable").datasets
      ('mnist', 'cifar10')
    """
    if name not in PAPERS:
        raise ValueError(f"Expected `name` to be one of {', '.join(PAPERS)}, got name={name!r}.")
    return import_module(PAPERS[name]).PAPER


def run_paper(
    paper: Paper,
    dataset: str,
    *,
    quick: bool = False,
    names: Sequence[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    memory_gb: float | None = None,
    progress: bool = False,
) -> tuple[dict[str, xr.Dataset], list[Verdict]]:
    """Run a paper's experiment, or read what `out` holds of it, and judge its claims.

    Args:
      paper: whose.
      dataset: one of the paper's, or another one that its parts can take.
      quick: fewer widths, seeds and steps, too few for some claims, which then are 'undecided'.
      names: of the parts to run; by default all.
      data_dir, out, memory_gb, progress: as in `parts.run_part`. Finished parts are kept: the same call resumes.

    Returns:
      {part: Dataset}, those that `out` holds already among them, and the verdicts on their claims.

    Raises:
      ValueError: for a data set that the paper's parts cannot take, an unknown part, and as `run_part`.
    """
    setting = Setting(dataset, quick, data_dir)
    found = run_parts(
        paper.parts(setting),
        dataset,
        names=names,
        data_dir=data_dir,
        out=out,
        memory_gb=memory_gb,
        progress=progress,
    )
    return found, paper.judge(found, setting)
