"""Figures: what stands in the Axes is read back from their artists and compared with the Dataset."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from mupjax import metrics, plots
from mupjax.statistics import seeds
from mupjax.studies.comparison import figures
from tests.plots.reading import band, check_texts, legend_texts, lines, no_warnings_left
from tests.result_datasets import KINDS, NAMES, RESOLUTION, WORDS, comparison, diverge


def test_importing_draws_in_no_matplotlib():
    code = "import sys, mupjax.plots, mupjax.report; print([m for m in sys.modules if m.startswith('matplotlib')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_unknown_names_are_refused():
    dataset = comparison()
    with pytest.raises(ValueError, match=r"Expected `metric` to be one of feature_change.*, got metric='speed'"):
        plots.against_width(dataset, "speed")
    with pytest.raises(ValueError, match=r"Expected `layer` to be one of \[1, 2\], got layer=3"):
        plots.against_width(dataset, "diversity", layer=3)
    with pytest.raises(ValueError, match="Expected `features` to be 'h' or 'x', got features='y'"):
        plots.gram_heatmaps(dataset, features="y")


# Losses


@pytest.mark.parametrize("count", range(1, 7))
def test_loss_panels_of_one_to_six_parametrizations(count):
    dataset = comparison(NAMES[:count])
    axes = plots.loss_curves(dataset)
    assert axes.shape == (2, count)
    for (row, loss), (column, name) in itertools.product(
        enumerate(("train_loss", "test_loss")), enumerate(NAMES[:count])
    ):
        ax = axes[row, column]
        assert ax.get_title() == f"{name}, η = {0.3 * (column + 1):g}"
        assert WORDS[KINDS[column]] in [text.get_text() for text in ax.texts]
        assert ax.get_yscale() == "log"
        values = dataset[loss].values[column].astype(float)
        for width, label in enumerate(("width 64", "width 256", "width 1024")):
            np.testing.assert_allclose(lines(ax)[label].get_ydata(), values[width].mean(0), rtol=1e-12)
        dashed = lines(ax, "--")
        assert set(dashed) == ({"infinite width"} if KINDS[column] == "kernel" else set())
        for line in dashed.values():
            np.testing.assert_array_equal(line.get_ydata(), values[-1, 0])
            assert line.get_color() == "black"
        low, high = ax.get_ylim()
        assert low < np.nanmin(values)
        assert np.nanmax(values) < high
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["the train loss (dimensionless)", "the test loss (dimensionless)"]
    assert "SGD step" in {ax.get_xlabel() for ax in axes[-1]}
    (figure,) = {ax.figure for ax in axes.flat}
    assert legend_texts(figure) == ["width 64", "width 256", "width 1024", "infinite width"]


def test_loss_bands_reach_from_the_smallest_to_the_largest_seed():
    dataset = comparison(("sp",))
    ax = plots.loss_curves(dataset)[0, 0]
    for width in range(3):
        found, values = band(ax, width), dataset["train_loss"].values[0, width].astype(float)
        for step in (0, 7, 20):
            np.testing.assert_allclose(found[step], (values[:, step].min(), values[:, step].max()), rtol=1e-12)


def test_one_seed_has_no_band_and_no_test_set_no_second_row():
    axes = plots.loss_curves(comparison(seeds=1, test=False))
    assert axes.shape == (1, 4)
    assert not any(ax.collections for ax in axes.flat)
    assert not plots.against_width(comparison(seeds=1), "diversity").collections


def test_wider_networks_are_darker_and_marked_differently():
    found = lines(plots.loss_curves(comparison(("mup",), (8, 16, 32, 64, 128, 256)))[0, 0], "-")
    luminance = [np.dot(to_rgb(line.get_color()), (0.299, 0.587, 0.114)) for line in found.values()]
    assert (np.diff(luminance) < -0.04).all()
    assert len({line.get_marker() for line in found.values()}) == 6


def test_diverged_runs_are_said_and_do_not_hide_the_others():
    dataset = diverge(diverge(comparison(), parametrization=0, width=0), parametrization=1, width=1, seed=2)
    dataset["train_loss"][0, 0, :, 1] = 1e30  # on its way out
    axes = plots.loss_curves(dataset)
    assert "width 64: 3/3 seeds diverged" in [text.get_text() for text in axes[0, 0].texts]
    assert "width 256: 1/3 seeds diverged" in [text.get_text() for text in axes[0, 1].texts]
    kept = dataset["train_loss"].values[1, 1, :2].astype(float)
    np.testing.assert_allclose(lines(axes[0, 1])["width 256"].get_ydata(), kept.mean(0), rtol=1e-12)
    assert axes[0, 0].get_ylim()[1] < 100
    no_warnings_left(axes[0, 0].figure)


def test_a_limit_that_diverged_is_said():
    dataset = diverge(comparison(), parametrization=0, width=3)
    assert seeds.limit_words(dataset)[:2] == ["kernel limit: diverged", "kernel limit"]
    assert "kernel limit: diverged" in legend_texts(plots.against_width(dataset, "diversity"))[0]


# Against width


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("metric", seeds.METRICS)
def test_lines_against_width(metric, count):
    dataset = comparison(NAMES[:count])
    ax = plots.against_width(dataset, metric)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlabel() == "width n (hidden units)"
    assert ax.get_ylabel().replace("\n", " ") == f"the {seeds.METRICS[metric].replace('_', ' ')} h (dimensionless)"
    assert ax.get_title() == "preactivations h, layer 2, step 20"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["64", "256", "1024"]
    values = dataset[f"{seeds.METRICS[metric]}_h"].values[:, :3, :, -1, -1]
    if metric != "feature_change":
        values = np.maximum(values, RESOLUTION)
    for name, expected in zip(NAMES[:count], values, strict=True):
        (label,) = [label for label in lines(ax) if label.split("\n")[0] == name]
        np.testing.assert_allclose(lines(ax)[label].get_ydata(), expected.mean(-1), rtol=1e-12)
        np.testing.assert_array_equal(lines(ax)[label].get_xdata(), [64, 256, 1024])


def test_infinite_width_is_a_dashed_line_at_its_value():
    dataset = comparison()
    found = lines(plots.against_width(dataset, "diversity"))
    for row, name in enumerate(("sp", "ntp")):
        line = found[f"{name}, infinite width"]
        assert set(line.get_ydata()) == {dataset["diversity_h"].values[row, -1, 0, -1, -1]}
        assert (line.get_linestyle(), line.get_marker()) == ("--", "None")
        assert line.get_color() == found[name].get_color()
    assert {label for label in found if label.endswith(", infinite width")} == {
        "sp, infinite width",
        "ntp, infinite width",
    }


def test_equal_limits_stay_visible_beside_each_other():
    ax = plots.against_width(comparison(), "diversity")
    offsets = [line._unscaled_dash_pattern[0] for line in ax.lines if line.get_label().endswith("infinite width")]
    assert offsets == [0, 5]


def test_limits_of_zero_and_missing_limits_are_named_in_the_legend():
    change = legend_texts(plots.against_width(comparison(), "feature_change"))
    assert change[:2] == ["sp\ninfinite width: 0", "ntp\ninfinite width: 0"]
    assert change[2].replace("\n", " ") == "mup feature-learning limit: not computed"
    assert change[3].replace("\n", " ") == "ip trivial: stuck at initialisation"
    assert len(change) == 4
    space_time = legend_texts(plots.against_width(comparison(), "space_time"))
    assert space_time[0] == "sp\ninfinite width: 0 within 4e-13"


def test_values_at_or_below_resolution_are_hollow_and_drawn_at_the_resolution():
    ax = plots.against_width(comparison(), "space_time")  # 64 coordinates of 64 vectors: the factor is zero
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert len(hollow) == 4
    for line in hollow:
        np.testing.assert_array_equal(line.get_xdata(), [64])
        np.testing.assert_allclose(line.get_ydata(), RESOLUTION, rtol=1e-12)
    assert plots.UNRESOLVED in legend_texts(ax)
    resolved = plots.against_width(comparison(widths=(256, 1024)), "space_time")
    assert plots.UNRESOLVED not in legend_texts(resolved)
    assert not [line for line in resolved.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]


def test_bands_against_width():
    dataset = comparison()
    found = band(plots.against_width(dataset, "feature_change"), 2)
    values = dataset["feature_change_h"].values[2, :3, :, -1, -1]
    for width, runs in zip((64.0, 256.0, 1024.0), values, strict=True):
        np.testing.assert_allclose(found[width], (runs.min(), runs.max()), rtol=1e-12)


def test_the_sampling_factor_is_divided_out():
    dataset = comparison()
    ax = plots.against_width(dataset, "space_time", divide_sampling=True)
    factor = metrics.sampling_factor(np.array([64.0, 256.0, 1024.0]), 64)
    assert factor[0] == 0
    values = dataset["space_time_lambda_min_h"].values[2, 1:3, :, -1, -1].mean(-1) / factor[1:]
    (line,) = [line for label, line in lines(ax).items() if label.startswith("mup")]
    np.testing.assert_allclose(line.get_ydata(), [np.nan, *values], rtol=1e-12)
    assert "divided by (1 − √(2N/n))²" in ax.get_title()
    diversity = plots.against_width(dataset, "diversity", divide_sampling=True)
    assert "divided by (1 − √(N/n))²" in diversity.get_title()


def test_layer_and_features_are_chosen():
    dataset = comparison()
    ax = plots.against_width(dataset, "feature_change", features="x", layer=1)
    assert ax.get_title() == "activations x, layer 1, step 20"
    values = dataset["feature_change_x"].values[2, :3, :, -1, 0].mean(-1)
    np.testing.assert_allclose(ax.lines[4].get_ydata(), values, rtol=1e-12)  # a line and its hollow marks each


def test_parametrizations_differ_in_colour_marker_and_line():
    ax = plots.against_width(comparison(NAMES), "feature_change")
    drawn = [line for line in ax.lines if len(line.get_xdata())]
    assert len({to_hex(line.get_color()) for line in drawn}) == 6
    assert len({line.get_marker() for line in drawn}) == 6
    assert len({str(line._unscaled_dash_pattern) for line in drawn}) == 6


def test_diverged_widths_are_said_in_the_legend():
    dataset = diverge(comparison(), parametrization=2, width=[0, 2])
    ax = plots.against_width(dataset, "feature_change")
    label = legend_texts(ax)[2].replace("\n", " ")
    assert label == "mup feature-learning limit: not computed diverged at width 64, 1024"


def test_widths_may_be_unsorted_single_equal_or_close():
    unsorted = plots.against_width(comparison(widths=(1024, 64)), "feature_change")
    np.testing.assert_array_equal(unsorted.lines[0].get_xdata(), [64, 1024])
    equal = plots.against_width(comparison(widths=(64, (64, 32))), "feature_change")
    assert [tick.get_text() for tick in equal.get_xticklabels()] == ["64\n64x32"]
    close = plots.against_width(comparison(widths=(64, 1000, 1024)), "feature_change")
    assert [tick.get_text() for tick in close.get_xticklabels()] == ["64", "1000"]
    single = plots.against_width(comparison(widths=(64,)), "feature_change")
    for ax in (unsorted, equal, close, single):
        no_warnings_left(ax.figure)


# Gram matrices


def test_gram_heatmaps_show_first_last_and_infinite_on_one_scale():
    dataset = comparison()
    axes = plots.gram_heatmaps(dataset)
    assert axes.shape == (4, 3)
    grams = dataset["h_gram"].values[:, :, 0, :, -1]
    for row, name in enumerate(NAMES[:4]):
        titles = [ax.get_title() for ax in axes[row]]
        assert titles == [
            f"{name}\n{at}" for at in ("width 1024, step 0", "width 1024, step 20", "infinite width, step 20")
        ]
        expected = [grams[row, 2, 0], grams[row, 2, 1], grams[row, 3, 1]][: 3 if KINDS[row] == "kernel" else 2]
        images = [ax.images[0] for ax in axes[row] if ax.images]
        for image, gram in zip(images, expected, strict=True):
            np.testing.assert_array_equal(image.get_array(), gram)
            assert image.get_clim() == (np.min(expected), np.max(expected))
    assert axes[2, 2].texts[0].get_text().replace("\n", " ") == WORDS["feature"]
    bars = [ax.get_ylabel() for ax in axes[0, 0].figure.axes if ax not in set(axes.flat)]
    assert bars == ["⟨h, h⟩/n, layer 2"] * 4
    assert {ax.get_xlabel() for ax in axes[-1, :2]} == {"input"}


def test_gram_heatmaps_take_a_seed_that_did_not_diverge():
    dataset = diverge(diverge(comparison(), parametrization=0, seed=0, width=2), parametrization=1, width=2)
    axes = plots.gram_heatmaps(dataset)
    np.testing.assert_array_equal(axes[0, 1].images[0].get_array(), dataset["h_gram"].values[0, 2, 1, 1, -1])
    assert axes[1, 0].images
    assert [text.get_text() for text in axes[1, 1].texts] == ["diverged"]


# All figures


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"names": NAMES, "widths": (64, 128, 256, 512, 1024, 2048)},
        {"names": NAMES[:1], "widths": (256,), "seeds": 1},
        {"names": NAMES[:5], "test": False},
    ],
    ids=["usual", "most", "least", "five"],
)
def test_no_text_overlaps_or_leaves_the_figure(options):
    for name, figure in plots.draw_all(comparison(**options)).items():
        check_texts(name, figure)


def test_runs_that_all_diverged_are_drawn_without_a_warning():
    dataset = comparison()
    for name in dataset.data_vars:
        dataset[name][...] = np.nan
    for figure in plots.draw_all(dataset).values():
        no_warnings_left(figure)


def test_values_that_have_no_place_on_a_log_axis_are_left_out():
    dataset = comparison()
    dataset["train_loss"][0, 0, :, 5:] = 0
    dataset["feature_change_h"][0, 0] = 0
    losses, change = plots.loss_curves(dataset), plots.against_width(dataset, "feature_change")
    assert np.isnan(lines(losses[0, 0])["width 64"].get_ydata()[5:]).all()
    assert np.isnan(change.lines[0].get_ydata()[0])
    for ax in (losses[0, 0], change):
        no_warnings_left(ax.figure)


def test_names_are_shown_as_they_are():
    dataset = comparison(("$x^2$ </b>", "_hidden", "a $"))
    diversity = plots.against_width(dataset, "diversity")
    assert legend_texts(diversity)[:2] == [r"\$x^2\$ </b>", " _hidden"]
    for ax in (diversity, plots.loss_curves(dataset)[0, 0], plots.gram_heatmaps(dataset)[0, 0]):
        no_warnings_left(ax.figure)


def test_files(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # its import would fail, so it is not used
    written = plots.save_all(comparison(), tmp_path / "new" / "folder")
    names = ["loss.png", "feature_change.png", "diversity.png", "space_time.png", "grams.png"]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(names)
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for path in written)


def test_nothing_is_written_when_drawing_fails(tmp_path, monkeypatch):
    (tmp_path / "loss.png").write_bytes(b"of before")

    def fail(dataset, **options):
        raise RuntimeError("out of ink")

    monkeypatch.setattr(figures, "gram_heatmaps", fail)  # the last of them
    with pytest.raises(RuntimeError, match="out of ink"):
        plots.save_all(comparison(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"loss.png": b"of before"}
