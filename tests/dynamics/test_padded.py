"""Networks whose width and parametrization are numbers: equal to those with constants, one trace for all.

Several parametrizations, which together have every trait, are members of one family and train in one vmapped program;
`dense.train` trains each at its own width.
"""

from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mupjax import activations, network, optim
from mupjax.activations import Activation
from mupjax.dynamics import dense, padded
from mupjax.dynamics.observing import Observer
from mupjax.dynamics.padded import Family
from mupjax.dynamics.runs import map_runs
from mupjax.network import MLP, features_of, scaling_tree
from mupjax.observers import updates
from mupjax.parametrization import PerRole, Traits, hp, ip_bias, ip_non_centered, mup, ntp, nup, sp, traits_of
from mupjax.task import Task, batch_order
from mupjax.trajectory import TrajectorySpec

RNG = np.random.default_rng(0)
TASK = Task(*(RNG.standard_normal(shape) for shape in ((6, 5), (6, 2), (3, 5), (3, 2))))
KEY, STEPS, RATE = jax.random.key(3), 3, 0.1
EPS = 2.0**-23  # spacing of float32 at 1
# Members and their networks sum at most 12 products in another order, an error near sqrt(12) EPS = 4e-7 of the sum, for
# each of 3 layers, forward and backward, in each of 3 steps: 2e-6 where these add as a random walk. Seen: 3e-7.
ROUNDING = 2e-6
WIDEST = (12, 12)
MEMBERS = {
    "plain": (sp(), (12, 12)),
    "base width": (mup(base_width=4), (7, 9)),
    "forward factors": (ntp().shift(PerRole(0.2, 0.5, 0.3)), (5, 6)),
    "first step and biases": (ip_bias(2), (6, 11)),
    "weights that are dropped, first bias": (hp(biases="first", bias_std=0.5), (9, 4)),
    "means": (ip_non_centered(), (7, 9)),
    "normalized": (nup(biases="all", bias_std=0.5), (3, 12)),
    "residual": (replace(mup(), residual=0.5), (8, 8)),
    "base widths of layers": (mup(base_width=(4, 10), input_multiplier=1.5, output_multiplier=2.0), (10, 6)),
}
ALL_TRAITS = traits_of(one for one, _ in MEMBERS.values())


def family(**changes):
    settings = {"widths": WIDEST, "activation": activations.get("sigmoid"), "optimizer": optim.sgd, "steps": STEPS}
    settings |= {"centred": False, "spec": TrajectorySpec(), "padded": True}  # sigmoid(0) = 1/2: absent units speak
    return Family(**(settings | changes))


def state_of(state, batch):
    return {"params": state.params, "last_update": state.last_update}


def by_constants(parametrization, widths, one, observers=None, batches=None):
    """`dense.train` of the unpadded network."""
    settings = {"width": widths, "depth": len(widths), "activation": one.activation, "centred": one.centred}
    settings |= {} if one.optimizer is optim.sgd else {"optimizer": one.optimizer}
    common = {"learning_rate": RATE, "steps": STEPS, "key": KEY, "spec": one.spec, "batches": batches}
    return dense.train(TASK, parametrization, observers=observers or {}, **settings, **common)


def stacked(members):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *members)


def at(run, row):
    return jax.tree.map(lambda leaf: leaf[row], run)


def furthest(ours, reference):
    """Largest distance over a leaf's size, of all leaves."""
    leaves = [[np.asarray(leaf, float) for leaf in jax.tree.leaves(run)] for run in (ours, reference)]
    return max(np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in zip(*leaves, strict=True))


def corner(tree, widths):
    """Parameters of the units that are present, and the largest of the others."""
    ends, present, absent = (TASK.input_dim, *widths, TASK.out_dim), {}, 0.0
    for (name, layer), rows, columns in zip(sorted(tree.items()), ends[:-1], ends[1:], strict=True):
        present[name] = {
            k: v[:rows, :columns] if k == "kernel" else v[:columns]
            for k, v in layer.items()
            if k == "kernel" or np.any(v)
        }
        values = [np.abs(v[rows:]).sum() + np.abs(v[:, columns:]).sum() for k, v in layer.items() if k == "kernel"]
        absent = max(absent, *values, *(np.abs(v[columns:]).sum() for k, v in layer.items() if k == "bias"))
    return present, absent


@pytest.fixture(scope="module")
def program():
    """All members at once: a function of members and their rates."""
    one = family(traits=ALL_TRAITS)

    def observe(features, scaling):
        return (("state", Observer(state_of, STEPS)),)

    def train(member, rate):
        return padded.train(TASK, member, KEY, rate, None, one, observe)

    return jax.jit(jax.vmap(train))


@pytest.fixture(scope="module")
def members():
    return stacked([padded.member(*one[:1], TASK, one[1]) for one in MEMBERS.values()])


@pytest.fixture(scope="module")
def together(program, members):
    return program(members, np.full(len(MEMBERS), RATE, np.float32))


@pytest.fixture(scope="module")
def alone():
    """A function of a member's name to the trajectory of its own network, trained once."""
    runs = {}

    def of(name):
        if name not in runs:
            runs[name] = by_constants(*MEMBERS[name], family(), {"state": Observer(state_of, STEPS)})
        return runs[name]

    return of


def test_members_have_every_trait():
    assert Traits(*(True,) * len(Traits._fields)) == ALL_TRAITS


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_equals_the_unpadded_network(name, together, alone):
    ours, reference = at(together, list(MEMBERS).index(name)), alone(name)
    assert furthest(ours._replace(observed=None), reference._replace(observed=None)) < ROUNDING
    moved = np.abs(reference.predictions[-1] - reference.predictions[0]).max()
    assert moved > 100 * ROUNDING * np.abs(reference.predictions).max()  # control: training is seen


@pytest.mark.parametrize("name", MEMBERS)
def test_weights_are_those_of_the_unpadded_network_and_absent_ones_stay_zero(name, together, alone):
    ours, reference = at(together, list(MEMBERS).index(name)).observed["state"], alone(name).observed["state"]
    for step in (0, 1):  # the first and the last observation
        for what in ("params", "last_update"):
            present, absent = corner(at(ours[what], step), MEMBERS[name][1])
            assert absent == 0  # exactly: gradients and updates too
            wanted, _ = corner(at(reference[what], step), MEMBERS[name][1])
            assert jax.tree.map(jnp.shape, present) == jax.tree.map(jnp.shape, wanted)  # no bias that is not there
            if what == "params" or step:  # there is no update before the first
                sizes = [np.abs(leaf).max() for leaf in jax.tree.leaves(wanted)]
                off = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (present, wanted)), strict=True)]
                assert max(off) < ROUNDING * max(sizes)


@pytest.mark.parametrize("broken", ["weights", "activations"])
def test_absent_units_would_be_seen(broken, monkeypatch, members, alone):
    """Control: a network whose absent weights are drawn, or whose absent activations speak, is another."""
    masked = network._without_absent

    def half_masked(values, *present):
        return masked(values, *present) if (len(present) == 1) == (broken == "weights") else values

    monkeypatch.setattr(network, "_without_absent", half_masked)
    name, one = "base width", family(traits=ALL_TRAITS)
    member = at(members, list(MEMBERS).index(name))
    ours = jax.jit(lambda member: padded.train(TASK, member, KEY, jnp.float32(RATE), None, one))(member)
    assert furthest(ours, alone(name)._replace(observed=None)) > 1e-2


def test_another_width_would_be_seen(members, alone):
    """Control: one unit more is another network."""
    name, wide = "base width", by_constants(mup(base_width=4), (8, 9), family())
    assert furthest(wide, alone(name)._replace(observed=None)) > 1e-2


def test_a_member_that_diverges_touches_no_other(program, members, together):
    rates = np.full(len(MEMBERS), RATE, np.float32)
    rates[1] = 1e30
    run = program(members, rates)
    assert not np.isfinite(run.train_loss[1, -1])
    others = np.arange(len(MEMBERS)) != 1
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[others], b[others]), run, together)


def test_traits_that_no_member_has_are_left_out(members, alone):
    """The same numbers from a program that has fewer parts, and fewer parameters."""
    name, one = "base width", family()
    member = at(members, list(MEMBERS).index(name))
    model = padded.model(TASK, member, one)
    params = jax.eval_shape(model.init, KEY, TASK.x_train)["params"]
    assert [list(layer) for layer in params.values()] == [["kernel"]] * 3
    ours = jax.jit(partial(padded.train, family=one))(TASK, member, KEY, jnp.float32(RATE), None)
    assert furthest(ours, alone(name)._replace(observed=None)) < ROUNDING


def test_adam_centred_batches_and_observers():
    one = family(optimizer=optim.adamw, centred=True, activation=activations.get("tanh"))
    batches = batch_order(jax.random.key(1), TASK.num_train, 4, STEPS)
    watched = {"sizes": Observer(updates.update_sizes(), 1), "index": Observer(lambda state, batch: batch.index, 2)}
    watched["state"] = Observer(state_of, STEPS)

    def observe(features, scaling):
        assert scaling["layer_1"]["kernel"].role == "input"
        return tuple(watched.items())

    @jax.jit
    def train(member, batches):
        return padded.train(TASK, member, KEY, jnp.float32(RATE), batches, one, observe)

    ours, widths = train(padded.member(sp(), TASK, (11, 4)), batches), (11, 4)
    reference = by_constants(sp(), widths, one, watched, batches)
    _, absent = corner(at(ours.observed["state"]["last_update"], 1), widths)
    assert absent == 0  # Adam divides 0 by its epsilon
    found, wanted = ({k: v for k, v in run.observed.items() if k != "state"} for run in (ours, reference))
    assert furthest(ours._replace(observed=found), reference._replace(observed=wanted)) < ROUNDING
    assert ours.train_loss[0] == reference.train_loss[0]  # f - f_0 is 0


@pytest.mark.parametrize("name", ["base width", "first step and biases"])
def test_initial_weights_and_scalings_are_those_of_the_unpadded_network(name):
    parametrization, widths = MEMBERS[name]
    one = family(traits=parametrization.traits)
    model = MLP(widths, 2, TASK.out_dim, parametrization, one.activation)
    ours = padded.model(TASK, padded.member(parametrization, TASK, widths), one)
    boxed, reference = (jax.jit(each.init)(KEY, TASK.x_train[:1]) for each in (ours, model))
    present, absent = corner(network.nn.unbox(boxed)["params"], widths)
    assert absent == 0
    wanted = network.nn.unbox(reference)["params"]
    # Standard deviations are rounded to float32, and then the product.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2 * EPS), present, dict(wanted))
    for leaf, other in zip(*(jax.tree.leaves(scaling_tree(tree)) for tree in (boxed, reference)), strict=True):
        assert (leaf.role, leaf.fan_in, leaf.fan_out) == (other.role, other.fan_in, other.fan_out)
        assert leaf.sgd_lr_mult == pytest.approx(other.sgd_lr_mult, rel=EPS)


def test_gradients_of_absent_units_are_zero_at_any_weights(key):
    """Even where their weights are not zero: the mask of the activations alone stops what flows through them."""
    model = MLP(WIDEST, 2, 2, sp(), "sigmoid", use_bias=True, present=jnp.array([7, 9]))
    shapes = network.nn.unbox(jax.eval_shape(model.init, key, TASK.x_train))["params"]
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, leaf.dtype), shapes)

    def loss(params):
        features = features_of(model, params, TASK.x_train)
        return jnp.sum(features.f**2), features

    gradients, features = jax.jit(jax.grad(loss, has_aux=True))(params)
    present, absent = corner(gradients, (7, 9))
    assert absent == 0
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(present))
    assert [int((x != 0).any(0).sum()) for x in features.x] == [7, 9]


def test_functions_without_a_derivative_at_zero_are_not_padded(key):
    root = Activation("root", lambda x: jnp.sign(x) * jnp.sqrt(jnp.abs(x)))
    assert padded.can_pad(activations.get("relu"))
    assert not padded.can_pad(root)
    model = MLP((4, 4), 2, 1, sp(), root, present=jnp.array([3, 3]))  # what it guards against: 0 times infinity
    params = network.nn.unbox(jax.jit(model.init)(key, TASK.x_train))["params"]
    gradients = jax.jit(jax.grad(lambda params: features_of(model, params, TASK.x_train).f.sum()))(params)
    assert np.isnan(gradients["layer_1"]["kernel"][:, 3]).all()


def test_one_trace_for_all_widths_and_parametrizations():
    one = family(spec=TrajectorySpec(grams=()), activation=activations.get("tanh"))

    @chex.assert_max_traces(n=1)  # under jit: above it nothing would be counted
    def train(run, task):
        return padded.train(task, run[0], run[1], RATE, None, one).train_loss

    members = [padded.member(p, TASK, w) for p in (mup(), ntp(), sp()) for w in ((12, 9), (3, 4))]
    keys = jax.random.split(KEY, len(members))
    runs = [at((stacked(members), keys), half) for half in (slice(3), slice(3, 6))]
    losses = [map_runs(train, half, TASK) for half in runs]
    assert len({float(loss[-1]) for half in losses for loss in half}) == 6


@pytest.mark.parametrize(
    ("parametrization", "widths", "message"),
    [
        (ip_bias(3), (4, 4), "Expected `depth` to be 3"),
        (nup(), (4, 4), r"`width` to grow as the rates of nup have it, \(4, 16\), got \(4, 4\)"),
        (replace(mup(), residual=0.5), (4, 5), r"layers of one width .*, got width=\(4, 5\)"),
    ],
)
def test_widths_that_a_parametrization_is_not_made_for_are_refused(parametrization, widths, message):
    with pytest.raises(ValueError, match=message):
        padded.member(parametrization, TASK, widths)
