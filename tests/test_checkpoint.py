"""What a checkpoint keeps: Flax bytes and Orbax folders hold values, and the Parametrization travels as JSON."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import serialization

from mupjax.network import MLP, scaling_tree
from mupjax.optim import adam, sgd
from mupjax.parametrization import Parametrization, get, mup

PLAIN = ("sp", "ntp", "mup", "ip")  # presets whose first step is as the later ones

X = jnp.asarray(np.random.default_rng(0).standard_normal((5, 3)), jnp.float32)
MUP = mup(base_width=4, bias_std=0.5)


def model_of(parametrization: Parametrization) -> MLP:
    return MLP(8, 2, 1, parametrization)


@pytest.fixture(scope="module")
def variables():
    return model_of(MUP).init(jax.random.key(0), X)


def zeros_of(parametrization: Parametrization):
    """Boxed parameters of the right shapes without the values."""
    shapes = jax.eval_shape(model_of(parametrization).init, jax.random.key(0), X)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def assert_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


# Flax serialization


def test_bytes_round_trip_into_boxes(variables):
    restored = serialization.from_bytes(zeros_of(MUP), serialization.to_bytes(variables))
    assert_equal(restored, variables)
    assert scaling_tree(restored) == scaling_tree(variables)
    np.testing.assert_array_equal(model_of(MUP).apply(restored, X), model_of(MUP).apply(variables, X))


def test_bytes_round_trip_without_boxes(variables):
    params = nn.meta.unbox(variables)
    target = jax.tree.map(jnp.zeros_like, params)
    assert_equal(serialization.from_bytes(target, serialization.to_bytes(params)), params)


def test_state_dict_holds_the_value_alone(variables):
    state = serialization.to_state_dict(variables)
    assert jax.tree.map(jnp.shape, state) == {
        "params": {
            "layer_1": {"kernel": {"value": (3, 8)}},
            "layer_2": {"kernel": {"value": (8, 8)}},
            "readout": {"kernel": {"value": (8, 1)}},
        }
    }
    assert_equal(serialization.from_state_dict(zeros_of(MUP), state), variables)


def test_bytes_know_no_scaling_so_the_target_decides(variables):
    """Why the JSON travels too: values of one parametrization go into the boxes of another without a word."""
    restored = serialization.from_bytes(zeros_of(get("ip")), serialization.to_bytes(variables))
    assert scaling_tree(restored) == scaling_tree(zeros_of(get("ip"))) != scaling_tree(variables)
    with pytest.raises(ValueError, match="Expected parameter 'layer_1/kernel' to carry the scaling of mup"):
        model_of(MUP).apply(restored, X)


@pytest.mark.parametrize("optimizer", [lambda s: sgd(s, 0.1, momentum=0.9), lambda s: adam(s, 0.1)])
def test_optimizer_state_round_trips(variables, optimizer):
    params = nn.meta.unbox(variables)["params"]
    transform = optimizer(scaling_tree(variables))
    _, state = transform.update(params, transform.init(params), params)
    restored = serialization.from_bytes(transform.init(params), serialization.to_bytes(state))
    assert_equal(transform.update(params, restored, params)[0], transform.update(params, state, params)[0])


# The Parametrization


@pytest.mark.parametrize("name", PLAIN)
def test_parametrization_round_trips_through_json(name):
    parametrization = get(name, base_width=7, bias_std=0.3).shift(0.25)
    restored = Parametrization.from_json(parametrization.to_json())
    assert restored == parametrization
    assert hash(restored) == hash(parametrization)


# Orbax


def test_orbax_keeps_parameters_and_parametrization(variables, tmp_path):
    """Training goes on from a checkpoint as if it had not stopped."""
    import orbax.checkpoint as ocp  # seconds: Flax depends on it, but does not import it

    model, params = model_of(MUP), nn.meta.unbox(variables)["params"]
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "params", params)
    (tmp_path / "parametrization.json").write_text(MUP.to_json())

    parametrization = Parametrization.from_json((tmp_path / "parametrization.json").read_text())
    target = jax.eval_shape(model_of(parametrization).init, jax.random.key(0), X)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "params", nn.meta.unbox(target)["params"])
    assert_equal(restored, params)
    assert scaling_tree(target) == scaling_tree(variables)

    def step(params, scaling):
        gradients = jax.grad(lambda p: jnp.sum(model.apply({"params": p}, X) ** 2))(params)
        transform = sgd(scaling, 0.1)
        return optax.apply_updates(params, transform.update(gradients, transform.init(params), params)[0])

    assert_equal(step(restored, scaling_tree(target)), step(params, scaling_tree(variables)))
    # Control: with the scaling of another base width the step is another one.
    other = step(restored, scaling_tree(zeros_of(mup())))
    assert abs(other["layer_1"]["kernel"] - step(params, scaling_tree(variables))["layer_1"]["kernel"]).max() > 1e-3
