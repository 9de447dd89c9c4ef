"""The study of catapults: what it records is what training alone gives; rates that follow stay super-critical."""

import jax
import numpy as np
import pytest

from mupjax.dynamics import dense, runs
from mupjax.network import MLP, scaling_tree
from mupjax.observers import curvature
from mupjax.parametrization import ntp, nup
from mupjax.statistics.catapults import detect_catapults
from mupjax.studies.catapults import catapult_study
from mupjax.task import Task

RNG = np.random.default_rng(3)
TASK = Task(RNG.standard_normal((4, 4)), RNG.standard_normal((4, 1)))
pytestmark = pytest.mark.xdist_group("catapults")


@pytest.fixture(scope="session")
def study():
    return catapult_study(TASK, activations=("tanh",), width=256, factors=(1.5, 3.0), seeds=2, steps=40, record_every=1)


def test_a_run_is_dense_training_at_its_own_rate(study):
    row = study.sel(activation="tanh", schedule="constant", factor=3.0, seed=1)
    key = runs.run_key(jax.random.key(0), 1, 256)
    model = MLP(256, 1, 1, ntp(), "tanh")
    boxed = model.init(key, TASK.x_train)
    start = {name: {"kernel": layer["kernel"].value} for name, layer in boxed["params"].items()}
    top = curvature.ntk_eigenvalues(model, start, TASK.x_train, scaling=scaling_tree(boxed)).largest.values[0]
    np.testing.assert_allclose(row.sharpness_0, top, rtol=1e-4)
    np.testing.assert_allclose(row.rate, 3.0 / top, rtol=1e-4)
    run = dense.train(TASK, ntp(), width=256, depth=1, learning_rate=float(row.rate[0]), steps=40, key=key)
    np.testing.assert_allclose(row.train_loss[:10], run.train_loss[:10], rtol=1e-3)  # unstable: rounding grows
    assert {"units", "long_name"} <= study.sharpness.attrs.keys()


def test_catapults_and_what_does_not_follow_from_below_the_edge(study):
    one = study.sel(activation="tanh", schedule="constant")
    found = detect_catapults(one.train_loss, one.sharpness.isel(observe_step=-1), one.rate.isel(observe_step=-1))
    assert not found.happened[0].any()
    assert found.happened[1].all()


def test_rates_that_follow_the_sharpness_prolong_the_phase(study):
    """Rate times sharpness ends below 2 at the constant rate; following, every step is taken at c = 3."""
    edge = (study.rate * study.sharpness).sel(activation="tanh", factor=3.0)
    assert (edge.sel(schedule="constant").isel(observe_step=-1) < 2).all()
    following = study.sel(activation="tanh", schedule="following", factor=3.0)
    taken = following.rate.values[:, 1:] * following.sharpness.values[:, :-1]  # of the step's start
    np.testing.assert_allclose(taken, 3.0, rtol=1e-3)
    calm = study.sel(activation="tanh", schedule="following", factor=1.5)
    assert (calm.train_loss.isel(step=-1) < 0.1 * calm.train_loss.isel(step=0)).all()


def test_bad_arguments():
    for change, message in (
        ({"factors": (0.0,)}, "`factors` to be positive"),
        ({"factors": (1.0, np.inf)}, "`factors` to be positive and finite"),
        ({"schedules": ("other",)}, "`schedules` to be drawn from constant, following, got 'other'"),
        ({"seeds": 0}, "`seeds` to be a positive int"),
        ({"memory_gb": 1e-6}, "fit memory_gb"),
        ({"parametrization": nup()}, "rates that stay the same"),
    ):
        with pytest.raises(ValueError, match=message):
            catapult_study(TASK, **({"activations": ("tanh",), "width": 16, "seeds": 1, "steps": 2} | change))
    classes = Task(np.eye(3), np.arange(3), loss="cross_entropy", num_classes=3)
    with pytest.raises(ValueError, match="loss='mse', got loss='cross_entropy'"):
        catapult_study(classes, activations=("tanh",), width=16, seeds=1, steps=2)
