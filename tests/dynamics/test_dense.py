"""Dense training: against a NumPy float64 network, the kernel limit, and itself under jit, vmap and other records."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mupjax import optim
from mupjax.activations import Activation
from mupjax.dynamics import dense, kernel_limit
from mupjax.dynamics import runs as axis
from mupjax.dynamics.gram import gram
from mupjax.dynamics.observing import Observer
from mupjax.network import MLP
from mupjax.parametrization import ip, mup, ntp, sp
from mupjax.task import Task, batch_order
from mupjax.trajectory import TrajectorySpec

F32 = float(np.finfo(np.float32).eps)


def sphere(num, dim, seed=0):
    x = np.random.default_rng(seed).standard_normal((num, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True) * dim**0.5


@pytest.fixture(scope="module")
def task():
    x = sphere(9, 5)
    return Task(x[:6], np.sign(x[:6, :1]), x[6:], np.sign(x[6:, :1]))


def numpy_network(task, params, rates, steps, loss, batches=None, phi=np.tanh, dphi=lambda h: 1 - np.tanh(h) ** 2):
    """Plain backpropagation in float64, written without JAX: losses before each step, outputs after the last one."""
    weights = [np.array(w, np.float64) for w in params]
    x_all, y_all = np.asarray(task.x_train), np.asarray(task.y_train)
    losses = []

    def forward(x):
        hs, xs = [], [x / x.shape[1] ** 0.5]
        for w in weights[:-1]:
            hs.append(xs[-1] @ w)
            xs.append(phi(hs[-1]))
        return hs, xs, xs[-1] @ weights[-1]

    def chi_and_loss(f, y):
        if loss == "mse":
            return f - y, 0.5 * np.mean(np.sum((f - y) ** 2, 1))
        p = np.exp(f - f.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        return p - np.eye(f.shape[1])[y], -np.mean(np.log(p[np.arange(len(y)), y]))

    for step in range(steps):
        losses.append(chi_and_loss(forward(x_all[: task.num_train])[2], y_all)[1])
        index = np.arange(task.num_train) if batches is None else np.asarray(batches)[step]
        hs, xs, f = forward(x_all[index])
        delta = chi_and_loss(f, y_all[index])[0] / len(index)
        gradients = [xs[-1].T @ delta]
        for layer in reversed(range(len(hs))):
            delta = (delta @ weights[layer + 1].T) * dphi(hs[layer])
            gradients.insert(0, xs[layer].T @ delta)
        weights = [w - rate * g for w, rate, g in zip(weights, rates, gradients, strict=True)]
    return np.array(losses), forward(x_all)[2]


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("batched", [False, True])
def test_equals_backpropagation_by_hand_in_float64(loss, batched):
    width, depth, rate, steps = 7, 3, 0.3, 4
    with jax.enable_x64(True):
        x = sphere(8, 5)
        y = np.arange(6) % 3 if loss == "cross_entropy" else x[:6, :3]
        task = Task(x[:6], y, loss=loss, num_classes=3)
        batches = jnp.array([[0, 3], [5, 1], [2, 4], [3, 3]], jnp.int32) if batched else None
        key = jax.random.key(1)
        run = dense.train(
            task, mup(), width=width, depth=depth, learning_rate=rate, steps=steps, key=key, batches=batches
        )
        model = MLP(width, depth, 3, mup())
        params = jax.tree.map(np.asarray, nn.meta.unbox(model.init(key, task.x_train))["params"])
        run = jax.tree.map(np.asarray, run)
    task, batches = jax.tree.map(np.asarray, (task, batches))
    kernels = [params[f"layer_{layer}"]["kernel"] for layer in (1, 2, 3)] + [params["readout"]["kernel"]]
    mup_rates = [rate * width, rate, rate, rate / width]  # theory, section 2: eta n, eta, eta, eta/n
    losses, f = numpy_network(task, kernels, mup_rates, steps, loss, batches)
    # float64 on both sides; 1e-11 is 5e4 roundings of values of order one.
    np.testing.assert_allclose(run.train_loss[:-1], losses, rtol=0, atol=1e-11)
    np.testing.assert_allclose(run.predictions[-1], f, rtol=0, atol=1e-11)
    wrong = [mup_rates[0], 2 * rate, *mup_rates[2:]]  # negative control: one layer's rate doubled
    assert np.abs(numpy_network(task, kernels, wrong, steps, loss, batches)[1] - run.predictions[-1]).max() > 1e-4


def test_grams_are_those_of_the_features(task, key):
    run = dense.train(task, mup(), width=8, depth=2, learning_rate=0.5, steps=3, key=key)
    short = dense.train(
        task, mup(), width=8, depth=2, learning_rate=0.5, steps=3, key=key, observers={"p": lambda s, b: s.params}
    )
    model = MLP(8, 2, 1, mup())
    for row, step in enumerate((0, 3)):
        params = jax.tree.map(lambda leaf, step=step: leaf[step], short.observed["p"])
        of = model.apply({"params": params}, task.x_train, method="features")
        start = model.apply(
            {"params": jax.tree.map(lambda leaf: leaf[0], short.observed["p"])}, task.x_train, method="features"
        )
        for name in ("h", "x"):
            for layer in range(2):
                z, z_0 = (np.asarray(getattr(features, name)[layer], np.float64) for features in (of, start))
                # Features are float32 and may differ by their rounding between two programs: 8 products of size <= 4.
                np.testing.assert_allclose(getattr(run, f"{name}_gram")[row, layer], z @ z.T / 8, atol=64 * F32)
                np.testing.assert_allclose(getattr(run, f"{name}_cross_gram")[row, layer], z @ z_0.T / 8, atol=64 * F32)


def test_momentum_and_decay_are_those_of_optax(task, key):
    """At base width every multiplier is 1, so that optax.sgd with decoupled decay must give the same run."""
    plain = lambda scaling, rate: optax.chain(  # noqa: E731
        optax.trace(0.9, nesterov=True), optax.add_decayed_weights(0.01), optax.scale(-rate)
    )
    common = dict(width=16, depth=2, steps=20, key=key)
    momentum = partial(optim.sgd, momentum=0.9, nesterov=True)
    ours = dense.train(
        task, mup(base_width=16), learning_rate=0.1, optimizer=partial(momentum, weight_decay=0.01), **common
    )
    theirs = dense.train(task, mup(base_width=16), learning_rate=0.1, optimizer=lambda s, r: plain(s, r), **common)
    np.testing.assert_allclose(ours.predictions, theirs.predictions, atol=200 * F32)
    without = dense.train(task, mup(base_width=16), learning_rate=0.1, optimizer=momentum, **common)
    assert np.abs(without.predictions - theirs.predictions).max() > 1e-3  # negative control: the decay is felt


def test_schedule_is_followed(task, key):
    schedule = optax.piecewise_constant_schedule(0.5, {2: 0.0})  # rate 0 from step 2 on
    run = dense.train(task, mup(), width=8, depth=2, learning_rate=schedule, steps=5, key=key)
    assert run.train_loss[1] != run.train_loss[2]
    np.testing.assert_array_equal(run.train_loss[2:], np.full(4, run.train_loss[2]))


def test_centred_runs_start_at_zero_and_train_the_difference(task, key):
    run = dense.train(task, ntp(), width=32, depth=2, learning_rate=0.3, steps=5, key=key, centred=True)
    plain = dense.train(task, ntp(), width=32, depth=2, learning_rate=0.3, steps=5, key=key)
    np.testing.assert_array_equal(run.predictions[0], np.zeros((9, 1)))
    assert np.abs(plain.predictions[0]).max() > 0.1
    shifted = Task(task.x_train, task.y_train + plain.predictions[0, :6], task.x_test, task.y_test)
    other = dense.train(shifted, ntp(), width=32, depth=2, learning_rate=0.3, steps=5, key=key)
    # The same gradients up to the rounding of y + f_0 - f_0, through 5 steps.
    np.testing.assert_allclose(other.predictions - plain.predictions[:1], run.predictions, atol=100 * F32)


@pytest.mark.parametrize("preset", [ntp, sp])
def test_linearized_nets_meet_the_kernel_limit_at_rate_one_over_root_n(preset, task):
    """|f_n - f| ~ n^-1/2 for each run of the first-order model.

    32 seeds fix each rms to about 12 % (one standard error, inputs counted as one), so the slope over a factor 16 of
    width to .12 sqrt(2)/log 16 = .06; the bound is two of these.
    """
    widths, common = (64, 1024), dict(depth=2, learning_rate=0.5, steps=10, centred=True)
    limit = kernel_limit.train(task, preset(), **common).predictions[-1]
    keys = jax.random.split(jax.random.key(3), 32)
    spec = TrajectorySpec(steps=(-1,), grams=())
    rms = []
    for width in widths:
        settings = dict(width=width, linearize=True, spec=spec, **common)
        runs = axis.map_runs(lambda k, s=settings: dense.train(task, preset(), key=k, **s), keys, inner="map")
        rms.append(float(jnp.sqrt(jnp.mean((runs.predictions[:, -1] - limit[None]) ** 2))))
    slope = np.polyfit(np.log(widths), np.log(rms), 1)[0]
    assert abs(slope + 0.5) < 0.12, (slope, rms)
    wrong = kernel_limit.train(task, sp() if preset is ntp else ntp(), **common).predictions[-1]
    assert np.abs(wrong - limit).max() > 3 * rms[-1]  # negative control: the other parametrization's limit is not met


def test_linearized_net_is_the_first_order_model(task, key):
    """Small updates: the first-order model and the network agree to second order, larger ones do not."""
    difference = {}
    for rate in (0.01, 0.1):
        common = dict(width=16, depth=2, learning_rate=rate, steps=1, key=key)
        linear = dense.train(task, mup(), linearize=True, **common).predictions[-1]
        real = dense.train(task, mup(), **common).predictions[-1]
        difference[rate] = float(jnp.abs(linear - real).max())
    assert 50 < difference[0.1] / difference[0.01] < 200  # quadratic in the rate: 100


def test_record_is_a_selection_of_the_full_one(task, key):
    common = dict(width=8, depth=2, learning_rate=0.5, steps=6, key=key)
    whole = dense.train(task, mup(), spec=TrajectorySpec(gram_steps=(0, 2, 5, 6)), **common)
    spec = TrajectorySpec(steps=(1, 4, -1), gram_steps=(2, 5), gram_inputs=(7, 0), eval_inputs=(8,), grams=("h",))
    part = dense.train(task, mup(), spec=spec, **common)
    np.testing.assert_array_equal(part.step, [1, 4, 6])
    np.testing.assert_allclose(part.train_loss, whole.train_loss[jnp.array([1, 4, 6])], rtol=20 * F32)
    np.testing.assert_allclose(part.predictions[:, 0], whole.predictions[jnp.array([1, 4, 6]), 8], atol=20 * F32)
    assert part.x_gram is None
    assert part.h_gram.shape == (2, 2, 2, 2)
    np.testing.assert_allclose(part.h_gram[..., 1, 1], whole.h_gram[1:3, :, 0, 0], rtol=50 * F32)
    np.testing.assert_allclose(part.h_cross_gram[..., 1, 1], whole.h_cross_gram[1:3, :, 0, 0], rtol=50 * F32)
    none = dense.train(task, mup(), spec=TrajectorySpec(steps=(0, -1), grams=()), **common)
    assert none.h_gram is None
    np.testing.assert_allclose(none.train_loss, whole.train_loss[jnp.array([0, -1])], rtol=20 * F32)


def test_observers_see_state_and_batch_at_their_own_pace(task, key):
    batches = batch_order(key, task.num_train, 2, 5)
    observers = {
        "step": lambda state, batch: state.step,
        "index": lambda state, batch: batch.index,
        "moved": Observer(
            lambda state, batch: optax.tree.norm(jax.tree.map(jnp.subtract, state.params, state.params_0)), every=2
        ),
        "update": lambda state, batch: optax.tree.norm(state.last_update),
    }
    run = dense.train(
        task, mup(), width=8, depth=2, learning_rate=0.5, steps=5, key=key, batches=batches, observers=observers
    )
    np.testing.assert_array_equal(run.observed["step"], np.arange(6))
    np.testing.assert_array_equal(run.observed["index"][:5], batches)
    assert run.observed["moved"].shape == (3,)
    assert run.observed["moved"][0] == 0
    assert run.observed["update"][0] == 0
    unobserved = dense.train(task, mup(), width=8, depth=2, learning_rate=0.5, steps=5, key=key, batches=batches)
    np.testing.assert_allclose(run.train_loss, unobserved.train_loss, rtol=20 * F32)


def test_an_observer_may_return_a_gram(task, key):
    """Contracted in float64, stored in the program's precision, without a warning."""
    model = MLP(8, 2, 1, mup())
    features = lambda state: model.apply({"params": state.params}, task.x_train, method="features").h[-1]  # noqa: E731
    observers = {"gram": Observer(lambda state, batch: gram(features(state), features(state)), every=3)}
    run = dense.train(task, mup(), width=8, depth=2, learning_rate=0.5, steps=3, key=key, observers=observers)
    np.testing.assert_allclose(run.observed["gram"], run.h_gram[:, -1], atol=64 * F32)  # features of two programs


def test_vmap_over_keys_and_rates_equals_a_loop(task):
    keys, rates = jax.random.split(jax.random.key(0), 3), jnp.array([0.1, 0.3, 1.0])
    one = lambda k, r: dense.train(task, mup(), width=8, depth=2, learning_rate=r, steps=4, key=k)  # noqa: E731
    together = jax.vmap(one)(keys, rates)
    for index in range(3):
        alone = one(keys[index], rates[index])
        np.testing.assert_allclose(together.predictions[index], alone.predictions, atol=50 * F32)
        np.testing.assert_allclose(together.h_gram[index], alone.h_gram, atol=50 * F32)


def test_one_trace_for_all_keys_rates_and_data(task):
    traces = []

    def counting_tanh(x):
        traces.append(1)
        return jnp.tanh(x)

    phi = Activation("counting", counting_tanh)
    for seed, rate in ((0, 0.1), (1, 0.2), (2, 0.3)):
        dense.train(
            task, mup(), width=8, depth=2, activation=phi, learning_rate=rate, steps=3, key=jax.random.key(seed)
        )
        if seed == 0:
            first = len(traces)
    assert len(traces) == first


def test_adam_trains_and_a_lost_multiplier_is_refused(task, key):
    common = dict(width=16, depth=2, learning_rate=0.03, steps=30, key=key)
    run = dense.train(task, mup(), optimizer=optim.adam, **common)
    assert run.train_loss[-1] < 0.5 * run.train_loss[0]
    with pytest.raises(ValueError, match="multiplier"):
        dense.train(task, mup(), optimizer=lambda scaling, rate: optax.adam(rate), **common)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        task = Task(sphere(4, 3), np.ones((4, 1)))
        run = dense.train(task, ip(), width=(4, 8), depth=2, learning_rate=0.1, steps=2, key=jax.random.key(0))
        assert {run.train_loss.dtype, run.predictions.dtype} == {np.dtype("float64")}


def test_unequal_widths_train(task, key):
    run = dense.train(task, mup(), width=(8, 24, 4), depth=3, learning_rate=0.5, steps=20, key=key)
    assert run.h_gram.shape == (2, 3, 6, 6)
    assert run.train_loss[-1] < run.train_loss[0]


@pytest.mark.parametrize("width", [128, 512])
def test_memory_estimate_is_within_a_factor_of_two(width):
    task = Task(sphere(64, 32), np.ones((64, 1)))
    spec = TrajectorySpec(steps=(0, -1))
    settings = dict(width=width, depth=3, steps=10, spec=spec)
    common = dict(learning_rate=0.1, optimizer=partial(optim.sgd, momentum=0.9), **settings)
    lowered = jax.jit(lambda k: dense.train(task, mup(), key=k, **common)).lower(jax.random.key(0))
    used = lowered.compile().memory_analysis()
    actual = used.temp_size_in_bytes + used.output_size_in_bytes
    estimate = sum(dense.estimate_bytes(task, **settings))
    assert 0.5 < estimate / actual < 2.0, (estimate, actual)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"width": 0}, ValueError, "`width` to be a positive int, got width=0"),
        ({"width": (8, 8, 8)}, ValueError, "one width for each of 2 layers"),
        ({"depth": 0}, ValueError, "`depth` to be a positive int"),
        ({"steps": 0}, ValueError, "`steps` to be a positive int, got steps=0"),
        ({"learning_rate": float("nan")}, ValueError, "`learning_rate` to be finite"),
        ({"learning_rate": -1.0}, ValueError, "`learning_rate` to be finite"),
        ({"optimizer": partial(optim.sgd, momentum=1.0)}, ValueError, r"`momentum` to be in \[0, 1\)"),
        ({"optimizer": partial(optim.sgd, weight_decay=-1.0)}, ValueError, "`weight_decay` to be >= 0"),
        ({"key": -1}, ValueError, "`key` to be an int in 0"),
        ({"key": jax.random.split(jax.random.key(0))}, ValueError, r"one JAX random key, got key=key<fry>\[2\]"),
        ({"batches": jnp.zeros((2, 2), jnp.int32)}, ValueError, r"`batches` to have shape \[3, B\]"),
        ({"batches": jnp.full((3, 2), 6, jnp.int32)}, ValueError, r"`batches` to index 0\.\.5, got 6"),
        ({"batches": jnp.zeros((3, 2))}, TypeError, "integer"),
        ({"activation": "tanhh"}, ValueError, "`activation` to be one of"),
        ({"spec": TrajectorySpec(steps=(0, 9))}, ValueError, r"`steps` to be ascending steps in 0\.\.3"),
        ({"spec": TrajectorySpec(gram_inputs=(99,))}, ValueError, "`gram_inputs` to be indices"),
    ],
)
def test_bad_arguments_are_named(task, key, change, error, message):
    arguments = dict(width=8, depth=2, learning_rate=0.1, steps=3, key=key) | change
    with pytest.raises(error, match=message):
        dense.train(task, mup(), **arguments)
