"""The law of one small normalized step over depth: closed forms, independent figures, dense networks."""

import jax
import numpy as np
import pytest

from mupjax import activations, nup
from mupjax.dynamics import dense
from mupjax.task import Task
from mupjax.theorems.depth import small_step
from mupjax.trajectory import TrajectorySpec

GAIN = activations.gain(0.5, 0.5)


def test_closed_forms_of_a_relu():
    depth = np.arange(1, 65)
    np.testing.assert_allclose(small_step(64, q=0.0) ** 2, (2 * depth**3 + depth) / 3, rtol=1e-13)
    np.testing.assert_allclose(small_step(64, q=1.0), depth, rtol=1e-13)
    np.testing.assert_allclose(small_step(64, q=2.0) ** 2, 2 * depth - 1, rtol=1e-13)
    harmonic = np.cumsum(1 / depth) - 1 / depth
    np.testing.assert_allclose(small_step(64, q=3.0) ** 2, 1 / depth + 2 * harmonic, rtol=1e-13)


@pytest.mark.parametrize(
    ("slope", "expected"),  # an independent sampler of the exact law, at L = 10, 10, 8, 5 and q = 0..3
    [(0.5, (25.9, 10.0, 3.87, 2.09)), (1.0, (19.6, 7.4, 2.83, 1.51)), (0.09 / 0.73, (22.5, 8.6, 3.32))],
)
def test_figures_of_an_independent_computation(slope, expected):
    for q, (depth, value) in enumerate(zip((10, 10, 8, 5), expected, strict=False)):
        assert small_step(depth, q=q, slope=slope)[-1] == pytest.approx(value, rel=4e-3)  # two or three digits


def test_alternatives_that_regularise_every_layer():
    """Of rates that do not know L: bounded where sum A_j^2 / m_j is."""
    last = {name: [small_step(d, q=q, own=own(d))[-1] for d in (4, 16, 64, 256)] for name, (q, own) in {
        "one norm": (2.0, lambda d: (d + 1.0) ** -0.5),
        "1/k": (2.0, lambda d: 1 / np.arange(1.0, d + 1)),
        "q = 4": (4.0, lambda d: 1.0),
    }.items()}  # fmt: skip
    np.testing.assert_allclose(last["one norm"], (1.18, 1.35, 1.40, 1.41), atol=0.006)
    np.testing.assert_allclose(last["1/k"], (2.04, 2.59, 2.85, 2.97), atol=0.006)
    np.testing.assert_allclose(last["q = 4"], (1.67, 1.78, 1.81, 1.81), atol=0.006)


@pytest.mark.parametrize(("q", "width", "seeds"), [(0.0, 256, 24), (2.0, 64, 8)])
def test_dense_networks_move_as_the_law_says(q, width, seeds):
    """Six layers, a step small at all of them. Finite width leaves some L/m: 6/256, and 1/64 and less."""
    rate, depth = 1e-3, 6
    x = np.random.default_rng(0).standard_normal((1, 16))
    task = Task(4 * x / np.linalg.norm(x), np.ones((1, 1)))
    spec = TrajectorySpec(steps=(0, 1), grams=("h",))
    settings = dict(width=width, depth=depth, activation="relu", learning_rate=rate, steps=1, spec=spec)

    def grams(key):
        run = dense.train(task, nup(q=q, gain=GAIN), key=key, **settings)
        return run.h_gram[:, :, 0, 0], run.h_cross_gram[1, :, 0, 0]

    squares, cross = map(np.asarray, jax.lax.map(grams, jax.random.split(jax.random.key(1), seeds)))
    change = (squares[:, 1] - 2 * cross + squares[:, 0]) / squares[:, 0] / rate**2  # [seed, layer]
    law = small_step(depth, q=q) ** 2
    stderr = change.std(0, ddof=1) / seeds**0.5
    z = (change.mean(0) - law) / np.hypot(stderr, 2 * depth / width * law)
    assert np.all(np.abs(z) < 4)
    assert np.all(stderr[1:] < 0.12 * law[1:])  # so that it says something
    other = small_step(depth, q=2.0 - q) ** 2  # control: the other profile's law
    assert abs(change.mean(0)[-1] - other[-1]) > 6 * stderr[-1]
