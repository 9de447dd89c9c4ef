"""Checks of arguments: what passes, and what the messages name."""

import re

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import mupjax
from mupjax import _checks
from mupjax.dynamics import dense
from mupjax.optim.initial_rates import calibrate_initial_rates
from mupjax.studies.catapults import catapult_study
from mupjax.studies.covariance import covariance_study
from mupjax.studies.training import training_study


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, np.int64(7)])
def test_an_int_is_the_key_that_jax_makes_of_it(seed):
    assert _checks.key(seed) == jax.random.key(int(seed))


def test_keys_of_jax_pass_as_they_are():
    for key in (jax.random.key(3), jax.random.PRNGKey(3)):
        assert _checks.key(key) is key
        traced = jax.jit(lambda k: jax.random.uniform(_checks.key(k)))(key)
        assert traced == jax.random.uniform(key)
    keys = jax.random.split(jax.random.key(0), 3)
    mapped = jax.vmap(lambda k: jax.random.uniform(_checks.key(k)))(keys)
    np.testing.assert_array_equal(mapped, [jax.random.uniform(k) for k in keys])


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (-1, "key=-1"),
        (2**32, "key=4294967296"),
        (True, "key=True"),
        (jnp.zeros((), jnp.int32), r"key=int32\[\]"),
        (jax.random.split(jax.random.key(0)), r"key=key<fry>\[2\]"),
        (jax.random.split(jax.random.PRNGKey(0)), r"key=uint32\[2, 2\]"),
    ],
)
def test_other_keys_are_refused(given, got):
    with pytest.raises(ValueError, match=rf"`key` to be an int in 0\.\.2\*\*32 - 1 or one JAX random key, got {got}"):
        _checks.key(given)


def test_ints_and_keys_give_the_same_numbers_wherever_a_key_is_taken():
    key = jax.random.key(5)
    np.testing.assert_array_equal(mupjax.batch_order(5, 8, 2, 3), mupjax.batch_order(key, 8, 2, 3))
    task = mupjax.Task(np.eye(4), np.ones((4, 1)))
    settings = {"width": 8, "depth": 1, "learning_rate": 0.5}
    first, second = (calibrate_initial_rates(task, mupjax.ip_llr(1), key=k, **settings).rates for k in (5, key))
    np.testing.assert_array_equal(first, second)
    first, second = (dense.train(task, mupjax.mup(), steps=1, key=k, **settings).predictions for k in (5, key))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("count", [0, -1, True, 1.0, None])
def test_counts_are_positive_ints(count):
    _checks.check_counts(steps=1, seeds=3)
    with pytest.raises(ValueError, match=f"Expected `seeds` to be a positive int, got seeds={count!r}"):
        _checks.check_counts(steps=1, seeds=count)


@pytest.mark.parametrize("number", [0.0, -1.0, float("inf"), float("nan")])
def test_numbers_are_finite_and_positive(number):
    _checks.check_positive(error=1e-3)
    with pytest.raises(ValueError, match=f"Expected `error` to be finite and positive, got error={number!r}"):
        _checks.check_positive(error=number)


def test_names_and_sequences():
    _checks.check_choice(("auto", "never"), padding="auto")
    with pytest.raises(ValueError, match="Expected `padding` to be one of auto, never, got padding='always'"):
        _checks.check_choice(("auto", "never"), padding="always")
    _checks.check_distinct(widths=(8, (8, 4)))
    with pytest.raises(ValueError, match="Expected `widths` to name at least one, got none"):
        _checks.check_distinct(widths=())
    with pytest.raises(ValueError, match=r"Expected `widths` to be distinct, got widths=\[8, 8\]"):
        _checks.check_distinct(widths=(8, 8))


def test_memory_is_compared_with_the_budget():
    _checks.check_memory(10**9, 1.0, "a run", "take less")
    with pytest.raises(ValueError, match=r"fit memory_gb=1, got about 2 GB for a run; take less\."):
        _checks.check_memory(2 * 10**9, 1.0, "a run", "take less")


ONE = (np.eye(4), np.ones((4, 1)))


@pytest.mark.parametrize(
    ("study", "given"),
    [
        (mupjax.compare, {"parametrizations": "mup"}),
        (mupjax.compare, {"parametrizations": mupjax.mup()}),
        (mupjax.compare, {"widths": 8}),
        (mupjax.compare, {"gram_steps": 0}),
        (mupjax.sweep, {"depths": 2}),
        (mupjax.sweep, {"learning_rates": 0.1}),
        (mupjax.sweep, {"learning_rates": {"sgd": 0.1}}),
        (mupjax.sweep, {"observe": "sharpness"}),
        (mupjax.transfer, {"parametrizations": "mup"}),
        (mupjax.transfer, {"widths": 8}),
        (mupjax.transfer, {"optimizers": "sgd"}),
        (mupjax.limit, {"widths": 8}),
        (mupjax.coord_check, {"widths": 8}),
        (training_study, {"parametrizations": "mup"}),
        (training_study, {"widths": 8}),
        (training_study, {"calibrated": "ip_llr"}),
        (training_study, {"observe": "ranks"}),
        (covariance_study, {"widths": np.int64(8)}),
        (catapult_study, {"activations": "tanh"}),
        (catapult_study, {"factors": 2.0}),
        (catapult_study, {"schedules": "constant"}),
    ],
)
def test_one_entry_where_several_are_meant_is_named(study, given, monkeypatch):
    """As users meet it, whose calls are not checked against the annotations as the tests' are."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    needed = {"learning_rate": 0.1, "depth": 1, "steps": 1, "batch_size": 2, "parametrizations": ("mup",)}
    settings = (needed | {"widths": (8,)} if study is training_study else {}) | given
    ((name, value),) = given.items()
    (value,) = value.values() if isinstance(value, dict) else (value,)
    got = "Parametrization" if isinstance(value, mupjax.Parametrization) else f"{name}={value!r}"
    words = f"Expected `{name}` to be a sequence, got {got}."
    with pytest.raises(TypeError, match=re.escape(words)):
        study(task=mupjax.Task(*ONE), **settings)


@pytest.mark.parametrize(
    "study", [mupjax.compare, mupjax.sweep, mupjax.transfer, mupjax.limit, mupjax.coord_check, training_study]
)
def test_an_unknown_option_is_one_kind_of_error_everywhere(study):
    needed = {"learning_rate": 0.1, "depth": 1, "steps": 1, "batch_size": 2, "parametrizations": ("mup",)}
    settings = needed | {"widths": (8,)} if study is training_study else {}
    words = rf"{study.__name__}\(\) got an unexpected keyword argument 'sedes': it takes .*\bkey\b"
    with pytest.raises(TypeError, match=words):
        study(task=mupjax.Task(*ONE), sedes=3, **settings)
