"""The feature-learning limit against published numbers, finite ensembles, closed forms and its own standard errors."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensor_program
import worked_example
from scipy import stats

from mupjax import activations, datasets, metrics
from mupjax.activations import Activation
from mupjax.dynamics import _unformed, dense, feature_limit, kernel_limit, matrix_free
from mupjax.dynamics._conditioning import Answer
from mupjax.parametrization import PerRole, get, ip, mup, ntp, sp
from mupjax.runs import map_runs
from mupjax.task import Task, batch_order
from mupjax.trajectory import TrajectorySpec

EXAMPLE = {"depth": 3, "learning_rate": 1.0, "num_steps": 12}
Z = 4.5  # of every comparison with thousands of numbers at most: passed by chance but once in 10^5 per number


def limit(key, parametrization=None, task=None, **settings):
    task = worked_example.task() if task is None else task
    return feature_limit.train(task, parametrization or mup(), key=key, **EXAMPLE | settings)


def test_worked_example(key):
    """Section 5.1's losses to their stated error: 2e-4 of f, so sqrt(2 loss / 4) times as much of a loss, and rounding."""
    run = limit(key, num_particles=8192, num_runs=8)
    assert run.train_loss[0] == pytest.approx(np.mean(worked_example.Y**2) / 2, abs=1e-7)  # f_0 = 0 exactly
    published = 2e-4 * np.sqrt(2 * worked_example.LOSSES / 4) + 5e-6
    stderr = np.hypot(published, run.stderr.train_loss[:12])
    assert np.max(np.abs(run.train_loss[1:12] - worked_example.LOSSES[1:]) / stderr[1:]) < Z
    f_1 = np.abs(run.predictions[1, :, 0] - worked_example.F_1) / np.hypot(2e-4, run.stderr.predictions[1, :, 0])
    assert np.max(f_1) < Z
    assert np.max(run.stderr.predictions) < 3e-4  # a finite network of this width has .38 / 8192^.5 / 8^.5 = 1.5e-3


CASES = {
    "tanh": {},
    "relu": {"activation": "relu"},
    "silu, depth 2": {"activation": "silu", "depth": 2},
    "depth 1": {"depth": 1},
    "batches of 2": {"batch_size": 2},
    "cross-entropy, 3 classes": {"task": worked_example.task(loss="cross_entropy", outputs=3)},
    "momentum": {"momentum": 0.5, "learning_rate": 0.5},
}


def extrapolated(task, width, seeds, settings):
    """2 mean f_2n - mean f_n of real networks, without their bias of order 1/n, and its standard error [R, P, C]."""
    parts = []
    for n, factor in ((2 * width, 2.0), (width, -1.0)):
        keys = jax.random.split(jax.random.key(n), seeds)

        def run(key, task, batches, n=n):
            spec = TrajectorySpec(grams=())
            return dense.train(task, mup(), width=n, key=key, batches=batches, spec=spec, **settings).predictions

        f = np.asarray(map_runs(run, keys, task, settings_batches(settings)), np.float64)
        parts.append((factor * f.mean(0), factor * f.std(0, ddof=1) / seeds**0.5))
    return parts[0][0] + parts[1][0], np.hypot(parts[0][1], parts[1][1])


def settings_batches(settings):
    return settings.pop("batches", None)


def z_score(ours, mean, stderr):
    """Largest |z| over everything after the start, both errors counted."""
    return np.max(np.abs(ours.predictions - mean)[1:] / np.hypot(ours.stderr.predictions, stderr)[1:])


@pytest.mark.parametrize("name", CASES)
def test_finite_networks_extrapolate_to_the_limit(key, name):
    settings = EXAMPLE | CASES[name]
    task = settings.pop("task", None) or worked_example.task()
    if batch_size := settings.pop("batch_size", None):
        settings["batches"] = batch_order(key, 4, batch_size, settings["num_steps"])
    ours = feature_limit.train(task, mup(), key=key, num_particles=4096, num_runs=8, **settings)
    mean, stderr = extrapolated(task, 256, 300, settings)
    assert z_score(ours, mean, stderr) < Z


def without_response(monkeypatch):
    answer = _unformed.answer
    monkeypatch.setattr(_unformed, "answer", lambda *a: Answer(answer(*a).gaussian, 0 * answer(*a).along))


def without_covariance(monkeypatch):
    """Gaussian parts of earlier features become independent of new ones: only a query's new direction is drawn."""
    ask = _unformed.ask

    def unrelated(side, other, queries, noise, room):
        question = ask(side, other, queries, noise, room)
        fresh = noise(question.new)  # one row a query, of the query's length, unrelated to every other
        lengths = jnp.sqrt(jnp.sum(queries**2, axis=1))
        return question._replace(new_coordinates=jnp.diag(lengths), answers=jnp.roll(fresh, 1, axis=1)), lengths

    def answered(side, question):
        question, _ = question
        return Answer(question.new_coordinates @ question.answers, 0 * _unformed_answer(side, question).along)

    _unformed_answer = _unformed.answer
    keep = _unformed.keep
    monkeypatch.setattr(_unformed, "ask", unrelated)
    monkeypatch.setattr(_unformed, "answer", answered)
    monkeypatch.setattr(_unformed, "keep", lambda side, question: keep(side, question[0]))
