"""Verdicts as a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mupjax.report.numbers import number
from mupjax.results import Table
from mupjax.statistics import Verdict


def format_verdicts(verdicts: Sequence[Verdict]) -> tuple[list[str], list[list[str]]]:
    """Return verdicts as plain text: column titles, and a row for every claim; ours is ± its standard error.

    Example:
      >>> format_verdicts([Verdict("one is one", 1.0, 1.0, None, 3, "1", "reproduced")])[1]
      [['one is one', '1.00', '1', '3', '1', 'reproduced']]
    """
    columns = ["claim", "paper", "ours", "seeds", "bound", "verdict"]
    rows = []
    for claim, paper, ours, stderr, seeds, bound, verdict in verdicts:
        found = _with_error(ours, float("nan") if stderr is None else stderr)
        rows.append([claim, "–" if paper is None else number(paper, 3), found, str(seeds), bound, verdict])
    return columns, rows


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Return the table of verdicts on claims."""
    caption = (
        "What was found, ± its standard error, and what it must meet. A claim is “reproduced” or “contradicted” where "
        "the error leaves no doubt, and else “not shown”."
    )
    return Table("Verdicts", *format_verdicts(verdicts), caption, leading=0, words=("claim", "bound", "verdict"))


def _with_error(value: float, error: float) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:.3g} ± {error:.2g}" if np.isfinite(error) else f"{value:.3g}"
