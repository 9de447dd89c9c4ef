"""Ranks against NumPy's, and contributions that add up."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mupjax.dynamics import dense
from mupjax.network import MLP
from mupjax.observers.ranks import contributions, feature_ranks, ranks, update_ranks
from mupjax.parametrization import hp, hpz, ip_llr, mup
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec
from tests import worked_example


@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (1, 5), (400, 90)])
@pytest.mark.parametrize("scale", [1.0, 1e-15, 1e12])
def test_ranks_are_numpys(shape, scale):
    rng = np.random.default_rng(0)
    for rank in (1, min(shape) // 2 or 1, min(shape)):
        matrix = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1])) * scale
        matrix = matrix.astype(np.float32)
        found = ranks(jnp.asarray(matrix))
        values = np.linalg.svd(matrix.astype(float), compute_uv=False)
        threshold = values[0] * max(shape) * np.finfo(np.float32).eps
        assert int(found.numerical) == np.sum(values > threshold) == np.linalg.matrix_rank(matrix)
        assert float(found.frobenius) == pytest.approx(np.sum(values**2) / values[0] ** 2, rel=1e-5)
        assert float(found.squared_trace) == pytest.approx(np.sum(values**2) ** 2 / np.sum(values**4), rel=1e-5)


def test_singular_values_on_either_side_of_the_threshold():
    """1.5 and 0.7 times max(shape) eps s_max: counted and not, which a Gram matrix in float32 could not tell."""
    left, right = (np.linalg.qr(np.random.default_rng(k).standard_normal((n, n)))[0] for k, n in ((0, 64), (1, 20)))
    threshold = 64 * np.finfo(np.float32).eps
    for factor, expected in ((1.5, 3), (0.7, 2)):
        values = np.zeros((64, 20))
        values[np.arange(3), np.arange(3)] = 1, 0.1, factor * threshold
        assert int(ranks(jnp.asarray((left @ values @ right).astype(np.float32))).numerical) == expected


def test_a_matrix_that_is_not_finite_has_no_rank():
    assert int(ranks(jnp.full((3, 4), jnp.nan)).numerical) == -1


def test_contributions_do_not_depend_on_the_form():
    """Another split of weights and biases into forward factor and stored number is the same network."""
    task, found = worked_example.task(), []
    for preset in (mup(biases="all", bias_std=1.0), mup(biases="all", bias_std=1.0).shift(0.5)):
        seen = {"parts": contributions(MLP(24, 3, 1, preset, "relu"), task.x_train)}
        found.append(trained(preset, seen, steps=2).observed["parts"])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_ranks_of_zero_and_under_vmap():
    assert [float(value) for value in ranks(jnp.zeros((3, 4)))] == [0, 0, 0]
    stack = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6, 4)), jnp.float32)
    mapped = jax.jit(jax.vmap(ranks))(stack)
    for row in range(3):
        np.testing.assert_allclose(mapped.squared_trace[row], ranks(stack[row]).squared_trace, rtol=1e-6)


def trained(parametrization, observers, steps=3, **changes):
    task = worked_example.task()
    settings = {"width": 24, "depth": 3, "activation": "relu", "learning_rate": 0.5, "steps": steps}
    settings |= {"key": jax.random.key(0), "spec": TrajectorySpec(grams=())} | changes
    return dense.train(task, parametrization, observers=observers, **settings)


@pytest.mark.parametrize("preset", [mup(sigma=2**0.5), ip_llr(3, biases="first", bias_std=0.5), hp(), hpz()])
def test_contributions_add_up_and_begin_where_they_should(preset):
    task = worked_example.task()
    model = MLP(24, 3, 1, preset, "relu")
    one = Task(task.x_train[:1], task.y_train[:1])
    seen = {"parts": contributions(model, one.x_train)}
    parts = trained(preset, seen).observed["parts"]
    assert np.all(np.asarray(parts.first[0]) == 0)
    assert np.all(np.asarray(parts.later[:2]) == 0)
    np.testing.assert_allclose(parts.initial[0], parts.total[0], rtol=1e-5)
    assert np.all(np.asarray(parts.later[2:]).max(1) > 0)
    assert np.all(np.asarray(parts.total) <= np.asarray(parts.initial + parts.first + parts.later) * (1 + 1e-5) + 1e-7)
    if preset.name == "hpz":  # nothing is left of hidden weights, and the first layer and the readout stay
        assert np.all(np.asarray(parts.initial[1:, 1:3]) == 0)
        assert np.all(np.asarray(parts.initial[1:, 0]) > 0)
        np.testing.assert_allclose(parts.total[1, 1:3], parts.first[1, 1:3], rtol=1e-5)


@pytest.mark.parametrize("preset", [ip_llr(3, sigma=2**0.5), hp(sigma=2**0.5)])
def test_updates_have_at_most_the_batchs_rank(preset):
    batches = np.array([[0, 1], [2, 3], [0, 2]])
    found = trained(preset, {"ranks": update_ranks(MLP(24, 3, 1, preset, "relu"))}, batches=batches).observed["ranks"]
    first, last, total = (np.asarray(one.numerical) for one in found)
    assert np.all(first[0] == 0)
    assert np.all(first[1:] <= 2)
    assert np.all(first[1:, :3] >= 1)
    assert np.all(first[1:] == first[1])
    assert np.all(last <= 2)
    assert np.all(total[3] <= 6)
    assert np.all(total[3] >= last[3])
    np.testing.assert_array_equal(last[1], first[1])


def test_feature_ranks_are_those_of_the_features():
    preset = mup()
    task, model = worked_example.task(), MLP(24, 3, 1, preset, "relu")
    found = trained(preset, {"ranks": feature_ranks(model, task.x_train)}, steps=1).observed["ranks"]
    features = model.apply(model.init(jax.random.key(0), task.x_train), task.x_train, method="features")
    for layer in range(3):
        assert int(found.h.numerical[0, layer]) == np.linalg.matrix_rank(np.asarray(features.h[layer]))
        assert int(found.x.numerical[0, layer]) == np.linalg.matrix_rank(np.asarray(features.x[layer]))
