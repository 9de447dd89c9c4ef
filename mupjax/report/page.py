"""The report as one self-contained HTML file."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from mupjax import plots
from mupjax._files import write_whole
from mupjax.report.settings import settings
from mupjax.report.verdicts import conclude, verdict_table
from mupjax.results import Caption, Table, complete, kind_of
from mupjax.statistics import Verdict

if TYPE_CHECKING:
    import xarray as xr

REPORT = "report.html"


def write(
    dataset: xr.Dataset,
    out: str | os.PathLike[str],
    pictures: Sequence[Path] | None = None,
    verdicts: Sequence[Verdict] = (),
    captions: Mapping[str, Caption] | None = None,
) -> Path:
    """Write report.html, with its pictures inside, to the directory `out`: whole or not at all.

    Args:
      dataset: what a study or sweep returns, or a selection from it, as in `plots.draw_all`.
      out: the results directory; it need not exist.
      pictures: what `plots.save_all` returned; by default the figures are drawn here.
      verdicts: on claims; they get a table of their own.
      captions: of pictures that are not the kind's own, by the names of their files.

    Returns:
      The path of the report.

    Raises:
      ValueError: for an unknown `attrs["kind"]`, or a Dataset that lacks what its kind needs.

    Example:
      >>> import mupjax
      >>> write(mupjax.results.read("sweep/results.zarr"), "again").name
      'report.html'
    """
    if pictures is None:
        images = {name: plots.png(figure) for name, figure in plots.draw_all(dataset).items()}
    else:
        images = {Path(path).name: Path(path).read_bytes() for path in pictures}
    return write_whole(Path(out) / REPORT, _page(complete(dataset), images, verdicts, captions or {}).encode())


def _page(
    dataset: xr.Dataset, images: dict[str, bytes], verdicts: Sequence[Verdict], captions: Mapping[str, Caption]
) -> str:
    kind = kind_of(dataset)
    tables = [*([verdict_table(verdicts)] if verdicts else []), *kind.tables(dataset)]
    captions, subject = {**kind.captions, **captions}, kind.subject(dataset)
    rows = [(escape(name), escape(value)) for name, value in settings(dataset)]
    template = resources.files("mupjax.report").joinpath("page.html").read_text(encoding="utf-8")
    return template.format(  # every value is escaped
        heading=escape(kind.heading),
        subject=escape(subject),
        conclusion=escape(" ".join([*([conclude(verdicts)] if verdicts else []), kind.conclusion(dataset)])),
        settings="".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows),
        tables="".join(_section(table) for table in tables),
        figures="".join(
            _figure(captions.get(name, Caption(name, "")), image, subject) for name, image in images.items()
        ),
        reading=kind.reading(dataset),
    )


def _section(table: Table) -> str:
    name = f"explained-{table.title.lower().replace(' ', '-')}"
    return (
        f'<h2>{escape(table.title)}</h2>\n<div class="scroll"><table aria-describedby="{name}">{_table(table)}</table>'
        f'</div>\n<p id="{name}" class="lead">{escape(table.caption)}</p>\n'
    )


def _table(table: Table) -> str:
    """Head and body: rows of the same leading cells are a group that shows these once; the next cell names the row."""
    first = table.leading
    kinds = ["note" if column in table.words else "name" * (i < first) for i, column in enumerate(table.columns)]
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


def _figure(caption: Caption, image: bytes, subject: str) -> str:
    width, height = (round(pixels * 96 / plots.DPI) for pixels in struct.unpack(">II", image[16:24]))
    source = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    return (
        f'<figure><h3>{escape(caption.title)}</h3><img src="{source}" width="{width}" height="{height}" '
        f'alt="{escape(f"{caption.title}: {subject}")}"><figcaption>{caption.html}</figcaption></figure>'
    )
