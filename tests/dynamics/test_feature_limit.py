"""The feature-learning limit against published numbers, finite ensembles, closed forms and its own standard errors."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mupjax import activations, datasets, metrics
from mupjax.activations import Activation
from mupjax.dynamics import dense, feature_limit, kernel_limit, matrix_free
from mupjax.dynamics.implicit import passes
from mupjax.dynamics.implicit.gaussian_matrix import Product
from mupjax.dynamics.implicit.scalings import limit_scalings
from mupjax.dynamics.runs import map_runs
from mupjax.optim import adam, sgd
from mupjax.parametrization import PerRole, get, ip, mup, ntp, sp
from mupjax.task import Task, batch_order
from mupjax.trajectory import TrajectorySpec
from tests import tensor_program, worked_example

EXAMPLE = {"depth": 3, "learning_rate": 1.0, "steps": 12}
Z = 4.5  # of every comparison with thousands of numbers at most: passed by chance but once in 10^5 per number


def limit(key, parametrization=None, task=None, **settings):
    task = worked_example.task() if task is None else task
    return feature_limit.train(task, parametrization or mup(), key=key, **EXAMPLE | settings)


pytestmark = pytest.mark.filterwarnings("error")
shared = pytest.mark.xdist_group("worked example")  # so that one process computes the fixtures below, once


@pytest.fixture(scope="session")
def example(key):
    return limit(key, num_particles=8192, num_runs=8)


@pytest.fixture(scope="session")
def ensemble():
    return extrapolated(worked_example.task(), 256, 150, None, EXAMPLE)


@shared
def test_worked_example(example):
    """Section 5.1's losses to their stated error: 2e-4 of f, sqrt(2 loss / 4) times as much of a loss, and rounding."""
    assert example.train_loss[0] == pytest.approx(np.mean(worked_example.Y**2) / 2, abs=1e-7)  # f_0 = 0 exactly
    published = 2e-4 * np.sqrt(2 * worked_example.LOSSES / 4) + 5e-6
    stderr = np.hypot(published, example.stderr.train_loss[:12])
    assert np.max(np.abs(example.train_loss[1:12] - worked_example.LOSSES[1:]) / stderr[1:]) < Z
    f_1 = np.abs(example.predictions[1, :, 0] - worked_example.F_1)
    assert np.max(f_1 / np.hypot(2e-4, example.stderr.predictions[1, :, 0])) < Z
    assert np.max(example.stderr.predictions) < 3e-4  # a finite network of this width: .38 / 8192^.5 / 8^.5 = 1.5e-3


@shared
def test_first_features_equal_the_nngp_kernel(example):
    exact = kernel_limit.kernels(worked_example.X, ntp(), depth=3, activation="tanh")
    for name in ("h", "x"):
        gram, stderr = (getattr(run, f"{name}_gram")[0] for run in (example, example.stderr))
        # Quadrature of tanh with 50 nodes is right to 1e-6 at |x|^2 = d (tests/test_kernel_limit.py).
        assert np.max(np.abs(gram - getattr(exact, name)) / np.hypot(stderr, 1e-6)) < stats.t.ppf(1 - 1e-4, 7)


@shared
def test_finite_networks_extrapolate_to_the_worked_example(example, ensemble):
    assert z_score(example, *ensemble) < Z


CASES = {  # the others are in `make study-limits`
    "relu": {"activation": "relu"},
    "batches of 2": {"batch_size": 2},
    "cross-entropy, 3 classes": {"task": worked_example.task(loss="cross_entropy", outputs=3)},
}


def extrapolated(task, width, seeds, batches, settings):
    """2 mean f_2n - mean f_n of real networks, without their bias of order 1/n, and its standard error [R, P, C].

    Higher orders show below width 256 with ReLU at rate 1: `z_score` is 8 with 1,200 seeds at widths 64 and 128.
    """
    parts = []
    for n, factor in ((2 * width, 2.0), (width, -1.0)):
        keys = jax.random.split(jax.random.key(n), seeds)

        def run(key, task, batches, n=n):
            spec = TrajectorySpec(grams=())
            return dense.train(task, mup(), width=n, key=key, batches=batches, spec=spec, **settings).predictions

        f = np.asarray(map_runs(run, keys, task, batches), np.float64)
        parts.append((factor * f.mean(0), factor * f.std(0, ddof=1) / seeds**0.5))
    return parts[0][0] + parts[1][0], np.hypot(parts[0][1], parts[1][1])


def z_score(ours, mean, stderr):
    """Largest |z| over everything after the start, both errors counted."""
    return np.max(np.abs(ours.predictions - mean)[1:] / np.hypot(ours.stderr.predictions, stderr)[1:])


@pytest.mark.parametrize("name", CASES)
def test_finite_networks_extrapolate_to_the_limit(key, name):
    settings = EXAMPLE | CASES[name]
    task, batch_size = settings.pop("task", worked_example.task()), settings.pop("batch_size", None)
    batches = None if batch_size is None else batch_order(key, 4, batch_size, settings["steps"])
    ours = feature_limit.train(task, mup(), key=key, num_particles=4096, num_runs=8, batches=batches, **settings)
    assert z_score(ours, *extrapolated(task, 256, 100, batches, settings)) < Z


def without_response(monkeypatch):
    """No Zdot."""
    known_product = passes.known_product
    monkeypatch.setattr(
        passes, "known_product", lambda *a: Product(known_product(*a).gaussian, 0 * known_product(*a).along)
    )


def without_covariance(monkeypatch):
    """Gaussian parts lose their covariance over steps: the particles are rotated further with every query."""
    known_product = passes.known_product

    def rotated(side, coordinates):
        parts = known_product(side, coordinates)
        return parts._replace(gaussian=jnp.roll(parts.gaussian, side.count, axis=1))

    monkeypatch.setattr(passes, "known_product", rotated)


def with_one_rate_doubled(monkeypatch):
    limit_scalings = feature_limit.limit_scalings

    def doubled(*args):
        found = limit_scalings(*args)
        first, second, *rest = found.kernels
        second = dataclasses.replace(second, sgd_lr_mult=2 * second.sgd_lr_mult)
        return found._replace(kernels=(first, second, *rest))

    monkeypatch.setattr(feature_limit, "limit_scalings", doubled)


@shared
@pytest.mark.parametrize("break_it", [without_response, without_covariance, with_one_rate_doubled])
def test_finite_networks_refute_a_wrong_limit(key, ensemble, monkeypatch, break_it):
    """The negative controls of the test above."""
    break_it(monkeypatch)
    own = Activation(f"tanh {break_it.__name__}", jnp.tanh)  # an own program, not the right one's from a cache
    wrong = limit(key, num_particles=4096, num_runs=8, activation=own)
    assert z_score(wrong, *ensemble) > 10


def test_depth_one_equals_quadrature(key):
    """Without hidden matrices particles are independent: quadrature in (h_0, readout), 3 dimensions here, is exact."""
    x, y = worked_example.X[:2], worked_example.Y[:2]
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    grid = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij")).reshape(3, -1)
    weight = np.prod(np.stack(np.meshgrid(weights, weights, weights, indexing="ij")).reshape(3, -1), 0)
    weight /= weight.sum()
    kernel = x @ x.T / 10
    h, readout, expected = np.linalg.cholesky(kernel) @ grid[:2], grid[2], []
    for _ in range(6):
        f = np.tanh(h) * weight @ readout
        expected.append(f)
        chi = (f - y) / 2
        backward = chi[:, None] * readout / np.cosh(h) ** 2
        h, readout = h - 0.5 * kernel @ backward, readout - 0.5 * chi @ np.tanh(h)
    settings = EXAMPLE | {"depth": 1, "learning_rate": 0.5, "steps": 5}
    ours = feature_limit.train(Task(x, y[:, None]), mup(), key=key, num_particles=8192, num_runs=16, **settings)
    z = np.abs(ours.predictions[1:, :, 0] - np.array(expected)[1:]) / ours.stderr.predictions[1:, :, 0]
    assert np.max(z) < stats.t.ppf(1 - 1e-4, 15)
    assert np.max(ours.stderr.predictions) < 2e-4  # so that the z-scores mean something; random ones would have 1e-3


def test_deep_linear_networks_equal_the_rules_of_tensor_programs(key):
    x, y = worked_example.X[:3], worked_example.Y[:3]
    expected = tensor_program.train_linear(x, y, depth=3, rate=0.5, steps=4)
    settings = EXAMPLE | {"learning_rate": 0.5, "steps": 4, "activation": "linear"}
    ours = feature_limit.train(Task(x, y[:, None]), mup(), key=key, num_particles=8192, num_runs=16, **settings)
    z = np.abs(ours.predictions[1:, :, 0] - expected[1:]) / ours.stderr.predictions[1:, :, 0]
    assert np.max(z) < stats.t.ppf(1 - 1e-4, 15)
    assert np.max(ours.stderr.predictions) < 2e-4


def test_kernel_regime_on_request(key):
    """force=True: within O(particles^-1/2) of the kernel limit, and not of another kernel."""
    task = worked_example.task(test=True)
    settings = {"depth": 2, "learning_rate": 0.5, "steps": 4}
    exact, other = (kernel_limit.train(task, p, centred=True, **settings).predictions for p in (ntp(), sp()))
    away = []
    for particles in (256, 4096):
        ours = feature_limit.train(task, ntp(), key=key, num_particles=particles, force=True, **settings).predictions
        away.append(np.max(np.abs(ours - exact)))
    assert away[1] < 4 / 4096**0.5
    assert away[1] < away[0] / 2  # 4 is expected of n^-1/2
    assert np.max(np.abs(ours - other)) > 5 * away[1]


@pytest.mark.parametrize(("preset", "rate"), [(sp, 0.1), (sp, 3.0), (ntp, 2.0)])
def test_first_step_in_the_kernel_regime_is_the_kernel_times_the_residual_at_every_rate(key, preset, rate):
    """f_1 - f_0 = -(eta / P) Theta chi_0, up to the particles' n^-1/2."""
    theta = kernel_limit.kernels(worked_example.X, preset(), depth=2, activation="tanh").ntk
    settings = {"depth": 2, "learning_rate": rate, "steps": 1, "num_particles": 16384, "force": True}
    ours = feature_limit.train(worked_example.task(), preset(), key=key, **settings).predictions[1, :, 0] / rate
    assert np.max(np.abs(ours - theta @ worked_example.Y / 4)) < 4 * (1 + rate) / 16384**0.5


def test_first_step_tends_to_the_tangent_kernel(key):
    """f_1/eta -> -Theta chi_0 with a remainder of second order in eta: 2 +- .2 by theory of the worked example."""
    kernel = kernel_limit.kernels(worked_example.X, ntp(), depth=3, activation="tanh").ntk
    slope = kernel @ worked_example.Y / 4
    rates = (0.05, 0.2, 0.4, 0.8)
    runs = [limit(key, num_particles=8192, num_runs=8, learning_rate=rate, steps=1) for rate in rates]
    smallest = runs[0].predictions[1, :, 0] / rates[0]
    stderr = runs[0].stderr.predictions[1, :, 0] / rates[0]
    assert np.max(np.abs(smallest - slope) / np.hypot(stderr, 3e-4)) < Z  # .067 % at .1, so 1.7e-4 at .05
    away = [
        np.linalg.norm(run.predictions[1, :, 0] / rate - smallest)
        for run, rate in zip(runs[1:], rates[1:], strict=True)
    ]
    order = np.polyfit(np.log(rates[1:]), np.log(away), 1)[0]
    assert order == pytest.approx(2, abs=0.2)


def test_more_accurate_than_a_network_of_the_same_width(key):
    """The limit is no wide network by another name: errors 1.8 times smaller (all activations: `make study-limits`)."""
    settings = EXAMPLE | {"depth": 2, "activation": "relu", "steps": 4}
    reference = feature_limit.train(worked_example.task(), mup(), key=key, num_particles=16384, num_runs=4, **settings)
    ours = feature_limit.sample(worked_example.task(), mup(), key=key, num_particles=1024, num_runs=32, **settings)

    def run(key, task):
        return matrix_free.train(task, mup(), width=1024, key=key, **settings).predictions

    theirs = map_runs(run, jax.random.split(key, 64), worked_example.task())
    rms = [np.sqrt(np.mean((np.asarray(f) - reference.predictions) ** 2)) for f in (ours.predictions, theirs)]
    assert rms[1] > 1.8 * rms[0]


def test_standard_errors_cover(key):
    """z = (mean of 16 runs - reference) / stderr follows Student's t: the study has 400 calls, here are 60."""
    settings = EXAMPLE | {"depth": 2, "steps": 3}
    sample = feature_limit.sample(worked_example.task(), mup(), key=key, num_particles=256, num_runs=960, **settings)
    f = np.asarray(sample.predictions, np.float64)[:, -1, 0, 0]
    reference = feature_limit.train(
        worked_example.task(), mup(), key=jax.random.key(9), num_particles=16384, num_runs=8, **settings
    ).predictions[-1, 0, 0]
    calls = f.reshape(60, 16)
    z = np.abs(calls.mean(1) - reference) / (calls.std(1, ddof=1) / 4)
    covered = int(np.sum(z <= stats.t.ppf(0.975, 15)))
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 60, 0.95)
    assert low <= covered <= high
    assert np.sum(z / 3 <= stats.t.ppf(0.975, 15)) > high or high == 60  # the control: errors three times too large
    assert np.sum(3 * z <= stats.t.ppf(0.975, 15)) < low  # and three times too small


def test_features_stay_independent_at_infinite_width(key):
    """Chen et al. 2025, Theorem 4.5, on 32 digits: the joint smallest eigenvalue is positive by 5 standard errors."""
    task = datasets.load("digits", classes=(0, 1), train_size=32, test_size=None)
    settings = {"depth": 3, "learning_rate": 1.0, "steps": 10}
    runs = feature_limit.sample(task, mup(), key=key, num_particles=4096, num_runs=6, **settings)
    for name in ("h", "x"):
        gram, cross = getattr(runs, f"{name}_gram")[:, :, -1], getattr(runs, f"{name}_cross_gram")[:, :, -1]
        smallest = metrics.space_time(gram[:, 1], cross[:, 1], gram[:, 0]).value
        assert smallest.mean() > 5 * smallest.std(ddof=1) / len(smallest) ** 0.5
        assert smallest.min() > 0
    kernel = kernel_limit.train(task, ntp(), centred=True, **settings)
    frozen = metrics.space_time(kernel.h_gram[1, -1], kernel.h_cross_gram[1, -1], kernel.h_gram[0, -1])
    assert abs(frozen.value) <= frozen.resolution


def test_gaussian_parts_preserve_covariance(key):
    """E[Zhat_s Zhat_t] = E[x_s x_t] forward and E[dh_s dh_t] backward over all pairs of steps (Chen et al. 2025)."""
    fields = ("h", "x", "dh", "dx", "zhat_forward", "zdot_forward", "zhat_backward", "zdot_backward")
    spec = TrajectorySpec(gram_steps=(0, 1, 3), space_time=fields)
    settings = EXAMPLE | {"steps": 3, "spec": spec}
    runs = feature_limit.sample(worked_example.task(), mup(), key=key, num_particles=4096, num_runs=16, **settings)
    st = runs.space_time
    other = feature_limit.train(worked_example.task(), mup(), key=key, num_particles=512, **settings).space_time
    for name in ("dh", "dx", "zhat_backward"):  # of order one in particles
        ratio = np.trace(getattr(other, name)[0, 0, 0]) / np.trace(np.mean(getattr(st, name), 0)[0, 0, 0])
        assert 0.8 < ratio < 1.25
    assert all(getattr(st, name).shape == (16, 3, 3, 3, 4, 4) for name in fields)
    forward = st.zhat_forward[..., 1:, :, :], st.x[..., :-1, :, :]
    backward = st.zhat_backward[..., :-1, :, :], st.dh[..., 1:, :, :]
    for gaussian, of in (forward, backward):
        difference = gaussian - of
        z = difference.mean(0) / (difference.std(0, ddof=1) / 4)
        assert np.max(np.abs(z)) < stats.t.ppf(1 - 1e-6, 15)
        assert np.max(np.abs(difference.mean(0))) < 1e-2 * np.max(np.abs(of))
    # The control: preactivations themselves, with Zdot and the weights' movement, do not have this covariance.
    away = (st.h[..., 1:, :, :] - st.x[..., :-1, :, :])[:, -1, -1]
    assert np.max(np.abs(away.mean(0)) / (away.std(0, ddof=1) / 4)) > 10
    np.testing.assert_allclose(st.h[:, [0, 1, 2], [0, 1, 2]], runs.h_gram, rtol=1e-12)


def test_error_is_met_by_adding_runs(key):
    settings = EXAMPLE | {"depth": 1, "steps": 3}
    run = feature_limit.train(worked_example.task(), mup(), key=key, num_particles=64, error=2e-3, **settings)
    assert np.max(run.stderr.predictions) <= 2e-3
    assert run.info.num_runs > feature_limit.PILOT_RUNS
    assert run.info.directions.shape == (run.info.num_runs, 2, 0)


def test_independent_of_the_number_of_devices_and_of_other_runs(key):
    settings = EXAMPLE | {"depth": 2, "steps": 2, "num_particles": 64}
    many = feature_limit.sample(worked_example.task(), mup(), key=key, num_runs=3, **settings)
    assert len({float(loss) for loss in many.train_loss[:, -1]}) == 3
    mean = feature_limit.average(many)
    np.testing.assert_allclose(mean.train_loss, np.mean(many.train_loss, axis=0, dtype=np.float64))
    np.testing.assert_allclose(
        mean.stderr.predictions, np.std(many.predictions, axis=0, ddof=1, dtype=np.float64) / 3**0.5
    )
    assert feature_limit.average(jax.tree.map(lambda leaf: leaf[:1], many._replace(info=None))).stderr is None


def test_what_vanishes_with_the_width_is_left_out(key):
    """ip at depth 2 starts with hidden weights of size 1/n: in the limit W_0 is gone."""
    settings = EXAMPLE | {"depth": 2, "steps": 3, "num_particles": 1024}
    ours = feature_limit.train(worked_example.task(), ip(), key=key, **settings)
    assert np.all(ours.h_gram[0, 1] == 0)
    wide = matrix_free.train(worked_example.task(), ip(), width=65536, depth=2, learning_rate=1.0, steps=3, key=key)
    assert np.max(np.abs(ours.predictions - wide.predictions)) < 5 / 1024**0.5


def test_scalings_in_the_limit_do_not_depend_on_the_form():
    """What keeps up with muP stays, in any shift; what falls behind is zero."""
    task, widths = worked_example.task(), (64, 64, 64)

    def limit_of(parametrization):
        return limit_scalings(parametrization, activations.get("relu"), task, widths).kernels

    shifted = limit_of(mup().shift(PerRole(0.3, -0.2, 0.5)))
    for one, other in zip(limit_of(mup()), shifted, strict=True):
        assert (other.multiplier, other.init_std, other.sgd_lr_mult) == pytest.approx(
            (1, one.init_std, one.sgd_lr_mult), rel=1e-12
        )
    assert [s.init_std for s in limit_of(ip())] == [1.0, 0.0, 0.0, 1 / 64]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parametrization": "ntp"}, "kernel_limit"),
        ({"parametrization": "ip"}, "stay at their start"),
        ({"parametrization": "sp", "learning_rate_exponent": 0.0}, "has no limit"),
        ({"num_particles": 0}, "`num_particles` to be a positive int, got num_particles=0"),
        ({"num_runs": 0}, "`num_runs`"),
        ({"num_particles": 10**8}, "memory_gb=8, got about .* GB for 100000000 particles"),
        ({"error": -1.0}, "`error` to be finite and positive, got error=-1"),
        ({"error": 1e-3, "num_runs": 4}, "`num_runs` or `error`, got both"),
        ({"error": 1e-9, "num_particles": 64, "depth": 1, "steps": 1}, "`error` to be within reach"),
        ({"max_directions": 0}, "`max_directions`"),
        ({"memory_gb": 0.0}, "`memory_gb`"),
        ({"steps": 0}, "`steps`"),
        ({"optimizer": partial(sgd, momentum=1.0)}, r"`momentum` to be in \[0, 1\), got momentum=1.0"),
        ({"key": -1}, "`key` to be an int in 0"),
        ({"spec": TrajectorySpec(space_time=("h",)), "batch_size": 2}, "full batches"),
    ],
)
def test_bad_input_is_one_clear_error(key, settings, message):
    settings = dict(settings)
    options = {k: settings.pop(k) for k in ("learning_rate_exponent",) if k in settings}
    parametrization = get(settings.pop("parametrization", "mup"), **options)
    if batch_size := settings.pop("batch_size", None):
        settings["batches"] = batch_order(key, 4, batch_size, 12)
    with pytest.raises(ValueError, match=message):
        feature_limit.train(worked_example.task(), parametrization, **{"key": key} | EXAMPLE | settings)


def test_adam_is_refused_with_the_reason(key):
    with pytest.raises(ValueError, match=r"to be mupjax\.sgd, .* got adam: .* no entries for another optimizer"):
        feature_limit.train(worked_example.task(), mup(), key=key, optimizer=adam, **EXAMPLE)
