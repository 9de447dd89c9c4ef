"""Optimizers with keywords: equal ones are equal, and SGD's settings are read from them."""

import pickle
from functools import partial

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mupjax
from mupjax import optim
from mupjax.dynamics import dense
from mupjax.optim import SgdSettings, adam, canonical, is_sgd, sgd, sgd_settings
from mupjax.parametrization import mup
from mupjax.results import arguments_json

NETWORK = {"width": 8, "depth": 1, "learning_rate": 0.1, "steps": 1, "key": 0}
SCALING = {"w": mup(base_width=4).scales("input", 3, 8)}


def made_by(factor, scaling, learning_rate):
    """An optimizer of one's own, once a positional argument is set."""
    return sgd(scaling, factor * learning_rate)


def equal_ones():
    """Four ways to say one optimizer."""
    inner = partial(sgd, momentum=0.5)
    return [
        partial(sgd, momentum=0.9, nesterov=True),
        partial(inner, nesterov=True, momentum=0.9),  # the outer keyword wins, as in a call
        partial(canonical(inner), nesterov=True, momentum=0.9),
        partial(sgd, momentum=np.float64(0.9), nesterov=True, weight_decay=0),
    ]


def test_equal_keywords_make_equal_optimizers():
    found = [canonical(optimizer) for optimizer in equal_ones()]
    assert len(set(found)) == 1
    assert found[0].__name__ == "sgd(momentum=0.9, nesterov=True)"
    assert len({arguments_json({"optimizer": optimizer}) for optimizer in equal_ones()}) == 1
    assert pickle.loads(pickle.dumps(found[0])) == found[0]
    assert canonical(found[0]) == found[0]


def test_other_keywords_make_other_optimizers():
    others = [sgd, partial(sgd, momentum=0.9), partial(sgd, momentum=0.8), adam, partial(adam, b1=0.8)]
    assert len({canonical(optimizer) for optimizer in others}) == 5
    assert len({arguments_json({"optimizer": optimizer}) for optimizer in others}) == 5


def test_a_canonical_optimizer_updates_as_its_partial():
    gradient, params = {"w": jnp.arange(24.0).reshape(3, 8)}, {"w": jnp.ones((3, 8))}
    found = []
    for optimizer in (equal_ones()[0], canonical(equal_ones()[0]), sgd):
        transform = optimizer(SCALING, 0.1)
        found.append(transform.update(gradient, transform.init(params), params)[0]["w"])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 0.1  # Nesterov's first step is another one


def test_equal_optimizers_share_a_compiled_program():
    traces = []

    def phi(x):
        traces.append(x)
        return jnp.tanh(x)

    counts = []
    for optimizer in (*equal_ones(), partial(sgd, momentum=0.8)):
        dense.train(mupjax.Task(np.eye(4), np.ones((4, 1))), mup(), optimizer=optimizer, activation=phi, **NETWORK)
        counts.append(len(traces))
    assert counts[0] == counts[3] < counts[4]


def test_what_cannot_be_compared_stays_as_it_is():
    for optimizer in (partial(sgd, momentum=jnp.float32(0.9)), partial(made_by, 2.0), lambda s, rate: sgd(s, rate)):
        assert canonical(optimizer) is optimizer
        assert not is_sgd(optimizer)


def test_settings_are_read_from_partials():
    assert sgd_settings(mupjax.sgd) == SgdSettings(0.0, False, 0.0)
    assert {sgd_settings(optimizer) for optimizer in equal_ones()} == {SgdSettings(0.9, True, 0.0)}
    assert sgd_settings(partial(sgd, weight_decay=0.1)).weight_decay == 0.1


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (adam, "got adam: "),
        (partial(adam, b1=0.8), r"got adam\(b1=0\.8\): "),
        (partial(sgd, steps_taken=3), r"got sgd\(steps_taken=3\): "),
        (partial(sgd, momentum=jnp.float32(0.9)), r"got functools\.partial\("),
        (partial(made_by, 2.0), r"got functools\.partial\("),
        (partial(sgd, SCALING), r"got functools\.partial\("),
        (lambda scaling, rate: optax.sgd(rate), "got <lambda>: "),
        (partial(sgd, momentum=1.0), r"`momentum` to be in \[0, 1\), got momentum=1\.0"),
        (partial(sgd, weight_decay=-0.1), r"`weight_decay` to be >= 0, got weight_decay=-0\.1"),
    ],
)
def test_other_optimizers_are_refused(optimizer, message):
    expected = "" if message.startswith("`") else r"Expected `optimizer` to be mupjax\.sgd, .*"
    with pytest.raises(ValueError, match=expected + message):
        sgd_settings(optimizer)


def test_sgd_refuses_numbers_out_of_range():
    with pytest.raises(ValueError, match="`momentum`"):
        optim.sgd(SCALING, 0.1, momentum=-0.1)
    with pytest.raises(ValueError, match="`weight_decay`"):
        optim.sgd(SCALING, 0.1, weight_decay=float("nan"))
