"""Training without hidden matrices equals training with them: step by step for given matrices, and in law."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from mupjax.dynamics import dense, matrix_free
from mupjax.dynamics.implicit import passes
from mupjax.dynamics.implicit.passes import principal_coordinates
from mupjax.dynamics.implicit.scalings import scalings_of
from mupjax.dynamics.runs import map_runs
from mupjax.network import MLP
from mupjax.optim import adam, sgd
from mupjax.parametrization import hp, hpz, ip, ip_bias, ip_llr, ip_non_centered, mup, ntp, sp
from mupjax.task import Task, batch_order
from mupjax.trajectory import TrajectorySpec
from tests import worked_example

WIDTHS = (24, 32, 40)  # of different length, so that a query's shape says which matrix it goes to
STEPS = 6


def train_on(monkeypatch, params, task, parametrization, **settings):
    """Matrix-free training whose products come from given weights instead of conditioned Gaussians."""
    kernels = [params[name]["kernel"] for name in NAMES]
    scalings = scalings_of(parametrization, task, WIDTHS)
    centred = [kernel - scaling.init_mean for kernel, scaling in zip(kernels, scalings.kernels, strict=True)]
    by_shape = {kernel.shape: kernel for kernel in centred[1:-1]}
    by_shape |= {kernel.shape[::-1]: kernel.T for kernel in centred[1:-1]}
    query = passes.query

    def from_weights(side, other, queries, noise, room):
        return query(side, other, queries, lambda new: new @ by_shape[new.shape[1], side.gaussian.shape[1]], room)

    inputs = task.inputs / task.input_dim**0.5
    first = np.linalg.lstsq(np.asarray(principal_coordinates(task.inputs)), np.asarray(inputs @ kernels[0]))[0]
    own = {width: [] for width in (*WIDTHS, task.out_dim)}
    own[WIDTHS[0]].append(jnp.asarray(first) / scalings.kernels[0].init_std)
    own[WIDTHS[-1]].append(centred[-1].T / scalings.kernels[-1].init_std)
    for name, scaling, width in zip(NAMES, scalings.biases, own, strict=True):
        if scaling is not None and scaling.init_std:
            own[width].append(params[name]["bias"][None] / scaling.init_std)
    rows = {width: jnp.concatenate(parts) for width, parts in own.items() if parts}

    def explicit(key, width, most):
        return lambda tag, before, count: rows[width][before : before + count].astype(task.x_train.dtype)

    monkeypatch.setattr(passes, "query", from_weights)
    monkeypatch.setattr(matrix_free, "gaussians", explicit)
    return matrix_free.train(task, parametrization, width=WIDTHS, depth=3, **settings)


def params_of(task, parametrization, activation, key):
    model = MLP(WIDTHS, 3, task.out_dim, parametrization, activation)
    return nn.meta.unbox(jax.jit(model.init)(key, task.x_train))["params"]


HEAVY_BALL = partial(sgd, momentum=0.5)
NAMES = ("layer_1", "layer_2", "layer_3", "readout")


CASES = {
    "plain": (mup, {}, {}),
    "momentum, test inputs, batches": (mup, {"test": True}, {"optimizer": partial(sgd, momentum=0.9), "batch_size": 2}),
    "Nesterov, decay, schedule, ReLU": (
        mup,
        {},
        {
            "optimizer": partial(sgd, momentum=0.5, nesterov=True, weight_decay=0.05),
            "learning_rate": optax.cosine_decay_schedule(1.0, STEPS),
            "activation": "relu",
        },
    ),
    "cross-entropy, 3 classes, ntp, centred": (
        ntp,
        {"loss": "cross_entropy", "outputs": 3, "test": True},
        {"centred": True, "batch_size": 3},
    ),
    "ip, 10 outputs": (ip, {"outputs": 10}, {}),
    "sp": (sp, {}, {"learning_rate": 0.3}),
    "ip_llr, ReLU, calibrated rates, momentum": (
        lambda: ip_llr(3, sigma=2**0.5, biases="first", bias_std=0.5),
        {"test": True},
        {"activation": "relu", "initial_rates": (0.7, 20.0, 30.0, 5.0), "optimizer": HEAVY_BALL},
    ),
    "ip_llr, all biases from 0, schedule": (
        lambda: ip_llr(3, biases="all"),
        {"outputs": 2},
        {"activation": "relu", "learning_rate": optax.cosine_decay_schedule(1.0, STEPS)},
    ),
    "hp, decay": (lambda: hp(biases="all", bias_std=0.3), {}, {"optimizer": partial(sgd, weight_decay=0.05)}),
    "hpz, batches": (hpz, {"test": True}, {"batch_size": 3}),
    "ip_bias, 2 outputs": (lambda: ip_bias(3), {"outputs": 2}, {}),
    "ip_non_centered": (lambda: ip_non_centered(mean=0.8), {"test": True}, {"activation": "relu"}),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_dense_training_for_the_same_matrices(monkeypatch, key, name):
    parametrization, of_task, settings = CASES[name]
    with jax.enable_x64(True):
        task = worked_example.task(**of_task)
        settings = {"learning_rate": 0.7, "steps": STEPS, "activation": "tanh", "key": key} | settings
        if batch_size := settings.pop("batch_size", None):
            settings["batches"] = batch_order(key, 4, batch_size, STEPS)
        spec = TrajectorySpec(gram_steps=(0, 2, -1), gram_inputs=task.num_inputs)
        params = params_of(task, parametrization(), settings["activation"], key)
        expected = dense.train(task, parametrization(), width=WIDTHS, depth=3, spec=spec, **settings)
        ours = train_on(monkeypatch, params, task, parametrization(), spec=spec, **settings)
    # Queries are cut where less than 1e-9 of their variance is new, an error of at most 3e-5 of their length;
    # the float64 program is otherwise exact.
    scale = {"train_loss": expected.train_loss, "h_gram": expected.h_gram}
    for field in ("train_loss", "test_loss", "predictions", "h_gram", "x_gram", "h_cross_gram", "x_cross_gram"):
        wanted, found = getattr(expected, field), getattr(ours, field)
        if wanted is not None:
            size = np.abs(np.asarray(scale.get(field, wanted))).max()
            np.testing.assert_allclose(found, wanted, atol=3e-5 * size, rtol=0, err_msg=field)


def test_another_matrix_would_be_seen(monkeypatch, key):
    """The control of the test above: exchanging one hidden matrix changes what is compared by far more."""
    task = worked_example.task()
    settings = {"learning_rate": 0.7, "steps": STEPS, "key": key}
    params = params_of(task, mup(), "tanh", key)
    expected = dense.train(task, mup(), width=WIDTHS, depth=3, **settings)
    params["layer_3"]["kernel"] = params["layer_3"]["kernel"][:, ::-1]
    ours = train_on(monkeypatch, params, task, mup(), **settings)
    assert np.abs(ours.predictions - expected.predictions).max() > 1e-2


@pytest.mark.parametrize("preset", [mup, ntp, ip])
def test_same_law_as_dense_networks_at_width_64(preset):
    """Means, covariances and distributions of f_t over 2,000 seeds, and the same tests see another rate at once."""
    task, seeds = worked_example.task(test=True), 2000
    rate = {"mup": 1.0, "ntp": 1.0, "ip": 8.0}[preset().name]
    settings = {"width": 64, "depth": 2, "steps": 3, "spec": TrajectorySpec(grams=(), steps=(1, 3))}

    def outputs(train, *rates):
        """One program for all rates; seeds are others for each."""

        def run(key, task, rate):
            return train(task, preset(), key=key, learning_rate=rate, **settings).predictions

        for start, rate in enumerate(rates):
            keys = jax.random.split(jax.random.key(len(rates) + start), seeds)
            f = np.asarray(map_runs(run, keys, task, jnp.float32(rate)), np.float64)
            yield f[..., 0].reshape(seeds, -1)

    (ours,), (theirs, other) = outputs(matrix_free.train, rate), outputs(dense.train, rate, 1.5 * rate)
    assert smallest_p(ours, theirs) > 1e-4
    assert smallest_p(ours, other) < 1e-8


def smallest_p(ours, theirs):
    """Of Kolmogorov-Smirnov, equal means and equal covariances over all recorded outputs, times their number."""
    found = [stats.ks_2samp(a, b).pvalue for a, b in zip(ours.T, theirs.T, strict=True)]
    found += [stats.ttest_ind(a, b).pvalue for a, b in zip(ours.T, theirs.T, strict=True)]
    centred = [f - f.mean(0) for f in (ours, theirs)]
    at_once = [
        np.einsum("si,sj->sij", f[:, :6], f[:, :6]).reshape(len(f), -1) for f in centred
    ]  # one step's six inputs
    found += [stats.ttest_ind(a, b).pvalue for a, b in zip(at_once[0].T, at_once[1].T, strict=True)]
    return min(found) * len(found)


def test_nearly_dependent_inputs_and_converged_training(monkeypatch, key):
    """500 steps, two inputs equal and two 1e-4 apart: finite, equal to dense training, and directions run out."""
    x = worked_example.X[[0, 1, 2, 2]].copy()
    x[1] = x[0] + 1e-4 * worked_example.X[3]
    y = np.array([[1.0], [1.0], [-0.5], [-0.5]])
    settings = {"learning_rate": 0.5, "steps": 500, "key": key}
    with jax.enable_x64(True):
        task = Task(x, y)
        params = params_of(task, mup(), "tanh", key)
        expected = dense.train(task, mup(), width=WIDTHS, depth=3, **settings)
        ours = train_on(monkeypatch, params, task, mup(), **settings)
        expected, ours = jax.tree.map(np.asarray, (expected, ours))
    assert expected.train_loss[-1] < 1e-6
    np.testing.assert_allclose(ours.predictions, expected.predictions, atol=3e-4)  # 500 cuts of 3e-5, not all alike
    np.testing.assert_allclose(ours.predictions[:, 2], ours.predictions[:, 3], rtol=1e-9, atol=1e-12)
    assert np.all(np.asarray(ours.info.directions) <= 40)


def test_converged_float32_training_of_a_wide_network(key):
    """500 steps with a duplicate: finite, converged, and after the first steps hardly a new direction."""
    x, y = worked_example.X[[0, 1, 2, 2]], np.array([[1.0], [-1.0], [0.5], [0.5]])
    settings = {"width": 1024, "depth": 2, "learning_rate": 1.0, "steps": 500, "key": key}
    run = matrix_free.train(Task(x, y), mup(), **settings, spec=TrajectorySpec(grams=()))
    assert np.all(np.isfinite(run.train_loss))
    assert run.train_loss[-1] < 1e-8
    np.testing.assert_allclose(run.predictions[:, 2], run.predictions[:, 3], atol=1e-6)
    assert np.all(np.asarray(run.info.directions) < 200)  # of 2,000 samples seen
    assert np.all(np.asarray(run.info.left_out) == 0)


@pytest.mark.parametrize("as_type", [list, np.asarray])
def test_batches_may_be_larger_than_the_task_and_repeat_inputs(key, as_type):
    batches = as_type(np.random.default_rng(0).integers(4, size=(3, 24)).tolist())
    settings = {"width": 12, "depth": 2, "learning_rate": 0.5, "steps": 3, "key": key, "max_directions": 10}
    run = matrix_free.train(worked_example.task(), mup(), batches=batches, **settings)
    assert np.all(np.isfinite(run.train_loss))
    assert np.all(np.asarray(run.info.directions) <= 10)


def test_directions_that_do_not_fit_are_reported(key):
    task = worked_example.task()
    settings = {"width": 2048, "depth": 2, "learning_rate": 1.0, "steps": 8, "key": key}
    whole, cut = (matrix_free.train(task, mup(), max_directions=m, **settings) for m in (None, 12))
    assert np.all(np.asarray(whole.info.left_out) == 0)
    assert np.all(np.asarray(cut.info.directions) == 12)
    assert np.all((np.asarray(cut.info.left_out) > 1e-9) & (np.asarray(cut.info.left_out) < 1))
    assert np.max(np.abs(whole.predictions - cut.predictions)) < 0.5  # an approximation, still stable


def test_a_diverging_run_is_nan_in_its_own_row(key):
    task = worked_example.task()

    def run(rate, task):
        settings = {"width": 32, "depth": 2, "steps": 6, "activation": "linear", "key": key}
        return matrix_free.train(task, mup(), learning_rate=rate, **settings)

    for inner in ("map", "vmap"):
        loss = np.asarray(map_runs(run, jnp.array([0.5, 1e30, 0.5]), task, inner=inner).train_loss)
        assert np.isfinite(loss[[0, 2]]).all()
        np.testing.assert_array_equal(loss[0], loss[2])
        assert not np.isfinite(loss[1, -1])


def test_estimated_bytes_against_the_compiled_program(key):
    """Within a factor of two of what XLA allocates for a run whose stores dominate."""
    task = worked_example.task()
    settings = {"width": 65536, "depth": 3, "steps": 12}

    def run(key, task):
        return matrix_free.train(task, mup(), key=key, learning_rate=1.0, **settings)

    analysis = jax.jit(run).lower(key, task).compile().memory_analysis()
    real = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    estimate = matrix_free.estimate_bytes(task, **settings)
    assert 0.5 < (estimate.working + estimate.result) / real < 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "`width` to be a positive int, got width=0"),
        ({"width": (8, 8)}, "one width for each of 3 layers"),
        ({"steps": 0}, "`steps` to be a positive int"),
        ({"learning_rate": -1.0}, "`learning_rate` to be finite and >= 0"),
        ({"optimizer": partial(sgd, momentum=1.0)}, r"`momentum` to be in \[0, 1\), got momentum=1.0"),
        ({"key": -1}, r"`key` to be an int in 0\.\.2\*\*32 - 1 or one JAX random key, got key=-1"),
        ({"batches": np.zeros((3, 2), int)}, "`batches` to have shape"),
        ({"max_directions": 0}, "`max_directions` to be a positive int"),
        ({"width": 10**8}, r"memory_gb=8, got about .* GB for 14 directions at width 100000000"),
        ({"memory_gb": -1.0}, "`memory_gb` to be positive"),
        ({"spec": TrajectorySpec(space_time=("h",), gram_inputs=(4,))}, "test inputs"),
    ],
)
def test_bad_input_is_one_clear_error(key, settings, message):
    whole = {"width": 16, "depth": 3, "learning_rate": 1.0, "steps": 2, "key": key} | settings
    with pytest.raises(ValueError, match=message):
        matrix_free.train(worked_example.task(test=True), mup(), **whole)


def test_adam_is_refused_with_the_reason(key):
    settings = {"width": 16, "depth": 1, "learning_rate": 1.0, "steps": 1, "optimizer": adam}
    with pytest.raises(ValueError, match=r"to be mupjax\.sgd, .* got adam: .* no entries for another optimizer"):
        matrix_free.train(worked_example.task(), mup(), key=key, **settings)
