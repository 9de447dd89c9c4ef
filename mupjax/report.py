"""A self-contained HTML page of a comparison, and the table that the page and the terminal share."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mupjax import plots, seeds
from mupjax.files import write_whole

REPORT = "report.html"
_COLUMNS = {
    "train_loss": "train loss",
    "test_loss": "test loss",
    "feature_change": "feature change",
    "diversity": "diversity",
    "space_time": "space-time",
}
_LABELS = {
    "key": "random key",
    "depth": "hidden layers (depth)",
    "widths": "widths (hidden units)",
    "seeds": "seeds of each width",
    "steps": "SGD steps",
    "centred": "centred (f − f₀)",
    "memory_gb": "memory budget (GB)",
}
_DEFAULTS = {"batch_size": "full batch", "learning_rate": "default"}
_CHEN = "Chen et al. 2025, arXiv:2503.09565, Sec. 5"
_YANG = "Yang &amp; Hu 2021, arXiv:2011.14522"
_FIGURES = {
    "loss.png": (
        "Losses over SGD steps",
        "Lines are means over seeds and bands reach from the smallest to the largest seed; darker lines are wider "
        "networks, and the dashed black line is infinite width. Where there is a kernel limit, wider networks should "
        f"come closer to it ({_YANG}).",
    ),
    "feature_change.png": (
        "Feature change against width",
        "Where the line stays level, features are learned at every width; where it falls, about as 1/√n, networks "
        f"approach the kernel regime, whose features do not move ({_CHEN}; {_YANG}).",
    ),
    "diversity.png": (
        "Feature diversity against width",
        "The smallest eigenvalue of the last Gram matrix: where it stays away from zero as the width grows, the "
        f"features of different inputs stay linearly independent ({_CHEN}).",
    ),
    "space_time.png": (
        "Space-time non-degeneracy against width",
        "The smallest eigenvalue of the joint Gram matrix of first and last features: zero in a kernel limit, where "
        "features do not move, and positive where they become new and remain diverse. Compare slopes with the "
        f"sampling factor divided out ({_CHEN}).",
    ),
    "width_study.png": (
        "Distance from infinite width",
        "Outputs of single networks come closer to the limit as 1/√n, their mean over initialisations as 1/n. Circles "
        "are networks with real weights, triangles the same law drawn without hidden matrices; bars are two standard "
        f"errors ({_YANG}).",
    ),
    "grams.png": (
        "Gram matrices before and after training",
        "Each row has one colour scale. In the kernel regime the last matrix looks like the first and like the "
        f"infinite one; where features are learned, it does not ({_CHEN}; {_YANG}).",
    ),
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
            return f"< {_number(self.resolution, 2)}"
        bound = "≤ " if self.unresolved == "some" else ""
        return bound + _number(self.mean, 3, self.std)


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
                cells.append(_number(error, 3, stderr) if resolved else f"< {_number(error + 2 * stderr, 2)}")
        rows.append(
            [f"{int(one['point_width'])}", str(one["point_dynamics"].values), str(int(one["point_seeds"])), *cells]
        )
    slopes = [(float(dataset[f"slope_{kind}"]), float(dataset[f"slope_{kind}_stderr"])) for kind in ("run", "mean")]
    powers = [f"{slope:.3f} ± {stderr:.3f}" if np.isfinite(slope) else "–" for slope, stderr in slopes]
    rows.append(["fitted power", "", "", *powers])
    return columns, rows


def write(dataset: Any, out: str | os.PathLike[str], pictures: Sequence[Path] | None = None) -> Path:
    """Write report.html, with its pictures inside, to the directory `out`: whole or not at all.

    Args:
      dataset: what `compare` returns.
      out: the results directory; it need not exist.
      pictures: what `plots.save_all` returned; by default the figures are drawn here.

    Returns:
      The path of the report.
    """
    if pictures is None:
        images = {name: plots.png(figure) for name, figure in plots.draw_all(dataset).items()}
    else:
        images = {Path(path).name: Path(path).read_bytes() for path in pictures}
    return write_whole(Path(out) / REPORT, _page(dataset, images).encode())


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


def _number(value: float, digits: int, spread: float = float("nan")) -> str:
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


def _page(dataset: Any, images: dict[str, bytes]) -> str:
    names = ", ".join(map(str, dataset["parametrization"].values))
    widths = ", ".join(str(label) for label in dataset["width_label"].values)
    what = f"{names} at widths {widths}"
    template = resources.files("mupjax").joinpath(REPORT).read_text(encoding="utf-8")
    return template.format(  # every value is escaped
        what=escape(what),
        settings="".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in _settings(dataset)
        ),
        caption=escape(_caption(dataset)),
        summary=_summary_table(dataset),
        figures="".join(_figure(name, image, what) for name, image in images.items()),
        sampling=_sampling_table(dataset),
    )


def _settings(dataset: Any) -> list[tuple[str, str]]:
    """What was run: arguments, learning rates, versions, device, and whatever else the attributes say."""
    attrs = {str(name): value for name, value in dataset.attrs.items()}
    try:
        arguments = dict(json.loads(attrs.pop("arguments", "{}")))
    except (TypeError, ValueError):
        arguments = {"arguments": dataset.attrs["arguments"]}
    rates = zip(dataset["parametrization"].values, dataset["learning_rate"].values, strict=True)
    arguments["learning_rate"] = ", ".join(f"{name} {rate:g}" for name, rate in rates)
    versions = {name.removeprefix("version_"): attrs.pop(name) for name in list(attrs) if name.startswith("version_")}
    attrs.pop("complete", None)
    rows = [(_LABELS.get(name, name.replace("_", " ")), _readable(name, value)) for name, value in arguments.items()]
    rows += [(name.replace("_", " "), _readable(name, value)) for name, value in attrs.items()]
    return [*rows, ("versions", ", ".join(f"{name.replace('_', '-')} {value}" for name, value in versions.items()))]


def _readable(name: str, value: Any) -> str:
    if value is None:
        return _DEFAULTS.get(name, "none")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join("x".join(map(str, entry)) if isinstance(entry, list) else str(entry) for entry in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return str(value)


def _caption(dataset: Any) -> str:
    layer, step, last = (int(dataset[name].values[-1]) for name in ("layer", "gram_step", "step"))
    return (
        f"Losses after {last} SGD steps; features are the preactivations h of layer {layer} at step {step}. "
        f"Mean ± sample standard deviation over those of {dataset.sizes['seed']} seeds that did not diverge; at "
        "infinite width ± standard error, where the limit is not exact."
    )


def _summary_table(dataset: Any) -> str:
    (first, *columns, last), cells = format_table(dataset)
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    head = f'<th scope="col" class="name">{escape(first)}</th>{head}<th scope="col" class="note">{escape(last)}</th>'
    groups, infinite = [], np.isinf(dataset["width"].values)
    for start in range(0, len(cells), len(infinite)):
        lines = []
        for number, (name, width, *values, note) in enumerate(cells[start : start + len(infinite)]):
            group = f'<th scope="rowgroup" rowspan="{len(infinite)}" class="name">{escape(name)}</th>'
            line = f'<th scope="row">{escape(width)}</th>' + "".join(f"<td>{escape(value)}</td>" for value in values)
            start_tag = '<tr class="limit">' if infinite[number] else "<tr>"
            lines.append(f'{start_tag}{group * (number == 0)}{line}<td class="note">{escape(note)}</td></tr>')
        groups.append(f"<tbody>{''.join(lines)}</tbody>")
    return f"<thead><tr>{head}</tr></thead>{''.join(groups)}"


def _sampling_table(dataset: Any) -> str:
    factors = [dataset[f"{name}_sampling_factor"].values for name in ("diversity", "space_time")]
    lines = [
        f'<tr><th scope="row">{escape(str(label))}</th>'
        + "".join(f"<td>{_number(f[i], 3)}</td>" for f in factors)
        + "</tr>"
        for i, label in enumerate(dataset["width_label"].values)
    ]
    return "".join(lines)


def _figure(name: str, image: bytes, what: str) -> str:
    title, caption = _FIGURES.get(name, (name, ""))
    width, height = (round(pixels * 96 / plots.DPI) for pixels in struct.unpack(">II", image[16:24]))
    source = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    return (
        f'<figure><h3>{escape(title)}</h3><img src="{source}" width="{width}" height="{height}" '
        f'alt="{escape(f"{title}: {what}")}"><figcaption>{caption}</figcaption></figure>'
    )
