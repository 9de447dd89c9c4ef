"""Networks whose width and parametrization are numbers: equal to those with constants, one trace for all."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mupjax import activations, network, optim
from mupjax.activations import Activation
from mupjax.dynamics import dense, padded
from mupjax.dynamics.padded import Family
from mupjax.dynamics.runs import map_runs
from mupjax.parametrization import PerRole, mup, ntp, sp
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec

RNG = np.random.default_rng(0)
TASK = Task(*(RNG.standard_normal(shape) for shape in ((6, 5), (6, 2), (3, 5), (3, 2))))
KEY, STEPS, RATE = jax.random.key(3), 4, 0.1
SPEC = TrajectorySpec()


def family(**changes):
    defaults = {"widths": (12, 9), "activation": activations.get("sigmoid"), "optimizer": optim.sgd}
    settings = {"steps": STEPS, "centred": False, "spec": SPEC, "padded": True}
    return Family(**(defaults | settings | changes))


def by_constants(parametrization, widths, one):
    """`dense.train` of the unpadded network."""
    optimizer = None if one.optimizer is optim.sgd else one.optimizer
    settings = {"width": widths, "depth": len(widths), "activation": one.activation, "centred": one.centred}
    common = {"learning_rate": RATE, "steps": STEPS, "key": KEY, "spec": one.spec, "optimizer": optimizer}
    return dense.train(TASK, parametrization, **settings, **common)


def furthest(ours, reference):
    """Largest distance over a leaf's size, of all leaves."""
    leaves = [[np.asarray(leaf, float) for leaf in jax.tree.leaves(run)] for run in (ours, reference)]
    return max(np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in zip(*leaves, strict=True))


@pytest.mark.parametrize(
    ("parametrization", "widths", "one"),
    [
        (mup(base_width=4), (7, 9), family()),  # sigmoid(0) = 1/2: absent units would speak
        (sp(), (12, 4), family(activation=activations.get("tanh"), optimizer=optim.adam, centred=True)),
        (ntp().shift(PerRole(0.2, 0.5, 0.3)), (5, 6), family(traits=ntp().shift(0.5).traits)),
    ],
    ids=["mup", "sp, Adam, centred", "forward factors"],
)
def test_equals_the_unpadded_network(parametrization, widths, one):
    member = padded.member(parametrization, TASK, widths)
    ours = jax.jit(partial(padded.train, family=one))(TASK, member, KEY, jnp.float32(RATE), None)
    reference = by_constants(parametrization, widths, one)
    # Float32 rounding of 4 steps: other shapes are summed in another order. Seen: 4e-7.
    assert furthest(ours, reference) < 5e-6
    other = by_constants(parametrization, (widths[0] + 1, widths[1]), one)
    assert furthest(ours, other) > 1e-2  # control: one unit more is another network


def test_absent_units_would_be_seen(monkeypatch):
    """Control: without the mask, the padding of sigmoid networks speaks."""
    one, widths = family(steps=STEPS), (7, 9)
    monkeypatch.setattr(network, "_without_absent", lambda values, *present: values)
    member = padded.member(mup(base_width=4), TASK, widths)
    ours = padded.train(TASK, member, KEY, jnp.float32(RATE), None, one)
    assert furthest(ours, by_constants(mup(base_width=4), widths, one)) > 1e-2


def test_one_trace_for_all_widths_and_parametrizations():
    one = family(spec=TrajectorySpec(grams=()), activation=activations.get("tanh"))

    @chex.assert_max_traces(n=1)  # under jit: above it nothing would be counted
    def train(run, task):
        return padded.train(task, run[0], run[1], RATE, None, one).train_loss

    members = [padded.member(p, TASK, w) for p in (mup(), ntp(), sp()) for w in ((12, 9), (3, 4))]
    keys = jax.random.split(KEY, len(members))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *members)
    runs = [jax.tree.map(lambda leaf, half=half: leaf[half], (stacked, keys)) for half in (slice(3), slice(3, 6))]
    losses = [map_runs(train, half, TASK) for half in runs]
    assert len({float(loss[-1]) for half in losses for loss in half}) == 6


def test_functions_without_a_derivative_at_zero_are_not_padded():
    assert padded.can_pad(activations.get("relu"))
    assert not padded.can_pad(Activation("root", lambda x: jnp.sign(x) * jnp.sqrt(jnp.abs(x))))
