"""Integrable parametrizations: exponents of the paper, steps by hand, one law in every dynamics, exponents measured."""

from __future__ import annotations

import dataclasses
import warnings
from functools import partial

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mupjax import activations, classify, optim
from mupjax.activations import Activation
from mupjax.dynamics import dense, feature_limit, kernel_limit, matrix_free
from mupjax.dynamics.implicit.scalings import limit_scalings
from mupjax.dynamics.runs import map_runs
from mupjax.network import MLP, scaling_tree
from mupjax.parametrization import (
    Parametrization,
    PerRole,
    get,
    hp,
    hpz,
    ip,
    ip_bias,
    ip_llr,
    ip_non_centered,
    mup,
    ntp,
)
from mupjax.sweeps.sweep import sweep
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec
from tests import worked_example

SWITCHED = {"ip_llr": ip_llr(3), "ip_bias": ip_bias(3), "hp": hp(), "hpz": hpz()}
RELU2 = Activation("relu squared", lambda s: jnp.maximum(s, 0) ** 2, degree=2)
STEPS = TrajectorySpec(grams=())


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_first_rates_are_the_papers(depth):
    """c of the stored w with a = (0, 1, 1), from the table of Hajjar et al.; here a = 0, so c + 2 a of the kernels."""
    n, length = 16, depth
    paper = {
        "ip_llr": ([-(length + 1) / 2] + [2 - (length + 2) / 2] * (length - 1) + [2 - (length + 1) / 2]),
        "ip_bias": ([-(length + 1) / 2] + [2 - (length - k + 4) / 2 for k in range(2, length + 1)] + [2 - 1]),
    }
    for name, exponents in paper.items():
        p = get(name, depth=depth)
        roles = ["input", *["hidden"] * (depth - 1), "output"]
        rates = [p.scales(role, n, n, layer=k).sgd_lr_mult_first for k, role in enumerate(roles, 1)]
        np.testing.assert_allclose(rates, [n**-e for e in exponents], rtol=1e-12)
        assert [p.scales(role, n, n, layer=k).sgd_lr_mult for k, role in enumerate(roles, 1)] == [n] + [1] * (
            depth - 1
        ) + [1 / n]
    biases = [get("ip_bias", depth=depth).scales("bias", n, n, layer=k).sgd_lr_mult_first for k in range(1, depth + 1)]
    np.testing.assert_allclose(biases, [n ** ((length - k + 2) / 2) for k in range(1, depth + 1)], rtol=1e-12)
    # Biases of ip_llr that start at zero keep it equal to hp: -(L - l + 2)/2 for p = 1 too.
    biases = [ip_llr(depth).scales("bias", n, n, layer=k).sgd_lr_mult_first for k in range(1, depth + 1)]
    np.testing.assert_allclose(biases, [n ** ((length - k + 2) / 2) for k in range(1, depth + 1)], rtol=1e-12)


def test_two_steps_by_hand():
    """ip_llr with three layers of weights, ReLU, MSE: W_2 from the definition, in float64, without the library."""
    rng, n, eta, depth = np.random.default_rng(0), 12, 0.03, 2
    x, y = rng.standard_normal((4, 5)), rng.standard_normal((4, 2))
    p = ip_llr(depth, sigma=1.5)
    with jax.enable_x64(True):
        model = MLP(n, depth, 2, p, "relu")
        boxed = model.init(jax.random.key(0), x)
        params = nn.meta.unbox(boxed)["params"]
        transform = optim.sgd(scaling_tree(boxed), eta)
        state = transform.init(params)
        names = ("layer_1", "layer_2", "readout")
        by_hand = [np.asarray(params[name]["kernel"]) for name in names]

        def loss(params):
            return jnp.mean(0.5 * jnp.sum((model.apply({"params": params}, x) - y) ** 2, axis=1))

        for _ in range(2):
            updates, state = transform.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
        ours = [np.asarray(params[name]["kernel"]) for name in names]
    total = 0.5 * (depth - 1)
    first = [n ** (1 + total), n ** (total - 0.5), n ** (total - 1)]
    later = [n, 1.0, 1 / n]
    for rates in (first, later):
        w1, w2, w3 = by_hand
        h1 = x @ w1 / 5**0.5
        x1 = np.maximum(h1, 0)
        h2 = x1 @ w2
        x2 = np.maximum(h2, 0)
        chi = (x2 @ w3 - y) / 4
        g2 = (chi @ w3.T) * (h2 > 0)
        g1 = (g2 @ w2.T) * (h1 > 0)
        gradients = [x.T @ g1 / 5**0.5, x1.T @ g2, x2.T @ chi]
        by_hand = [w - eta * rate * g for w, rate, g in zip(by_hand, rates, gradients, strict=True)]
    for one, other in zip(ours, by_hand, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12 * np.abs(other).max())
    not_switched = by_hand[0] - eta * (first[0] - later[0]) * gradients[0]
    assert np.abs(not_switched - ours[0]).max() > 1e-3 * np.abs(ours[0]).max()


RATE = {1: 0.05, 2: 0.001}  # that neither die nor diverge


@pytest.mark.parametrize(("activation", "degree"), [("relu", 1), ("leaky_relu", 1), (RELU2, 2)])
def test_hp_is_ip_llr_given_the_first_chi(activation, degree):
    """The library's networks and optimizer in float64, at every width: the same Gaussians, and dLoss/df at step 0."""
    for n in (12, 24):
        with jax.enable_x64(True):
            rng = np.random.default_rng(n)
            x, y = jnp.asarray(rng.standard_normal((3, 5))), jnp.asarray(rng.standard_normal((3, 2)))
            outputs = []
            for p in (hp(), ip_llr(3, degree=degree)):
                model = MLP(n, 3, 2, p, activation)
                boxed = model.init(jax.random.key(n), x)
                params, transform = nn.meta.unbox(boxed)["params"], optim.sgd(scaling_tree(boxed), RATE[degree])
                state = transform.init(params)
                for step in range(5):
                    f, pull = jax.vjp(lambda params, model=model, x=x: model.apply({"params": params}, x), params)
                    updates, state = transform.update(pull(-y if step == 0 else f - y)[0], state, params)
                    params = optax.apply_updates(params, updates)
                outputs.append(np.asarray(model.apply({"params": params}, x)))
        # Rounding of float64 through five steps: sums of n^2 terms.
        assert np.abs(outputs[0]).max() > 0
        np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-11, atol=1e-11 * np.abs(outputs[0]).max())


def test_hp_is_not_ip_llr_where_phi_is_not_homogeneous(key):
    """With ReLU their first outputs alone tell them apart, and vanish as n^-1/2; with tanh and GELU they stay apart."""
    settings = {"depth": 3, "learning_rate": 1.0, "steps": 4, "key": key, "spec": STEPS}
    task, away = worked_example.task(), {}
    for phi, sigma in (("relu", 2**0.5), ("tanh", 1.0), ("gelu", 2.0)):
        away[phi] = []
        for width in (128, 1024):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                runs = [
                    dense.train(task, p, width=width, activation=phi, **settings).predictions[1:]
                    for p in (ip_llr(3, sigma=sigma), hp(sigma=sigma))
                ]
            away[phi].append(float(np.sqrt(np.mean((runs[0] - runs[1]) ** 2) / np.mean(runs[1] ** 2))))
    assert away["relu"][0] > 2 * away["relu"][1]  # 2.8 is expected of n^-1/2
    for phi in ("tanh", "gelu"):
        assert min(away[phi]) > 0.5


def test_finite_networks_come_to_one_limit(key):
    """ip_llr, hp and hpz as n^-1/2 to the limit of ip_llr; muP's own limit, to which its networks come, is far away."""
    task, steps = worked_example.task(), 8
    common = {"depth": 3, "activation": "relu", "learning_rate": 1.0, "steps": steps, "spec": STEPS}
    common["initial_rates"] = (1.0, 4.0, 4.0, 2.0)
    presets = {"ip_llr": ip_llr(3, sigma=2**0.5), "hp": hp(sigma=2**0.5), "hpz": hpz(sigma=2**0.5)}
    presets["mup"] = mup(sigma=2**0.5)
    limits = {
        name: feature_limit.train(task, presets[name], key=key, num_particles=8192, num_runs=4, **common)
        for name in ("ip_llr", "mup")
    }
    size = np.sqrt(np.mean(limits["ip_llr"].predictions ** 2))
    away = {}
    for name, p in presets.items():
        away[name] = []
        for width, seeds in ((1024, 8), (16384, 4)) if name != "mup" else ():

            def run(seed, task, p=p, width=width):
                key = jax.random.fold_in(jax.random.key(width), seed)
                return matrix_free.train(task, p, width=width, key=key, **common).predictions

            f = np.asarray(map_runs(run, jnp.arange(seeds), task), np.float64)
            away[name].append(np.sqrt(np.mean((f - limits["ip_llr"].predictions) ** 2)) / size)
    for name in ("ip_llr", "hp", "hpz"):
        # n^-1/2 says 4; eight and four seeds of a dozen correlated outputs leave a factor of 1.6 (three sigma).
        assert 2.5 < away[name][0] / away[name][1] < 6.4, name
    # muP's limit is another one, by far more than what is left of the others' distance.
    other = np.sqrt(np.mean((limits["mup"].predictions - limits["ip_llr"].predictions) ** 2)) / size
    assert other > 5 * max(away[name][1] for name in ("ip_llr", "hp", "hpz"))


def test_limit_scalings_are_muPs_in_the_first_step():
    task, widths = worked_example.task(), (64, 64, 64)
    llr = limit_scalings(ip_llr(3), activations.get("relu"), task, widths)
    zero = limit_scalings(hpz(), activations.get("relu"), task, widths)
    for one, other in zip(llr.kernels, zero.kernels, strict=True):
        first = other.sgd_lr_mult if other.sgd_lr_mult_first is None else other.sgd_lr_mult_first
        assert (one.init_std, one.sgd_lr_mult) == (other.init_std, other.sgd_lr_mult)
        assert one.sgd_lr_mult_first == pytest.approx(first, rel=1e-12)
    assert [s.init_kept for s in llr.kernels] == [1.0, 0.0, 0.0, 1.0]
    shifted = limit_scalings(ip_llr(3).shift(PerRole(0.3, 1 / 3, -0.7)), activations.get("relu"), task, widths)
    for one, other in zip(llr.kernels, shifted.kernels, strict=True):
        assert (one.init_std, one.sgd_lr_mult_first) == pytest.approx((other.init_std, other.sgd_lr_mult_first))


@pytest.mark.parametrize(
    ("parametrization", "activation", "message"),
    [
        (ip_llr(3, sigma=2.0), "gelu", "a homogeneous activation where ip_llr has first rates of its own, got gelu"),
        (ip_bias(3), "relu", "bias of the readout to start at 0"),
        (ip_llr(4), "relu", "`depth` to be 4"),
    ],
)
def test_limits_that_are_not_known_are_refused(key, parametrization, activation, message):
    settings = {"depth": 3, "learning_rate": 1.0, "steps": 1, "key": key, "num_particles": 64}
    with pytest.raises(ValueError, match=message):
        feature_limit.train(worked_example.task(), parametrization, activation=activation, **settings)


def test_kernel_limits_are_refused_with_biases_and_taken_with_gains(key):
    with pytest.raises(ValueError, match="without biases, means, normalized updates or a first step"):
        kernel_limit.train(worked_example.task(), ntp(biases="all"), depth=2, learning_rate=1.0, steps=1)
    # A gain of sqrt(2) in a ReLU network of two hidden layers: kernels double at each layer.
    settings = {"depth": 2, "activation": "relu"}
    plain = kernel_limit.kernels(worked_example.X, ntp(), **settings)
    gained = kernel_limit.kernels(worked_example.X, ntp(sigma=2**0.5), **settings)
    np.testing.assert_allclose(gained.x, np.array([2, 4])[:, None, None] * plain.x, rtol=1e-6)
    # Shares: the input layer's and the second's gain the product of the sigmas above and below, the readout's x^2's.
    rates = PerRole(0.0, 0.0, 3.0)
    only = [kernel_limit.kernels(worked_example.X, ntp(sigma=s, rates=rates), **settings).ntk for s in (1.0, 2**0.5)]
    np.testing.assert_allclose(only[1], 4 * only[0], rtol=1e-6)
    np.testing.assert_allclose(only[0], 3 * plain.x[-1], rtol=1e-6)
    finite = dense.train(
        worked_example.task(),
        ntp(sigma=2**0.5),
        width=4096,
        learning_rate=1e-3,
        steps=1,
        key=key,
        spec=STEPS,
        **settings,
    ).predictions
    chi = finite[0] - worked_example.Y[:, None]
    moved = (finite[1] - finite[0]) / (-1e-3 / 4)
    # One network of width 4096: entries of its kernel scatter by a few n^-1/2.
    np.testing.assert_allclose(moved[:, 0], (gained.ntk @ chi)[:, 0], atol=0.15 * np.abs(moved).max())


# Asymptotic powers of the width, measured without hidden matrices at widths where these have set in.
EXPONENTS = [
    (ip_llr(3, sigma=2**0.5), "relu", (1.0, 20.0, 20.0, 1.0), (10, 15)),
    (ip_llr(3), "tanh", None, (13, 16)),
    (ip_non_centered(), "tanh", None, (13, 16)),
]


@pytest.mark.parametrize(("parametrization", "activation", "initial_rates", "powers"), EXPONENTS)
def test_exponents_are_the_slopes_of_wide_networks(parametrization, activation, initial_rates, powers):
    """h, dh and the change of h, after none, one and two steps, between two widths that are powers of two."""
    depth = parametrization.depth or 3
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 8))
    task = Task(x / np.linalg.norm(x, axis=1, keepdims=True) * 8**0.5, rng.standard_normal((3, 2)))
    spec = TrajectorySpec(gram_steps=(0, 1, 2), gram_inputs=3, space_time=("h", "dh"))
    expected = classify(parametrization, depth, activation).exponents
    logs = []
    for width, seeds in ((2 ** powers[0], 8), (2 ** powers[1], 4)):

        def run(seed, task, width=width):
            return matrix_free.train(
                task, parametrization, width=width, depth=depth, activation=activation, learning_rate=0.5, steps=2,
                key=jax.random.fold_in(jax.random.key(width), seed), initial_rates=initial_rates, spec=spec,
            ).space_time  # fmt: skip

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = map_runs(run, jnp.arange(seeds), task)
        h, dh = (np.mean(np.trace(np.asarray(a, float), axis1=-2, axis2=-1), axis=0) for a in (found.h, found.dh))
        change = np.array([h[t, t] + h[0, 0] - 2 * h[t, 0] for t in (1, 2)])
        rows = {"h": [h[t, t] for t in range(3)], "dh": [dh[t, t] for t in range(3)], "delta_h": change}
        logs.append({name: 0.5 * np.log(np.maximum(np.array(values), 1e-300)) for name, values in rows.items()})
    for name, wanted in expected._asdict().items():
        if name in logs[0]:
            slope = (logs[1][name] - logs[0][name]) / np.log(2) / (powers[1] - powers[0])
            # rms of 3 inputs: the layers' sizes are means over units, exact to a per cent; dh carries chi. What is left
            # is corrections of order n^-1/2 to the powers, and the readout's few Gaussians: 0.1 over log 2 times 3.
            assert np.max(np.abs(slope - np.array(wanted))) < 0.12, (name, slope, wanted)


def test_classification_of_the_integrable_presets():
    kinds = {name: classify(get(name, depth=5), 5, "relu").kind for name in ("ip", "ip_llr", "hp", "hpz")}
    assert kinds == {"ip": "trivial", "ip_llr": "feature", "hp": "feature", "hpz": "feature"}
    assert [classify(ip_llr(5), 5, phi).kind for phi in ("tanh", "linear", "gelu")] == ["trivial"] * 3
    for phi in ("tanh", "gelu", "elu", "linear"):  # h_1^l ~ n^-(l-2)/2 for l >= 3
        assert classify(ip_llr(5), 5, phi).exponents.h[1] == (0.0, 0.0, -0.5, -1.0, -1.5)
    assert classify(ip_llr(3), 3, "softplus").kind == "unstable"  # phi(0) is not 0
    assert classify(hp(), 3, "relu").r is None


def test_counter_is_kept_by_a_checkpoint(key):
    task, p = worked_example.task(), ip_llr(3)
    model = MLP(16, 3, 1, p, "relu")
    boxed = model.init(key, task.x_train)
    params, scaling = nn.meta.unbox(boxed)["params"], scaling_tree(boxed)

    def step(transform, params, state):
        def loss(params):
            return jnp.mean((model.apply({"params": params}, task.x_train) - task.y_train) ** 2)

        updates, state = transform.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    transform = optim.sgd(scaling, optax.linear_schedule(20.0, 10.0, 10), momentum=0.5)
    params_1, state_1 = step(transform, params, transform.init(params))
    data = flax.serialization.to_bytes(state_1)
    restored = flax.serialization.from_bytes(transform.init(params), data)
    straight, again = (step(transform, params_1, state)[0] for state in (state_1, restored))
    jax.tree.map(np.testing.assert_array_equal, straight, again)
    with pytest.warns(UserWarning, match=r"layer_\d'\]\['kernel'\] has .* times their mean square"):
        wrong = transform.init(params_1)  # a restart without the state: the first step's rates again
    lost = step(transform, params_1, wrong)[0]
    assert np.abs(lost["layer_1"]["kernel"] - straight["layer_1"]["kernel"]).max() > 1e-3
    told = optim.sgd(scaling, 1.0, steps_taken=1)
    by_hand = optim.sgd(scaling, 1.0)
    _, state = step(by_hand, params, by_hand.init(params))
    jax.tree.map(
        np.testing.assert_array_equal,
        step(told, params_1, told.init(params_1))[0],
        step(by_hand, params_1, state)[0],
    )


def test_bad_use_is_named(key):
    task = worked_example.task()
    model = MLP(16, 3, 1, ip_llr(3), "relu")
    boxed = model.init(key, task.x_train)
    params, scaling = nn.meta.unbox(boxed)["params"], scaling_tree(boxed)
    with pytest.raises(ValueError, match="Expected SGD where the first step has rates or weights of its own"):
        optim.adam(scaling, 0.1)
    with pytest.raises(ValueError, match="Expected SGD where the first step"):
        sweep(task, parametrizations=("ip_llr",), optimizers=("adam",), widths=(8,), seeds=1, steps=1)
    with pytest.raises(ValueError, match=r"step counter \(FirstStepState\), got EmptyState.*steps_taken="):
        optim.scale_by_parametrization(scaling).update(params, optax.EmptyState(), params)
    hybrid = scaling_tree(MLP(16, 3, 1, hp(), "relu").init(key, task.x_train))
    transform = optim.drop_initial_weights(optax.sgd(0.1), hybrid)
    with pytest.raises(ValueError, match="`params` where the initial weights are dropped, got None"):
        transform.update(params, transform.init(params))
    with pytest.raises(ValueError, match="does a warm-up hold the first step"):
        optim.check_optimizer(lambda s, r: optim.sgd(s, optax.linear_schedule(0.0, r, 3)), scaling)
    with pytest.raises(ValueError, match="Expected one `depth` with ip_llr"):
        get("ip_llr")
    with pytest.raises(ValueError, match="`depth` to be 3, which the exponents of ip_llr were made for, got 2"):
        dense.train(task, ip_llr(3), width=8, depth=2, learning_rate=1.0, steps=1, key=key)
    with pytest.raises(ValueError, match=r"`initial_rates` to have shape \[4\], one a kernel, got shape \(2,\)"):
        dense.train(
            task, mup(), width=8, depth=3, learning_rate=1.0, steps=1, key=key, initial_rates=(1.0, 2.0)
        )  # fmt: skip
    with pytest.raises(ValueError, match="`depth` to be a positive int, got depth=0"):
        ip_llr(0)
    with pytest.raises(ValueError, match="`degree` to be positive"):
        ip_llr(2, degree=0)
    settings = {"width": 8, "depth": 3, "learning_rate": 1.0, "steps": 1, "key": key}
    with pytest.warns(UserWarning, match="ip at depth 3 with tanh does not train at large width"):
        dense.train(task, dataclasses.replace(ip(), base_width=3), activation="tanh", **settings)
    with pytest.warns(UserWarning, match="ip_llr is derived for positively homogeneous activations, which tanh is not"):
        matrix_free.train(task, dataclasses.replace(ip_llr(3), base_width=3), activation="tanh", **settings)
    with pytest.warns(UserWarning, match="ip at depth 3 with tanh does not train at large width"):
        sweep(
            task, parametrizations=(ip(base_width=7),), widths=(8,), learning_rates=(1.0,), seeds=1, steps=1
        )  # fmt: skip
    with warnings.catch_warnings():  # once
        warnings.simplefilter("error")
        matrix_free.train(task, dataclasses.replace(ip_llr(3), base_width=5), activation="relu", **settings)


def test_check_optimizer_sees_a_chain_without_the_switch(key):
    task = worked_example.task()
    scaling = scaling_tree(MLP(16, 3, 1, ip_llr(3), "relu").init(key, task.x_train))
    optim.check_optimizer(optim.sgd, scaling)

    def later_alone(scaling, rate):
        plain = jax.tree.map(lambda leaf: dataclasses.replace(leaf, sgd_lr_mult_first=None), scaling)
        return optim.sgd(plain, rate)

    with pytest.raises(ValueError, match="multiplier"):
        optim.check_optimizer(later_alone, scaling)


@pytest.mark.parametrize("name", ["ip_bias", "hp", "ip_non_centered"])
def test_sweeps_train_what_dense_training_trains(name):
    """Padded and shared programs know first steps, dropped weights, means and biases."""
    p = SWITCHED.get(name, ip_non_centered(mean=0.5))
    task = worked_example.task()
    data = sweep(
        task, parametrizations=(p, mup()), widths=(8, 12), depths=(3,), learning_rates=(0.3,), seeds=2, steps=3,
        activation="relu", padding="always", spec=TrajectorySpec(grams=()),
    )  # fmt: skip
    from mupjax.dynamics.runs import run_key

    for width in (8, 12):
        for seed in range(2):
            key = run_key(jax.random.key(0), seed, width)
            one = dense.train(
                task, p, width=width, depth=3, activation="relu", learning_rate=0.3, steps=3, key=key, spec=STEPS
            )
            ours = data.predictions.sel(parametrization=p.name, width=width, seed=seed).squeeze().values
            np.testing.assert_allclose(ours, one.predictions[..., 0], rtol=1e-4, atol=1e-5)


def test_parametrizations_round_trip_through_json():
    for p in [*SWITCHED.values(), ip_non_centered(), hpz(biases="all", bias_std=0.1)]:
        assert Parametrization.from_json(p.to_json()) == p
        assert hash(Parametrization.from_json(p.to_json())) == hash(p)


@pytest.mark.parametrize("preset", [hp(), hpz()])
def test_decay_acts_on_what_is_kept(preset):
    """W_1 = kept (1 - eta lambda) W_0 + update; the readout and the input layer lose nothing else."""
    scaling = {"w": preset.scales("hidden", 16, 16, layer=2)}
    params, gradient = {"w": jnp.full((2, 2), 0.25)}, {"w": jnp.full((2, 2), 0.7)}
    kept = {"hp": 0.25, "hpz": 0.0}[preset.name]
    transform = optim.sgd(scaling, 0.1, weight_decay=0.5)
    state = transform.init(params)
    for factor in (kept, 1.0):
        updates, state = transform.update(gradient, state, params)
        wanted = factor * (1 - 0.1 * 0.5) * params["w"] - 0.1 * 0.7
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params["w"], wanted, rtol=1e-6)


def test_limits_know_decay_and_refuse_momentum(key):
    task = worked_example.task()
    settings = {"depth": 3, "activation": "relu", "learning_rate": 1.0, "steps": 5, "key": key, "spec": STEPS}
    settings |= {"initial_rates": (1.0, 4.0, 4.0, 2.0)}
    llr, decay = ip_llr(3, sigma=2**0.5), partial(optim.sgd, weight_decay=0.3)
    limit = feature_limit.train(task, llr, num_particles=2048, optimizer=decay, **settings).predictions
    other = feature_limit.train(task, llr, num_particles=2048, **settings).predictions
    wide = matrix_free.train(task, llr, width=65536, optimizer=decay, **settings).predictions
    # What is left at this width is a fluctuation; a limit without the decay would be away by the right hand side.
    assert np.sqrt(np.mean((limit - wide) ** 2)) < 0.3 * np.sqrt(np.mean((limit - other) ** 2))
    with pytest.raises(ValueError, match=r"no `momentum` in the limit of ip_llr, got 0\.9"):
        feature_limit.train(task, llr, optimizer=partial(optim.sgd, momentum=0.9), **settings)
    with pytest.raises(ValueError, match="bias of the readout to start at 0"):
        feature_limit.train(task, mup(biases="all", bias_std=1.0), **settings)


def test_means_give_the_limit_a_start_that_centring_removes(key):
    task = worked_example.task()
    settings = {"depth": 2, "activation": "relu", "learning_rate": 0.5, "steps": 3, "key": key, "spec": STEPS}
    for centred in (False, True):
        limit = feature_limit.train(task, ip_non_centered(), num_particles=4096, centred=centred, **settings)
        wide = dense.train(task, ip_non_centered(), width=4096, centred=centred, **settings)
        # One network of width 4096 and 4096 particles: a few n^-1/2.
        np.testing.assert_allclose(limit.predictions, wide.predictions, atol=0.06)
        assert (np.abs(limit.predictions[0]).max() < 1e-6) == centred


def test_optimizers_of_ones_own(key):
    """With initial rates they are checked and work; one that forgets to drop weights, or starts at rate 0, is named."""
    task = worked_example.task()
    settings = {"width": 16, "depth": 3, "activation": "relu", "steps": 3, "key": key, "spec": STEPS}
    settings |= {"initial_rates": (1.0, 4.0, 4.0, 2.0), "learning_rate": 0.5}
    for preset in (ip_llr(3), hp()):
        own = dense.train(task, preset, optimizer=optim.sgd, **settings)
        plain = dense.train(task, preset, **settings)
        np.testing.assert_array_equal(own.predictions, plain.predictions)

    def keeps_everything(scaling, rate):
        return optax.chain(optim.scale_by_parametrization(scaling), optax.sgd(rate))

    with pytest.raises(ValueError, match=r"keep 0.25 of the initial .*layer_2.*got 1: is drop_initial_weights missing"):
        dense.train(task, hp(), optimizer=keeps_everything, **settings)
    late = optax.linear_schedule(0.0, 1.0, 3)
    with pytest.raises(ValueError, match="positive at step 0, the one step that hp has rates of its own for"):
        dense.train(task, hp(), **settings | {"learning_rate": late, "initial_rates": None})
    with pytest.raises(ValueError, match="`linearize` with a start that stays, got hp"):
        dense.train(task, hp(), linearize=True, **settings)
    with pytest.warns(UserWarning, match=r"made for the degree of homogeneity of this activation \(`degree=`\)"):
        dense.train(task, ip_llr(3, degree=2), **settings)
