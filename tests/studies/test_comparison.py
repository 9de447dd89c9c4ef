"""The main job: rows are what the dynamics compute, and the published picture comes out on real images."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mupjax
from mupjax import datasets
from mupjax.dynamics import dense, kernel_limit, matrix_free, runs
from mupjax.results import store
from mupjax.studies import infinite
from mupjax.studies.cells import MAX_RECORDED_STEPS, Settings, recorded
from mupjax.task import Task

TASK = Task(np.eye(4), np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.eye(4)[:2], np.array([[1.0], [-1.0]]))
SMALL = dict(depth=2, seeds=2, steps=3)


@pytest.fixture(scope="session")
def small():
    return mupjax.compare(TASK, parametrizations=("ntp", "mup"), widths=(8, (16, 4)), **SMALL)


@pytest.mark.xdist_group("small comparison")
def test_dataset_has_the_agreed_names_and_units(small):
    assert list(small.parametrization.values) == ["ntp", "mup"]
    np.testing.assert_array_equal(small.width, [8.0, 16.0, np.inf])
    assert list(small.width_label.values) == ["8", "16x4", "infinite"]
    for name in (
        "train_loss",
        "test_loss",
        "predictions",
        "feature_change_h",
        "diversity_x",
        "space_time_lambda_min_h",
    ):
        assert {"units", "long_name"} <= small[name].attrs.keys()
        assert small[name].dims[:3] == ("parametrization", "width", "seed")
    for name in ("diversity_h", "diversity_x", "space_time_lambda_min_h", "space_time_lambda_min_x"):
        assert f"{name}_resolution" in small
    assert list(small.limit.values) == ["kernel limit", "feature-learning limit, 4 x 512 particles, rank 16 kept"]
    assert small.learning_rate.values.tolist() == [0.3, 1.0]
    assert {"version_jax", "version_mupjax", "arguments", "device"} <= small.attrs.keys()


def test_deep_ip_is_called_trivial():
    data = mupjax.compare(TASK, parametrizations=("ip",), widths=(8,), depth=3, seeds=1, steps=2)
    assert data.classification.item() == "trivial"
    assert data.limit.item().startswith("trivial")
    assert np.isnan(data.train_loss.sel(width=np.inf)).all()


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [(mupjax.sgd, "sgd"), (mupjax.adam, "adam"), (partial(mupjax.sgd, momentum=0.5), "sgd_momentum=0.5_0")],
)
def test_a_plan_names_the_optimizer_that_was_run(optimizer, name):
    settings = {"parametrizations": ("mup",), "widths": (8,), "depth": 1, "seeds": 1, "steps": 1, "limit": False}
    plan = json.loads(mupjax.compare(TASK, optimizer=optimizer, **settings).plan)
    assert list(plan["cells"]) == [f"mup-depth1-{name}-width8"]


@pytest.mark.xdist_group("small comparison")
def test_finite_rows_are_dense_training_with_the_runs_own_keys(small):
    keys = jnp.stack([runs.run_key(jax.random.key(0), seed, (16, 4)) for seed in range(2)])
    for seed in range(2):
        run = dense.train(
            TASK, mupjax.mup(), width=(16, 4), depth=2, learning_rate=1.0, steps=3, key=keys[seed], centred=True
        )
        row = small.sel(parametrization="mup", seed=seed).isel(width=1)
        np.testing.assert_allclose(row.train_loss, run.train_loss, rtol=1e-5)  # two programs, float32 rounding
        np.testing.assert_allclose(row.h_gram, run.h_gram, rtol=1e-4, atol=1e-6)


@pytest.mark.xdist_group("small comparison")
def test_infinite_row_is_the_kernel_limit(small):
    limit = kernel_limit.train(TASK, mupjax.ntp(), depth=2, learning_rate=0.3, steps=3, centred=True)
    row = small.sel(parametrization="ntp", width=np.inf)
    for seed in range(2):
        np.testing.assert_allclose(row.train_loss.isel(seed=seed), limit.train_loss, rtol=1e-6)
    assert (row.feature_change_h == 0).all()
    assert (np.abs(row.space_time_lambda_min_h) <= row.space_time_lambda_min_h_resolution).all()


@pytest.mark.xdist_group("small comparison")
def test_parametrizations_share_their_gaussians(small):
    """At step 0 muP and NTP have the same first-layer Gaussians, and so the same first Gram matrix."""
    at_start = small.h_gram.isel(gram_step=0, layer=0, width=0)
    np.testing.assert_allclose(at_start.sel(parametrization="mup"), at_start.sel(parametrization="ntp"), rtol=1e-6)


def test_missing_neural_tangents_leaves_a_word_and_no_hole(monkeypatch):
    def missing(*args, **kwargs):
        raise ImportError("install it so")

    monkeypatch.setattr(kernel_limit, "load", missing)
    data = mupjax.compare(TASK, parametrizations=("ntp",), widths=(8,), **SMALL)
    assert data.limit.item() == "kernel limit: not computed, install it so"
    assert np.isfinite(data.train_loss.sel(width=8.0)).all()


def test_a_limit_that_is_not_known_leaves_a_word_and_no_hole():
    data = mupjax.compare(TASK, parametrizations=(mupjax.ntp(biases="all"),), widths=(8,), **SMALL)
    assert data.limit.item().startswith("not known here: Expected `parametrization` without biases")
    assert np.isfinite(data.train_loss.sel(width=8.0)).all()


@pytest.mark.parametrize(
    ("name", "activation", "momentum", "why"),
    [
        ("ip_llr", "gelu", 0.0, "a homogeneous activation where ip_llr has first rates of its own, got gelu"),
        ("ip_llr", "relu", 0.5, "no `momentum` in the limit of ip_llr, got 0.5"),
        ("ip_bias", "relu", 0.0, "the bias of the readout to start at 0"),
        ("nup", "relu", 0.0, "SGD's updates, got nup, which normalizes them"),
        ("mup", "relu", 0.5, None),
        ("ntp", "relu", 0.5, None),
    ],
)
def test_unknown_limits_are_named_before_anything_runs(name, activation, momentum, why):
    preset, phi = mupjax.parametrization.get(name, depth=3), mupjax.activations.get(activation)
    common = dict(batch_size=None, key=jax.random.key(0), steps=2, depth=3, activation=phi, centred=True, memory_gb=1.0)
    settings = Settings(optimizer=partial(mupjax.sgd, momentum=momentum), spec=recorded(2, (0, -1)), **common)
    found = infinite.why_none(preset, mupjax.classify(preset, 3, phi).kind, settings)
    assert found is None if why is None else why in found


def test_networks_of_another_optimizer_stand_beside_a_limit_that_says_why_it_is_none():
    """Theory has no limit of Adam here: the rows of finite width are `dense.train`'s."""
    data = mupjax.compare(
        TASK, parametrizations=("mup",), widths=(8,), learning_rate=0.01, optimizer=mupjax.adam, **SMALL
    )
    assert data.limit.item().startswith("not known here: Expected `optimizer` to be mupjax.sgd")
    common = dict(width=8, depth=2, learning_rate=0.01, steps=3, centred=True, optimizer=mupjax.adam)
    run = dense.train(TASK, mupjax.mup(), key=runs.run_key(jax.random.key(0), 1, 8), **common)
    row = data.isel(parametrization=0, width=0, seed=1)
    np.testing.assert_allclose(row.train_loss, run.train_loss, rtol=1e-5)  # two programs, float32 rounding


def test_long_runs_record_few_steps_and_the_last():
    data = mupjax.compare(TASK, parametrizations=("mup",), widths=(4,), depth=1, seeds=1, steps=401)
    assert data.sizes["step"] <= MAX_RECORDED_STEPS + 2
    assert data.step.values[[0, -1]].tolist() == [0, 401]


def test_too_little_memory_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(dense, "loop", lambda *a, **k: pytest.fail("it ran"))
    with pytest.raises(ValueError, match=r"fit memory_gb=0.01, got about .* GB for 2 runs of width 4096"):
        mupjax.compare(TASK, widths=(8, 4096), memory_gb=0.01, **SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (0,)}, "`width` to be a positive int, got width=0"),
        ({"widths": ()}, "`widths` to name at least one"),
        ({"widths": (8, 8)}, "`widths` to be distinct"),
        ({"parametrizations": ("mup", "mupp")}, "`parametrization` to be one of"),
        ({"parametrizations": ("mup", "mup")}, "`parametrizations` to be distinct"),
        ({"seeds": 0}, "`seeds` to be a positive int, got seeds=0"),
        ({"steps": 0}, "`steps` to be a positive int"),
        ({"depth": 0}, "`depth` to be a positive int"),
        ({"learning_rate": 0.0}, "`learning_rate` to be finite and positive"),
        ({"learning_rate": {"nup": 1.0}}, "`learning_rate` to name parametrizations"),
        ({"activation": "tan"}, "`activation` to be one of"),
        ({"batch_size": 5}, r"`batch_size` to be in 1\.\.4"),
        ({"optimizer": partial(mupjax.sgd, momentum=1.0)}, "`momentum`"),
        ({"base_width": 0}, "`base_width` to be a positive int"),
        ({"memory_gb": 0.0}, "`memory_gb` to be positive"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        mupjax.compare(TASK, **(dict(widths=(8,), parametrizations=("mup",), **SMALL) | change))


@pytest.mark.parametrize("dataset", ["digits", pytest.param("cifar10", marks=pytest.mark.data("cifar10"))])
def test_only_mup_keeps_features_moving_and_diverse(dataset):
    """Theory, section 3: the table of Chen et al. 2025, Sec. 5, on 32 images at widths 128 and 512, three seeds.

    The bounds are the measured table's with room for three seeds; the digits twin holds the same claims to the same
    bounds on other images.
    """
    task = datasets.load(dataset, classes=(0, 1), train_size=32, test_size=None)
    # The law of a network depends on its inputs through their Gram matrix alone: 32 coordinates stand for 3,072.
    coordinates = np.linalg.qr(np.asarray(task.inputs, np.float64).T)[1].T
    task = Task(coordinates * (coordinates.shape[1] / task.input_dim) ** 0.5, task.y_train)
    data = mupjax.compare(task, widths=(128, 512), steps=300, seeds=3, centred=False, limit=False)
    last = data.isel(gram_step=-1, layer=-1, width=slice(0, 2))
    change = last.feature_change_h.mean("seed")
    for name in ("sp", "ntp"):
        ratio = float(change.sel(parametrization=name, width=512) / change.sel(parametrization=name, width=128))
        assert 0.35 < ratio < 0.65, (name, ratio)  # n^-1/2 gives .5
    mup = change.sel(parametrization="mup")
    assert abs(float(mup[1] / mup[0]) - 1) < 0.15
    assert (last.diversity_h.sel(parametrization="ip").mean("seed") < 1e-5).all()
    joint = np.maximum(last.space_time_lambda_min_h, last.space_time_lambda_min_h_resolution).mean("seed")
    for name, least in (("sp", (20, 20)), ("ntp", (8, 20))):
        ratios = joint.sel(parametrization="mup") / joint.sel(parametrization=name)
        assert (ratios >= least).all(), (name, ratios.values)


def test_wide_and_first_order_rows_are_their_dynamics():
    """Widths from `matrix_free_from` on, and all widths under `linearize`, with the keys that a grid gives."""
    common = dict(depth=2, learning_rate=1.0, steps=3, centred=True)
    mixed = mupjax.compare(
        TASK, parametrizations=("mup",), widths=(8, 32), matrix_free_from=32, gram_steps=(0, 1, -1), **SMALL
    )
    assert list(mixed.dynamics.values) == ["dense", "matrix-free", "limit"]
    assert list(mixed.gram_step.values) == [0, 1, 3]
    key = runs.run_key(jax.random.key(0), 1, 32)
    wide = matrix_free.train(TASK, mupjax.mup(), width=32, key=key, **common)
    row = mixed.isel(parametrization=0, width=1, seed=1)
    np.testing.assert_allclose(row.train_loss, wide.train_loss, rtol=1e-5)  # two programs, float32 rounding
    np.testing.assert_allclose(row.h_gram[-1], wide.h_gram[-1], rtol=1e-4, atol=1e-6)
    linear = mupjax.compare(TASK, parametrizations=("ntp", "mup"), widths=(8,), linearize=True, **SMALL)
    assert linear.limit.values[0] == "kernel limit"
    assert linear.limit.values[1].startswith("none: the first-order model")
    model = dense.train(
        TASK, mupjax.mup(), width=8, key=runs.run_key(jax.random.key(0), 1, 8), linearize=True, **common
    )
    found = linear.isel(parametrization=1, width=0, seed=1).train_loss
    np.testing.assert_allclose(found, model.train_loss, rtol=1e-5)
    nonlinear = dense.train(TASK, mupjax.mup(), width=8, key=runs.run_key(jax.random.key(0), 1, 8), **common)
    assert np.max(np.abs(found - nonlinear.train_loss)) > 1e-3  # the control


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gram_steps": (1, 2)}, "`gram_steps` to begin with 0"),
        ({"matrix_free_from": 0}, "`matrix_free_from` to be a positive int"),
        ({"matrix_free_from": 8, "linearize": True}, "`matrix_free_from` or `linearize`"),
        ({"matrix_free_from": 8, "max_directions": 0}, "`max_directions` to be a positive int"),
        ({"matrix_free_from": 8, "memory_gb": 1e-6}, "memory_gb"),
    ],
)
def test_refuses_how_networks_cannot_be_trained(changes, message):
    with pytest.raises(ValueError, match=message):
        mupjax.compare(TASK, parametrizations=("mup",), widths=(8,), limit=False, **(SMALL | changes))


def test_a_comparison_goes_on_from_the_cells_that_are_there(tmp_path, monkeypatch):
    """Stopped before the limit and run again, only the limit is computed; all is what a call without `out` has."""
    settings = dict(parametrizations=("ntp",), widths=(8, 12), **SMALL)
    whole, compute = mupjax.compare(TASK, **settings), infinite.compute

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(infinite, "compute", stop)
        with pytest.raises(KeyboardInterrupt) as stopped:
            mupjax.compare(TASK, out=tmp_path, **settings)
    assert "run the same again to resume" in stopped.value.__notes__[0]
    half = store.read(tmp_path / store.STORE)
    assert half.train_loss.sel(width=[8.0, 12.0]).notnull().all()
    assert half.train_loss.sel(width=np.inf).isnull().all()
    monkeypatch.setattr("mupjax.studies.comparison.study.dense_cell", lambda *arguments: pytest.fail("it ran"))
    monkeypatch.setattr(infinite, "compute", compute)
    again = mupjax.compare(TASK, out=tmp_path, **settings)
    assert again.equals(whole)
    assert set(again.coords) == set(whole.coords)
    assert {name: array.dtype for name, array in again.data_vars.items()} == {
        name: array.dtype for name, array in whole.data_vars.items()
    }


@pytest.mark.parametrize(
    ("optimizer", "options", "why"),
    [
        (partial(mupjax.sgd, weight_decay=0.1), {}, "not known here: Expected `optimizer` without weight_decay"),
        (mupjax.adam, {"matrix_free_from": 8}, None),
    ],
)
def test_optimizers_that_a_dynamics_does_not_know_are_seen_before_anything_runs(monkeypatch, optimizer, options, why):
    settings = dict(parametrizations=("ntp",), widths=(8,), optimizer=optimizer, **options, **SMALL)
    if why is None:
        monkeypatch.setattr("mupjax.studies.comparison.study.other_cell", lambda *arguments: pytest.fail("it ran"))
        with pytest.raises(ValueError, match=r"`optimizer` to be mupjax\.sgd"):
            mupjax.compare(TASK, **settings)
    else:
        assert mupjax.compare(TASK, **settings).limit.item().startswith(why)
