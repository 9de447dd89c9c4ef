"""Calibration of the first step's rates against its definition, and what it is for."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mupjax import calibrate_initial_rates
from mupjax.dynamics import dense
from mupjax.dynamics.runs import map_runs
from mupjax.network import MLP
from mupjax.parametrization import hp, ip_llr
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec
from tests import worked_example

WIDTH, DEPTH = 64, 3


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    return Task(rng.standard_normal((12, 6)), rng.integers(0, 3, 12), loss="cross_entropy", num_classes=3)


def settings(key, **changes):
    batches = jnp.arange(12).reshape(2, 6)
    common = {"width": WIDTH, "depth": DEPTH, "activation": "relu", "learning_rate": 0.05, "key": key}
    return common | {"batches": batches} | changes


def test_rates_are_their_definition(task, key):
    """Step by step in NumPy: a step of base rate 1 on batch 0, then updates alone on batch 1, layer after layer."""
    p = ip_llr(DEPTH, sigma=2**0.5, biases="first", bias_std=0.3)
    found = calibrate_initial_rates(task, p, **settings(key))
    params = nn.meta.unbox(MLP(WIDTH, DEPTH, 3, p, "relu").init(key, task.x_train))["params"]
    names = ("layer_1", "layer_2", "layer_3", "readout")
    weights = [np.asarray(params[name]["kernel"], float) for name in names]
    bias = np.asarray(params["layer_1"]["bias"], float)
    x, y = np.asarray(task.x_train, float) / 6**0.5, np.eye(3)[np.asarray(task.y_train)]

    xs, masks = [x[:6]], []
    for layer, w in enumerate(weights[:-1]):
        h = xs[-1] @ w + (bias if layer == 0 else 0)
        masks.append(h > 0)
        xs.append(h * masks[-1])
    f = xs[-1] @ weights[-1]
    soft = np.exp(f) / np.exp(f).sum(1, keepdims=True)
    back, gradients = (soft - y[:6]) / 6 @ weights[-1].T, [xs[-1].T @ (soft - y[:6]) / 6]
    for layer in reversed(range(DEPTH)):
        back = back * masks[layer]
        gradients.insert(0, xs[layer].T @ back)
        bias_update = back.sum(0)
        back = back @ weights[layer].T
    total = 0.5 * (DEPTH - 1)
    first = [WIDTH ** (1 + total), WIDTH ** (total - 0.5), WIDTH ** (total - 0.5), WIDTH ** (total - 1)]
    updates = [-rate * g for rate, g in zip(first, gradients, strict=True)]
    bias_update = -first[0] * bias_update

    now, rates = x[6:], []
    for layer, (w, update) in enumerate(zip(weights, updates, strict=True)):
        start = now @ w + (bias if layer == 0 else 0)
        moved = now @ update + (bias_update if layer == 0 else 0)
        target = 0.1 if layer == DEPTH else 1.0
        rates.append(0.05 if layer == 0 else target / np.mean(np.abs(moved)))
        now = np.maximum(start + rates[-1] * moved, 0)
    np.testing.assert_allclose(found.unclipped, rates, rtol=2e-4)  # float32 through four layers
    np.testing.assert_allclose(found.rates, np.minimum(rates, [np.inf, 500, 500, 500]), rtol=2e-4)
    assert found.clipped.tolist() == [False, *(rate > 500 for rate in rates[1:])]


def test_the_first_update_has_the_size_that_was_aimed_at(task, key):
    """Trained with them on batch 0, a network's preactivations move by about 1 and its outputs by about 0.1."""
    from mupjax.observers.ranks import contributions

    p = ip_llr(DEPTH, sigma=2**0.5)
    found = calibrate_initial_rates(task, p, **settings(key))
    assert not found.clipped.any()
    model = MLP(WIDTH, DEPTH, 3, p, "relu")
    seen = {"parts": contributions(model, task.x_train[6:])}
    common = settings(key, batches=jnp.arange(6)[None])
    run = dense.train(task, p, steps=1, initial_rates=found.rates, observers=seen, **common)
    np.testing.assert_allclose(run.observed["parts"].first[1, 1:], [1.0, 1.0, 0.1], rtol=1e-3)
    plain = dense.train(task, p, steps=1, observers=seen, **common)
    assert np.all(plain.observed["parts"].first[1, 1:] < 0.2 * run.observed["parts"].first[1, 1:])


def test_it_is_pure_and_maps_over_keys(task, key):
    keys = jax.random.split(key, 3)

    def one(key, task):
        return calibrate_initial_rates(task, ip_llr(DEPTH), **settings(key))

    mapped = map_runs(one, keys, task)
    for row, key in enumerate(keys):
        np.testing.assert_allclose(mapped.rates[row], one(key, task).rates, rtol=1e-5)
    assert len(set(np.asarray(mapped.rates[:, 1]).tolist())) == 3


def test_clipping_and_layers_that_do_not_move_are_reported(key):
    """At a tiny gain the readout's rate reaches the cap; a network that is dead gives caps, not NaN."""
    task = worked_example.task()
    common = {"width": 16, "depth": 2, "activation": "relu", "learning_rate": 0.1, "key": key}
    dead = calibrate_initial_rates(task, ip_llr(2, sigma=0.0), **common)
    assert dead.rates.tolist() == pytest.approx([0.1, 500, 500])
    assert dead.clipped.tolist() == [False, True, True]
    assert np.isfinite(dead.mean_update).all()
    assert not calibrate_initial_rates(task, hp(sigma=2**0.5), **common).clipped[1]


def test_bad_input_is_named(task, key):
    with pytest.raises(ValueError, match="`batches` to hold at least two, got 1"):
        calibrate_initial_rates(task, ip_llr(DEPTH), **settings(key, batches=jnp.arange(6)[None]))
    with pytest.raises(ValueError, match="`depth` to be 4"):
        calibrate_initial_rates(task, ip_llr(4), **settings(key))


def test_rates_of_one_step_alone(task, key):
    """initial_rates of the learning rate itself change nothing; others change the first step and no exponent."""
    common = settings(key, batches=None) | {"steps": 3, "spec": TrajectorySpec(grams=())}
    plain = dense.train(task, ip_llr(DEPTH), **common)
    same = dense.train(task, ip_llr(DEPTH), initial_rates=jnp.full(DEPTH + 1, 0.05), **common)
    other = dense.train(task, ip_llr(DEPTH), initial_rates=jnp.full(DEPTH + 1, 5.0), **common)
    np.testing.assert_array_equal(plain.predictions, same.predictions)
    assert np.abs(np.asarray(plain.predictions[1] - other.predictions[1])).max() > 1e-4
