"""Cosines, sizes and effects of updates against the trajectory's own parameters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mupjax import optim
from mupjax.dynamics import dense
from mupjax.network import MLP, nn
from mupjax.observers import updates
from mupjax.parametrization import mup
from mupjax.task import Task

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 4)), RNG.standard_normal((6, 2))


def test_cosines_are_those_of_the_trajectory():
    task = Task(X, Y)
    model = MLP(8, 2, 2, mup(), "tanh")

    def tracked(scaling, rate):
        return optim.track_cosines(optim.sgd(scaling, rate))

    seen = {"params": lambda s, b: s.params, "cosines": lambda s, b: s.opt_state.cosines}
    settings = dict(width=8, depth=2, learning_rate=0.5, steps=6, key=jax.random.key(0), observers=seen)
    run = dense.train(task, mup(), optimizer=tracked, **settings)
    plain = dense.train(task, mup(), **(settings | {"observers": {"params": seen["params"]}}))
    for a, b in zip(*(jax.tree.leaves(r.observed["params"]) for r in (run, plain)), strict=True):
        np.testing.assert_array_equal(a, b)  # the wrapper changes nothing
    flat = np.concatenate(
        [np.asarray(leaf, np.float64).reshape(7, -1) for leaf in jax.tree.leaves(run.observed["params"])], 1
    )
    for t in range(1, 6):
        new, old = flat[t + 1] - flat[t], flat[t] - flat[0]
        wanted = new @ old / np.linalg.norm(new) / np.linalg.norm(old)
        assert float(run.observed["cosines"].network[t + 1]) == pytest.approx(wanted, abs=1e-4)
    assert float(run.observed["cosines"].network[1]) == 0  # nothing before the first step
    observed = dense.train(task, mup(), **(settings | {"observers": {"cosines": updates.update_cosines()}}))
    found = observed.observed["cosines"]
    np.testing.assert_allclose(found.network, run.observed["cosines"].network, atol=1e-4)
    assert np.all(np.asarray(found.layers)[:2] == 0)  # not rounding either
    assert np.all(np.abs(np.asarray(found.layers)[2:]) > 1e-3)
    transform, params = optim.track_cosines(optax.sgd(0.1)), jnp.ones(2)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates, state = transform.update(params, state, params)
        return optax.apply_updates(params, updates), state

    step(*step(params, transform.init(params)))  # its copy is its own: both may be donated
    kernel = np.asarray(run.observed["params"]["layer_2"]["kernel"], np.float64).reshape(7, -1)
    new, old = kernel[4] - kernel[3], kernel[3] - kernel[0]
    wanted = new @ old / np.linalg.norm(new) / np.linalg.norm(old)
    found = run.observed["cosines"].layers["layer_2"]["kernel"][4]
    assert float(found) == pytest.approx(wanted, abs=1e-4)
    transform = optim.track_cosines(optax.sgd(0.1))
    with pytest.raises(ValueError, match="`params` where cosines are tracked"):
        transform.update(jnp.ones(2), transform.init(jnp.ones(2)))
    assert jax.tree.structure(nn.meta.unbox(model.init(jax.random.key(0), X))["params"]) == jax.tree.structure(
        jax.tree.map(lambda leaf: leaf[0], run.observed["params"])
    )


def test_sizes_of_updates_and_of_what_moves():
    task = Task(X, Y)
    model = MLP(8, 2, 2, mup(), "tanh")
    seen = {
        "sizes": updates.update_sizes(),
        "moved": updates.preactivation_changes(model, X),
        "params": lambda s, b: s.params,
    }
    run = dense.train(task, mup(), width=8, depth=2, learning_rate=0.5, steps=2, key=jax.random.key(0), observers=seen)
    params = run.observed["params"]
    for row, name in enumerate(("layer_1", "layer_2", "readout")):
        kernel = np.asarray(params[name]["kernel"], np.float64)
        sizes = run.observed["sizes"]
        np.testing.assert_allclose(sizes.update[2, row], np.linalg.norm(kernel[2] - kernel[1]), rtol=1e-4)
        np.testing.assert_allclose(sizes.weight[2, row], np.linalg.norm(kernel[1]), rtol=1e-5)
        assert sizes.update[0, row] == 0
    h = [model.apply({"params": jax.tree.map(lambda p, t=t: p[t], params)}, X, method="features").h for t in (1, 2)]
    for layer in range(2):
        wanted = np.linalg.norm(h[1][layer] - h[0][layer]) / np.linalg.norm(h[0][layer])
        np.testing.assert_allclose(run.observed["moved"][2, layer], wanted, rtol=1e-3)
    assert np.all(np.asarray(run.observed["moved"][0]) == 0)
