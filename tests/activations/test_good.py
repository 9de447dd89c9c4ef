"""Assumption 4.3: what has a counterexample is refuted in the clause that names it, and what has none is not."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mupjax import activations
from mupjax.activations import ACTIVATIONS, Activation, check_good
from mupjax.activations._evaluation import Derivatives, differentiate
from mupjax.activations._identities import _distance, decompose, off_constant, parameter_sets, tolerance
from mupjax.activations._smoothness import Kink, WrongDerivative, find_growth

PAPER, OURS = "shown GOOD in the paper", "argued to be GOOD in mupjax.activations.good"


def omega(x):
    """W(e^x), Lambert's W, by Newton's iteration on log W. With w = omega: w' = w/(1 + w), (1 + w)(w' - 1) = -1."""
    y = jnp.where(x < 0, x, jnp.log1p(jnp.maximum(x, 0)))
    for _ in range(20):
        y = y - (y + jnp.exp(y) - x) / (1 + jnp.exp(y))
    return jnp.exp(y)


@jax.custom_jvp
def straight_through(x):
    return jnp.sign(x)


straight_through.defjvp(lambda primals, tangents: (straight_through(*primals), tangents[0]))


@jax.custom_jvp
def wrong_rule(x):
    return jnp.tanh(x)


wrong_rule.defjvp(lambda primals, tangents: (wrong_rule(*primals), jnp.exp(-(primals[0] ** 2)) * tangents[0]))


# Each has a proof at hand: a kink, an unbounded derivative, an identity.
REFUTED = {
    "relu": ("relu", (1, 3, 4)),  # relu(2x) = 2 relu(x); phi phi' = phi
    "leaky_relu": ("leaky_relu", (1, 3)),
    "abs_relu": ("abs_relu", (1, 3)),
    "linear": ("linear", (3, 4)),
    "elu": (jax.nn.elu, (1,)),  # phi'' jumps at 0
    "soft_sign": (jax.nn.soft_sign, (1,)),
    "sqrt": (lambda x: jnp.sqrt(jnp.abs(x)), (1, 3)),  # phi' is infinite at 0; sqrt(2x) = sqrt(2) sqrt(x)
    "square": (lambda x: x**2, (2, 3)),
    "cube": (lambda x: x**3, (2, 3)),
    "exp": (jnp.exp, (2, 3)),
    "exp of a square": (lambda x: jnp.exp(x * x), (2,)),
    "x log x": (lambda x: x * jnp.arcsinh(x), (2,)),  # phi' grows as a logarithm
    "sin": (jnp.sin, (3,)),
    "cos": (jnp.cos, (3,)),
    "snake": (lambda x: x + jnp.sin(x) ** 2, (3,)),  # phi(x + pi) = phi(x) + pi
    "omega": (omega, (4,)),
    "zero": (jnp.zeros_like, (3, 4)),
    "straight through": (straight_through, (1, 3)),
    "wrong rule": (wrong_rule, (1,)),
}


@pytest.mark.parametrize("name", REFUTED)
def test_a_clause_that_has_a_counterexample_is_refuted_and_no_other(name):
    phi, clauses = REFUTED[name]
    check = check_good(phi)
    assert check.refuted == clauses
    assert check.word is None
    assert "is not GOOD" in str(check)
    assert [line.lstrip()[:3] for line in str(check).splitlines()[1:]] == [f"({clause})" for clause in clauses]


@pytest.mark.parametrize("key", range(2))
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "silu", "gelu", "erf", "softplus"])
def test_the_smooth_ones_of_the_table_have_no_counterexample_and_a_word(name, key):
    check = check_good(name, key=key)
    assert not check.witnesses
    assert check.word == (PAPER if name in ("tanh", "sigmoid", "silu") else OURS)
    assert "no counterexample" in str(check)
    assert "in 600 trials" in str(check)
    assert str(check).endswith(f"{check.word}.")


SMOOTH = {
    "arctan": jnp.arctan,
    "mish": jax.nn.mish,
    "bump": lambda x: jnp.exp(-(x**2)),
    "steep": lambda x: jnp.tanh(1e6 * x),
    "slow": lambda x: jnp.tanh(1e-2 * x),
    "sinc": jnp.sinc,  # phi'' as JAX finds it is noise near 0
    "offset": lambda x: 1e6 + jnp.tanh(x),
    "naive sigmoid": lambda x: 1 / (1 + jnp.exp(-x)),  # its derivative comes out as NaN for x < -710
    "naive softplus": lambda x: jnp.log(1 + jnp.exp(x)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_other_smooth_functions_have_no_counterexample_and_no_word(name):
    check = check_good(SMOOTH[name])
    assert not check.witnesses, check
    assert check.word is None


@pytest.mark.parametrize("back", [False, True], ids=["float32 out", "cast back"])
def test_a_function_that_casts_to_float32_is_checked_in_that_precision(back):
    def cast(phi):
        return lambda x: phi(x.astype(jnp.float32)).astype(x.dtype if back else jnp.float32)

    check = check_good(cast(jnp.tanh))
    assert not check.witnesses
    assert check.eps == np.finfo(np.float32).eps
    assert "in phi's own precision of 1e-07" in str(check)
    assert check_good(cast(jax.nn.relu)).refuted == (1, 3, 4)
    assert check_good(cast(jnp.sin)).refuted == (3,)


def test_the_word_is_the_table_s_alone():
    assert check_good(Activation("tanh", jnp.tanh)).word is None
    assert check_good(activations.get("tanh")).word == PAPER


# The witnesses


@settings(deadline=None, max_examples=15)
@given(st.floats(-9, 9), st.floats(-2, 0.5).map(lambda e: 10**e), st.integers(0, 2), st.integers(0, 99))
def test_a_hidden_kink_is_found_where_it_is(place, size, order, key):
    def phi(x):
        part = jnp.where(x > place, (x - place) ** order, 0 * x)  # phi^(order) jumps by order! size
        return jnp.tanh(x) + size * part

    kink = check_good(Activation("user's", phi), trials=3, key=key).witnesses[0]
    assert isinstance(kink, Kink)
    assert (kink.order, kink.x) == (order, pytest.approx(place, abs=1e-9))  # 34 halvings of 1e-3
    assert kink.right - kink.left == pytest.approx(size * (1, 1, 2)[order], rel=1e-6)


def test_a_kink_far_out_is_found():
    assert check_good(lambda x: jnp.tanh(x) + 0.1 * jax.nn.relu(x - 77)).witnesses[0].x == pytest.approx(77, abs=1e-9)


def test_a_rule_that_is_no_derivative_is_found():
    witness = check_good(wrong_rule).witnesses[0]
    assert isinstance(witness, WrongDerivative)
    assert witness.automatic == pytest.approx(np.exp(-(witness.x**2)), rel=1e-9)
    assert witness.quotient == pytest.approx(1 - np.tanh(witness.x) ** 2, abs=1e-8)


def test_witnesses_say_what_they_claim():
    """Put each into its formula, in NumPy, at points of our own."""
    x = np.random.default_rng(7).uniform(-50, 50, 1000)
    dependence = check_good(jnp.sin).witnesses[0]
    total = sum(a * np.sin(b * x + c) for a, b, c in zip(dependence.a, dependence.b, dependence.c, strict=True))
    np.testing.assert_allclose(total, dependence.constant, atol=1e-13)  # arguments up to 500, rounded
    assert _distance(np.array([dependence.b]), np.array([dependence.c]))[0] > 0.3
    assert max(map(abs, dependence.a)) == 1

    growth = check_good(lambda x: x**2).witnesses[0]
    assert (growth.order, abs(growth.x), growth.value) == (1, 1e6, 2e6)
    assert growth.suprema == pytest.approx(tuple(2 * 10.0**k for k in range(1, 7)), rel=1e-2)

    product = check_good(omega).witnesses[0]
    assert (product.r_1, product.r_2, product.constant) == pytest.approx((1, -1, -1), abs=1e-9)


def test_the_words():
    said = re.sub(r"to \S+ of its", "to EPS of its", str(check_good("relu")))  # another machine rounds otherwise
    assert said.splitlines() == [
        "relu is not GOOD (Chen et al. 2025, Assumption 4.3). Refuted:",
        "  (1) twice continuously differentiable: phi' jumps from 0 to 1 at x = 0.000000.",
        "  (3) no constant sum of a_i phi(b_i x + c_i): +1 phi(1 x +0) -0.5 phi(2 x +0) = 0, to EPS of its terms.",
        "  (4) no constant (r_1 + phi)(r_2 + phi'): (0 + phi)(-1 + phi') = 0, to EPS of its terms.",
    ]


def test_a_derivative_that_rises_late_and_levels_off_is_not_called_unbounded():
    """x^2/(s^2 + x^2) is .04, .8, .9975, .999975 at 10^3, ..., 10^6 for s = 5000; x^2/s^2 is not bounded."""
    rng = np.random.default_rng(0)
    assert find_growth(Derivatives(lambda _, x: x**2 / (5000.0**2 + x**2), 2.0**-52, (1, 1, 1)), rng) is None
    assert find_growth(Derivatives(lambda _, x: x**2 / 5000.0**2, 2.0**-52, (1, 1, 1)), rng).order == 1


def test_a_function_too_fast_for_difference_quotients_is_not_called_wrong():
    """Its identity sin(x) + sin(x + pi) = 0 is missed, for its arguments are rounded by 1e-9; nothing false is said."""
    assert not check_good(lambda x: jnp.sin(1e6 * x)).witnesses


# The search for identities


def test_parameters_are_not_degenerate():
    for b, c in parameter_sets(600, np.random.default_rng(0)):
        assert len(b) > 100
        assert np.all(b != 0)
        for i in range(b.shape[1]):
            for j in range(i):
                for sign in (1, -1):
                    assert np.all(np.abs(b[:, i] - sign * b[:, j]) + np.abs(c[:, i] - sign * c[:, j]) > 0.3)


def test_degenerate_parameters_would_be_witnesses():
    """tanh(x) + tanh(-x) = 0 and sigmoid(x) + sigmoid(-x) = 1: what the distance up to sign keeps out."""
    b, c = np.array([[1.0, -1.0]]), np.array([[0.5, -0.5]])
    assert _distance(b, c) == 0
    rng = np.random.default_rng(0)
    for phi in (jnp.tanh, jax.nn.sigmoid):
        derivatives = differentiate(phi, rng)
        singular, a = decompose(derivatives, b, c, rng.uniform(-10, 10, 96))
        assert singular[0] < 1e-15
        assert off_constant(derivatives, a[0], b[0], c[0], rng)[0] < tolerance(derivatives)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "silu", "gelu", "erf", "softplus"])
def test_the_tolerance_is_far_below_what_independent_terms_leave(name):
    """The figures in `tolerance`: 2e-3 at least, beside 2e-12 in float64 and 1e-4 in float32."""
    rng = np.random.default_rng(3)
    derivatives = differentiate(ACTIVATIONS[name].phi, rng)
    residuals = []
    for b, c in parameter_sets(150, rng):
        singular, a = decompose(derivatives, b, c, rng.uniform(-10, 10, 96))
        closest = np.argsort(singular)[:10]
        residuals += [off_constant(derivatives, a[i] / np.abs(a[i]).max(), b[i], c[i], rng)[0] for i in closest]
    assert min(residuals) > 1e-3


def test_a_wrong_number_of_trials_is_refused():
    with pytest.raises(ValueError, match="Expected `trials` to be a positive int, got trials=0"):
        check_good("tanh", trials=0)


def test_the_check_is_a_function_of_its_key():
    assert check_good("relu", key=4) == check_good("relu", key=4)
