"""Activations: their names and the properties the theory uses."""

from __future__ import annotations

import functools
import math
import pickle
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mupjax import activations
from mupjax.activations import ACTIVATIONS, LEAKY_SLOPE, Activation

names = pytest.mark.parametrize("name", list(ACTIVATIONS))
S = np.linspace(-3, 3, 25)

# By hand, in Python's floats.
FORMULAS = {
    "tanh": math.tanh,
    "sigmoid": lambda s: 1 / (1 + math.exp(-s)),
    "silu": lambda s: s / (1 + math.exp(-s)),
    "gelu": lambda s: s * 0.5 * (1 + math.erf(s / math.sqrt(2))),
    "elu": lambda s: s if s > 0 else math.expm1(s),
    "erf": math.erf,
    "softplus": lambda s: math.log(1 + math.exp(s)),
    "relu": lambda s: max(s, 0.0),
    "leaky_relu": lambda s: s if s > 0 else 0.01 * s,
    "abs_relu": abs,
    "linear": lambda s: s,
}


def test_the_names_are_the_documented_ones():
    assert list(ACTIVATIONS) == list(FORMULAS)
    assert all(activation.name == name for name, activation in ACTIVATIONS.items())


@names
def test_phi_is_its_formula(name):
    values = ACTIVATIONS[name].phi(jnp.asarray(S, jnp.float32))
    # float32 functions are good to a few units of 2^-24 of values up to 3
    np.testing.assert_allclose(values, [FORMULAS[name](s) for s in S], rtol=0, atol=2e-6)


@names
def test_phi_at_zero_is_its_formula_there(name):
    at_zero = ACTIVATIONS[name].at_zero()
    assert isinstance(at_zero, float)
    assert at_zero == pytest.approx(FORMULAS[name](0.0), abs=1e-7)  # float32
    assert (at_zero != 0) == (name in ("sigmoid", "softplus"))


def test_phi_at_zero_is_a_number_while_a_program_is_traced():
    seen = []

    @jax.jit
    def program(x):
        seen.append(ACTIVATIONS["sigmoid"].at_zero())
        return x

    program(1.0)
    assert seen == [0.5]
    assert isinstance(seen[0], float)


@pytest.mark.parametrize("factor", [1e-3, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs_relu", "linear"])
def test_the_degree_is_that_of_homogeneity(name, factor):
    activation = ACTIVATIONS[name]
    s = jnp.asarray(S, jnp.float32)
    expected = factor**activation.degree * activation.phi(s)
    np.testing.assert_allclose(activation.phi(factor * s), expected, rtol=1e-6)  # four float32 roundings


@names
def test_no_degree_is_claimed_where_there_is_none_and_none_is_missed(name):
    """phi(2 s)/phi(s) is one number for every s of one sign exactly where phi is homogeneous."""
    with jax.enable_x64(True):
        side = -1 if name == "elu" else 1  # elu is linear on the right
        points = [jnp.float64(side * s) for s in (0.1, 0.5, 1.0)]
        ratios = [ACTIVATIONS[name].phi(2 * s) / ACTIVATIONS[name].phi(s) for s in points]
    homogeneous = np.ptp(ratios) < 1e-12
    assert homogeneous == (ACTIVATIONS[name].degree is not None)
    if homogeneous:
        assert ratios[0] == pytest.approx(2 ** ACTIVATIONS[name].degree, rel=1e-12)


@names
def test_neural_tangents_entries_build_the_layer_of_the_same_function(name):
    build = ACTIVATIONS[name].neural_tangents
    stax = types.SimpleNamespace(
        Erf=lambda: math.erf,
        Relu=lambda: lambda s: max(s, 0.0),
        LeakyRelu=lambda alpha: lambda s: s if s > 0 else alpha * s,
        Abs=lambda: abs,
        Identity=lambda: lambda s: s,
    )
    if name in ("tanh", "sigmoid", "silu", "gelu", "elu", "softplus"):
        assert build is None  # numerical quadrature
    else:
        layer = build(stax)
        assert [layer(s) for s in S] == [FORMULAS[name](s) for s in S]


def test_leaky_slope_is_the_kernel_s_too():
    assert LEAKY_SLOPE == 0.01
    assert float(ACTIVATIONS["leaky_relu"].phi(jnp.float32(-1))) == pytest.approx(-LEAKY_SLOPE)


@names
def test_get_finds_names_and_keeps_activations(name):
    assert activations.get(name) is ACTIVATIONS[name]
    assert activations.get(ACTIVATIONS[name]) is ACTIVATIONS[name]


def test_get_takes_any_elementwise_function():
    assert activations.get(jnp.sin).name == "sin"
    assert activations.get(functools.partial(jnp.power, 2)).name == "custom"
    custom = activations.get(lambda s: 1 + s**2)
    assert (custom.degree, custom.neural_tangents) == (None, None)
    assert custom.at_zero() == 1.0


def test_activations_are_frozen_and_hashable():
    with pytest.raises(AttributeError):
        ACTIVATIONS["relu"].degree = 2
    assert len({ACTIVATIONS["relu"], activations.get("relu"), Activation("relu", jax.nn.relu)}) == 2


def test_unknown_names_are_refused_with_the_list_of_names():
    with pytest.raises(ValueError, match=r"Expected `activation` to be one of tanh, sigmoid, .* got 'tanhh'\."):
        activations.get("tanhh")


@names
def test_pickles_come_back_as_what_the_table_has(name):
    assert pickle.loads(pickle.dumps(ACTIVATIONS[name])) is ACTIVATIONS[name]


def square(x):
    return x**2


def test_a_user_s_activation_is_rebuilt_without_the_derivative_that_was_found():
    assert Activation("own", square).__reduce__() == (Activation, ("own", square, None, None, None))
    assert Activation.__module__ == "mupjax.activations.functions"
