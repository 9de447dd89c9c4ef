"""The kernel limit against closed forms, independent quadrature, finite networks and a plain linear model."""

import functools
import math
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from mupjax import activations, devices
from mupjax.activations import Activation
from mupjax.dynamics import dense, kernel_limit
from mupjax.dynamics._neural_tangents import load
from mupjax.dynamics.kernel_limit import kernels, layer_weights, train
from mupjax.network import MLP, scaling_tree
from mupjax.optim import adam, sgd
from mupjax.parametrization import PerRole, ip, mup, ntp, sp
from mupjax.task import Task, batch_order
from mupjax.trajectory import TrajectorySpec

# Over a few hundred entries a maximum of 4.5 standard errors has probability below 1e-2; seeds are fixed.
MAX_Z = 4.5
RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((6, 5))
INPUTS *= np.sqrt(5) / np.linalg.norm(INPUTS, axis=1, keepdims=True)
TARGETS = np.array([[1.0], [-1.0], [0.5], [-0.7]])
MSE = Task(INPUTS[:4], TARGETS, INPUTS[4:], np.array([[1.0], [-1.0]]))
TWO_OUTPUTS = Task(INPUTS[:4], np.hstack([TARGETS, -(TARGETS**2)]), INPUTS[4:], np.ones((2, 2)))
CLASSES = Task(INPUTS[:4], np.array([0, 1, 2, 1]), INPUTS[4:], np.array([2, 0]), loss="cross_entropy")
LOSSES = TrajectorySpec(grams=())
WEIGHTS = {"ntp": lambda depth: np.ones(depth + 1), "sp": lambda depth: np.r_[0.0, np.ones(depth)]}
PARAMETRIZATIONS = {"ntp": ntp(), "sp": sp()}


assert_close = functools.partial(np.testing.assert_allclose, rtol=0)


def relative(actual, expected):
    return np.max(np.abs(actual - expected)) / np.max(np.abs(expected))


# Closed forms, written as the sum over layers, not as neural-tangents' recursion.


def relu_map(cov, sign=1):
    """Cho & Saul 2009: arc-cosine kernels of degree 1 and 0, of h with sign * h."""
    norms = np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
    cosine = np.clip(cov / norms, -1, 1)
    np.fill_diagonal(cosine, 1)  # arccos would turn a rounding of 1e-16 there into 1e-8
    angle = np.arccos(sign * cosine)
    return norms / (2 * np.pi) * (np.sin(angle) + (np.pi - angle) * sign * cosine), (np.pi - angle) / (2 * np.pi)


def two_slopes_map(negative):
    """phi(s) = s for s > 0, negative * s else: relu(s) - negative * relu(-s)."""

    def layer_map(cov):
        aligned, opposed = relu_map(cov), relu_map(cov, sign=-1)
        both = 1 + negative**2
        return both * aligned[0] - 2 * negative * opposed[0], both * aligned[1] + 2 * negative * opposed[1]

    return layer_map


def erf_map(cov):
    """Williams 1997: the arc-sine kernel, and its derivative."""
    norms = np.outer(1 + 2 * np.diag(cov), 1 + 2 * np.diag(cov))
    return 2 / np.pi * np.arcsin(2 * cov / np.sqrt(norms)), 4 / np.pi / np.sqrt(norms - 4 * cov**2)


def linear_map(cov):
    return cov, np.ones_like(cov)


def sum_of_shares(inputs, weights, layer_map):
    """[L, P, P] covariances of x and sum_l w_l K^(l-1) * dK^l * ... * dK^L."""
    cov, slopes = [inputs @ inputs.T / inputs.shape[1]], []
    for _ in range(len(weights) - 1):
        after, slope = layer_map(cov[-1])
        cov.append(after)
        slopes.append(slope)
    shares = [before * math.prod(slopes[layer:], start=1.0) for layer, before in enumerate(cov)]
    return np.stack(cov), sum(w * share for w, share in zip(weights, shares, strict=True))


CLOSED_FORMS = {
    "relu": relu_map,
    "erf": erf_map,
    "linear": linear_map,
    "leaky_relu": two_slopes_map(activations.LEAKY_SLOPE),
    "abs_relu": two_slopes_map(-1.0),
}
assert set(CLOSED_FORMS) == {a.name for a in activations.ACTIVATIONS.values() if a.neural_tangents is not None}


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("phi", CLOSED_FORMS)
def test_closed_forms(phi, depth):
    layer_map = CLOSED_FORMS[phi]
    scaled = INPUTS * np.linspace(0.5, 1.5, 6)[:, None]
    expected = {name: sum_of_shares(scaled, weights(depth), layer_map) for name, weights in WEIGHTS.items()}
    for name, (cov, ntk) in expected.items():
        limit = kernels(scaled, PARAMETRIZATIONS[name], depth=depth, activation=phi)
        # Both are float64 evaluations of one formula: measured differences are below 3e-15.
        assert_close(limit.h, cov[:-1], atol=1e-13)
        assert_close(limit.x, cov[1:], atol=1e-13)
        assert_close(limit.nngp, cov[-1], atol=1e-13)
        off_diagonal = ~np.eye(6, dtype=bool)
        assert_close(limit.ntk[off_diagonal], ntk[off_diagonal], atol=1e-13)
        # With a kink, neural-tangents takes the root of a rounding there, 1e-8: measured errors are below 3e-8.
        assert_close(np.diag(limit.ntk), np.diag(ntk), atol=1e-13 if phi in ("erf", "linear") else 1e-7)
        assert limit.quadrature_error is None
    # The two differ by the input layer's share: 1/5 of a linear network of depth 4, more of others.
    assert relative(expected["ntp"][1], expected["sp"][1]) > 0.05


def trapezoid_map(phi, slope):
    """A map by the trapezoid rule in the plane, which converges exponentially for analytic functions."""
    step = 0.16  # its error, of order exp(-2 pi / step * .78), .78 the distance of tanh's pole here, is below 1e-13
    nodes = np.arange(-8.8, 8.81, step)
    u, v = np.meshgrid(nodes, nodes, indexing="ij")
    weight = np.exp(-(u**2 + v**2) / 2) / (2 * np.pi) * step**2

    def layer_map(cov):
        out = np.zeros((2, *cov.shape))
        for i, j in np.ndindex(cov.shape):
            a = np.sqrt(cov[i, i])
            b = cov[i, j] / a
            s, t = a * u, b * u + np.sqrt(max(cov[j, j] - b**2, 0)) * v
            out[:, i, j] = np.sum(weight * phi(s) * phi(t)), np.sum(weight * slope(s) * slope(t))
        return out[0], out[1]

    return layer_map


def sigmoid(s):
    return 1 / (1 + np.exp(-s))


SMOOTH = {
    "tanh": (np.tanh, lambda s: 1 - np.tanh(s) ** 2),
    "silu": (lambda s: s * sigmoid(s), lambda s: sigmoid(s) * (1 + s * (1 - sigmoid(s)))),
    "gelu": (
        lambda s: s * scipy.special.ndtr(s),
        lambda s: scipy.special.ndtr(s) + s * np.exp(-(s**2) / 2) / np.sqrt(2 * np.pi),
    ),
    "softplus": (lambda s: np.logaddexp(0, s), sigmoid),
}


@pytest.mark.parametrize("phi", SMOOTH)
def test_quadrature_keeps_to_its_stated_error(phi):
    # Norms up to 4 d make errors visible: tanh 5e-3, gelu 1e-5, silu 5e-7, softplus 5e-9 (at d: 1e-6 and rounding).
    scaled = INPUTS[:4] * np.array([0.5, 1.0, 1.5, 2.0])[:, None]
    cov, ntk = sum_of_shares(scaled, np.ones(3), trapezoid_map(*SMOOTH[phi]))
    limit = kernels(scaled, ntp(), depth=2, activation=phi)
    actual = max(
        relative(a, b) for a, b in zip((*limit.h, *limit.x, limit.ntk), (*cov[:-1], *cov[1:], ntk), strict=True)
    )
    # The finer rule errs at least 10 times less than the coarser one; 1e-12 allows for the trapezoid rule's rounding.
    assert actual <= 1.1 * limit.quadrature_error + 1e-12
    assert limit.quadrature_error <= 1.1 * actual + 1e-12


def test_quadrature_error_of_a_kink_is_an_order_of_magnitude():
    limit = kernels(INPUTS, ntp(), depth=2, activation=Activation("kink", jax.nn.relu))
    exact = kernels(INPUTS, ntp(), depth=2, activation="relu")
    actual = relative(limit.ntk, exact.ntk)
    assert actual > 1e-3
    assert actual / 5 < limit.quadrature_error < 5 * actual


def test_quadrature_agrees_with_a_closed_form_on_many_inputs_and_an_input_of_zeros(monkeypatch):
    inputs = np.vstack([np.zeros((1, 5)), RNG.standard_normal((40, 5))])
    # At most 2 rows a block, so that blocks of rows, an uneven last one included, are put together.
    monkeypatch.setitem(devices.TRAITS, "cpu", devices.TRAITS["cpu"]._replace(quadrature=2 * 41 * 50**2))
    limit = kernels(inputs, sp(), depth=2, activation=Activation("another erf", jax.scipy.special.erf))
    exact = kernels(inputs, sp(), depth=2, activation="erf")
    assert limit.quadrature_error is not None
    assert relative(limit.ntk, exact.ntk) <= 1.1 * limit.quadrature_error + 1e-12
    assert relative(limit.nngp, exact.nngp) <= 1.1 * limit.quadrature_error + 1e-12
    np.testing.assert_array_equal(limit.ntk, limit.ntk.T)


# Weights of the layers' shares.


@pytest.mark.parametrize("base_width", [1, 32])
@pytest.mark.parametrize("preset", [sp, ntp])
def test_weights_are_the_limits_of_the_scales(preset, base_width):
    parametrization = preset(base_width=base_width).shift(0.3)
    n = 10**12
    scales = {role: parametrization.scales(role, n, n) for role in ("input", "hidden", "output")}
    rate = {role: s.sgd_lr_mult * s.multiplier**2 for role, s in scales.items()}
    readout = n * (scales["output"].init_std * scales["output"].multiplier) ** 2
    expected = [rate["input"] * readout, rate["hidden"] * n * readout, rate["hidden"] * n * readout, rate["output"] * n]
    # The share that falls as 1/n is base_width/n <= 3.2e-11 at this n; the rest is rounding of powers of 1e12.
    np.testing.assert_allclose(layer_weights(parametrization, depth=3), expected, rtol=1e-9, atol=1e-10)
    assert list(layer_weights(preset(base_width=base_width), depth=1)) == [float(preset is ntp), float(base_width)]


def test_a_small_readout_has_no_output_covariance_and_no_share_of_earlier_layers():
    small = replace(ntp(), name="small readout", b=PerRole(0.0, 0.5, 1.0))
    limit = kernels(INPUTS, small, depth=2, activation="erf")
    np.testing.assert_array_equal(limit.weights, [0, 0, 1])
    np.testing.assert_array_equal(limit.nngp, np.zeros((6, 6)))
    np.testing.assert_array_equal(limit.ntk, limit.x[-1])


# Monte Carlo of finite networks.


@functools.cache
def finite_shares(width, seeds=400, depth=2):
    """Of NTP's initial weights: f_0 [S, P], <h^2, h^2>/n [S, P, P], df/dw df/dw^T by layer [S, L+1, P, P]."""
    model = MLP(width, depth, 1, ntp(), "tanh")
    inputs = jnp.asarray(INPUTS, jnp.float32)

    def one(key):
        params = nn.unbox(model.init(key, inputs))
        jacobian = jax.jacrev(lambda p: model.apply(p, inputs)[:, 0])(params)["params"]
        names = [f"layer_{layer + 1}" for layer in range(depth)] + ["readout"]
        flat = [jacobian[name]["kernel"].reshape(len(inputs), -1) for name in names]
        features = model.apply(params, inputs, method="features")
        return features.f[:, 0], features.h[-1] @ features.h[-1].T / width, jnp.stack([j @ j.T for j in flat])

    keys = jax.random.split(jax.random.key(width), seeds)
    return jax.tree.map(lambda a: np.asarray(a, np.float64), jax.jit(lambda k: jax.lax.map(one, k))(keys))


def rates(parametrization, width, depth=2):
    variables = MLP(width, depth, 1, parametrization).init(jax.random.key(0), jnp.ones((1, 5)))
    tree = scaling_tree(variables)
    names = [f"layer_{layer + 1}" for layer in range(depth)] + ["readout"]
    return np.array([tree[name]["kernel"].sgd_lr_mult for name in names])


def extrapolated(narrow, wide):
    """2 mean f_2n - mean f_n, free of the bias of order 1/n, with its standard error; samples lead."""
    variance = 4 * wide.var(0, ddof=1) / len(wide) + narrow.var(0, ddof=1) / len(narrow)
    return 2 * wide.mean(0) - narrow.mean(0), np.sqrt(variance)


def max_z(mean, stderr, expected):
    return np.max(np.abs(mean - expected) / stderr)


@pytest.mark.parametrize("name", ["ntp", "sp"])
@pytest.mark.parametrize("base_width", [1, 16])
def test_finite_tangent_kernels(name, base_width):
    parametrization = {"ntp": ntp, "sp": sp}[name](base_width=base_width)
    finite = [np.einsum("l,slij->sij", rates(parametrization, width), finite_shares(width)[2]) for width in (64, 128)]
    mean, stderr = extrapolated(*finite)
    limit = kernels(INPUTS, parametrization, depth=2)
    assert max_z(mean, stderr, limit.ntk) < MAX_Z
    wrong = limit.ntk + limit.x[-1] * base_width  # the readout's share twice
    assert max_z(mean, stderr, wrong) > 10


def test_finite_covariances():
    (f_n, h_n, _), (f_2n, h_2n, _) = finite_shares(64), finite_shares(128)
    limit = kernels(INPUTS, ntp(), depth=2)
    mean, stderr = extrapolated(h_n, h_2n)
    assert max_z(mean, stderr, limit.h[1]) < MAX_Z
    assert max_z(mean, stderr, limit.h[0]) > 10
    products = [np.einsum("si,sj->sij", f, f) for f in (f_n, f_2n)]
    assert max_z(*extrapolated(*products), limit.nngp) < MAX_Z


# Training finite networks.


def finite_runs(task, parametrization, *, width, seeds, recorded, learning_rate, steps, centred, **options):
    """Trajectories of real training, seeds leading."""
    spec = TrajectorySpec(steps=recorded, grams=())

    def one(key):
        return dense.train(
            task, parametrization, width=width, depth=2, learning_rate=learning_rate, steps=steps, key=key,
            centred=centred, spec=spec, **options,
        )  # fmt: skip

    keys = jax.random.split(jax.random.key(width + 1), seeds)
    return jax.tree.map(lambda a: np.asarray(a, np.float64), jax.jit(lambda k: jax.lax.map(one, k))(keys))


def test_real_training_meets_its_own_limit_and_fails_the_others():
    steps, options = (1, 2, 5, 10), {"learning_rate": 1.0, "steps": 10, "centred": True}
    limits, finite = {}, {}
    for name, parametrization in PARAMETRIZATIONS.items():
        spec = TrajectorySpec(steps=steps, grams=())
        limits[name] = train(MSE, parametrization, depth=2, spec=spec, **options).predictions
        runs = [
            finite_runs(MSE, parametrization, width=width, seeds=100, recorded=steps, **options).predictions
            for width in (256, 512)
        ]
        finite[name] = extrapolated(*runs)
    z = {(net, limit): max_z(*finite[net], limits[limit]) for net in limits for limit in limits}
    assert z["ntp", "ntp"] < MAX_Z
    assert z["sp", "sp"] < MAX_Z
    assert z["ntp", "sp"] > 10
    assert z["sp", "ntp"] > 10


def test_mean_covariance_and_expected_loss_over_initialisations():
    steps, options = (0, 2, 6), {"learning_rate": 1.0, "steps": 6, "optimizer": functools.partial(sgd, momentum=0.5)}
    spec = TrajectorySpec(steps=steps, grams=())
    limit = train(MSE, ntp(), depth=2, spec=spec, **options)
    runs = [
        finite_runs(MSE, ntp(), width=width, seeds=1000, recorded=steps, centred=False, **options)
        for width in (128, 256)
    ]
    for name in ("predictions", "train_loss", "test_loss"):
        assert max_z(*extrapolated(*(getattr(run, name) for run in runs)), getattr(limit, name)) < MAX_Z
    away = [run.predictions[..., 0] - run.predictions[..., 0].mean(0) for run in runs]
    products = extrapolated(*(np.einsum("sti,stj->stij", f, f) for f in away))
    assert max_z(*products, limit.info.covariance) < MAX_Z
    assert max_z(*products, limit.info.covariance[:1]) > 10  # the covariance that training starts from
    without_variance = 0.5 * np.mean((limit.predictions[:, :4] - TARGETS) ** 2, axis=(1, 2))
    assert max_z(*extrapolated(*(run.train_loss for run in runs)), without_variance) > 2 * MAX_Z


def test_cross_entropy_draws_against_real_training():
    steps, options = (0, 2, 5), {"learning_rate": 2.0, "steps": 5}
    runs = finite_runs(CLASSES, ntp(), width=256, seeds=300, recorded=steps, centred=False, **options)
    spec = TrajectorySpec(steps=steps, grams=())
    limit = train(CLASSES, ntp(), depth=2, key=jax.random.key(1), num_draws=1000, spec=spec, **options)
    # 1/n = .004 against standard errors of .04.
    for name in ("train_loss", "test_loss", "predictions"):
        actual, expected = getattr(runs, name), getattr(limit, name)
        error = np.hypot(actual.std(0) / 300**0.5, getattr(limit.stderr, name))
        assert max_z(actual.mean(0), error, expected) < MAX_Z
    assert max_z(runs.train_loss[:, -1].mean(), runs.train_loss[:, -1].std() / 300**0.5, limit.train_loss[0]) > 10
    sample = np.mean([np.cov(runs.predictions[:, 2, :, c].T) for c in range(3)], axis=0)
    # 300 * 3 and 1000 * 3 draws: standard errors of at most sqrt(2 (1/900 + 1/3000)) = .054 of a variance.
    assert np.max(np.abs(sample - limit.info.covariance[2])) < MAX_Z * 0.054 * limit.info.covariance[2].max()


# Dynamics on a given kernel.


def test_first_step_and_linear_network_in_closed_form():
    run = train(MSE, ntp(), depth=3, activation="linear", learning_rate=0.3, steps=20, centred=True, spec=LOSSES)
    theta = np.asarray(MSE.inputs, np.float64) @ np.asarray(MSE.inputs, np.float64).T * 4 / 5
    decay = np.eye(4) - 0.3 / 4 * theta[:4, :4]
    onto = theta[:, :4] @ np.linalg.pinv(theta[:4, :4], hermitian=True)
    targets = np.asarray(MSE.y_train, np.float64)
    for step in (0, 1, 7, 20):
        expected = onto @ (targets - np.linalg.matrix_power(decay, step) @ targets)
        # Rounding: the condition number of Theta here is below 1e3.
        assert_close(run.predictions[step], expected, atol=1e-12)
    assert_close(run.predictions[1], 0.3 / 4 * theta[:, :4] @ targets, atol=1e-14)
    losses = 0.5 * np.mean((run.predictions[:, :4] - targets) ** 2, axis=(1, 2))
    assert_close(run.train_loss, losses, atol=1e-14)


def test_small_steps_approach_the_gradient_flow_of_neural_tangents_to_first_order():
    task, time = TWO_OUTPUTS, 4.0
    ntk = kernels(task.inputs, ntp(), depth=2, activation="erf").ntk
    with jax.enable_x64(True):
        flow = load().predict.gradient_descent_mse(jnp.asarray(ntk[:4, :4]), jnp.asarray(task.y_train, jnp.float64))
        # Its loss is the mean over samples AND outputs: its time is C times ours.
        zeros = jnp.zeros((4, 2)), jnp.zeros((2, 2))
        expected = np.concatenate(flow(2 * time, *zeros, jnp.asarray(ntk[4:, :4])))
    errors = []
    for steps in (40, 80, 160):
        spec = TrajectorySpec(steps=(-1,), grams=())
        run = train(
            task, ntp(), depth=2, activation="erf", learning_rate=time / steps, steps=steps, centred=True,
            spec=spec,
        )  # fmt: skip
        errors.append(np.max(np.abs(run.predictions[0] - expected)))
    # First order: halving the step halves the error, up to the relative size of the next order, eta lambda / N < .1.
    assert errors[0] < 0.02
    assert 1.85 < errors[0] / errors[1] < 2.15
    assert 1.9 < errors[1] / errors[2] < 2.1


def linear_model(jacobian, f_0, batch_loss, optimizer, batches):
    """Train f_0 + J theta by Optax in float64, several f_0 [S, P, K] side by side; outputs [T+1, S, P, K]."""
    with jax.enable_x64(True):
        jacobian, f_0 = jnp.asarray(jacobian), jnp.asarray(f_0)

        @jax.jit
        @jax.vmap
        def step(theta, state, f_0, index):
            gradient = jax.grad(lambda theta: batch_loss(f_0[index] + jacobian[index] @ theta, index))(theta)
            updates, state = optimizer.update(gradient, state)
            return optax.apply_updates(theta, updates), state

        theta = jnp.zeros((len(f_0), jacobian.shape[1], f_0.shape[2]))
        state = jax.vmap(optimizer.init)(theta)
        outputs = [f_0]
        for index in batches:
            theta, state = step(theta, state, f_0, jnp.broadcast_to(index, (len(f_0), len(index))))
            outputs.append(f_0 + jacobian @ theta)
        return np.stack(outputs)


MINIBATCHES = np.array([[0, 1], [2, 3], [1, 1], [3, 0], [2, 1], [0, 2]] * 2)  # one index twice in a batch
SCHEDULE = optax.cosine_decay_schedule(1.5, 12)
OPTIMIZERS = [(0.0, False, 1.0, None), (0.8, False, 0.5, MINIBATCHES), (0.8, True, SCHEDULE, MINIBATCHES)]


def reference(momentum, nesterov, learning_rate, batches):
    """Options of `train`, its kernels, and a function that trains any f_0 on the linear model Theta = J J^T."""
    limit = kernels(MSE.inputs, ntp(), depth=2, activation="erf")
    values, vectors = np.linalg.eigh(limit.ntk)
    optimizer = optax.sgd(learning_rate, momentum or None, nesterov)
    seen = np.tile(np.arange(4), (12, 1)) if batches is None else batches
    options = {"depth": 2, "activation": "erf", "learning_rate": learning_rate, "steps": 12, "batches": batches}
    options |= {"optimizer": functools.partial(sgd, momentum=momentum, nesterov=nesterov), "spec": LOSSES}
    return options, limit, lambda f_0, loss: linear_model(vectors * np.sqrt(values), f_0, loss, optimizer, seen)


# Both sides are float64; they differ by rounding, which 12 steps of a stable iteration do not amplify to 1e-10.
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_mean_covariance_and_loss_equal_a_linear_model_trained_by_optax(optimizer):
    options, limit, model = reference(*optimizer)
    run = train(TWO_OUTPUTS, ntp(), **options)
    targets = np.concatenate([TWO_OUTPUTS.y_train, TWO_OUTPUTS.y_test]).astype(float)
    # Six more columns: what becomes of unit vectors f_0 where y = 0, the linear map of training.
    y = np.hstack([targets, np.zeros((6, 6))])
    f = model(
        np.hstack([np.zeros((6, 2)), np.eye(6)])[None],
        lambda f, index: jnp.mean(0.5 * jnp.sum((f - jnp.asarray(y)[index]) ** 2, axis=-1)),
    )[:, 0]
    mean, maps = f[..., :2], f[..., 2:]
    covariance = maps @ limit.nngp @ maps.transpose(0, 2, 1)
    losses = 0.5 * np.sum((mean - targets) ** 2, axis=2) + 0.5 * 2 * np.einsum("tii->ti", covariance)
    assert_close(run.predictions, mean, atol=1e-10)
    assert_close(run.info.covariance, covariance, atol=1e-10)
    assert_close(run.train_loss, losses[:, :4].mean(1), atol=1e-10)
    assert_close(run.test_loss, losses[:, 4:].mean(1), atol=1e-10)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_cross_entropy_equals_a_linear_model_trained_by_optax(optimizer):
    options, limit, model = reference(*optimizer)
    centred = train(CLASSES, ntp(), centred=True, **options)
    run = train(CLASSES, ntp(), key=jax.random.key(0), num_draws=5, **options)
    draws = kernel_limit._draw(jax.random.key(0), 5, 3, kernel_limit._square_root(limit.nngp))
    labels = np.concatenate([CLASSES.y_train, CLASSES.y_test])

    def batch_loss(f, index):
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(f, jnp.asarray(labels)[index]))

    f = model(np.concatenate([np.zeros((1, 6, 3)), draws.transpose(2, 0, 1)]), batch_loss)
    losses = np.log(np.sum(np.exp(f), axis=3)) - f[:, :, np.arange(6), labels]
    assert_close(centred.predictions, f[:, 0], atol=1e-10)
    assert_close(centred.test_loss, losses[:, 0, 4:].mean(1), atol=1e-10)
    assert centred.stderr is None
    assert centred.info.covariance is None
    f, losses = f[:, 1:], losses[:, 1:]
    averaged = {"predictions": f, "train_loss": losses[:, :, :4].mean(2), "test_loss": losses[:, :, 4:].mean(2)}
    for name, values in averaged.items():
        assert_close(getattr(run, name), values.mean(1), atol=1e-10)
        assert_close(getattr(run.stderr, name), values.std(1, ddof=1) / 5**0.5, atol=1e-10)
    sample = [np.mean([np.cov(step[:, :, c].T) for c in range(3)], axis=0) for step in f]
    assert_close(run.info.covariance, sample, atol=1e-10)


def test_draws_have_the_covariance_of_the_gaussian_process():
    nngp = kernels(INPUTS, ntp(), depth=1, activation="relu").nngp
    draws = kernel_limit._draw(jax.random.key(3), 4000, 2, kernel_limit._square_root(nngp))
    flat = draws.transpose(2, 1, 0).reshape(-1, 6)  # 8000 independent rows
    error = np.sqrt((np.outer(np.diag(nngp), np.diag(nngp)) + nngp**2) / 8000)
    assert max_z(flat.T @ flat / 8000, error, nngp) < MAX_Z


def test_what_is_recorded():
    spec = TrajectorySpec(steps=(0, 3, -1), gram_steps=(1, -1), gram_inputs=(5, 0), eval_inputs=(4, 1))
    options = {"depth": 3, "activation": "erf", "learning_rate": 1.0, "steps": 7}
    run, whole = train(MSE, sp(), spec=spec, **options), train(MSE, sp(), **options)
    limit = kernels(MSE.inputs, sp(), depth=3, activation="erf")
    np.testing.assert_array_equal(run.step, [0, 3, 7])
    np.testing.assert_array_equal(run.predictions, whole.predictions[[0, 3, 7]][:, [4, 1]])
    assert_close(run.info.covariance, whole.info.covariance[[0, 3, 7]][:, [4, 1]][:, :, [4, 1]], atol=1e-14)
    np.testing.assert_array_equal(run.train_loss, whole.train_loss[[0, 3, 7]])
    assert_close(whole.info.covariance[0], limit.nngp, atol=1e-14)
    assert whole.h_gram.shape == (2, 3, 4, 4)
    for features in ("h", "x"):
        expected = np.stack([getattr(limit, features)[:, [5, 0]][:, :, [5, 0]]] * 2)
        for kind in ("gram", "cross_gram"):
            gram = getattr(run, f"{features}_{kind}")
            assert gram.dtype == np.float64
            np.testing.assert_array_equal(gram, expected)
    bare = train(Task(INPUTS, np.ones((6, 1))), sp(), spec=LOSSES, centred=True, **options)
    assert bare.test_loss is None
    assert bare.h_gram is None
    assert bare.x_cross_gram is None
    assert all(leaf.dtype in (np.float64, np.int32) for leaf in jax.tree.leaves(whole))


@pytest.mark.parametrize("task", [MSE, CLASSES], ids=["mse", "cross_entropy"])
def test_divergence_is_returned_and_not_raised(task):
    options = {"depth": 1, "activation": "relu", "steps": 40, "key": jax.random.key(0), "num_draws": 2}
    run = train(task, ntp(), learning_rate=1e30, **options)
    assert np.isfinite(run.train_loss[0])
    assert not np.isfinite(run.train_loss[-1]) or task is CLASSES  # softmax saturates: f grows, but not beyond float64
    edge = 2 * 4 / np.linalg.eigvalsh(kernels(MSE.inputs, ntp(), depth=1, activation="relu").ntk[:4, :4])[-1]
    if task is MSE:
        stable, unstable = (train(task, ntp(), learning_rate=c * edge, **options).train_loss for c in (0.99, 1.01))
        assert stable[-1] < stable[20] < stable[0]
        assert unstable[-1] > unstable[20]


# Errors.


@pytest.mark.parametrize(
    ("parametrization", "depth", "message"),
    [
        (mup(), 2, "kind 'feature'; the feature-learning limit is the one that applies"),
        (ip(), 3, "'ip', whose limit at depth 3 with tanh is of kind 'trivial'"),
        (sp(learning_rate_exponent=0), 2, "of kind 'unstable'"),
        (ntp(), 0, "Expected `depth` to be a positive int"),
        (replace(ntp(), b=PerRole(0.5, 0.5, 0.5), c=PerRole(0.0, 1.0, 1.0)), 1, "variances of order 1"),
    ],
)
def test_refused_parametrizations(parametrization, depth, message):
    activation = "sigmoid" if "variances" in message else "tanh"
    with pytest.raises(ValueError, match=message):
        train(MSE, parametrization, depth=depth, activation=activation, learning_rate=1.0, steps=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "Expected `steps` to be a positive int, got steps=0"),
        ({"learning_rate": -1.0}, "Expected `learning_rate` to be finite and >= 0"),
        ({"learning_rate": float("nan")}, "Expected `learning_rate` to be finite and >= 0"),
        ({"learning_rate": jnp.ones(2)}, "Expected `learning_rate` to be finite and >= 0"),
        ({"learning_rate": optax.linear_schedule(1.0, -3.0, 2)}, "Expected `learning_rate` to be finite and >= 0"),
        (
            {"optimizer": functools.partial(sgd, momentum=1.0)},
            r"`momentum` to be in \[0, 1\), got momentum=1.0",
        ),
        (
            {"optimizer": functools.partial(sgd, weight_decay=0.1)},
            r"without weight_decay in the kernel limit, got weight_decay=0.1",
        ),
        ({"optimizer": adam}, "Expected `optimizer` to be mupjax.sgd, .* got adam: "),
        ({"key": 2**32}, "Expected `key` to be an int in 0"),
        ({"batches": np.zeros((3, 2), int)}, r"Expected `batches` to have shape \[2, B\], got shape \(3, 2\)"),
        ({"batches": np.full((2, 2), 4)}, r"Expected `batches` to index 0..3, got 4"),
        ({"batches": np.full((2, 2), -1)}, r"Expected `batches` to index 0..3, got -1"),
        ({"activation": "cosine"}, "Expected `activation` to be one of"),
        ({"spec": TrajectorySpec(steps=(0, 9))}, "Expected `steps` to be ascending steps in 0..2"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        train(MSE, ntp(), **{"depth": 2, "learning_rate": 1.0, "steps": 2, **options})


def test_cross_entropy_needs_a_key_and_two_draws():
    options = {"depth": 2, "learning_rate": 1.0, "steps": 2}
    with pytest.raises(ValueError, match="Expected `key` for draws of f_0, got key=None"):
        train(CLASSES, ntp(), **options)
    with pytest.raises(ValueError, match="Expected `num_draws` to be at least 2"):
        train(CLASSES, ntp(), key=jax.random.key(0), num_draws=1, **options)


def test_inputs_of_kernels_are_checked():
    with pytest.raises(ValueError, match=r"Expected `inputs` to be finite and of shape \[P, d\]"):
        kernels(np.full((2, 2), np.nan), ntp(), depth=1)


def test_batches_of_batch_order_are_taken():
    batches = batch_order(jax.random.key(0), num_inputs=4, batch_size=2, steps=3)
    options = {"depth": 1, "activation": "relu", "learning_rate": 1.0, "steps": 3, "centred": True, "spec": LOSSES}
    run, other = train(MSE, ntp(), batches=batches, **options), train(MSE, ntp(), **options)
    assert relative(run.predictions, other.predictions) > 0.05
