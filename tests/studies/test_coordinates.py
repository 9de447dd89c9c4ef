"""The coordinate check: it passes what is right, fails what is wrong, and says so from the Dataset alone."""

import dataclasses
import json
import shutil
import subprocess
import sys
from functools import partial
from operator import itemgetter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from flax import nnx

import mupjax
from mupjax import cli, datasets
from mupjax.cli import running
from mupjax.dynamics.runs import run_key
from mupjax.network import MLP, ScaledParam, scaling_tree
from mupjax.parametrization import mup
from mupjax.results import store
from mupjax.statistics import CONTRADICTED, REPRODUCED, UNDECIDED
from mupjax.studies.coordinates import CONTROL, coord_check, judge, measured
from mupjax.studies.coordinates.slopes import BOUND
from mupjax.studies.coordinates.variables import QUANTITIES
from mupjax.task import loss_per_sample

pytestmark = pytest.mark.xdist_group("coordinates")  # the fixtures of one process
WIDTHS = (64, 256)
LAYERS = ("layer_1", "layer_2", "readout")
# Eight seeds: intervals reach to .10 in hidden layers and .18 in the readout, beside bounds of .13 and .25 (slopes.py).
SEEDS = 8
check = partial(coord_check, widths=WIDTHS, depth=2, seeds=SEEDS)


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
    assert [v.verdict for v in found] == [REPRODUCED] * 10  # three quantities of three layers, and the control
    assert found[-1].claim.startswith(CONTROL)
    assert found[-1].ours > 0.8  # with one rate the first change of h and f grows as n


def test_mup_passes_with_sgd(task):
    assert all_verdicts(check(task=task, control=False)) == [REPRODUCED] * 9  # its control: the command's test


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
        now = features({"params": params}, task.x_train)
        learnt = jax.tree.map(jnp.subtract, params, nn.meta.unbox(boxed)["params"])
        inputs = (task.x_train / task.x_train.shape[1] ** 0.5, *now.x)
        return start, now, [x @ learnt[name]["kernel"] for x, name in zip(inputs, LAYERS, strict=True)]

    start, now, own = by_hand(run_key(jax.random.key(0), 3, 64))
    at = adam.sel(model="mup", width=64, seed=3, step=3)
    for layer, z, z_0, update in zip(LAYERS, (*now.h, now.f), (*start.h, start.f), own, strict=True):
        sizes = [float(at[name].sel(layer=layer)) for name in QUANTITIES]
        # Three updates of float32 rounding, which Adam's division by small gradients enlarges.
        np.testing.assert_allclose(sizes, [jnp.abs(array).mean() for array in (z, z - z_0, update)], rtol=1e-3)


# Programs that are wrong, all in one simulation


def faulty(**exponents):
    """muP with exponents of the rates raised."""
    return dataclasses.replace(RIGHT, c=RIGHT.c._replace(**{k: getattr(RIGHT.c, k) + v for k, v in exponents.items()}))


RIGHT = mup(base_width=WIDTHS[0])
PROGRAMS = {
    "right": RIGHT,
    "hidden_slow": faulty(hidden=0.5),
    "hidden_fast": faulty(hidden=-0.5),
    "hidden_frozen": dataclasses.replace(RIGHT, rates=RIGHT.rates._replace(hidden=0.0)),
    "input_slow": faulty(input=0.5),
    "readout_slow": faulty(output=0.5),
    "readout_frozen": dataclasses.replace(RIGHT, rates=RIGHT.rates._replace(output=0.0)),
    "readout_large": dataclasses.replace(RIGHT, b=RIGHT.b._replace(output=0.5)),
    # A block's output moves with the stream, and its own layer learns little beside that: by 'change' it passes.
    "residual": dataclasses.replace(faulty(hidden=1.0), rates=RIGHT.rates._replace(hidden=1e-3)),
}


class Layer(nn.Module):
    """mupjax.Dense from Gaussians that all programs share: drawing and compiling them takes longer than training."""

    preset: object
    role: str
    gaussians: object

    @nn.compact
    def __call__(self, x):
        scaling = self.preset.scales(self.role, x.shape[-1], self.gaussians.shape[1])
        return x @ self.param("kernel", lambda key: ScaledParam(scaling.init_std * self.gaussians, scaling))


class Block(nn.Module):
    preset: object
    gaussians: object

    @nn.compact
    def __call__(self, h):
        return h + Layer(self.preset, "hidden", self.gaussians, name="hidden")(nn.tanh(h))


class Program(nn.Module):
    preset: object

    @nn.compact
    def __call__(self, x, gaussians):
        first, hidden, last = gaussians
        h = Layer(self.preset, "input", first, name="input")(x / x.shape[1] ** 0.5)
        if self.name.startswith("residual"):
            h = Block(self.preset, hidden, name="block")(h)
        else:
            h = Layer(self.preset, "hidden", hidden, name="hidden")(nn.tanh(h))
        return Layer(self.preset, "output", last, name="readout")(nn.tanh(h))


class Programs(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        shapes = [(x.shape[1], self.width), (self.width, self.width), (self.width, 10)]
        if self.is_initializing():
            gaussians = [jax.random.normal(self.make_rng("params"), shape) for shape in shapes]
        else:
            gaussians = [jnp.zeros(shape) for shape in shapes]
        return jnp.stack([Program(preset, name=name)(x, gaussians) for name, preset in PROGRAMS.items()])


@pytest.fixture(scope="module")
def programs(task):
    def loss(f, y):
        return jax.vmap(partial(loss_per_sample, "cross_entropy"), (0, None))(f, y).sum(0)

    return check(
        Programs,
        inputs=task.x_train,
        targets=task.y_train,
        loss=loss,
        optimizer=mupjax.sgd,
        learning_rate=0.1,
        control=False,
    )


@pytest.mark.parametrize(
    ("layer", "quantity", "power"),
    [
        ("hidden_slow/hidden", "update", -0.5),
        ("hidden_fast/hidden", "update", 0.5),
        ("hidden_fast/hidden", "change", 0.5),
        ("hidden_frozen/hidden", "update", -np.inf),
        ("input_slow/input", "update", -0.5),
        ("readout_slow/readout", "update", -0.5),
        ("readout_frozen/readout", "update", -np.inf),
        ("readout_large/hidden", "update", 0.5),
        ("readout_large/readout", "change", 0.5),
        ("residual/block/hidden", "update", -1.0),
    ],
)
def test_wrong_programs_are_found_in_their_layers(programs, layer, quantity, power):
    verdict = verdict_of(programs, layer, quantity)
    assert verdict.verdict == CONTRADICTED
    np.testing.assert_allclose(verdict.ours, power, atol=0.2)  # .13 that finite widths leave to the readout, and .07


def test_own_updates_find_what_changes_do_not(programs):
    """A frozen layer's output moves with its input, a residual block's with the stream."""
    for layer in ("hidden_frozen/hidden", "readout_frozen/readout", "residual/block"):
        assert verdict_of(programs, layer, "change").verdict == REPRODUCED
    assert "never learns" in verdict_of(programs, "hidden_frozen/hidden", "update").claim
    assert np.isnan(programs["update"].sel(layer="residual/block")).all()  # owns no parameters: its layer does
    right = [v for v in judge(programs) if "right/" in v.claim]
    assert [v.verdict for v in right] == [REPRODUCED] * 9


# What is not measured does not pass


class Stack(nn.Module):
    """Layers under lifted transforms, with and without intermediates, and a bridged network."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm(name="norm")(nn.Dense(self.width, name="first")(x))
        for name, more in (("seen", {"intermediates": 0}), ("unseen", {})):
            scan = nn.scan(
                nn.remat(Residual), variable_axes={"params": 0, **more}, split_rngs={"params": True}, length=3
            )
            x, _ = scan(name=name)(x, None)
        x = nnx.bridge.ToLinen(Bridged, args=(self.width,), name="bridged")(x)
        return nn.Dense(10, name="readout")(x)


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.tanh(nn.Dense(x.shape[-1], name="dense")(x)), None


class Bridged(nnx.Module):
    def __init__(self, width, rngs):
        self.linear = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x):
        return self.linear(x)


def test_layers_that_cannot_be_measured_are_said_and_do_not_pass(task):
    data = coord_check(
        Stack,
        inputs=task.x_train,
        targets=task.y_train,
        optimizer=optax.sgd,
        learning_rate=0.1,
        widths=(4, 8),
        seeds=2,
        steps=1,
        control=False,
    )
    missing = [v for v in judge(data) if v.needs.startswith("not measured: under")]
    assert [v.claim for v in missing] == ["Stack, bridged/linear", "Stack, unseen/dense"]
    assert {v.verdict for v in missing} == {UNDECIDED}
    assert all("'intermediates': 0" in v.needs for v in missing)
    learnt = data["update"].isel(step=1, model=0).mean(("width", "seed"))
    assert list(data.layer[np.isfinite(learnt)]) == ["first", "norm", "seen/dense", "readout"]
    assert (data["update"].isel(step=0).sel(layer="seen/dense") == 0).all()

    def by_hand(key):  # one update; the scanned layers one after the other
        model, x = Stack(4), task.x_train
        params = model.init(key, x)["params"]
        f_0 = model.apply({"params": params}, x)

        def loss(p):
            return loss_per_sample("cross_entropy", model.apply({"params": p}, x) - f_0, task.y_train).mean()

        now = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))
        h, sizes = nn.LayerNorm().apply({"params": now["norm"]}, nn.Dense(4).apply({"params": now["first"]}, x)), []
        for layer in range(3):
            at, start = (jax.tree.map(itemgetter(layer), tree["seen"]["dense"]) for tree in (now, params))
            learnt = jax.tree.map(jnp.subtract, at, start)
            sizes.append(jnp.abs(nn.Dense(4).apply({"params": learnt}, h)).mean())
            h = h + nn.tanh(nn.Dense(4).apply({"params": at}, h))
        return jnp.stack(sizes).mean()

    expected = jax.jit(by_hand)(run_key(jax.random.key(0), 1, 4))
    found = data["update"].sel(model="Stack", layer="seen/dense", width=4, seed=1, step=1)
    np.testing.assert_allclose(found, expected, rtol=1e-3)  # a difference of outputs of order 1 in float32


def test_a_module_that_reads_variables_past_flax_is_checked_without_its_own_update():
    class Raw(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.param("kernel", nn.initializers.normal(), (4, 8))
            return x @ self.variables["params"]["kernel"]

    at = measured.look(Raw(), jnp.ones((2, 4)))
    assert not at.paired
    assert not at.updated
    assert at.layers == {"output": (2, 8)}
    assert at.owners == {"output": [(4, 8)]}


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
    for layer, quantity in (
        ("layer_1", "coordinate"),
        ("layer_2", "change"),
        ("layer_2", "update"),
        ("readout", "change"),
    ):
        for factor in (up, 1 / up):
            changed = perturbed(data, quantity, factor, model="mup", layer=layer, step=2)
            verdict = verdict_of(changed, layer, quantity)
            assert verdict.verdict == CONTRADICTED
            assert abs(verdict.ours - float(np.log(factor[-1]) / np.log(4))) < BOUND
    noise = np.exp(np.random.default_rng(0).normal(size=SEEDS))
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
    falling = perturbed(data, "coordinate", 64 / data.width, model="mup", layer="readout")
    assert verdict_of(falling, "readout", "coordinate").ours < -BOUND
    assert verdict_of(falling, "readout", "coordinate").verdict == REPRODUCED
    rising = perturbed(data, "coordinate", data.width / 64, model="mup", layer="readout", step=3)
    assert verdict_of(rising, "readout", "coordinate").verdict == CONTRADICTED
    for quantity, verdict in (("change", UNDECIDED), ("update", CONTRADICTED)):
        resting = perturbed(data, quantity, 0.0, model="mup", layer="layer_1", step=1)
        assert verdict_of(resting, "layer_1", quantity).verdict == REPRODUCED
        frozen = perturbed(data, quantity, 0.0, model="mup", layer="layer_1")
        assert verdict_of(frozen, "layer_1", quantity).verdict == verdict


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
        ({"make_model": lambda width: nn.Dense(10)}, ValueError, "parameters of <lambda> to grow"),
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


@pytest.mark.parametrize(
    ("out_dim", "targets", "loss", "match"),
    [
        (3, np.arange(4), "cross_entropy", r"outputs of make at width 64 .* C > 3, for \(4,\) labels .* got \(4, 3\)"),
        (8, np.arange(-1, 3), "cross_entropy", "classes -1 to 2"),
        (8, np.arange(8).reshape(4, 2), "cross_entropy", r"for \(4, 2\) labels"),
        (8, np.ones((4, 8)), "cross_entropy", "int labels for cross_entropy, got dtype float"),
        (1, np.ones(4), "mse", r"shape of the targets, \[\(4,\)\], got \(4, 1\)"),  # would broadcast to [4, 4]
    ],
)
def test_outputs_that_do_not_fit_the_targets_are_refused(out_dim, targets, loss, match):
    def make(width):
        return nn.Sequential([nn.Dense(width), nn.Dense(out_dim)])

    with pytest.raises(ValueError, match=match):
        check(make, inputs=np.ones((4, 2)), targets=targets, loss=loss, optimizer="adam")


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
    assert len(rows) == 7
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
