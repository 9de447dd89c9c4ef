"""A comparison's numbers as plain text, for the terminal and the page."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mupjax.statistics import seeds
from mupjax.studies.covariance import cases
from mupjax.theorems.covariance import summarize

_COLUMNS = {
    "train_loss": "train loss",
    "test_loss": "test loss",
    "feature_change": "feature change",
    "diversity": "diversity",
    "space_time": "space-time",
}


class Estimate(NamedTuple):
    """A value over seeds.

    mean: of max(value, resolution), over the seeds that did not diverge; NaN where there is none.
    std: sample standard deviation over these seeds, NaN for fewer than two; of a limit its standard error, NaN where it
      is exact.
    resolution: what rounding can tell from zero; 0 for quantities that have no such floor.
    unresolved: 'none', 'some' or 'all' seeds are at or below the resolution.
    """

    mean: float
    std: float
    resolution: float
    unresolved: str

    def __str__(self) -> str:
        if not np.isfinite(self.mean):
            return "–"
        if self.unresolved == "all":
            return f"< {number(self.resolution, 2)}"
        bound = "≤ " if self.unresolved == "some" else ""
        return bound + number(self.mean, 3, self.std)


class Row(NamedTuple):
    """One parametrization at one width, features being the last layer's preactivations h at the last Gram step.

    values: by name: train_loss, test_loss (where there is a test set), feature_change, diversity, space_time.
    note: the limit's word in the row of infinite width, and how many seeds diverged.
    """

    parametrization: str
    width: float
    width_label: str
    diverged: int
    values: dict[str, Estimate]
    note: str


def summary(dataset: Any) -> list[Row]:
    """Return the numbers of the summary table: one row for each parametrization and width, infinite width included.

    Args:
      dataset: what `compare` returns.
    """
    names, widths = dataset["parametrization"].values, dataset["width"].values
    kept, words = seeds.finite_seeds(dataset), seeds.limit_words(dataset)
    columns = {name: _over_seeds(dataset, name, kept) for name in _COLUMNS if name in (*seeds.METRICS, *dataset)}
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


def format_table(dataset: Any) -> tuple[list[str], list[list[str]]]:
    """Return the summary as plain text: column titles, and rows of cells written as mean ± standard deviation."""
    rows = summary(dataset)
    columns = ["parametrization", "width", *(_COLUMNS[name] for name in rows[0].values), "note"]
    return columns, [[row.parametrization, row.width_label, *map(str, row.values.values()), row.note] for row in rows]


def format_width_study(dataset: Any) -> tuple[list[str], list[list[str]]]:
    """Return a width study's errors, with standard errors, and the fitted powers of the width as plain text."""
    columns = ["width", "trained by", "seeds", "error of one network", "error of the mean"]
    rows = []
    for point in range(dataset.sizes["point"]):
        one = dataset.isel(point=point)
        cells = []
        for kind in ("run", "mean"):
            error, stderr = float(one[f"error_{kind}"]), float(one[f"error_{kind}_stderr"])
            if not np.isfinite(error + stderr):
                cells.append("–")
            else:
                resolved = error > 2 * stderr
                cells.append(number(error, 3, stderr) if resolved else f"< {number(error + 2 * stderr, 2)}")
        rows.append(
            [f"{int(one['point_width'])}", str(one["point_dynamics"].values), str(int(one["point_seeds"])), *cells]
        )
    slopes = [(float(dataset[f"slope_{kind}"]), float(dataset[f"slope_{kind}_stderr"])) for kind in ("run", "mean")]
    powers = [f"{slope:.3f} ± {stderr:.3f}" if np.isfinite(slope) else "–" for slope, stderr in slopes]
    rows.append(["fitted power", "", "", *powers])
    return columns, rows


def format_covariance(dataset: Any) -> tuple[list[str], list[list[str]]]:
    """Return the table of a covariance study: a row for each width and direction, all hidden matrices together."""
    columns = ["width", "direction", "networks", "one network", "mean", "mean's error", "largest |z|", "bound"]
    rows = []
    for width, found in cases(dataset).items():
        short = summarize(found)
        for row, (name, side) in enumerate((("forward", found.forward), ("backward", found.backward))):
            rms = [float(np.sqrt(np.mean(values[row] ** 2))) for values in short[:2]]
            values = [float(side.deviation.mean()), *rms, float(short.max_z[row].max()), short.bound]
            rows.append([width, name, str(found.num_runs), *(number(value, 2) for value in values)])
    return columns, rows


def number(value: float, digits: int, spread: float = float("nan")) -> str:
    """Write a number with so many significant digits, and its spread to the same decimal place."""
    if value == 0 and not spread > 0:
        return "0"
    exponent = int(f"{value:e}".split("e")[1])
    power = 0 if -2 <= exponent < 5 else exponent
    decimals = max(0, digits - 1 - exponent + power)
    mantissas = " ± ".join(f"{x / 10.0**power:.{decimals}f}" for x in (value, spread) if np.isfinite(x))
    if not power:
        return mantissas
    return f"({mantissas})e{power}" if "±" in mantissas else f"{mantissas}e{power}"


def _over_seeds(dataset: Any, name: str, kept: np.ndarray) -> seeds.OverSeeds:
    if name in seeds.METRICS:
        return seeds.metric_over_seeds(dataset, name)
    final = dataset[name].isel(step=-1).transpose("parametrization", "width", "seed").values
    return seeds.over_seeds(np.where(kept, final, np.nan))


def _estimate(statistics: seeds.OverSeeds, cell: tuple[int, int], stderr: float | None) -> Estimate:
    """The value with its spread over seeds, or with its standard error where that is given: a limit's."""
    mean, std, _, _, resolution, seeds, unresolved = (array[cell] for array in statistics)
    word = "none" if not unresolved else "all" if unresolved == seeds else "some"
    return Estimate(float(mean), float(std) if stderr is None else stderr, float(resolution), word)
