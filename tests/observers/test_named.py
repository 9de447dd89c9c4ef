"""What sweeps observe of all runs at once is what the observers see of each network alone."""

import jax
import numpy as np
import pytest

import mupjax
from mupjax.dynamics import dense, runs
from mupjax.network import MLP, scaling_tree
from mupjax.observers import curvature, updates
from mupjax.parametrization import ip, ip_llr, mup, ntp, nup
from mupjax.sweeps import cell as training
from mupjax.task import Task

RNG = np.random.default_rng(0)
TASK = Task(RNG.standard_normal((6, 4)), RNG.standard_normal((6, 1)))
NAMES = ("sharpness", "cosines", "update_sizes", "preactivations")
GRID = dict(depths=(2,), learning_rates=(0.1, 0.3), seeds=2, steps=4, observe=NAMES, observe_every=2)
pytestmark = pytest.mark.xdist_group("observables")


@pytest.fixture(scope="session")
def observed():
    return mupjax.sweep(TASK, parametrizations=(mup(), ntp()), widths=(4, 8), padding="always", **GRID)


def alone(preset, width, seed):
    """What the observers see of one network, as a function of the rate: one program for all rates."""
    model = MLP(width, 2, 1, preset, "tanh")
    scaling = scaling_tree(jax.eval_shape(model.init, jax.random.key(0), TASK.x_train[:1]))
    seen = {
        "sharpness": curvature.sharpness(model, TASK, scaling=scaling, num_products=16),
        "cosines": updates.update_cosines(),
        "update_sizes": updates.update_sizes(),
        "preactivations": updates.preactivation_changes(model, TASK.x_train),
    }
    seen = {name: dense.Observer(observe, 2) for name, observe in seen.items()}
    key = runs.run_key(jax.random.key(0), seed, width)
    settings = dict(width=width, depth=2, steps=4, key=key, observers=seen)
    return jax.jit(lambda rate: dense.train(TASK, preset, learning_rate=rate, **settings).observed)


@pytest.mark.parametrize("name", ["mup", "ntp"])
@pytest.mark.parametrize("width", [4, 8])
def test_padded_runs_observe_what_each_network_alone_does(observed, name, width):
    preset = {"mup": mup(), "ntp": ntp()}[name]
    network = alone(preset, width, seed=1)
    for rate in (0.1, 0.3):
        wanted = network(rate)
        row = observed.sel(parametrization=name, width=width, learning_rate=rate, seed=1).squeeze()
        np.testing.assert_allclose(row.sharpness, wanted["sharpness"].values[:, 0], rtol=1e-4)
        np.testing.assert_allclose(row.cosine, wanted["cosines"].network, atol=1e-3)
        np.testing.assert_allclose(row.cosine_layer, wanted["cosines"].layers, atol=1e-3)
        np.testing.assert_allclose(row.update_size, wanted["update_sizes"].update, rtol=1e-4)
        np.testing.assert_allclose(row.weight_size, wanted["update_sizes"].weight, rtol=1e-4)
        np.testing.assert_allclose(row.preactivation_change, wanted["preactivations"], rtol=1e-3)


def test_names_units_and_steps(observed):
    assert observed.observe_step.values.tolist() == [0, 2, 4]
    assert observed.kernel.values.tolist() == [1, 2, 3]
    for name in ("sharpness", "sharpness_residual", "cosine", "cosine_layer", "update_size", "weight_size"):
        assert {"units", "long_name"} <= observed[name].attrs.keys()
        assert np.isfinite(observed[name]).all()
    assert (observed.cosine.sel(observe_step=0) == 0).all()
    assert (np.abs(observed.cosine) <= 1 + 1e-6).all()


def test_a_store_keeps_them_and_depths_may_differ(tmp_path):
    settings = GRID | {"depths": (1, 2), "observe": ("update_sizes",), "observe_every": None}
    data = mupjax.sweep(TASK, parametrizations=(mup(),), widths=(4,), out=tmp_path, **settings)
    assert data.observe_step.values.tolist() == [0, 4]
    sizes = data.update_size.sel(depth=1).isel(observe_step=-1).squeeze()
    assert np.isfinite(sizes.sel(kernel=[1, 2])).all()
    assert np.isnan(sizes.sel(kernel=3)).all()  # a network of one hidden layer has two kernels


def test_where_rates_are_not_fixed_it_is_the_later_ones_or_the_hessian():
    fixed = GRID | {"depths": (3,), "activation": "relu", "observe": ("sharpness",)}
    data = mupjax.sweep(
        TASK, parametrizations=(nup(q=0.0, gain=2**0.5), ip_llr(3), mup()), widths=((8, 8, 8),), **fixed
    )
    model = MLP((8, 8, 8), 3, 1, nup(q=0.0, gain=2**0.5), "relu")
    key = runs.run_key(jax.random.key(0), 0, (8, 8, 8))
    seen = {"sharpness": curvature.sharpness(model, TASK, num_products=16)}
    settings = dict(width=8, depth=3, activation="relu", learning_rate=0.1, steps=1, key=key, observers=seen)
    run = dense.train(TASK, nup(q=0.0, gain=2**0.5), **settings)
    found = data.sharpness.sel(parametrization="nup", learning_rate=0.1, seed=0).squeeze()
    np.testing.assert_allclose(found[0], run.observed["sharpness"].values[0, 0], rtol=1e-4)
    later = ip_llr(3)
    seen = {"sharpness": curvature.sharpness(MLP((8, 8, 8), 3, 1, later, "relu"), TASK, num_products=16)}
    run = dense.train(TASK, later, **(settings | {"observers": seen}))
    found = data.sharpness.sel(parametrization="ip_llr", learning_rate=0.1, seed=0).squeeze()
    np.testing.assert_allclose(found[0], run.observed["sharpness"].values[0, 0], rtol=1e-4)
    plain = curvature.sharpness(MLP((8, 8, 8), 3, 1, ip(), "relu"), TASK, num_products=16)  # the same rates later on
    run = dense.train(TASK, later, **(settings | {"observers": {"sharpness": plain}}))
    np.testing.assert_allclose(found[0], run.observed["sharpness"].values[0, 0], rtol=1e-4)


def test_bad_names_and_too_little_memory(monkeypatch):
    with pytest.raises(
        ValueError, match="`observe` to be drawn from sharpness, cosines, update_sizes, preactivations, got 'rank'"
    ):
        mupjax.sweep(TASK, **(GRID | {"observe": ("rank",)}))
    with pytest.raises(ValueError, match="`observe_every` to be a positive int, got observe_every=0"):
        mupjax.sweep(TASK, **(GRID | {"observe_every": 0}))
    wide = GRID | dict(parametrizations=(mup(),), widths=(2048,), memory_gb=0.3)
    monkeypatch.setattr(training, "run_cell", lambda *_: pytest.fail("it ran"))
    with pytest.raises(ValueError, match=r"fit memory_gb=0\.3"):
        mupjax.sweep(TASK, **wide)
    with pytest.raises(pytest.fail.Exception, match="it ran"):  # without Lanczos vectors it fits
        mupjax.sweep(TASK, **(wide | {"observe": ("cosines",)}))
