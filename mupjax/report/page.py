"""The page as HTML: one file that needs nothing else."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Sequence
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from mupjax import plots
from mupjax._files import write_whole
from mupjax.report.captions import FIGURES
from mupjax.report.contents import Table, content, verdict_table
from mupjax.report.settings import settings
from mupjax.statistics import Verdict

REPORT = "report.html"
_WORDS = {"note", "layer", "claim", "bound", "verdict"}  # columns of words, which wrap


def write(
    dataset: Any,
    out: str | os.PathLike[str],
    pictures: Sequence[Path] | None = None,
    verdicts: Sequence[Verdict] = (),
) -> Path:
    """Write report.html, with its pictures inside, to the directory `out`: whole or not at all.

    Args:
      dataset: what `compare`, `sweep` or `coord_check` returns.
      out: the results directory; it need not exist.
      pictures: what `plots.save_all` returned; by default the figures are drawn here.
      verdicts: on claims; they get a table of their own.

    Returns:
      The path of the report.
    """
    if pictures is None:
        images = {name: plots.png(figure) for name, figure in plots.draw_all(dataset).items()}
    else:
        images = {Path(path).name: Path(path).read_bytes() for path in pictures}
    return write_whole(Path(out) / REPORT, _page(dataset, images, verdicts).encode())


def _page(dataset: Any, images: dict[str, bytes], verdicts: Sequence[Verdict]) -> str:
    found = content(dataset)
    tables = [*([verdict_table(verdicts)] if verdicts else []), *found.tables]
    template = resources.files("mupjax.report").joinpath("page.html").read_text(encoding="utf-8")
    return template.format(  # every value is escaped
        heading=escape(found.heading),
        what=escape(found.what),
        settings="".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in settings(dataset)
        ),
        tables="".join(_section(table) for table in tables),
        figures="".join(_figure(name, image, found.what) for name, image in images.items()),
        reading=found.reading,
    )


def _section(table: Table) -> str:
    name = f"explained-{table.title.lower()}"
    return (
        f'<h2>{escape(table.title)}</h2>\n<div class="scroll"><table aria-describedby="{name}">{_table(table)}</table>'
        f'</div>\n<p id="{name}" class="lead">{escape(table.caption)}</p>\n'
    )


def _table(table: Table) -> str:
    """Head and body: rows of the same leading cells are a group that shows these once; the next cell names the row."""
    first = table.leading
    kinds = ["note" if column in _WORDS else "name" * (i < first) for i, column in enumerate(table.columns)]
    kinds = [f' class="{kind}"' if kind else "" for kind in kinds]
    titles = zip(table.columns, kinds, strict=True)
    head = "".join(f'<th scope="col"{kind}>{escape(column)}</th>' for column, kind in titles)
    groups = []
    for _, group in groupby(enumerate(table.rows), lambda numbered: numbered[1][:first]):
        numbered, lines = list(group), []
        for number, row in numbered:
            cells = [f"<td{kind}>{escape(text)}</td>" for text, kind in zip(row, kinds, strict=True)]
            cells[first] = f'<th scope="row"{kinds[first]}>{escape(row[first])}</th>'
            span = f'scope="rowgroup" rowspan="{len(numbered)}" class="name"'
            cells[:first] = [f"<th {span}>{escape(text)}</th>" for text in row[:first]] if not lines else []
            start = '<tr class="limit">' if number in table.marked else "<tr>"
            lines.append(f"{start}{''.join(cells)}</tr>")
        groups.append(f"<tbody>{''.join(lines)}</tbody>")
    return f"<thead><tr>{head}</tr></thead>{''.join(groups)}"


def _figure(name: str, image: bytes, what: str) -> str:
    title, caption = FIGURES.get(name, (name, ""))
    width, height = (round(pixels * 96 / plots.DPI) for pixels in struct.unpack(">II", image[16:24]))
    source = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    return (
        f'<figure><h3>{escape(title)}</h3><img src="{source}" width="{width}" height="{height}" '
        f'alt="{escape(f"{title}: {what}")}"><figcaption>{caption}</figcaption></figure>'
    )
