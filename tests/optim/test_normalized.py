"""Normalized updates and growing widths: formulas of the reconstruction, steps by hand, bounds on how layers move."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mupjax
from mupjax import activations, optim
from mupjax.dynamics import dense, feature_limit, kernel_limit, matrix_free
from mupjax.network import MLP, scaling_tree
from mupjax.optim import normalize_updates
from mupjax.parametrization import Parametrization, PerRole, mup, nup, sp
from mupjax.task import Task

GAIN = activations.gain(0.5, 0.5)


def one_sample():
    x = np.random.default_rng(0).standard_normal((1, 5))
    return Task(x, np.ones((1, 1)))


def features_of(model, params, x):
    return model.apply({"params": params}, x, method="features")


def by_hand(params, x, y, rate, m, sigma, widths):
    """One step in the NTK form of the reconstruction, in NumPy: theta of every layer."""
    theta = [np.asarray(p, np.float64) for p in params]
    xs, hs = [np.asarray(x, np.float64)[0]], []
    for k in range(len(widths)):
        scale = 1 / len(xs[0]) ** 0.5 if k == 0 else sigma / widths[k - 1] ** 0.5
        hs.append(scale * theta[k].T @ xs[-1])
        xs.append(np.maximum(hs[-1], 0))
    f = sigma / widths[-1] * theta[-1].T @ xs[-1]
    chi = f - y[0]
    grads = [None] * len(theta)
    grads[-1] = sigma / widths[-1] * np.outer(xs[-1], chi)
    dx = sigma / widths[-1] * theta[-1] @ chi
    for k in reversed(range(len(widths))):
        scale = 1 / len(xs[0]) ** 0.5 if k == 0 else sigma / widths[k - 1] ** 0.5
        dh = (hs[k] > 0) * dx
        grads[k] = scale * np.outer(xs[k], dh)
        dx = scale * theta[k] @ dh
    steps = [rate * m**0.5] * len(widths) + [rate * widths[-1] ** 0.5]
    return [t - step * g / np.linalg.norm(g) for t, step, g in zip(theta, steps, grads, strict=True)]


@pytest.mark.parametrize("q", [0.0, 1.0, 2.0])
def test_a_step_is_the_reconstructions(q):
    depth, m, task = 4, 16, one_sample()
    p = nup(q=q, gain=GAIN)
    widths = p.layer_widths(m, depth)
    assert widths == tuple(round(k**q * m) for k in range(1, depth + 1))
    with jax.enable_x64(True):
        task = Task(np.asarray(task.x_train, np.float64), np.ones((1, 1)))
        model = MLP(m, depth, 1, p, "relu")
        boxed = model.init(jax.random.key(0), task.x_train)
        start = {name: layer["kernel"].value for name, layer in boxed["params"].items()}
        names = [*(f"layer_{k}" for k in range(1, depth + 1)), "readout"]
        to_theta = [1.0, *(GAIN / n**0.5 for n in widths[:-1]), GAIN / widths[-1]]
        theta = [np.asarray(start[name]) / scale for name, scale in zip(names, to_theta, strict=True)]
        wanted = by_hand(theta, task.x_train, np.ones((1, 1)), 0.1, m, GAIN, widths)
        seen = {"kernels": lambda state, batch: [state.params[name]["kernel"] for name in names]}
        run = dense.train(
            task, p, width=m, depth=depth, activation="relu", learning_rate=0.1, steps=1,
            key=jax.random.key(0), observers=seen,
        )  # fmt: skip
        for found, scale, theta_1 in zip(run.observed["kernels"], to_theta, wanted, strict=True):
            np.testing.assert_allclose(found[1] / scale, theta_1, rtol=1e-12, atol=1e-14)  # float64 rounding
    for k, theta_k in enumerate(theta):  # initial variances are 1: of n numbers, within 5 standard deviations
        assert abs(np.mean(theta_k**2) - 1) < 5 * (2 / theta_k.size) ** 0.5, k


def test_own_layer_part_has_its_bound_and_meets_it_for_one_sample():
    """||DeltaW^k x^{k-1}|| <= (eta/k) sigma sqrt(m_k/m_{k-1}) ||x^{k-1}|| for q=2, an equality for one sample."""
    depth, m, rate = 5, 16, 0.05
    p = nup(gain=GAIN)
    widths = p.layer_widths(m, depth)
    rng = np.random.default_rng(1)
    for inputs, is_one in ((rng.standard_normal((1, 5)), True), (rng.standard_normal((6, 5)), False)):
        task = Task(inputs, np.ones((len(inputs), 1)))
        model = MLP(m, depth, 1, p, "relu")
        seen = {"update": lambda state, batch: state.last_update, "params": lambda state, batch: state.params}
        run = dense.train(
            task, p, width=m, depth=depth, activation="relu", learning_rate=rate, steps=4,
            key=jax.random.key(2), observers=seen,
        )  # fmt: skip
        every = jax.jit(jax.vmap(lambda q, x=task.x_train, model=model: features_of(model, q, x)))(
            run.observed["params"]
        )
        for step, k in itertools.product(range(1, 5), range(2, depth + 1)):
            x = every.x[k - 2][step - 1]
            moved = x @ run.observed["update"][f"layer_{k}"]["kernel"][step]
            bound = rate / k * GAIN * (widths[k - 1] / widths[k - 2]) ** 0.5 * jnp.linalg.norm(x, axis=1)
            ratio = np.asarray(jnp.linalg.norm(moved, axis=1) / bound)
            if is_one:
                np.testing.assert_allclose(ratio, 1, rtol=1e-5)
                near = jnp.linalg.norm(moved) / jnp.linalg.norm(every.h[k - 1][0]) * k / rate
                if step == 1:  # ||h^k|| given x: chi of m_k numbers
                    assert abs(float(near) - 1) < 4 / (2 * widths[k - 1]) ** 0.5
            else:
                assert np.all(ratio <= 1 + 1e-5)
                assert np.any(ratio < 0.99)  # a bound of another size would not be seen otherwise


def test_norms_of_layers_and_of_the_network():
    updates = {"a": jnp.array([[3.0, 4.0]]), "b": jnp.zeros(3), "c": jnp.array([1e-30, 0.0])}
    layers, _ = normalize_updates().update(updates, optax.EmptyState())
    np.testing.assert_allclose(layers["a"], [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(layers["b"], 0)
    np.testing.assert_allclose(layers["c"], [1.0, 0.0])  # 1e-60 is no float32
    whole, _ = normalize_updates("network").update(updates, optax.EmptyState())
    assert float(optax.tree.norm(whole)) == pytest.approx(1)
    np.testing.assert_allclose(whole["a"], [[0.6, 0.8]], rtol=1e-6)
    zero, _ = normalize_updates("network").update(jax.tree.map(jnp.zeros_like, updates), optax.EmptyState())
    assert float(optax.tree.norm(zero)) == 0
    nothing, _ = normalize_updates().update({"a": jnp.array([jnp.nan, 1.0])}, optax.EmptyState())
    assert bool(jnp.isnan(nothing["a"]).any())  # a diverged run stays one
    with pytest.raises(ValueError, match="`per` to be 'layer' or 'network', got per='all'"):
        normalize_updates("all")


def test_matrix_free_has_the_law_of_dense():
    """Means over seeds of losses and outputs after a few normalized steps, by z-scores."""
    task = Task(np.eye(3) * 2, np.array([[1.0], [-1.0], [1.0]]))
    settings = dict(width=8, depth=3, activation="relu", learning_rate=0.2, steps=4)
    p = nup(q=1, gain=GAIN)
    keys = jax.random.split(jax.random.key(0), 3000)
    one = jax.jit(jax.vmap(lambda key: dense.train(task, p, key=key, **settings).predictions[..., 0]))(keys)
    other = jax.jit(jax.vmap(lambda key: matrix_free.train(task, p, key=key, **settings).predictions[..., 0]))(keys)
    for of in (lambda f: f, jnp.square):
        a, b = np.asarray(of(one), np.float64), np.asarray(of(other), np.float64)
        z = (a.mean(0) - b.mean(0)) / ((a.var(0) + b.var(0)) / len(keys)) ** 0.5
        assert np.max(np.abs(z)) < 4.2
    plain = dense.train(task, mup(sigma=GAIN), key=keys[0], **settings).predictions[..., 0]
    assert float(jnp.max(jnp.abs(plain - one[0]))) > 1e-3  # the control: SGD is something else


def test_forms_are_one():
    task = one_sample()
    p = nup(gain=GAIN)
    settings = dict(width=8, depth=3, activation="relu", learning_rate=0.1, steps=3, key=jax.random.key(0))
    runs = [dense.train(task, form, **settings).predictions for form in (p, p.shift(PerRole(0.3, -0.2, 0.5)))]
    np.testing.assert_allclose(*runs, rtol=2e-5)
    assert Parametrization.from_json(p.to_json()) == p


def test_sweeps_mix_them_with_sgd():
    task = one_sample()
    p, widths = nup(q=1, gain=GAIN), (8, 16)
    residual = mup(residual=0.5)
    data = mupjax.sweep(
        task, parametrizations=(mup(), p), widths=(widths,), depths=(2,), learning_rates=(0.1,), steps=3
    )
    key = mupjax.dynamics.runs.run_key(jax.random.key(0), 0, widths)
    settings = dict(depth=2, learning_rate=0.1, steps=3)
    for preset in (mup(), p):
        run = dense.train(task, preset, width=widths, key=key, **settings)
        found = data.train_loss.sel(parametrization=preset.name).isel(seed=0).values.squeeze()
        np.testing.assert_allclose(found, np.asarray(run.train_loss)[[0, -1]], rtol=1e-5)
    data = mupjax.sweep(task, parametrizations=(residual,), widths=(6, 8), depths=(2,), learning_rates=(0.1,), steps=3)
    key = mupjax.dynamics.runs.run_key(jax.random.key(0), 0, 6)
    run = dense.train(task, residual, width=6, key=key, **settings)
    found = data.train_loss.isel(seed=0, width=0).values.squeeze()
    np.testing.assert_allclose(found, np.asarray(run.train_loss)[[0, -1]], rtol=1e-5)
    with pytest.raises(ValueError, match=r"`widths` as tuples beside nup, .* such as \(8, 32\), got 8"):
        mupjax.sweep(task, parametrizations=("nup",), widths=(8,), depths=(2,))
    with pytest.raises(ValueError, match="SGD where updates are normalized"):
        mupjax.sweep(task, parametrizations=(p,), widths=(widths,), depths=(2,), optimizers=("adam",))


def test_residual_layers_are_branches():
    model = MLP(6, 4, 1, mup(residual=0.5), "tanh")
    params = model.init(jax.random.key(0), jnp.ones((2, 3)))
    found = model.apply(params, jnp.ones((2, 3)), method="features")
    for layer in range(1, 4):
        kernel = params["params"][f"layer_{layer + 1}"]["kernel"].value
        wanted = found.h[layer - 1] + 4**-0.5 * jnp.tanh(found.h[layer - 1]) @ kernel
        np.testing.assert_allclose(found.h[layer], wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="layers of one width where there are residual branches"):
        MLP((6, 7), 2, 1, mup(residual=0.5)).init(jax.random.key(0), jnp.ones((2, 3)))


def test_what_is_not_covered_is_refused():
    task, key = one_sample(), jax.random.key(0)
    settings = dict(depth=2, learning_rate=0.1, steps=1, key=key)
    assert mupjax.classify(nup(), 3).kind == "feature"
    assert mupjax.classify(nup(), 3).exponents.delta_h == mupjax.classify(mup(), 3).exponents.delta_h
    with pytest.raises(ValueError, match="SGD's updates, got nup, which normalizes them"):
        feature_limit.train(task, nup(), **settings)
    with pytest.raises(ValueError, match="kernel limit"):
        kernel_limit.train(task, nup(), **settings)
    with pytest.raises(ValueError, match="without residual branches, got mup"):
        matrix_free.train(task, mup(residual=0.5), width=4, **settings)
    with pytest.raises(ValueError, match="without residual branches, got mup"):
        mupjax.classify(mup(residual=0.5), 3)
    scaling = scaling_tree(MLP(8, 2, 1, nup()).init(key, jnp.ones((1, 3))))
    optim.check_optimizer(optim.sgd, scaling)

    def plain(scaling, rate):
        return optax.chain(optim.scale_by_parametrization(scaling), optax.scale_by_learning_rate(rate))

    with pytest.raises(ValueError, match=r"`width` to grow as the rates of nup have it, \(16, 64\), got \(16, 16\)"):
        dense.train(task, nup(gain=GAIN), width=(16, 16), **settings)
    with pytest.warns(UserWarning, match=r"nup with relu is not at the edge of chaos.* gain 1, not 1\.41"):
        dense.train(task, nup(), width=4, activation="relu", **settings)
    assert nup(bias_std=0.3, biases="all").sigma.bias == 0.3
    with pytest.raises(ValueError, match="`bias_std` within `sigma`"):
        nup(sigma=PerRole(1, 1, 1), bias_std=0.3)
    with pytest.raises(ValueError, match="updates of fixed size"):
        optim.check_optimizer(plain, scaling)

    def late(scaling, rate):
        return optax.chain(optim.scale_by_parametrization(scaling), normalize_updates(), optax.scale(-1.0))

    with pytest.raises(ValueError, match="sgd multiplier"):
        optim.check_optimizer(late, scaling)
    for change, message in (
        ({"update": "adam"}, "`update` to be 'sgd' or 'normalized'"),
        ({"width_profile": -1.0}, "`width_profile` to be >= 0"),
        ({"residual": float("nan")}, "`residual` to be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            sp(**change)
