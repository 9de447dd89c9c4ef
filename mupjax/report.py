"""A self-contained HTML page of a comparison, and the table that the page and the terminal share."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mupjax import plots

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
    "grams.png": (
        "Gram matrices before and after training",
        "Each row has one colour scale. In the kernel regime the last matrix looks like the first and like the "
        f"infinite one; where features are learned, it does not ({_CHEN}; {_YANG}).",
    ),
}
# {what} and its like are filled in by str.format: every value is escaped before
_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>mupjax: {what}</title>
<style>
:root {{ color-scheme: light dark; --text: #1c2330; --quiet: #5a6475; --line: #d5dae3; --page: #fff; --band: #f4f6f9; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --text: #e4e8ef; --quiet: #a3adbd; --line: #3a4352; --page: #161a21; --band: #1f252e; }}
}}
body {{ max-width: 72rem; margin: 2.5rem auto; padding: 0 1.25rem; color: var(--text); background: var(--page);
  font: 1rem/1.55 system-ui, "Segoe UI", "Helvetica Neue", "Liberation Sans", Arial, sans-serif; }}
h1 {{ font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }}
h2 {{ font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }}
h3 {{ font-size: 1.05rem; margin: 0 0 .5rem; }}
.lead, figcaption {{ color: var(--quiet); max-width: 60rem; }}
dl {{ margin: 0; columns: 2 26rem; column-gap: 3rem; }}
dl div {{ display: grid; grid-template-columns: 12rem 1fr; gap: 1rem; padding: .1rem 0; break-inside: avoid; }}
dt {{ color: var(--quiet); }}
dd {{ margin: 0; overflow-wrap: anywhere; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums lining-nums; }}
th, td {{ padding: .3rem .6rem; text-align: right; vertical-align: top; white-space: nowrap; }}
thead th {{ border-bottom: 2px solid var(--line); vertical-align: bottom; }}
tbody {{ border-bottom: 1px solid var(--line); }}
tbody th {{ font-weight: 500; }}
.limit > :not([rowspan]) {{ background: var(--band); }}
.name {{ text-align: left; font-weight: 700; }}
.note {{ text-align: left; white-space: normal; min-width: 9rem; }}
figure {{ margin: 0 0 2.25rem; break-inside: avoid; }}
img {{ display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 4px; padding: .5rem; box-sizing: border-box; }}
figcaption {{ margin-top: .5rem; }}
li {{ max-width: 60rem; margin-bottom: .5rem; }}
@media print {{
  :root {{ color-scheme: light; --text: #000; --quiet: #444; --line: #bbb; --page: #fff; --band: #f4f4f4; }}
  @page {{ margin: 12mm; }}
  body {{ margin: 0; padding: 0; max-width: none; font-size: 10pt; }}
  dl {{ columns: 2 15rem; }}
  dl div {{ grid-template-columns: 8rem 1fr; }}
  table {{ font-size: 7.5pt; }}
  th, td {{ padding: .15rem .35rem; }}
  .note {{ min-width: 0; }}
  img {{ max-height: 215mm; width: auto; }}
  h2, h3 {{ break-after: avoid; }}
  tr {{ break-inside: avoid; }}
  .scroll {{ overflow: visible; }}
}}
</style>
</head>
<body>
<main>
<h1>Finite networks beside their infinite-width limits</h1>
<p class="lead">{what}</p>
<h2>What was run</h2>
<dl>{settings}</dl>
<h2>Summary</h2>
<div class="scroll"><table aria-describedby="explained">{summary}</table></div>
<p id="explained" class="lead">{caption}</p>
<h2>Figures</h2>
{figures}
<h2>How to read the numbers</h2>
<ul>
<li><strong>Feature change</strong> is the relative distance of the features from their initial values;
<strong>diversity</strong> is the smallest eigenvalue of their last Gram matrix, and <strong>space-time</strong>
non-degeneracy that of the joint Gram matrix of first and last features (Chen et al. 2025, arXiv:2503.09565,
Sec. 5).</li>
<li><strong>Resolution.</strong> An eigenvalue is known to about N ε ‖K‖₂ for a matrix K of size N, ε the rounding
unit. “&lt; r” says that every seed is at or below its resolution r and cannot be told from zero; “≤” that some are,
and count with their resolution.</li>
<li><strong>Sampling.</strong> N vectors of only n coordinates leave about (1 − √(N/n))² of a smallest eigenvalue,
whatever was learned, and nothing for n ≤ N; the joint matrix has 2N vectors. The factor is a bound, not a law: exact
for white spectra, and often too small for others. The figures show the eigenvalues with it divided out, too:
<div class="scroll"><table><thead><tr><th scope="col">width</th><th scope="col">factor, diversity</th>
<th scope="col">factor, space-time</th></tr></thead><tbody>{sampling}</tbody></table></div></li>
<li><strong>Infinite width.</strong> A dash stands where no limit was computed, or where all seeds diverged; the note
says which.</li>
</ul>
</main>
</body>
</html>
"""


class Estimate(NamedTuple):
    """A value over seeds.

    mean: of max(value, resolution), over the seeds that did not diverge; NaN where there is none.
    std: sample standard deviation over these seeds; NaN for fewer than two, and for limits, which have no seeds.
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
    kept, words = plots.finite_seeds(dataset), plots.limit_words(dataset)
    columns = {name: _over_seeds(dataset, name, kept) for name in _COLUMNS if name in (*plots.METRICS, *dataset)}
    rows = []
    for i, name in enumerate(names):
        for j, width in enumerate(widths):
            infinite, diverged = bool(np.isinf(width)), int((~kept[i, j]).sum())
            values = {column: _estimate(statistics, (i, j), infinite) for column, statistics in columns.items()}
            note = words[i] if infinite else f"{diverged} of {kept.shape[-1]} seeds diverged" if diverged else ""
            label = str(dataset["width_label"].values[j])
            rows.append(Row(str(name), float(width), label, 0 if infinite else diverged, values, note))
    return rows


def format_table(dataset: Any) -> tuple[list[str], list[list[str]]]:
    """Return the summary as plain text: column titles, and rows of cells written as mean ± standard deviation."""
    rows = summary(dataset)
    columns = ["parametrization", "width", *(_COLUMNS[name] for name in rows[0].values), "note"]
    return columns, [[row.parametrization, row.width_label, *map(str, row.values.values()), row.note] for row in rows]


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
    return plots.write_whole(Path(out) / REPORT, _page(dataset, images).encode())


def _over_seeds(dataset: Any, name: str, kept: np.ndarray) -> plots.OverSeeds:
    if name in plots.METRICS:
        return plots.metric_over_seeds(dataset, name)
    final = dataset[name].isel(step=-1).transpose("parametrization", "width", "seed").values
    return plots.over_seeds(np.where(kept, final, np.nan))


def _estimate(statistics: plots.OverSeeds, cell: tuple[int, int], infinite: bool) -> Estimate:
    mean, std, _, _, resolution, seeds, unresolved = (array[cell] for array in statistics)
    word = "none" if not unresolved else "all" if unresolved == seeds else "some"
    return Estimate(float(mean), float("nan") if infinite else float(std), float(resolution), word)


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
    return _TEMPLATE.format(
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
        f"Mean ± sample standard deviation over those of {dataset.sizes['seed']} seeds that did not diverge."
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
