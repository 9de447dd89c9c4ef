"""The coordinate check: it passes what is right, fails what is wrong, and says so from the Dataset alone."""

import dataclasses
import json
import shutil
import subprocess
import sys
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

import mupjax
from mupjax import cli, datasets
from mupjax.cli import running
from mupjax.dynamics.runs import run_key
from mupjax.network import MLP, scaling_tree
from mupjax.parametrization import mup
from mupjax.results import store
from mupjax.statistics import CONTRADICTED, REPRODUCED, UNDECIDED
from mupjax.studies.coordinates import CONTROL, coord_check, judge
from mupjax.studies.coordinates.slopes import BOUND
from mupjax.task import loss_per_sample

WIDTHS = (64, 256)
# Sixteen seeds: half-widths of .01 to .06, beside powers of up to .085 that widths this small leave over (f's change).
check = partial(coord_check, widths=WIDTHS, depth=2, seeds=16)


@pytest.fixture(scope="module")
def task():
    return datasets.load("digits", classes=None, train_size=40, test_size=None, loss="cross_entropy")


@pytest.fixture(scope="module")
def adam(task):
    return check(task=task, optimizer="adam")


def verdict_of(dataset, layer, quantity):
    return next(v for v in judge(dataset) if f", {layer}: mean |{quantity}|" in v.claim)


def all_verdicts(dataset):
    return [v.verdict for v in judge(dataset)]


def test_mup_passes_and_the_control_is_caught(adam):
    found = judge(adam)
    assert [v.verdict for v in found] == [REPRODUCED] * 7  # two quantities of three layers, and the control
    assert found[-1].claim.startswith(CONTROL)
    assert found[-1].ours > 0.8  # with one rate the first change of h and f grows as n


def test_mup_passes_with_sgd(task):
    assert all_verdicts(check(task=task, control=False)) == [REPRODUCED] * 6  # its control: the command's test


def test_coordinates_agree_at_two_widths_under_mup_alone(adam):
    """The figure of microsoft/mup's own test: within a factor 1.2 over a factor 4 of width, after three updates.

    Of the output without what it starts from, which is zero there.
    """
    mean = adam.isel(step=3).mean("seed")
    after = xr.where(mean.layer == "readout", mean.change, mean.coordinate)
    ratio = after.sel(width=256) / after.sel(width=64)
    assert (abs(np.log(ratio.sel(model="mup"))) < np.log(1.2)).all()
    assert (ratio.sel(model=CONTROL, layer=["layer_2", "readout"]) > 1.5).all()


def test_numbers_are_those_of_training_by_hand(task, adam):
    model = MLP(64, 2, 10, mup(base_width=64))

    @jax.jit
    def by_hand(key):
        boxed = model.init(key, task.x_train)
        params, transform = nn.meta.unbox(boxed)["params"], mupjax.adam(scaling_tree(boxed), 0.01)
        features = partial(model.apply, method="features")
        start, state = features({"params": params}, task.x_train), transform.init(params)
        for _ in range(3):
            gradients = jax.grad(
                lambda p: loss_per_sample(
                    "cross_entropy", features({"params": p}, task.x_train).f - start.f, task.y_train
                ).mean()
            )(params)
            updates, state = transform.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
        return start, features({"params": params}, task.x_train)

    start, now = by_hand(run_key(jax.random.key(0), 3, 64))
    at = adam.sel(model="mup", width=64, seed=3, step=3)
    for layer, z, z_0 in zip(("layer_1", "layer_2", "readout"), (*now.h, now.f), (*start.h, start.f), strict=True):
        sizes = [float(at[name].sel(layer=layer)) for name in ("coordinate", "change")]
        # Three updates of float32 rounding, which Adam's division by small gradients enlarges.
        np.testing.assert_allclose(sizes, [jnp.abs(z).mean(), jnp.abs(z - z_0).mean()], rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "wrong", "layer"),
    [
        ("a hidden rate too large by n^1/2", {"c": mup().c._replace(hidden=-0.5)}, "layer_2"),
        ("a readout at the standard scale", {"b": mup().b._replace(output=0.5)}, "readout"),
    ],
)
def test_one_wrong_exponent_is_found_in_its_layer(task, name, wrong, layer):
    preset = dataclasses.replace(mup(base_width=64), **wrong)
    data = check(task=task, parametrization=preset, control=False)
    assert verdict_of(data, layer, "change").verdict == CONTRADICTED, name


class Plain(nn.Module):
    """An ordinary network: a block, batch statistics, biases, no parametrization."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False)(nn.relu(nn.Dense(self.width)(x)))
        return nn.Dense(10)(nn.Sequential([nn.Dense(self.width), nn.relu])(x))


def test_an_ordinary_model_fails(task):
    data = check(
        Plain, inputs=task.x_train, targets=task.y_train, optimizer=optax.sgd, learning_rate=0.1, control=False
    )
    assert list(data.layer) == ["Dense_0", "BatchNorm_0", "Dense_2", "Sequential_0", "Dense_1"]  # as they are called
    assert list(data.layer[data.fixed_size.sel(model="Plain")]) == ["Dense_1"]  # which is the output, named once
    assert verdict_of(data, "Dense_1", "change").verdict == CONTRADICTED


def test_an_optimizer_that_loses_a_multiplier_is_refused(task):
    with pytest.raises(ValueError, match="keep the sgd multiplier"):
        check(task=task, optimizer=lambda scaling, rate: optax.sgd(rate), learning_rate=0.1)


# Verdicts come from the Dataset alone


def perturbed(dataset, name, factor, **where):
    """The Dataset with a variable multiplied by `factor` at one place."""
    data = dataset.copy(deep=True)
    data[name].loc[where] = data[name].loc[where] * factor
    return data


def test_perturbed_datasets_flip_the_verdicts(adam, tmp_path):
    data = adam
    store.write(data, tmp_path)
    assert judge(store.read(tmp_path / "results.zarr")) == judge(data)
    up = (data.width / 64) ** 0.5
    for layer, quantity in (("layer_1", "coordinate"), ("layer_2", "change"), ("readout", "change")):
        for factor in (up, 1 / up):
            changed = perturbed(data, quantity, factor, model="mup", layer=layer, step=2)
            verdict = verdict_of(changed, layer, quantity)
            assert verdict.verdict == CONTRADICTED
            assert abs(verdict.ours - float(np.log(factor[-1]) / np.log(4))) < BOUND
    noise = np.exp(np.random.default_rng(0).normal(size=16))
    noisy = data.change.loc[{"model": "mup", "layer": "layer_1", "width": 64}] * noise[:, None]
    changed = data.copy(deep=True)
    changed.change.loc[{"model": "mup", "layer": "layer_1", "width": 64}] = noisy
    assert verdict_of(changed, "layer_1", "change").verdict == UNDECIDED
    assert all_verdicts(perturbed(data, "change", up**-3, model=CONTROL))[-1] == CONTRADICTED
    for lost in (0.0, np.nan):
        assert all_verdicts(perturbed(data, "change", lost, model=CONTROL))[-1] == UNDECIDED
    assert UNDECIDED in all_verdicts(perturbed(data, "coordinate", np.inf, model="mup", layer="layer_1", width=256))


def test_what_falls_or_rests_by_design_passes(adam):
    """muP's output falls at t=0, and nothing moves below a readout of zeros in the first update."""
    data = adam
    assert verdict_of(data, "readout", "coordinate").ours < -BOUND
    rising = perturbed(data, "coordinate", data.width / 64, model="mup", layer="readout", step=3)
    assert verdict_of(rising, "readout", "coordinate").verdict == CONTRADICTED
    resting = perturbed(data, "change", 0.0, model="mup", layer="layer_1", step=1)
    assert verdict_of(resting, "layer_1", "change").verdict == REPRODUCED
    frozen = perturbed(data, "change", 0.0, model="mup", layer="layer_1")
    assert verdict_of(frozen, "layer_1", "change").verdict == UNDECIDED


# Errors


class Mixed(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(mupjax.Dense(self.width, "input", mup())(x))


class Growing(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        for _ in range(self.width // 64):
            x = nn.Dense(self.width)(x)
        return x


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"widths": (256, 64)}, ValueError, "`widths` to be two or more ascending"),
        ({"widths": (64, 64)}, ValueError, "`widths` to be two or more ascending"),
        ({"widths": (64,)}, ValueError, "`widths` to be two or more ascending"),
        ({"seeds": 0}, ValueError, "`seeds` to be a positive int"),
        ({"steps": 0}, ValueError, "`steps` to be a positive int"),
        ({"optimizer": "lion"}, ValueError, "`optimizer` to be one of sgd, adam, adamw"),
        ({"learning_rate": 0.0}, ValueError, "`learning_rate` to be finite and positive"),
        ({"optimizer": mupjax.sgd}, ValueError, "`learning_rate` beside an optimizer"),
        ({"optimizer": optax.sgd, "learning_rate": 1.0}, TypeError, r"callable as \(scaling, learning_rate\)"),
        ({"optimizer": lambda s, r: print, "learning_rate": 1.0}, TypeError, "return an Optax transform"),
        ({"make_model": lambda width: width}, TypeError, "flax.linen.Module, got int"),
        ({"make_model": lambda width: nn.Dense(8)}, ValueError, "parameters of <lambda> to grow"),
        ({"make_model": Growing}, ValueError, "same layers at every width, got Dense_1"),
        ({"make_model": Mixed}, ValueError, r"every parameter to carry a scaling, got none at .*Dense_0"),
        ({"task": None}, ValueError, "Expected `task`, or `inputs` and `targets`"),
        ({"inputs": np.ones((2, 2))}, ValueError, "Expected `task`, or `inputs` and `targets`"),
        ({"memory_gb": 1e-6}, ValueError, "memory_gb"),
    ],
)
def test_errors_name_what_is_wrong(task, arguments, error, match):
    with pytest.raises(error, match=match):
        check(**{"task": task, **arguments})


def test_models_that_see_no_vectors_have_no_control():
    tokens = np.arange(6).reshape(2, 3)
    with pytest.raises(ValueError, match="control=False"):
        check(lambda width: nn.Embed(10, width), inputs=tokens, targets=tokens)
    with pytest.raises(ValueError, match="Expected `task` for the library's MLP"):
        check(inputs=tokens, targets=tokens)


# The command

MODULE = """
import flax.linen as nn, mupjax
from functools import partial

class Scaled(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        dense = partial(mupjax.Dense, parametrization=mupjax.mup(base_width=64), use_bias=True)
        x = nn.tanh(dense(self.width, "input")(x / 8))
        return dense(10, "output", name="readout")(x)

nesterov = partial(mupjax.sgd, momentum=0.5, nesterov=True)
"""


def here(monkeypatch, *words):
    """Run the command in this process, whose JAX runs already; its exit code."""
    monkeypatch.setattr(running, "prepare_jax", lambda cache: None)
    monkeypatch.setattr(sys, "argv", ["mupjax", "coord-check", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_the_command_passes_a_model_of_ones_own_and_fails_what_its_store_contradicts(tmp_path, monkeypatch, capsys):
    """A finished directory is judged again without computing: the exit code comes from what is stored."""
    (tmp_path / "mine.py").write_text(MODULE)
    words = ["--model", "mine:Scaled", "--optimizer", "mine:nesterov", "--learning-rate", ".1", "--train-size", "40"]
    words += ["--widths", "64,256", "--depth", "1", "--no-cache", "--out", "out"]
    line = [sys.executable, "-m", "mupjax.cli", "coord-check", *words]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    assert {"results.zarr", "report.html", "verdicts.json", "coord_check.png"} <= {path.name for path in out.iterdir()}
    rows = json.loads((out / "verdicts.json").read_text())
    assert len(rows) == 5
    assert {row["verdict"] for row in rows} == {REPRODUCED}
    data = store.read(out / "results.zarr")
    shutil.rmtree(out / "results.zarr")
    store.write(perturbed(data, "change", (data.width / 64) ** 0.5, model="Scaled", layer="readout"), out)
    monkeypatch.chdir(tmp_path)
    assert here(monkeypatch, *words) == 1
    printed = capsys.readouterr().out
    assert "holds finished results" in printed
    assert CONTRADICTED in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--widths", "64"), "`widths` to be two or more ascending"),
        (("--model", "json"), "`model` to be 'package.module:function', got 'json'"),
        (("--model", "nowhere:fn"), "No module named 'nowhere'"),
        (
            ("--optimizer", "json:dumps", "--learning-rate", "1"),
            "`optimizer` to be callable as (scaling, learning_rate)",
        ),
    ],
)
def test_the_command_names_bad_input(words, message, monkeypatch, capsys):
    assert here(monkeypatch, "--train-size", "20", *words) == 2
    assert message in capsys.readouterr().err
