"""Kinds of results: every selection from a Dataset of every kind is drawn and reported, or refused in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mupjax import metrics, plots, report, results
from mupjax.results import KINDS, complete, kind_of
from mupjax.results.variables import TRAJECTORY
from tests.result_datasets import comparison, coordinates, diverge, sweep, with_optimum


def small_comparison():
    return comparison(("sp", "mup"), widths=(64, 256), seeds=2, steps=4, inputs=8)


def limit():
    """A limit with a study of three widths, whose errors fall as n^-1/2 and n^-1."""
    widths = np.array([64.0, 256.0, 1024.0])
    infinite = comparison(("ntp",), widths=(64,), seeds=1, steps=4, inputs=8).isel(width=[1])
    points = {}
    for of, power in (("run", -0.5), ("mean", -1.0)):
        points[f"error_{of}"] = ("point", widths**power)
        points[f"error_{of}_stderr"] = ("point", 0.05 * widths**power)
        points[f"slope_{of}"] = ((), power)
        points[f"slope_{of}_stderr"] = ((), 0.04)
    points |= {"point_width": ("point", widths), "point_seeds": ("point", [256, 64, 16])}
    points["point_dynamics"] = ("point", ["dense", "dense", "matrix-free"])
    return infinite.assign(points).assign_attrs(kind="limit")


def covariance():
    """Covariances of the unit matrix, measured with errors of one in a hundred."""
    rng = np.random.default_rng(0)
    shape = (3, 2, 2, 2, 1, 4, 4)  # width, direction, steps, matrix, inputs
    predicted = np.broadcast_to(np.eye(8).reshape(2, 4, 2, 4).transpose(0, 2, 1, 3)[:, :, None], shape)
    difference, stderr = 0.01 * rng.standard_normal(shape), np.full(shape, 0.01)
    names = ("predicted", "empirical", "difference", "stderr")
    dims = ("width", "direction", "gram_step", "gram_step_2", "matrix", "gram_input", "gram_input_2")
    values = (predicted, predicted + difference, difference, stderr)
    variables = {name: (dims, array) for name, array in zip(names, values, strict=True)}
    variables["deviation"] = (("width", "direction", "run"), rng.uniform(0.1, 0.2, (3, 2, 6)))
    coords = {
        "width": [64.0, 256.0, np.inf],
        "width_label": ("width", ["64", "256", "infinite"]),
        "num_runs": ("width", [6, 6, 4]),
        "direction": ["forward", "backward"],
        "gram_step": [0, 3],
        "matrix": [1],
    }
    return xr.Dataset(variables, coords, {"kind": "covariance"})


def training():
    """All that a training study can observe, of functions of one variable."""
    rng = np.random.default_rng(0)
    sizes = {"parametrization": 2, "width": 2, "seed": 3, "step": 3, "kernel": 4, "layer": 3, "part": 3, "time": 2}
    sizes |= {"test_index": 7, "train_index": 4, "input_dim": 1, "output": 1}
    variables = {}
    for name, variable in kind_of(xr.Dataset(attrs={"kind": "training"})).variables.items():
        if name not in sizes and name != "class_share":
            variables[name] = (variable.dims, rng.uniform(0.5, 1.0, [sizes[dim] for dim in variable.dims]))
    variables["rank_h"] = (variables["rank_h"][0], np.round(100 * variables["rank_h"][1]))
    variables |= {f"{of}_target": variables[f"{of}_input"] for of in ("train", "test")}
    variables["train_target"] = (("train_index", "output"), variables["train_input"][1])
    variables["test_target"] = (("test_index", "output"), variables["test_input"][1])
    coords = {
        "parametrization": ["ip", "mup"],
        "width": [64.0, 256.0],
        "step": [0, 10, 20],
        "kernel": [1, 2, 3, 4],
        "layer": [1, 2, 3],
        "part": ["initial", "first", "later"],
        "time": ["start", "end"],
    }
    return xr.Dataset(variables, coords, {"kind": "training", "num_classes": 1})


def catapults():
    """Losses that grow tenfold at a factor of 3 and then fall; at 1.5 they only fall."""
    steps, dims = np.arange(9), ("activation", "schedule", "factor", "seed")
    loss = np.broadcast_to(0.5**steps, (2, 2, 2, 3, 9)).copy()
    loss[:, :, 1, :, 2] = 10.0
    values = {"sharpness": np.full((2, 2, 2, 3, 3), 1.0), "rate": np.full((2, 2, 2, 3, 3), 1.5)}
    values["cosine"] = np.full((2, 2, 2, 3, 3), 0.2)
    variables = {name: ((*dims, "observe_step"), array) for name, array in values.items()}
    variables["train_loss"] = (*dims, "step"), loss
    coords = {"activation": ["linear", "tanh"], "schedule": ["constant", "following"], "factor": [1.5, 3.0]}
    coords |= {"seed": range(3), "step": steps, "observe_step": [0, 4, 8]}
    return xr.Dataset(variables, coords, {"kind": "catapults"})


DATASETS = {
    "comparison": small_comparison,
    "limit": limit,
    "sweep": lambda: sweep(depths=(2, 4), widths=(64, 256)),
    "transfer": lambda: with_optimum(sweep(("mup",), widths=(64, 256), test=False)),
    "coordinate check": coordinates,
    "covariance": covariance,
    "training": training,
    "catapults": catapults,
}
REFUSED = {  # dims of which one place is not enough, and what the message says
    ("covariance", "direction"): "both directions, forward and backward, got",
    ("covariance", "gram_step"): "`gram_step` and `gram_step_2` of one length, got 1 and 2",
    ("covariance", "gram_step_2"): "`gram_step` and `gram_step_2` of one length, got 2 and 1",
    ("covariance", "gram_input"): "`gram_input` and `gram_input_2` of one length, got 1 and 4",
    ("covariance", "gram_input_2"): "`gram_input` and `gram_input_2` of one length, got 4 and 1",
}


def test_every_kind_is_in_the_table_and_has_a_dataset_here():
    assert list(DATASETS) == list(KINDS)
    for name, make in DATASETS.items():
        kind = kind_of(make())
        assert kind.name == name
        assert set(kind.needs) <= set(kind.variables)


@pytest.mark.parametrize("kind", KINDS)
def test_one_place_of_every_dim_is_drawn_and_summarised(kind):
    """The narrowest width, the smallest rate, step 0, one seed; of widths also the last, which may be infinite."""
    dataset = DATASETS[kind]()
    for dim, place in [(str(dim), 0) for dim in dataset.dims] + [("width", -1)] * ("width" in dataset.dims):
        one = dataset.isel({dim: place})
        if (kind, dim) in REFUSED:
            with pytest.raises(ValueError, match=REFUSED[kind, dim]):
                plots.draw_all(one)
            continue
        figures = plots.draw_all(one)
        assert figures
        for figure in figures.values() if dim in ("width", "step", "learning_rate") else ():
            figure.set_layout_engine("none")  # layout and ticks take most of the time
            figure.set_dpi(20)
            FigureCanvasAgg(figure).draw()  # ticks and text, under -Werror
        whole = complete(one)
        assert whole[dim].size == whole.sizes[dim] == 1
        record = kind_of(whole)
        assert all(len(row) == len(table.columns) for table in record.tables(whole) for row in table.rows)
        assert record.conclusion(whole).endswith(".")
        assert record.subject(whole)
        assert "<li>" in record.reading(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_pages_hold_the_conclusion_and_a_caption_of_every_figure(kind, tmp_path):
    dataset = DATASETS[kind]()
    figures = plots.draw_all(dataset)
    assert set(figures) <= set(kind_of(dataset).captions)
    path = tmp_path / "one_pixel.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01")
    page = report.write(dataset, tmp_path, [path], captions={path.name: results.Caption("A title", "a <b>caption</b>")})
    text = page.read_text(encoding="utf-8")
    assert "<h3>A title</h3>" in text
    assert "a <b>caption</b>" in text
    assert '<p class="conclusion">' in text
    assert f"<h1>{kind_of(dataset).heading}</h1>" in text


def test_a_selection_is_what_a_study_of_one_would_be():
    dataset = sweep()
    one = complete(dataset.sel(learning_rate=0.5, parametrization="mup", seed=0))
    assert one["train_loss"].dims == dataset["train_loss"].dims
    assert one["was_run"].dims == ("optimizer", "learning_rate")
    xr.testing.assert_identical(one, dataset.sel(learning_rate=[0.5], parametrization=["mup"], seed=[0]))
    narrow = complete(small_comparison().isel(width=0))
    assert narrow["width_label"].dims == narrow["width"].dims == ("width",)
    assert complete(dataset) is dataset


def test_a_rate_of_one_optimizer_leaves_the_others_out():
    figures = plots.draw_all(sweep().sel(learning_rate=4.0))  # SGD's alone
    (legend,) = figures["learning_rates.png"].legends
    titles = [ax.get_title() for ax in figures["learning_rates.png"].axes]
    assert titles == ["sp, sgd", "mup, sgd"]
    words = [text.get_text() for text in legend.get_texts()]
    assert words == ["width 64", "width 256", "width 1024", "a seed diverged"]  # one rate is no best rate


def test_what_has_no_kind_is_refused_and_what_is_missing_is_named():
    dataset = small_comparison()
    for kind in (None, "sweeps"):
        other = dataset.assign_attrs(kind=kind)
        for show in (plots.draw_all, complete, kind_of):
            with pytest.raises(ValueError, match=f"attrs\\['kind'\\] one of comparison, limit, .* kind={kind!r}"):
                show(other)
    with pytest.raises(ValueError, match=r"Expected a comparison with train_loss, .* got none of limit, step"):
        plots.draw_all(dataset.drop_vars(["limit", "step"]))
    with pytest.raises(ValueError, match=r"Expected a sweep with .* got none of was_run, depth, optimizer"):
        plots.draw_all(dataset.assign_attrs(kind="sweep"))
    with pytest.raises(ValueError, match=r"`train_loss` of a comparison along parametrization, .* got also run"):
        plots.draw_all(dataset.assign(train_loss=dataset["train_loss"].expand_dims("run")))
    with pytest.raises(ValueError, match=r"`train_loss` of a comparison to hold numbers, got the shape \(2, 0, 2, 5\)"):
        plots.draw_all(dataset.isel(width=[]))
    with pytest.raises(ValueError, match=r"learning rates that an optimizer was run with, got 0.125"):
        plots.draw_all(sweep(optimizers=("sgd", "adam")).isel(optimizer=[1]).sel(learning_rate=0.125))


def test_less_than_everything_is_drawn():
    losses = small_comparison().drop_vars([name for name in small_comparison() if name != "train_loss"])
    assert list(plots.draw_all(losses)) == ["loss.png"]
    assert report.format_table(losses)[0] == ["parametrization", "width", "train loss", "note"]
    assert kind_of(losses).conclusion(losses).startswith("At width 256 the training loss after 4 steps is ")


# Conclusions: every number comes from the Dataset


def conclusion(dataset):
    whole = complete(dataset)
    return kind_of(whole).conclusion(whole)


def test_conclusion_of_a_comparison():
    dataset = comparison(("sp", "mup"), widths=(64, 256, 1024))
    sizes = dataset["width"].values[:3]
    dataset["feature_change_h"][1, :3, :, -1, -1] = 0.2 * (sizes[:, None] / 64) ** np.array([0.0, 0.1, -0.1])
    start = "From width 64 to 1024, the relative change of h (layer 2, step 20) goes as a power of the width"
    half_width = 4.302653 * 0.1 / np.sqrt(3)  # Student's quantile for three seeds
    assert (
        conclusion(dataset)
        == f"{start} (95 % intervals over seeds): -0.500 ± 0.000 (sp), 0.000 ± {half_width:.3f} (mup)."
    )
    assert conclusion(diverge(dataset.copy(deep=True), parametrization=0, width=0)) == (
        f"{start} (95 % intervals over seeds): 0.000 ± {half_width:.3f} (mup)."
    )
    one = conclusion(dataset.isel(width=0))
    assert one == "At width 64 the relative change of h (layer 2, step 20) is 0.275 ± 0.025 (sp), 0.200 ± 0.000 (mup)."
    assert conclusion(dataset.isel(seed=0)) == f"{start}: -0.500 (sp), 0.000 (mup)."
    assert conclusion(dataset.isel(gram_step=0, width=-1)).startswith("At infinite width the training loss after 20 ")
    dataset["train_loss"][:] = dataset["feature_change_h"][:] = np.nan
    assert conclusion(dataset) == "Every run diverged."


def test_conclusion_of_a_limit():
    assert conclusion(limit()) == (
        "The distance from the limit goes as a fitted power of the width (± standard error): -0.50 ± 0.04 (outputs of "
        "one network), -1.00 ± 0.04 (their mean over initialisations)."
    )
    none = limit().assign(slope_run=np.nan, slope_mean=np.nan)
    assert conclusion(none) == "The distances from the limit determine no power of the width."
    alone = limit().drop_vars([name for name in limit() if name.startswith(("error", "slope", "point"))])
    assert conclusion(alone).startswith("At infinite width the training loss after 4 steps is ")
    tables = kind_of(limit()).tables(limit())
    assert [table.title for table in tables] == ["Summary", "Distance from the limit"]


def test_conclusion_of_a_sweep():
    dataset = sweep(optimizers=("sgd",))
    start = "From width 64 to 1024, the learning rate of the smallest training loss goes from"
    assert conclusion(dataset) == f"{start} 1 to 0.25 (sp, sgd), 1 to 1 (mup, sgd)."
    assert "1 to 1 (mup, sgd, depth 4)" in conclusion(sweep(optimizers=("sgd",), depths=(2, 4)))
    rate = conclusion(dataset.sel(learning_rate=0.5, width=256.0))
    loss = dataset["train_loss"].sel(learning_rate=0.5, width=256.0, step=200).mean("seed").values.ravel()
    start = "At width 256, the training loss after 200 steps at the learning rate 0.5 is"
    assert rate == f"{start} {loss[0]:.4f} (sp, sgd), {loss[1]:.4f} (mup, sgd)."
    dataset["train_loss"][1, 0, 0, 0, :, :, 1] = np.inf
    dataset["train_loss"][1, 0, 0, 2] = np.nan
    assert conclusion(dataset).endswith("none to not done (mup, sgd).")


def test_conclusion_of_a_transfer_check():
    assert conclusion(with_optimum(sweep(optimizers=("sgd",)))) == (
        "In octaves of rate per octave of width, the best learning rate drifts by -0.50 ± 0.03 (sp, sgd), 0.00 ± 0.03 "
        "(mup, sgd) (95 % intervals)."
    )


def test_conclusion_of_a_coordinate_check():
    start = "After 4 steps the power of the width in a layer's mean |change| that is farthest from 0"
    words = conclusion(coordinates())
    assert (
        words
        == f"{start} (95 % intervals over seeds) is 0.000 ± 0.000 in mup (layer_1), 0.500 ± 0.000 in sp (layer_1)."
    )
    dataset = coordinates(("mup",))
    dataset["change"][0, 1] *= (dataset["width"].values / 64)[:, None, None] ** -0.25
    assert conclusion(dataset).endswith("is -0.250 ± 0.000 in mup (layer_2).")
    assert (
        conclusion(dataset.isel(width=0)) == "After 4 steps no layer's mean |change| determines a power of the width."
    )


def test_conclusion_of_a_covariance_study():
    words = conclusion(covariance())
    assert words.startswith("At infinite width, means over 4 runs of the covariances differ from the prediction by ")
    assert conclusion(covariance().isel(width=slice(2))).startswith("At width 256, means over 6 runs")
    exact = covariance()
    exact["difference"][:] = 0.0
    assert "by 0 (forward) and 0 (backward), relative; the largest |z| is 0, " in conclusion(exact)


def test_conclusion_of_a_training_study():
    dataset = training()
    loss = dataset["train_loss"].sel(width=256.0).mean("seed").values
    dataset["train_loss"][1, 1] = np.nan
    words = f"the loss of the training set at width 256 is {loss[0]:.3f} (ip), diverged (mup)."
    assert conclusion(dataset) == f"After training, {words}"


def test_conclusion_of_catapults():
    dataset = catapults()
    dataset["train_loss"][0, 1, 1, 0, 3:] = np.nan
    assert conclusion(dataset) == (
        "At constant rates, 6 of 12 runs were catapulted and 0 diverged; "
        "at rates that follow the sharpness, 5 of 12 runs were catapulted and 1 diverged."
    )


# Variables are named once


def test_words_of_a_kind_are_those_of_its_datasets():
    """What studies write is what their Kinds say: dims, names and units."""
    import mupjax

    task = mupjax.Task(np.eye(4), np.ones((4, 1)), np.eye(4), np.ones((4, 1)))
    compared = mupjax.compare(task, parametrizations=("mup",), widths=(8,), depth=2, seeds=2, steps=2, particles=64)
    swept = mupjax.sweep(
        task, widths=(8,), depths=(2,), learning_rates=(0.1, 0.2), seeds=2, steps=2, observe=("cosines",)
    )
    for dataset in (compared, swept):
        kind = kind_of(dataset)
        for name, array in dataset.variables.items():
            assert array.dims == kind.variables[name].dims, name
            if name in dataset.data_vars:
                assert {k: v for k, v in array.attrs.items() if k != "_FillValue"} == kind.variables[name].attrs, name
    of_limit = {"limit_num_runs", "limit_directions"}
    assert {name for name in compared if not name.endswith("_stderr")} - of_limit <= set(TRAJECTORY)
    assert json.loads(compared.attrs["arguments"])["depth"] == 2
    assert metrics.sampling_factor(8, 4) == compared["diversity_sampling_factor"].values[0]
