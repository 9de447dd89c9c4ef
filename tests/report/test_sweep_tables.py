"""Tables and pages of sweeps, coordinate checks and verdicts: every number comes from the Dataset."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from mupjax import _files as files
from mupjax import report
from mupjax.report.settings import settings
from mupjax.statistics import decide, exact, not_measured
from tests.report.html import PIXEL, Page, written
from tests.result_datasets import ADAM, SGD, comparison, coordinates, sweep, with_optimum

VERDICTS = [
    decide("mup, sgd: the best rate stays", -0.0123, (-0.05, 0.02), (-0.1, 0.1), paper=0.0, stderr=0.02, seeds=8),
    not_measured("sp <b>", (-math.inf, -0.1), seeds=3),
    exact("loss", 2e-9, (1e-8, math.inf), paper=1.2),
]


@pytest.fixture
def pictures(tmp_path):
    """One pixel for each figure: most tests are about the words."""
    names = ("learning_rates.png", "learning_rates_test.png", "transfer.png", "coord_check.png")
    return [files.write_whole(tmp_path / "pictures" / name, PIXEL) for name in names]


def test_sweep_table_holds_best_rates_and_losses_there():
    dataset = sweep(depths=(2, 4))
    columns, rows = report.format_sweep(dataset)
    assert columns[:5] == ["parametrization", "optimizer", "depth", "width", "best rate"]
    assert columns[5:] == ["train loss", "test loss", "diverged", "note"]
    assert [row[:4] for row in rows[:7]] == [
        *(["sp", "sgd", depth, width] for depth in "24" for width in ("64", "256", "1024")),
        ["sp", "adam", "2", "64"],
    ]
    assert [row[4] for row in rows[:3]] == ["1", "0.5", "0.25"]
    assert rows[6][4] == "0.007812"
    # sp, sgd, depth 4, width 256: .02 (1 + 10/16) times 2 for the depth, times 1, 1.1, 1.2 for the seeds
    losses = 0.065 * np.array([1.0, 1.1, 1.2])
    assert rows[4][5] == f"{losses.mean():.4f} ± {losses.std(ddof=1):.4f}"
    assert rows[4][6] == f"{2 * losses.mean():.3f} ± {2 * losses.std(ddof=1):.3f}"
    # seed 0 diverges beyond two octaves above the best rate, 1/2: at 4 and 8; the other two beyond three, at 8
    assert rows[4][7:] == [f"4 of {3 * len(SGD)}", ""]
    assert "test loss" not in report.format_sweep(sweep(test=False))[0]


def test_notes_say_what_is_missing_or_at_the_end_of_the_grid():
    dataset = sweep(("mup",), ("sgd", "adam"))
    for name in ("train_loss", "test_loss"):
        dataset[name][0, 0, 0, 0] = np.nan
        dataset[name][0, 0, 0, 1, :, 2, 1] = np.inf
    dataset["train_loss"][0, 0, 0, 2, -7, :, 1] = 1e-6
    dataset["train_loss"][0, 0, 1, 0, len(ADAM) - 1, :, 1] = 1e-6
    rows = report.format_sweep(dataset)[1]
    assert rows[0][4:] == ["–", "–", "–", "–", "not done"]
    assert rows[1][4:] == ["–", "–", "–", f"{len(SGD) + 1} of {3 * len(SGD)}", "diverged at every rate"]
    assert (rows[2][4], rows[2][-1]) == ("0.125", "best at the smallest rate")
    assert (rows[3][4], rows[3][-1]) == ("0.03125", "best at the largest rate")
    assert (rows[4][4], rows[4][-1]) == ("0.007812", "")


def test_coordinate_check_table_holds_powers_of_the_width():
    dataset = coordinates()
    rng = np.random.default_rng(0)
    dataset["change"][1] = dataset["change"][1] * np.exp(0.1 * rng.normal(size=dataset["change"].shape[1:]))
    for name in ("coordinate", "change", "update"):
        dataset[name][0, 1] = np.nan
        dataset[name][1, 2, 3, 0, -1] = np.nan
    columns, rows = report.format_coord_check(dataset)
    assert columns == ["model", "layer", *(f"power of |{name}|" for name in ("coordinate", "change", "update"))]
    names = [("mup", "layer_1"), ("mup", "readout"), ("sp", "layer_1"), ("sp", "layer_2"), ("sp", "readout")]
    assert [tuple(row[:2]) for row in rows] == names
    assert {cell for row in rows[:2] for cell in row[2:]} == {"0.000 ± 0.000"}
    fits = np.polyfit(np.log(dataset["width"].values), np.log(dataset["change"].values[1, 0, ..., -1]), 1)[0]
    half_width = 4.302653 * fits.std(ddof=1) / math.sqrt(3)  # Student's quantile for three seeds
    assert rows[2][3] == f"{fits.mean():.3f} ± {half_width:.3f}"
    assert rows[4][2:] == ["–", "–", "–"]


def test_verdicts_are_plain_text():
    columns, rows = report.format_verdicts(VERDICTS)
    assert columns == ["claim", "paper", "ours [95 % interval]", "bound", "verdict"]
    assert rows[0] == [VERDICTS[0].claim, "0", "-0.0123 [-0.0500, 0.0200]", "within ±0.1", "reproduced"]
    assert rows[1] == ["sp <b>", "–", "–", "at most -0.1", "undecided: not measured"]
    assert rows[2] == ["loss", "1.20", "2e-09", "at least 1e-08", "contradicted"]


@pytest.mark.parametrize(
    ("dataset", "format_table", "heading", "words"),
    [
        (sweep(depths=(2, 4)), report.format_sweep, "Learning rates against width", "sp, mup with sgd, adam at widths"),
        (coordinates(), report.format_coord_check, "Coordinate check", "mup, sp at widths 64, 128, 256, 512"),
    ],
    ids=["sweep", "coordinates"],
)
def test_page_holds_tables_verdicts_and_figures(tmp_path, pictures, dataset, format_table, heading, words):
    text = report.write(dataset, tmp_path, pictures, VERDICTS).read_text(encoding="utf-8")
    page = Page(text)
    assert heading in page.text
    assert words in page.text
    assert not page.find("b")
    assert "1 of 3 claims reproduced, 1 contradicted: loss. 1 undecided" in page.text
    assert [len(page.find(tag)) for tag in ("h1", "table", "img", "figcaption")] == [1, 2, 4, 4]
    (columns, rows), (claims, verdicts) = format_table(dataset), report.format_verdicts(VERDICTS)
    leading = 3 if heading.startswith("Learning") else 1
    before = [[None] * leading, *(row[:leading] for row in rows)]
    cells = [c for old, row in zip(before, rows, strict=False) for c in row[leading * (old == row[:leading]) :]]
    assert page.cells == [*claims, *(cell for row in verdicts for cell in row), *columns, *cells]
    spans = [int(tag["rowspan"]) for tag in page.find("th") if "rowspan" in tag]
    assert sum(spans) == leading * len(rows)
    assert "Verdicts" not in Page(written(dataset, tmp_path, pictures)).text


def test_pages_draw_their_own_figures(tmp_path):
    page = Page(report.write(with_optimum(sweep(("mup",), ("sgd",))), tmp_path).read_text(encoding="utf-8"))
    assert len(page.find("img")) == 3
    assert "Best learning rate against width" in page.text


def test_settings_of_a_sweep():
    dataset = sweep().assign_attrs(
        plan='{"cells": {"a": 0, "b": 0}, "programs": [{}]}', complete=0, cell_dims=["width"]
    )
    found = dict(settings(dataset))
    assert found["learning rates, sgd"] == "0.125, 0.25, 0.5, 1, 2, 4, 8"
    assert found["learning rates, adam"].startswith("0.0009766, 0.001953, ")
    assert found["plan"] == "2 cells, 1 compiled programs"
    assert found["state"] == "not complete: some cells are not done"
    assert "cell dims" not in found
    assert "state" not in dict(settings(dataset.assign_attrs(complete=1)))
    assert dict(settings(coordinates()))["optimizer"] == "sgd"
    assert (found["steps"], "SGD steps" in found) == ("200", False)


def test_settings_follow_the_kind_and_not_the_dims():
    """A comparison that is indexed by its learning rates is no sweep."""
    dataset = comparison(("sp", "mup")).swap_dims(parametrization="learning_rate")
    given = {"learning_rate": 1.0, "parametrizations": ["sp", {"name": "mup", "b": 1}]}
    rows = dict(settings(dataset.assign_attrs(arguments=json.dumps(given))))
    assert rows["learning rate"] == "sp 0.3, mup 0.6"
    assert rows["parametrizations"] == "sp, mup"


def test_a_table_says_which_columns_are_words(tmp_path):
    """Those wrap, and are none of numbers."""
    text = report.write(coordinates(), tmp_path, (), VERDICTS).read_text(encoding="utf-8")
    heads = re.findall(r'<th scope="col" class="note">(.*?)</th>', text)
    assert heads == ["claim", "bound", "verdict", "layer"]
