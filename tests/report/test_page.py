"""The report and the table that it shares with the terminal: every number comes from the Dataset."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.image import imread

from mupjax import _files as files
from mupjax import plots, report
from tests.report.html import PIXEL, Page, written
from tests.result_datasets import NAMES, RESOLUTION, WORDS, comparison, diverge

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def pictures(tmp_path):
    """One pixel for each figure: most tests are about the words."""
    names = ("loss.png", "feature_change.png", "diversity.png", "space_time.png", "grams.png")
    return [files.write_whole(tmp_path / "pictures" / name, PIXEL) for name in names]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A report with its real figures, and the Dataset and the figures that it was made of."""
    dataset, out = comparison(), tmp_path_factory.mktemp("whole")
    figures = plots.save_all(dataset, out)
    return dataset, figures, report.write(dataset, out, figures)


# The table


def test_summary_is_mean_and_standard_deviation_of_the_dataset():
    dataset = comparison()
    rows = report.summary(dataset)
    assert [(row.parametrization, row.width_label) for row in rows] == [
        (name, width) for name in NAMES[:4] for width in ("64", "256", "1024", "infinite")
    ]
    row = rows[2 * 4 + 1]  # mup, width 256
    sources = {
        "train_loss": dataset["train_loss"].values[2, 1, :, -1],
        "test_loss": dataset["test_loss"].values[2, 1, :, -1],
        "feature_change": dataset["feature_change_h"].values[2, 1, :, -1, -1],
        "diversity": dataset["diversity_h"].values[2, 1, :, -1, -1],
        "space_time": dataset["space_time_lambda_min_h"].values[2, 1, :, -1, -1],
    }
    assert list(row.values) == list(sources)
    for name, source in sources.items():
        found = row.values[name]
        np.testing.assert_allclose(found.mean, source.astype(float).mean(), rtol=1e-12)
        np.testing.assert_allclose(found.std, source.astype(float).std(ddof=1), rtol=1e-9)
        assert found.unresolved == "none"


def test_table_is_plain_text():
    columns, rows = report.format_table(comparison())
    assert columns == [
        "parametrization",
        "width",
        "train loss",
        "test loss",
        "feature change",
        "diversity",
        "space-time",
        "note",
    ]
    assert {len(row) for row in rows} == {8}
    assert all(isinstance(cell, str) for row in rows for cell in row)
    assert "test loss" not in report.format_table(comparison(test=False))[0]


def test_infinite_width_has_its_word_and_no_deviation():
    rows = [row for row in report.summary(comparison()) if np.isinf(row.width)]
    assert [row.note for row in rows] == [WORDS[kind] for kind in ("kernel", "kernel", "feature", "trivial")]
    assert str(rows[0].values["feature_change"]) == "0"
    assert str(rows[0].values["space_time"]) == "< 4.0e-13"
    assert "±" not in str(rows[0].values["train_loss"])
    assert {str(value) for row in rows[2:] for value in row.values.values()} == {"–"}


def test_eigenvalues_below_resolution_are_written_as_bounds():
    dataset = comparison(("sp",))
    assert report.format_table(dataset)[1][0][-2] == "< 4.0e-13"  # 64 coordinates for 64 vectors
    dataset["space_time_lambda_min_h"][0, 0, 1] = 7 * RESOLUTION
    assert report.format_table(dataset)[1][0][-2] == "≤ (1.20 ± 1.39)e-12"  # of 4e-13, 2.8e-12 and 4e-13


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (0.0, np.nan, "0"),
        (0.0123456, 0.00123, "0.0123 ± 0.0012"),
        (1.5, 0.123, "1.50 ± 0.12"),
        (1834.4, 37.2, "1834 ± 37"),
        (9.996, 0.0, "10.00 ± 0.00"),
        (7.5555e-4, 9.8e-5, "(7.56 ± 0.98)e-4"),
        (2.5e7, np.nan, "2.50e7"),
        (np.nan, np.nan, "–"),
    ],
)
def test_numbers(mean, std, expected):
    assert str(report.Estimate(mean, std, 0.0, "none")) == expected


def test_one_seed_has_no_deviation():
    assert not any("±" in cell for row in report.format_table(comparison(seeds=1))[1] for cell in row)


def test_diverged_runs_are_said():
    dataset = diverge(diverge(comparison(), parametrization=0, width=0), parametrization=1, width=1, seed=2)
    rows = report.summary(diverge(dataset, parametrization=0, width=3))
    assert (rows[0].diverged, rows[0].note) == (3, "3 of 3 seeds diverged")
    assert {str(value) for value in rows[0].values.values()} == {"–"}
    assert rows[3].note == "kernel limit: diverged"
    assert (rows[5].diverged, rows[5].note) == (1, "1 of 3 seeds diverged")
    kept = dataset["feature_change_h"].values[1, 1, :2, -1, -1]
    np.testing.assert_allclose(rows[5].values["feature_change"].mean, kept.mean(), rtol=1e-12)
    assert rows[1].note == ""


def test_another_dataset_gives_another_table(tmp_path, pictures):
    dataset = comparison()
    for column, variable in enumerate(
        ("train_loss", "test_loss", "feature_change_h", "diversity_h", "space_time_lambda_min_h"), start=2
    ):
        other = dataset.copy(deep=True)
        other[variable][2, 1] *= 3
        before, after = report.format_table(dataset)[1], report.format_table(other)[1]
        assert [(i, j) for i in range(16) for j in range(8) if before[i][j] != after[i][j]] == [(9, column)]
        assert after[9][column] in Page(written(other, tmp_path, pictures)).cells


# The page


def test_page_is_valid_and_needs_nothing_from_outside(whole):
    text = whole[2].read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.find("html") == [{"lang": "en"}]
    assert len(page.find("title")) == len(page.find("h1")) == len(page.find("main")) == 1
    assert not {"script", "link", "iframe", "object", "embed", "base", "a"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?://|@import|url\(", text)
    attributes = [(name, value) for _, tag in page.tags for name, value in tag.items()]
    assert all(value.startswith("data:image/png;base64,") for name, value in attributes if name == "src")
    assert not [name for name, _ in attributes if name == "href" or name.startswith("on")]


def test_page_holds_every_figure_with_its_words(whole):
    _, figures, path = whole
    page = Page(path.read_text(encoding="utf-8"))
    images = page.find("img")
    assert [base64.b64decode(image["src"].partition(",")[2]) for image in images] == [f.read_bytes() for f in figures]
    for image, figure in zip(images, figures, strict=True):
        height, width, _ = imread(figure).shape
        assert abs(int(image["width"]) / int(image["height"]) - width / height) < 0.01
        assert image["alt"].endswith(": sp, ntp, mup, ip at widths 64, 256, 1024, infinite")
    assert len(page.find("figcaption")) == 5
    assert page.text.count("Chen et al. 2025, arXiv:2503.09565, Sec. 5") >= 4
    assert "Yang & Hu 2021, arXiv:2011.14522" in page.text
    assert "(1 − √(N/n))²" in page.text


def test_page_holds_the_whole_table(whole):
    dataset, _, path = whole
    page = Page(path.read_text(encoding="utf-8"))
    columns, rows = report.format_table(dataset)
    head, body = page.cells[: len(columns)], page.cells[len(columns) :]
    assert head == columns
    expected = [cell for i, row in enumerate(rows) for cell in (row if i % 4 == 0 else row[1:])]  # names span rows
    assert body[: len(expected)] == expected
    factors = dataset["diversity_sampling_factor"].values
    assert [f"{factor:.3g}" for factor in factors[:3]] == ["0.0858", "0.418", "0.678"]
    assert {"0.0858", "0.418", "0.678"} <= set(page.cells)


def test_page_says_what_was_run(tmp_path, pictures):
    text = Page(written(comparison(), tmp_path, pictures)).text
    for words in ("full batch", "yes", "64, 32x16", "sp 0.3, ntp 0.6, mup 0.9, ip 1.2", "jax 0.1.2", "abacus"):
        assert words in text
    assert "null" not in text


def test_figures_are_drawn_where_none_are_given(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "draw_all", lambda dataset: {"loss.png": "a figure"})
    monkeypatch.setattr(plots, "png", {"a figure": PIXEL}.get)
    page = Page(report.write(comparison(), tmp_path).read_text(encoding="utf-8"))
    assert [base64.b64decode(image["src"].partition(",")[2]) for image in page.find("img")] == [PIXEL]


def test_everything_from_the_dataset_is_escaped(tmp_path, pictures):
    evil = "\"><script>alert(1)</script>{what}<b a='"
    dataset = comparison((evil, "mup"))
    dataset["limit"] = "parametrization", [f"1{evil}", f"2{evil}"]
    dataset["width_label"] = "width", [f"3{evil}", f"4{evil}", f"5{evil}", f"6{evil}"]
    dataset.attrs |= {"arguments": '{"x%s": "y%s"}' % ((evil.replace('"', ""),) * 2), "device": evil, f"z{evil}": evil}
    text = written(dataset, tmp_path, pictures)
    page = Page(text)
    assert not page.find("script")
    assert not page.find("b")
    assert "<script" not in text
    for cell in (evil, f"1{evil}", *(f"{i}{evil}" for i in range(3, 7))):
        assert cell in page.cells
    for image in page.find("img"):
        assert evil in image["alt"]
        assert set(image) == {"src", "alt", "width", "height"}


def test_arguments_that_are_no_json_are_shown(tmp_path, pictures):
    dataset = comparison()
    for arguments in ("not <json>", "[1, 2]", "7"):
        dataset.attrs["arguments"] = arguments
        assert arguments in Page(written(dataset, tmp_path, pictures)).text


def test_nothing_is_written_when_drawing_fails(tmp_path, monkeypatch):
    def fail(dataset):
        raise RuntimeError("out of ink")

    monkeypatch.setattr(plots, "draw_all", fail)
    with pytest.raises(RuntimeError, match="out of ink"):
        report.write(comparison(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_older_report_stays_whole_when_writing_fails(tmp_path, pictures, monkeypatch):
    path = report.write(comparison(), tmp_path / "out", pictures)
    before = path.read_bytes()

    def fail(source, destination):
        raise OSError("no space left")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        report.write(comparison(("mup",)), tmp_path / "out", pictures)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert path.read_bytes() == before


# In a browser


def chromium(tmp_path, *arguments):
    if CHROMIUM is None:
        pytest.skip(
            "chromium, chromium-browser or google-chrome is not installed: the report is not opened in a browser"
        )
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    )
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True, timeout=120).stdout.decode()


def test_report_opens_in_a_browser(tmp_path, whole):
    dataset, _, path = whole
    chromium(tmp_path, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,3000", path.as_uri())
    image = imread(tmp_path / "page.png")
    assert image.shape[:2] == (3000, 1200)
    eight_bits = np.round(image[..., :3] * 255).astype(np.uint8)
    assert len(np.unique(eight_bits.reshape(-1, 3), axis=0)) > 500  # pages of text alone have a few dozen
    for top in range(0, 3000, 500):
        assert np.ptp(eight_bits[top : top + 500]) > 100, f"nothing is drawn between rows {top} and {top + 500}"
    page = Page(chromium(tmp_path, "--dump-dom", path.as_uri()))
    for row in report.format_table(dataset)[1]:
        assert set(row) <= set(page.cells)
