"""A comparison's numbers as plain text, for the terminal and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mupjax.report.numbers import Estimate
from mupjax.statistics import seeds

if TYPE_CHECKING:
    import xarray as xr

_COLUMNS = {
    "train_loss": "train loss",
    "test_loss": "test loss",
    "feature_change": "feature change",
    "diversity": "diversity",
    "space_time": "space-time",
}


class Row(NamedTuple):
    """One parametrization at one width; features are the last layer's preactivations at the last Gram step.

    Attributes:
      parametrization: its name.
      width: largest of the layers'; infinite for the limit.
      width_label: as it is shown.
      diverged: number of seeds that diverged.
      values: train_loss, test_loss (with a test set), feature_change, diversity, space_time, by name.
      note: the limit's word in the row of infinite width; how many seeds diverged.
    """

    parametrization: str
    width: float
    width_label: str
    diverged: int
    values: dict[str, Estimate]
    note: str


def summary(dataset: xr.Dataset) -> list[Row]:
    """Return the numbers of the summary table: one row for each parametrization and width, infinite width included.

    Args:
      dataset: what `compare` returns.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("results/demo/results.zarr")
      >>> [row.width_label for row in summary(data) if row.parametrization == "mup"]
      ['64', '256', '1024', 'infinite']
    """
    names, widths = dataset["parametrization"].values, dataset["width"].values
    kept, words = seeds.finite_seeds(dataset), seeds.limit_words(dataset)
    columns = {name: _over_seeds(dataset, name, kept) for name in _COLUMNS if _variable(name) in dataset}
    stderrs = {name: seeds.limit_stderr(dataset, name) for name in columns}
    rows = []
    for i, name in enumerate(names):
        for j, width in enumerate(widths):
            infinite, diverged = bool(np.isinf(width)), int((~kept[i, j]).sum())
            values = {
                column: _estimate(statistics, (i, j), float(stderrs[column][i]) if infinite else None)
                for column, statistics in columns.items()
            }
            note = words[i] if infinite else f"{diverged} of {kept.shape[-1]} seeds diverged" if diverged else ""
            label = str(dataset["width_label"].values[j])
            rows.append(Row(str(name), float(width), label, 0 if infinite else diverged, values, note))
    return rows


def format_table(dataset: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    """Return the summary as plain text: column titles, and rows of cells written as mean ± standard deviation.

    Example:
      >>> import mupjax
      >>> data = mupjax.results.read("results/demo/results.zarr")
      >>> format_table(data)[0]
      ['parametrization', 'width', 'train loss', 'test loss', 'feature change', 'diversity', 'space-time', 'note']
    """
    rows = summary(dataset)
    columns = ["parametrization", "width", *(_COLUMNS[name] for name in rows[0].values), "note"]
    return columns, [[row.parametrization, row.width_label, *map(str, row.values.values()), row.note] for row in rows]


def _variable(column: str) -> str:
    return seeds.variable_name(column, "h") if column in seeds.METRICS else column


def _over_seeds(dataset: xr.Dataset, name: str, kept: np.ndarray) -> seeds.OverSeeds:
    if name in seeds.METRICS:
        return seeds.metric_over_seeds(dataset, name)
    final = dataset[name].isel(step=-1).transpose("parametrization", "width", "seed").values
    return seeds.over_seeds(np.where(kept, final, np.nan))


def _estimate(statistics: seeds.OverSeeds, cell: tuple[int, int], stderr: float | None) -> Estimate:
    """The value with its spread over seeds, or with its standard error where that is given: a limit's."""
    mean, std, _, _, resolution, seeds, unresolved = (array[cell] for array in statistics)
    word = "none" if not unresolved else "all" if unresolved == seeds else "some"
    return Estimate(float(mean), float(std) if stderr is None else stderr, float(resolution), word)
