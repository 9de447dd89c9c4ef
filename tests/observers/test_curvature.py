"""Curvature against dense float64 Hessians and Jacobians, the edge of stability, catapults."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import mupjax
from mupjax import optim
from mupjax.dynamics import dense
from mupjax.network import MLP, nn, scaling_tree
from mupjax.observers import curvature
from mupjax.parametrization import ip_llr, mup, ntp, nup
from mupjax.reproduce.parts import noise
from mupjax.statistics.catapults import detect_catapults
from mupjax.studies.catapults import catapult_study
from mupjax.task import Task

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 4)), RNG.standard_normal((6, 2))
WHOLE = dense.Batch(X, Y, np.arange(6))


def start(model, x, key=0):
    boxed = model.init(jax.random.key(key), jnp.asarray(x))
    return nn.meta.unbox(boxed)["params"], scaling_tree(boxed)


@pytest.mark.parametrize(("preset", "activation"), [(ntp(), "tanh"), (mup(), "relu")])
def test_sharpness_is_the_dense_hessians(preset, activation):
    """float32 Lanczos against the float64 Hessian with the rates in it: 1e-4 relative."""
    task, model = Task(X, Y), MLP(8, 2, 2, preset, activation)
    params, scaling = start(model, X)
    state = dense.State(0, params, None, params, params, params)
    found = curvature.sharpness(model, task, num=3)(state, WHOLE)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda p: jnp.asarray(np.asarray(p, np.float64)), params)
        flat, unravel = ravel_pytree(wide)

        def loss(vector):
            f = model.apply({"params": unravel(vector)}, X)
            return 0.5 * jnp.mean(jnp.sum((f - Y) ** 2, axis=1))

        rates = {name: layer["kernel"].sgd_lr_mult for name, layer in scaling.items()}
        roots = ravel_pytree({k: {"kernel": jnp.full(v["kernel"].shape, rates[k] ** 0.5)} for k, v in wide.items()})[0]
        hessian = roots[:, None] * jax.hessian(loss)(flat) * roots[None, :]
        exact = np.linalg.eigvalsh(np.asarray(hessian))[::-1]
        plain = np.linalg.eigvalsh(np.asarray(jax.hessian(loss)(flat)))[-1]
    np.testing.assert_allclose(found.values[0], exact[0], rtol=1e-4)
    np.testing.assert_allclose(found.values[1:], exact[1:3], rtol=1e-2)
    assert abs(plain / exact[0] - 1) > 0.01  # the control: rates matter
    raw = curvature.hessian_eigenvalues(curvature._training_loss(model, task, None), params)
    np.testing.assert_allclose(raw.values[0], plain, rtol=1e-4)


def test_at_zero_residual_it_is_the_tangent_kernels():
    model = MLP(8, 2, 2, ntp(), "tanh")
    params, scaling = start(model, X)
    task = Task(X, np.asarray(model.apply({"params": params}, jnp.asarray(X, jnp.float32))))
    state = dense.State(0, params, None, params, params, params)
    sharp = curvature.sharpness(model, task)(state, WHOLE)
    kernel = curvature.ntk_spectrum(model, task, num_products=12)(state, WHOLE)
    np.testing.assert_allclose(sharp.values[0], kernel.largest.values[0], rtol=1e-4)
    explicit = np.asarray(curvature.empirical_ntk(model, params, X, scaling=scaling), np.float64)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda p: jnp.asarray(np.asarray(p, np.float64)), params)
        jacobian = jax.jacobian(lambda p: model.apply({"params": p}, X).reshape(-1))(wide)
        mults = {name: layer["kernel"].sgd_lr_mult for name, layer in scaling.items()}
        wanted = sum(
            mults[name] * np.asarray(j["kernel"]).reshape(12, -1) @ np.asarray(j["kernel"]).reshape(12, -1).T
            for name, j in jacobian.items()
        )
    np.testing.assert_allclose(explicit, wanted, rtol=1e-4, atol=1e-4 * wanted.max())
    eigenvalues = np.linalg.eigvalsh(wanted) / 6
    np.testing.assert_allclose(kernel.largest.values[0], eigenvalues[-1], rtol=1e-4)
    np.testing.assert_allclose(kernel.smallest.values[0], eigenvalues[0], rtol=1e-3)  # 12 products: the whole space
    few = curvature.ntk_eigenvalues(model, params, X, scaling=scaling, num_products=4)
    assert few.smallest.values[0] > eigenvalues[0]  # from above, and its residual says so
    assert few.smallest.residuals[0] > 1e-3


def test_the_kernel_moves_as_theory_says():
    """Relative change after training: 1/n under NTP, order one under muP; slopes over widths, means of seeds.

    n^-1/2 is what Lee et al. 2019 prove as a bound; 1/n is what Dyer & Gur-Ari 2020 (arXiv:1909.11304) derive.
    """
    task, widths = Task(X, Y[:, :1]), (64, 256, 1024)
    slopes = {}
    for preset, rate in ((ntp(), 0.2), (mup(), 0.2)):
        means = []
        for width in widths:
            model = MLP(width, 2, 1, preset, "tanh")
            seen = {"change": dense.Observer(curvature.ntk_change(model, X), 30)}
            settings = dict(width=width, depth=2, learning_rate=rate, steps=30, observers=seen)
            keys = jax.random.split(jax.random.key(1), 6)
            run = jax.lax.map(lambda key, s=settings, p=preset: dense.train(task, p, key=key, **s).observed, keys)
            means.append(float(jnp.mean(run["change"][:, 1])))
            assert np.all(np.asarray(run["change"][:, 0]) == 0)
        slopes[preset.name] = np.polyfit(np.log(widths), np.log(means), 1)[0]
    assert slopes["ntp"] == pytest.approx(-1, abs=0.15)  # six seeds of heavy tails at three widths
    assert slopes["mup"] == pytest.approx(0, abs=0.15)


def test_full_batch_descent_sharpens_to_the_edge_and_hovers_there():
    """Progressive sharpening (Cohen et al. 2021): mse, the sharpness rises to 2/eta and stays about it, every seed."""
    task, factors = noise(num_train=24, dim=4), (0.4, 0.8)
    options = dict(activations=("tanh",), width=64, depth=3, schedules=("constant",), record_every=30)
    data = catapult_study(task, factors=factors, seeds=3, steps=1500, **options).isel(activation=0, schedule=0)
    edge = (data.rate * data.sharpness).values
    late = edge[..., edge.shape[-1] // 2 :]
    assert np.all(edge[..., 0] < 1)
    assert np.all(np.abs(np.median(late, -1) - 2) < 0.2)
    assert np.all(np.abs(late - 2) < 0.75)
    assert np.all(data.train_loss[..., -1] < 0.1 * data.train_loss[..., 0])  # while the loss falls


def test_catapults_happen_in_their_window_alone():
    """Lewkowycz et al. 2020: 2 < eta lambda_0 < 4, every one of six seeds; below 2 the loss does not grow.

    NTP at width 512. Four inputs: with eight, tanh networks come to rest at the edge itself, 1.7 to 2.1, and a seed may
    end above it.
    """
    rng = np.random.default_rng(3)
    task = Task(rng.standard_normal((4, 4)), rng.standard_normal((4, 1)))
    inside, below, beyond = [2.5, 3.0, 3.5], [1.0, 1.5], [4.5]
    data = catapult_study(
        task, activations=("linear", "tanh"), factors=(*below, *inside, *beyond), schedules=("constant",), seeds=6
    )
    data = data.isel(schedule=0)
    last = data.isel(observe_step=-1)
    found = detect_catapults(data.train_loss, last.sharpness, last.rate)
    assert found.happened[:, 2:5].all(), found
    assert not found.happened[:, :2].any()
    assert np.all(found.growth[:, :2] <= 1)
    assert not found.diverged[:, :2].any()
    assert found.diverged[0, 5].all()  # linear: the end of tanh's window is not as sharp


def test_a_rate_that_follows_the_sharpness_stays_super_critical():
    rng = np.random.default_rng(4)
    task, steps = Task(rng.standard_normal((8, 4)), rng.standard_normal((8, 1))), 60
    model = MLP(256, 1, 1, ntp(), "tanh")
    seen = {"sharpness": curvature.sharpness(model, task), "rate": lambda state, batch: state.opt_state[-1].sharpness}
    settings = dict(width=256, depth=1, steps=steps, key=jax.random.key(0))
    run = dense.train(
        task, ntp(), learning_rate=3.0, optimizer=curvature.sharpness_sgd(every=1), observers=seen, **settings
    )
    used, measured = np.asarray(run.observed["rate"]), np.asarray(run.observed["sharpness"].values)[:, 0]
    np.testing.assert_allclose(used[1:], measured[:-1], rtol=1e-3)  # the rate of step t is c over lambda_t
    seen = {"sharpness": seen["sharpness"]}
    control = dense.train(task, ntp(), learning_rate=3.0 / measured[0], observers=seen, **settings)
    flat = np.asarray(control.observed["sharpness"].values)[:, 0]
    assert 3.0 / measured[0] * flat[-1] < 2  # a constant rate has been catapulted below its edge
    calm = dense.train(task, ntp(), learning_rate=1.0, optimizer=curvature.sharpness_sgd(every=7), **settings)
    losses = np.asarray(calm.train_loss)
    assert np.all(np.diff(losses) < 1e-6)  # c = 1: no step overshoots
    assert losses[-1] < 0.5 * losses[0]
    optim.check_optimizer(curvature.sharpness_sgd(), scaling_tree(model.init(jax.random.key(0), X)))
    for settings, message in (({"every": 0}, "`every`"), ({"decay": 1.0}, "`decay`")):
        with pytest.raises(ValueError, match=message):
            optim.scale_by_sharpness(1.0, measure=lambda loss, p: 1.0, **settings)
    transform = optim.scale_by_sharpness(1.0, measure=lambda loss, p: 1.0)
    with pytest.raises(ValueError, match="`params` and `value_fn=`"):
        transform.update(jnp.ones(2), transform.init(jnp.ones(2)), jnp.ones(2))


def test_averages_and_periods_of_the_schedule():
    measured = iter([2.0, 4.0])
    transform = optim.scale_by_sharpness(3.0, measure=lambda loss, p: jnp.sum(p), every=2, decay=0.25)
    state, rates = transform.init(jnp.zeros(1)), []
    for value in (2.0, 100.0, 4.0, 100.0):  # the second and fourth are not measured
        update, state = transform.update(jnp.ones(1), state, jnp.array([value]), value_fn=jnp.sum)
        rates.append(-float(update[0]))
    average = 0.25 * next(measured) + 0.75 * next(measured)
    np.testing.assert_allclose(rates, [1.5, 1.5, 3 / average, 3 / average], rtol=1e-6)
    none, _ = transform.update(jnp.ones(1), transform.init(jnp.zeros(1)), jnp.array([-1.0]), value_fn=jnp.sum)
    assert float(none[0]) == 0  # a negative curvature gives no rate


def test_rates_that_change_are_refused_where_they_are_given():
    model = MLP(8, 3, 1, nup(), "relu")
    params, scaling = start(model, X)
    with pytest.raises(ValueError, match="rates that stay the same"):
        curvature.rate_roots(params, scaling)
    other, switched = start(MLP(8, 3, 1, ip_llr(3), "relu"), X)
    with pytest.raises(ValueError, match="rates that stay the same"):
        curvature.rate_roots(other, switched)
    state = dense.State(0, params, None, params, params, params)
    task = Task(X, Y[:, :1])
    found = curvature.sharpness(model, task)(state, WHOLE)  # the Hessian itself

    def loss(q):
        return jnp.mean(jnp.sum((model.apply({"params": q}, task.x_train) - task.y_train) ** 2, axis=-1)) / 2

    np.testing.assert_allclose(found.values, curvature.hessian_eigenvalues(loss, params).values, rtol=1e-5)
    assert mupjax.observers.curvature is curvature
