"""Figures of sweeps and coordinate checks: what stands in the Axes is compared with the Dataset."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from mupjax import plots
from mupjax.plots.style import round_numbers
from tests.plots.reading import band, check_texts, legend_texts, lines, no_warnings_left
from tests.result_datasets import coordinates, sweep, with_optimum

# Losses against the learning rate


def test_a_loss_that_the_sweep_does_not_have_is_refused():
    with pytest.raises(ValueError, match="Expected `loss` to be one of train_loss, got loss='test_loss'"):
        plots.learning_rates(sweep(test=False), "test_loss")


def test_panels_hold_the_mean_the_range_and_the_best_rate():
    dataset = sweep(depths=(2, 4))
    axes = plots.learning_rates(dataset)
    assert axes.shape == (2, 2, 2)
    for where in np.ndindex(axes.shape):
        ax, (row, depth, optimizer) = axes[where], where
        was_run = dataset["was_run"].values[optimizer]
        rates = dataset["learning_rate"].values[was_run]
        name = f"{('sp', 'mup')[row]}, {('sgd', 'adam')[optimizer]}, depth {(2, 4)[depth]}"
        assert (ax.get_title(), ax.get_xscale(), ax.get_yscale()) == (name, "log", "log")
        assert ax.get_ylim() == axes[0, 0, 0].get_ylim()
        values = dataset["train_loss"].values[row, depth, optimizer][..., -1][:, was_run].astype(float)
        stars = [line for line in ax.lines if line.get_marker() == "*"]
        for column, label in enumerate(("width 64", "width 256", "width 1024")):
            kept = np.isfinite(values[column]).any(1)
            mean = np.nanmean(values[column][kept], 1)
            np.testing.assert_array_equal(lines(ax)[label].get_xdata(), rates)
            np.testing.assert_allclose(lines(ax)[label].get_ydata()[kept], mean, rtol=1e-12)
            assert np.isnan(lines(ax)[label].get_ydata()[~kept]).all()
            (rate,), (loss,) = stars[column].get_data()
            assert (rate, loss) == (rates[mean.argmin()], mean.min())
            found = band(ax, column)
            for rate, runs in zip(rates[kept], values[column][kept], strict=True):
                np.testing.assert_allclose(found[rate], (np.nanmin(runs), np.nanmax(runs)), rtol=1e-12)
    assert axes[0, 0, 0].get_ylabel().replace("\n", " ") == "training loss (dimensionless) at step 200"
    assert {ax.get_xlabel() for ax in axes[:, 1, 1]} == {"base learning rate η"}
    (figure,) = {ax.figure for ax in axes.flat}
    assert legend_texts(figure) == ["width 64", "width 256", "width 1024", "best rate", "a seed diverged"]


def test_wider_networks_are_darker_and_marked_differently():
    found = lines(plots.learning_rates(sweep(("mup",), ("sgd",), widths=(8, 16, 32, 64, 128, 256)))[0, 0, 0], "-")
    luminance = [np.dot(to_rgb(line.get_color()), (0.299, 0.587, 0.114)) for line in found.values()]
    assert (np.diff(luminance) < -0.04).all()
    assert len({line.get_marker() for line in found.values()}) == 6


def test_a_cross_for_each_width_and_rate_at_which_a_seed_diverged():
    dataset = sweep()
    axes = plots.learning_rates(dataset)
    for row, optimizer in np.ndindex(2, 2):
        ax, rates = axes[row, 0, optimizer], dataset["learning_rate"].values
        gone = np.isnan(dataset["train_loss"].values[row, 0, optimizer, ..., -1]).any(-1)
        gone &= dataset["was_run"].values[optimizer]
        crosses = [line for line in ax.lines if line.get_marker() == "x"]
        for column, line in enumerate(crosses):
            np.testing.assert_array_equal(line.get_xdata(), rates[gone[column]])
        heights = [set(line.get_ydata()) for line in crosses]
        assert sorted(set.union(*heights)) == [height for one in heights for height in one]  # a row each, widest on top
        low, high = ax.get_ylim()
        drawn = np.concatenate([line.get_ydata() for line in lines(ax).values() if line.get_linestyle() == "-"])
        place = np.log(np.nanmax(drawn) / low) / np.log(high / low)
        assert place < min(set.union(*heights, {1.0}))  # no line reaches into the strip
    assert legend_texts(axes[0, 0, 0].figure)[-1] == "a seed diverged"
    calm = plots.learning_rates(sweep(("mup",), ("adam",)))[0, 0, 0]
    assert "a seed diverged" not in legend_texts(calm.figure)
    assert not [line for line in calm.lines if line.get_marker() == "x"]


def test_losses_that_blow_up_do_not_squeeze_the_others():
    dataset = sweep(("sp",), ("sgd",))
    dataset["train_loss"][0, 0, 0, 0, -1, :, -1] = [1e20, 1e30, np.inf]
    ax = plots.learning_rates(dataset)[0, 0, 0]
    assert ax.get_ylim()[1] < 100
    assert lines(ax)["width 64"].get_ydata()[-1] == pytest.approx(5e29, rel=1e-6)
    no_warnings_left(ax.figure)


def test_widths_that_are_not_done_are_named():
    dataset = sweep()
    dataset["train_loss"][1, 0, 0, [0, 2]] = np.nan
    axes = plots.learning_rates(dataset)
    notes = {ax.get_title(): [text.get_text() for text in ax.texts] for ax in axes.flat}
    assert notes == {"sp, sgd": [], "mup, sgd": ["not done: width 64, 1024"], "sp, adam": [], "mup, adam": []}
    dataset["train_loss"][...] = np.nan
    dataset["test_loss"][...] = np.nan
    for figure in plots.draw_all(dataset).values():
        no_warnings_left(figure)


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0.09, 11, 7, [0.1, 0.2, 0.5, 1, 2, 5, 10]),
        (0.09, 11, 4, [0.1, 1, 10]),
        (0.11, 0.19, 4, [0.12, 0.15, 0.18]),
        (1e-20, 1, 3, [1e-20, 1e-13, 1e-6]),
        (0.15, 9, 4, [0.2, 1, 5]),
    ],
)
def test_ticks_are_few_round_numbers(low, high, most, expected):
    np.testing.assert_allclose(round_numbers(low, high, most), expected, rtol=1e-12)


# Transfer


def test_best_rates_with_student_intervals_and_fitted_slope():
    dataset = with_optimum(sweep())
    ax = plots.transfer(dataset)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert legend_texts(ax) == [
        "sp, sgd\ndrift -0.50 ± 0.03 octaves per octave",
        "sp, adam\ndrift -0.50 ± 0.03 octaves per octave",
        "mup, sgd\ndrift 0.00 ± 0.03 octaves per octave",
        "mup, adam\ndrift 0.00 ± 0.03 octaves per octave",
    ]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("width n (hidden units)", "best base learning rate η")
    half_width = 4.302653 * 0.5 / np.sqrt(3)  # Student's quantile for three seeds; they are half an octave apart
    for place, container in enumerate(ax.containers):
        row, column = divmod(place, 2)
        marks, _, (bars,) = container
        level = (1.0, 2.0**-7)[column] * (dataset["width"].values / 64) ** (-0.5 * (row == 0))
        np.testing.assert_allclose(marks.get_ydata(), level, rtol=1e-12)
        assert np.abs(np.log(marks.get_xdata() / dataset["width"].values)).max() < 0.06  # beside each other
        for segment, rate in zip(bars.get_segments(), level, strict=True):
            np.testing.assert_allclose(np.log2(segment[:, 1] / rate), [-half_width, half_width], rtol=1e-6)
        (line,) = [line for label, line in lines(ax).items() if label == legend_texts(ax)[place]]
        np.testing.assert_allclose(line.get_ydata(), level, rtol=1e-12)


def test_optimum_may_come_beside_the_sweep_and_lack_seeds_and_slopes():
    dataset = sweep(("mup",), ("sgd", "adam"), seeds=1)
    optimum = with_optimum(dataset, seeds=1)[["best_rate", "drift", "drift_half_width"]]
    optimum["drift_half_width"][...] = np.inf
    optimum["drift"][0, 1] = np.nan
    optimum["best_rate"][0, 1, 1] = np.nan
    ax = plots.transfer(dataset, optimum)
    assert legend_texts(ax) == ["mup, sgd\ndrift 0.00 octaves per octave", "mup, adam\ndrift not determined"]
    np.testing.assert_array_equal(lines(ax)[legend_texts(ax)[1]].get_ydata(), [2.0**-7, np.nan, 2.0**-7])
    no_warnings_left(ax.figure)
    optimum["best_rate"][...] = np.nan
    no_warnings_left(plots.transfer(dataset, optimum).figure)


# Coordinate check


def test_coordinates_of_the_last_and_of_earlier_steps():
    dataset = coordinates()
    axes = plots.coordinate_check(dataset)
    assert axes.shape == (2, 3)
    names = ("coordinate", "change", "update")
    for (row, model), (column, name) in itertools.product(enumerate(("mup", "sp")), enumerate(names)):
        ax = axes[row, column]
        assert ax.get_title() == f"{model}, step 4"
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        assert ax.get_ylabel().replace("\n", " ") == f"{dataset[name].attrs['long_name']} (dimensionless)"
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["64", "128", "256", "512"]
        values = dataset[name].values[row]
        for rank, layer in enumerate(("layer_1", "layer_2", "readout")):
            line = lines(ax)[layer]
            np.testing.assert_allclose(line.get_ydata(), values[rank, ..., -1].mean(1), rtol=1e-12)
            for width, runs in zip((64.0, 128.0, 256.0, 512.0), values[rank, ..., -1], strict=True):
                np.testing.assert_allclose(band(ax, rank)[width], (runs.min(), runs.max()), rtol=1e-12)
            light = [other for other in ax.lines if other.get_alpha() and other.get_color() == line.get_color()]
            for step, other in enumerate(light):
                expected = values[rank, ..., step].mean(1)
                np.testing.assert_allclose(other.get_ydata(), np.where(expected > 0, expected, np.nan), rtol=1e-12)
            assert (np.diff([other.get_alpha() for other in light]) > 0).all()
            assert len(light) == 4
    assert axes[0, 0].get_ylim() == axes[1, 0].get_ylim()
    assert legend_texts(axes[0, 0].figure) == ["layer_1", "layer_2", "readout", "earlier steps"]


def test_layers_that_a_model_lacks_are_left_out_and_diverged_widths_said():
    dataset = coordinates()
    for name in ("coordinate", "change", "update"):
        dataset[name][0, 1] = np.nan
        dataset[name][1, 0, 3, 0, 2:] = np.nan
    axes = plots.coordinate_check(dataset)
    assert "layer_2" not in lines(axes[0, 0])
    assert legend_texts(axes[0, 0].figure) == ["layer_1", "layer_2", "readout", "earlier steps"]
    notes = [[text.get_text() for text in ax.texts] for ax in axes[:, 0]]
    assert notes == [[], ["diverged: width 512"]]
    no_warnings_left(axes[0, 0].figure)


def test_many_layers_have_keys_of_their_own():
    ax = plots.coordinate_check(coordinates(("mup",), tuple(map(str, range(12)))))[0, 0]
    keys = {(to_hex(line.get_color()), line.get_marker()) for line in ax.lines if line.get_marker() != "None"}
    assert len(keys) == 12


# All figures


def test_figures_follow_from_the_kind_of_dataset():
    assert list(plots.draw_all(sweep())) == ["learning_rates.png", "learning_rates_test.png"]
    assert list(plots.draw_all(with_optimum(sweep(test=False)))) == ["learning_rates.png", "transfer.png"]
    assert list(plots.draw_all(coordinates())) == ["coord_check.png"]


@pytest.mark.parametrize(
    "dataset",
    [
        with_optimum(sweep()),
        with_optimum(sweep(("sp", "ntp", "mup", "ip"), depths=(2, 4), widths=(64, 128, 256, 512, 1024, (2048, 64)))),
        with_optimum(sweep(("mup",), ("sgd",), widths=(64,), seeds=1), seeds=1),
        sweep(("sp", "ntp", "mup", "ip", "hp"), ("sgd",)),
        coordinates(),
        coordinates(("mup",), [*(f"block_{i}/dense" for i in range(6)), "readout"], seeds=1),
    ],
    ids=["usual", "most", "least", "five", "coordinates", "layers"],
)
def test_no_text_overlaps_or_leaves_the_figure(dataset):
    if "train_loss" in dataset and dataset.sizes["parametrization"] > 1:
        dataset["train_loss"][1, 0, 0, :2] = np.nan
    for name, figure in plots.draw_all(dataset).items():
        check_texts(name, figure)
