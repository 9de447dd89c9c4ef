"""Theorem 4.5 and Corollary 4.6 as verdicts: networks that keep them, inputs and activations that cannot."""

import jax
import numpy as np
import pytest

from mupjax import datasets, mup, ntp
from mupjax.dynamics import dense, feature_limit, kernel_limit
from mupjax.statistics import CONTRADICTED, REPRODUCED, UNDECIDED
from mupjax.task import Task
from mupjax.theorems.global_convergence import corollary_4_6, theorem_4_5

SETTINGS = dict(depth=2, learning_rate=1.0, steps=40, key=jax.random.key(0))


@pytest.fixture(scope="module")
def task():
    return datasets.load("digits", classes=(0, 1), train_size=8, test_size=None)


def with_inputs(task, change):
    x = np.array(task.x_train)
    change(x)
    return Task(x, np.array(task.y_train))


def duplicated(x):
    x[1] = x[0]


def opposite(x):
    x[1] = -x[0]


def test_a_network_keeps_its_features_independent(task):
    verdicts = theorem_4_5(dense.train(task, mup(), width=256, **SETTINGS))
    assert len(verdicts) == 2 * 2 * 2
    of_inputs = verdicts[0]  # the mean was subtracted: rank 7
    assert "h of layer 1, Gram step 0" in of_inputs.claim
    assert "as far as the inputs are" in of_inputs.claim
    assert of_inputs.verdict == UNDECIDED
    assert {v.verdict for v in verdicts[1:] if v.claim[:12] != "h of layer 1"} == {REPRODUCED}


@pytest.mark.parametrize(
    ("change", "activation"), [(duplicated, "tanh"), (duplicated, "silu"), (opposite, "tanh")]
)  # tanh is odd: opposite inputs have opposite features
def test_dependent_features_are_never_called_independent(task, change, activation):
    """The floor holds what float32 leaves of exactly dependent features, before and after 40 steps."""
    run = dense.train(with_inputs(task, change), mup(), width=256, activation=activation, **SETTINGS)
    assert {v.verdict for v in theorem_4_5(run)} == {UNDECIDED}


def test_opposite_inputs_have_independent_features_where_the_activation_is_not_odd(task):
    run = dense.train(with_inputs(task, opposite), mup(), width=256, activation="silu", **SETTINGS)
    found = {v.claim: v.verdict for v in theorem_4_5(run)}
    assert all(word == REPRODUCED for claim, word in found.items() if claim.startswith("x"))


def test_a_narrow_network_has_dependent_features(task):
    assert {v.verdict for v in theorem_4_5(dense.train(task, mup(), width=4, **SETTINGS))} == {UNDECIDED}


def test_a_linear_network_with_more_inputs_than_dimensions_has_dependent_features():
    x = np.random.default_rng(0).standard_normal((6, 4))
    run = dense.train(Task(x, np.ones((6, 1))), mup(), width=256, activation="linear", **SETTINGS)
    assert {v.verdict for v in theorem_4_5(run)} == {UNDECIDED}


def test_runs_of_a_limit_are_averaged_first(task, key):
    """Eigenvalues of single runs are biased: those of 128 particles too small."""
    settings = SETTINGS | {"steps": 4, "key": key}
    runs = feature_limit.sample(task, mup(), num_particles=128, num_runs=8, **settings)
    reference = feature_limit.train(task, mup(), num_particles=8192, num_runs=2, **settings)
    ours, exact = theorem_4_5(runs)[-1], theorem_4_5(reference)[-1]
    single = np.linalg.eigvalsh(runs.x_gram[:, -1, -1])[:, 0]
    assert abs(ours.ours - exact.ours) < 4 * ours.stderr
    assert 2 * abs(ours.ours - exact.ours) < abs(single.mean() - exact.ours)
    assert ours.seeds == 8
    mean = theorem_4_5(feature_limit.average(runs))[-1]
    assert mean.stderr > ours.stderr  # Weyl's bound


def test_where_weights_have_stopped_error_signals_are_zero(task):
    run = dense.train(task, mup(), width=256, **SETTINGS | {"steps": 200})
    (vanished,) = corollary_4_6(task, run)
    assert vanished.verdict == REPRODUCED
    assert vanished.low == vanished.high == vanished.ours  # they have stopped
    assert "neither that they stop" in vanished.claim


def test_weights_that_rest_beside_errors_contradict(task):
    """A program whose rates are zero, and one that stops halfway; a slow one is allowed its small eigenvalues."""
    run = dense.train(task, mup(), width=256, **SETTINGS | {"steps": 3})
    still = run._replace(predictions=np.broadcast_to(run.predictions[:1], run.predictions.shape))
    halfway = run._replace(predictions=np.asarray(run.predictions)[[0, 1, 2, 2]])
    for broken in (still, halfway):
        (verdict,) = corollary_4_6(task, broken, learning_rate=1.0)
        assert verdict.verdict == CONTRADICTED
    slowly = np.asarray(run.predictions)[[0, 1, 2, 2]]
    slowly[3] += 5e-4 * (slowly[1] - slowly[0])
    assert corollary_4_6(task, run._replace(predictions=slowly), learning_rate=1e-4)[0].verdict == UNDECIDED
    assert corollary_4_6(task, run._replace(predictions=slowly), learning_rate=1e4)[0].verdict == CONTRADICTED


def test_nothing_is_said_before_they_stop(task):
    words = [v.verdict for v in corollary_4_6(task, dense.train(task, mup(), width=256, **SETTINGS | {"steps": 3}))]
    assert words == [UNDECIDED]


def test_does_not_apply_where_equal_inputs_have_unequal_targets(task):
    """The assumption on the inputs fails, the weights stop, and the two errors cancel in every gradient."""
    x, y = np.array(task.x_train), np.array(task.y_train)
    x[1], y[0], y[1] = x[0], 1.0, -1.0
    run = dense.train(Task(x, y), mup(), width=256, **SETTINGS | {"steps": 400})
    (vanished,) = corollary_4_6(Task(x, y), run)
    assert vanished.verdict == UNDECIDED
    assert "does not apply" in vanished.needs


def test_kernel_limits_are_judged_too(task):
    run = kernel_limit.train(task, ntp(), depth=2, learning_rate=1.0, steps=100, centred=True)
    deeper = [v for v in theorem_4_5(run) if not v.claim.startswith("h of layer 1")]
    assert {v.verdict for v in deeper} == {REPRODUCED}


def test_refuses_runs_without_what_it_needs(task):
    from mupjax.trajectory import TrajectorySpec

    bare = dense.train(task, mup(), width=8, spec=TrajectorySpec(grams=()), **SETTINGS | {"steps": 1})
    with pytest.raises(ValueError, match="h_gram or x_gram, got neither"):
        theorem_4_5(bare)
    with pytest.raises(ValueError, match="x_gram of all 8 training inputs, got none"):
        corollary_4_6(task, bare)
    some = dense.train(task, mup(), width=8, spec=TrajectorySpec(gram_inputs=4), **SETTINGS | {"steps": 1})
    with pytest.raises(ValueError, match="got those of 4"):
        corollary_4_6(task, some)
