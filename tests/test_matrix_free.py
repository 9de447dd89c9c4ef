"""Training without hidden matrices equals training with them: step by step for given matrices, and in law."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import worked_example

from mupjax.dynamics import _unformed, dense, matrix_free
from mupjax.dynamics._unformed import principal_coordinates
from mupjax.network import MLP
from mupjax.parametrization import ip, mup, ntp, sp
from mupjax.task import batch_order
from mupjax.trajectory import TrajectorySpec

WIDTHS = (24, 32, 40)  # of different length, so that a question's shape says which matrix answers
STEPS = 6


def train_on(monkeypatch, kernels, task, parametrization, **settings):
    """Matrix-free training whose answers come from given kernels instead of conditioned Gaussians."""
    by_shape = {kernel.shape: kernel for kernel in kernels[1:-1]}
    by_shape |= {kernel.shape[::-1]: kernel.T for kernel in kernels[1:-1]}
    ask = _unformed.ask

    def answered(side, other, queries, noise, room):
        return ask(side, other, queries, lambda new: new @ by_shape[new.shape[1], side.answers.shape[1]], room)

    inputs = task.inputs / task.input_dim**0.5
    first = np.linalg.lstsq(np.asarray(principal_coordinates(task.inputs)), np.asarray(inputs @ kernels[0]))[0]
    std = [s.init_std for s in matrix_free.scalings_of(parametrization, task, WIDTHS)]
    own = {WIDTHS[0]: jnp.asarray(first) / std[0], WIDTHS[-1]: kernels[-1].T / std[-1]}

    def explicit(key, width, rows):
        return lambda tag, before, count: own[width][:count].astype(task.x_train.dtype)

    monkeypatch.setattr(_unformed, "ask", answered)
    monkeypatch.setattr(matrix_free, "gaussians", explicit)
    return matrix_free.train(task, parametrization, width=WIDTHS, depth=3, **settings)


def kernels_of(task, parametrization, activation, key):
    params = MLP(WIDTHS, 3, task.out_dim, parametrization, activation).init(key, task.x_train)["params"]
    names = ("layer_1", "layer_2", "layer_3", "readout")
    return [params[name]["kernel"].value for name in names]


CASES = {
    "plain": (mup, {}, {}),
    "momentum, test inputs, batches": (mup, {"test": True}, {"momentum": 0.9, "batch_size": 2}),
    "Nesterov, decay, schedule, ReLU": (
        mup,
        {},
        {
            "momentum": 0.5,
            "nesterov": True,
            "weight_decay": 0.05,
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
}


@pytest.mark.parametrize("name", CASES)
def test_equals_dense_training_for_the_same_matrices(monkeypatch, key, name):
    parametrization, of_task, settings = CASES[name]
    with jax.enable_x64(True):
        task = worked_example.task(**of_task)
        settings = {"learning_rate": 0.7, "num_steps": STEPS, "activation": "tanh", "key": key} | settings
        if batch_size := settings.pop("batch_size", None):
            settings["batches"] = batch_order(key, 4, batch_size, STEPS)
        spec = TrajectorySpec(gram_steps=(0, 2, -1), gram_inputs=task.num_inputs)
        kernels = kernels_of(task, parametrization(), settings["activation"], key)
        expected = dense.train(task, parametrization(), width=WIDTHS, depth=3, spec=spec, **settings)
        ours = train_on(monkeypatch, kernels, task, parametrization(), spec=spec, **settings)
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
    settings = {"learning_rate": 0.7, "num_steps": STEPS, "key": key}
    kernels = kernels_of(task, mup(), "tanh", key)
    expected = dense.train(task, mup(), width=WIDTHS, depth=3, **settings)
    kernels[2] = kernels[2][:, ::-1]
    ours = train_on(monkeypatch, kernels, task, mup(), **settings)
    assert np.abs(ours.predictions - expected.predictions).max() > 1e-2
