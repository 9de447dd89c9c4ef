"""Tables on terminals: no number is ever cut."""

import re
import sys

import pytest

from mupjax import report
from mupjax.cli.running import print_table
from mupjax.statistics import decide
from tests.result_datasets import comparison, coordinates, sweep

VERDICTS = [decide("a claim of some words, " * 4, 0.007, (-0.142, 0.156), (-0.13, 0.13), seeds=8)]


@pytest.mark.parametrize("columns", [60, 80, 160])
@pytest.mark.parametrize(
    "table",
    [
        report.format_sweep(sweep()),
        report.format_table(comparison()),
        report.format_coord_check(coordinates()),
        report.format_verdicts(VERDICTS),
    ],
    ids=["sweep", "comparison", "coordinates", "verdicts"],
)
def test_no_number_is_cut(table, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    titles, rows = table
    print_table(titles, rows)
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)  # bold
    words = printed.replace("│", " ").split()
    numbers = [word for row in rows for cell in row for word in cell.split() if any(map(str.isdigit, word))]
    assert not [number for number in numbers if number not in words]
    assert "…" not in printed
    if columns >= 80:
        assert max(map(len, printed.splitlines())) <= columns


def test_columns_without_entries_go(capsys):
    print_table(["claim", "paper"], [["one", "–"], ["two", ""]])
    assert "paper" not in capsys.readouterr().out
