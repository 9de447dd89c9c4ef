"""Verdicts as a table, and the conclusion that they allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mupjax.report.numbers import number
from mupjax.results import Table
from mupjax.statistics import CONTRADICTED, REPRODUCED, UNDECIDED, Bound, Verdict


def format_verdicts(verdicts: Sequence[Verdict]) -> tuple[list[str], list[list[str]]]:
    """Return verdicts as plain text: column titles, and a row for every claim with the interval that decides it.

    Example:
      >>> from mupjax.statistics import decide
      >>> format_verdicts([decide("no drift", 0.007, (-0.142, 0.156), (-0.13, 0.13), seeds=8)])[1]
      [['no drift', '–', '0.007 [-0.142, 0.156]', 'within ±0.13', 'undecided: about 33 seeds']]
    """
    columns = ["claim", "paper", "ours [95 % interval]", "bound", "verdict"]
    table = []
    for verdict in verdicts:
        paper = "–" if verdict.paper is None else number(verdict.paper, 3)
        word = verdict.verdict + (f": {verdict.needs}" if verdict.needs else "")
        table.append([verdict.claim, paper, estimate(verdict), bound_words(verdict.bound), word])
    return columns, table


def estimate(verdict: Verdict) -> str:
    """Return an estimate with its interval, all to one decimal place; an exact number alone.

    Example:
      >>> from mupjax.statistics import exact
      >>> estimate(exact("clauses refuted", 3, (0, 0)))
      '3'
    """
    ours, low, high = verdict.ours, verdict.low, verdict.high
    if math.isnan(ours):
        return "–"
    if math.isinf(ours):
        return f"{ours:g}"
    if low == high:
        return f"{ours:.3g}"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{ours:.3g} [no interval]"
    width = high - low
    decimals = min(6, max(0, 2 - math.floor(math.log10(width)))) if width > 0 else 3
    if max(abs(ours), abs(low), abs(high)) >= 1e5 or width < 1e-4:
        return f"{ours:.3g} [{low:.3g}, {high:.3g}]"
    return f"{ours:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def bound_words(bound: Bound) -> str:
    """Return what a bound allows, in words.

    Example:
      >>> [bound_words(Bound(*ends)) for ends in ((-0.1, 0.1), (0, math.inf), (0.9, 1.1), (1, 1))]
      ['within ±0.1', 'at least 0', '0.9 to 1.1', '1']
    """
    low, high = bound
    if low == high:
        return f"{low:.3g}"
    if math.isinf(low):
        return f"at most {high:.3g}"
    if math.isinf(high):
        return f"at least {low:.3g}"
    return f"within ±{high:.3g}" if low == -high else f"{low:.3g} to {high:.3g}"


def conclude(verdicts: Sequence[Verdict]) -> str:
    """Return in one or two sentences what verdicts show.

    Example:
      >>> from mupjax.statistics import exact
      >>> conclude([exact("one is one", 1, (1, 1)), exact("one is two", 1, (2, 2))])
      '1 of 2 claims reproduced, 1 contradicted: one is two.'
    """
    count = {word: sum(v.verdict == word for v in verdicts) for word in (REPRODUCED, CONTRADICTED, UNDECIDED)}
    wrong = [verdict.claim for verdict in verdicts if verdict.verdict == CONTRADICTED]
    text = f"{count[REPRODUCED]} of {len(verdicts)} claims reproduced, "
    text += f"{len(wrong)} contradicted: {'; '.join(wrong)}." if wrong else "none contradicted."
    if count[UNDECIDED]:
        text += f" {count[UNDECIDED]} undecided: their intervals reach across the bounds, or they were not measured."
    return text


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Return the table of verdicts on claims."""
    caption = (
        "A claim is “reproduced” where the 95 % interval over seeds lies inside the bound, “contradicted” where it "
        "lies apart from it, and else “undecided”. Within a theorem or figure contradictions are kept only where "
        "they survive Holm's procedure: at most 5 % of right groups have one."
    )
    return Table("Verdicts", *format_verdicts(verdicts), caption, leading=0, words=("claim", "bound", "verdict"))
