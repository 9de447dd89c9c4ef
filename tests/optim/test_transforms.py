"""Learning-rate multipliers: against the tables, through all kinds of Optax chains, against plain Flax and Optax."""

from __future__ import annotations

import functools
import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import config as jaxtyping_config

from mupjax.network import MLP, ScaledParam, scaling_tree
from mupjax.optim import adam, adamw, check_optimizer, scale_by_parametrization, sgd
from mupjax.parametrization import Parametrization, ParamScaling, get, ip, mup, ntp, sp

PLAIN = ("sp", "ntp", "mup", "ip")  # presets whose first step is as the later ones

EPS = 2.0**-23  # spacing of float32 at 1
LAYERS = ("layer_1", "layer_2", "layer_3", "readout")
INPUT_DIM = 6

presets = pytest.mark.parametrize("name", PLAIN)


def scaling_of(parametrization: Parametrization, width=8, out_dim=1, use_bias=False):
    model = MLP(width, 3, out_dim, parametrization, use_bias=use_bias)
    return scaling_tree(jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, INPUT_DIM))))


def map_scaling(function, scaling):
    return jax.tree.map(function, scaling, is_leaf=lambda node: isinstance(node, ParamScaling))


def draw(scaling, seed: int, std=lambda leaf: 1.0):
    """Kernels with independent Gaussian entries of standard deviation std(leaf)."""
    rng = np.random.default_rng(seed)

    def kernel(leaf: ParamScaling) -> jax.Array:
        return jnp.asarray(std(leaf) * rng.standard_normal((leaf.fan_in, leaf.fan_out), dtype=np.float32), jnp.float32)

    return map_scaling(kernel, scaling)


def steps_of(transform, gradients, params, steps=3):
    """Parameters after feeding the same gradients, scaled by 1, 2, 3, ..."""
    state = transform.init(params)
    for step in range(1, steps + 1):
        updates, state = transform.update(jax.tree.map(lambda g, by=step: by * g, gradients), state, params)
        params = optax.apply_updates(params, updates)
    return params


def assert_same(ours, theirs, rtol=8 * EPS):
    """Equal up to a few roundings, each a relative EPS of the largest entry."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max()),
        ours,
        theirs,
    )


SCALING = scaling_of(mup(base_width=2), (4, 8, 4))
PARAMS, GRADIENTS = draw(SCALING, 0), draw(SCALING, 1)


# Multipliers


def table(name: str, fan_in: int, fan_out: int) -> dict[str, dict[str, float]]:
    """Rates / eta of (Yang & Hu 2021, Table 1; Yang et al. 2022, Table 8); muP and IP hidden: Yang et al. 2023."""
    n = fan_out  # of the input layer; the other layers scale with fan_in
    hidden = {"sp": 1 / fan_in, "ntp": 1 / fan_in, "mup": fan_out / fan_in, "ip": fan_out / fan_in}[name]
    sgd_rates = {"input": {"sp": 1 / n, "ntp": 1.0}.get(name, float(n)), "hidden": hidden, "output": 1 / fan_in}
    adam_rates = {"input": 1 / n if name == "sp" else 1.0, "hidden": 1 / fan_in, "output": 1 / fan_in}
    return {"sgd": sgd_rates, "adam": adam_rates}


@presets
@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("width", [32, (32, 96, 16)])
def test_updates_are_multiplied_by_the_rates_of_the_table(name, rule, width):
    scaling = scaling_of(get(name), width)
    ones = map_scaling(lambda leaf: jnp.ones((leaf.fan_in, leaf.fan_out)), scaling)
    transform = scale_by_parametrization(scaling, rule)
    updates, _ = transform.update(ones, transform.init(ones))
    for layer in LAYERS:
        leaf = scaling[layer]["kernel"]
        expected = table(name, leaf.fan_in, leaf.fan_out)[rule][leaf.role]
        np.testing.assert_allclose(updates[layer]["kernel"], expected, rtol=EPS)  # a power of n, rounded to float32


def test_rules_differ():
    """Control: had both rules one table, the test above could not tell them apart."""
    assert table("mup", 32, 96)["sgd"] != table("mup", 32, 96)["adam"]


@presets
def test_multipliers_are_one_at_the_base_width(name):
    scaling = scaling_of(get(name, base_width=8), 8, use_bias=True)
    for leaf in jax.tree.leaves(scaling):
        assert (leaf.sgd_lr_mult, leaf.adam_lr_mult, leaf.adam_epsilon_mult, leaf.multiplier) == (1, 1, 1, 1)


# Composition: every chain against its formula


def sgd_by_hand(rates, momentum=0.0):
    """w <- w - rate_t r v, v <- momentum v + g, in NumPy, gradients scaled by 1, 2, 3, ..."""

    def kernel(w, g, leaf):
        w, velocity = np.float64(w), 0.0
        for step, rate in enumerate(rates, start=1):
            velocity = momentum * velocity + step * np.float64(g)
            w = w - rate * leaf.sgd_lr_mult * velocity
        return w

    return jax.tree.map(kernel, PARAMS, GRADIENTS, SCALING)


def test_sgd_and_its_momentum_are_the_formula():
    assert_same(steps_of(sgd(SCALING, 0.1), GRADIENTS, PARAMS), sgd_by_hand([0.1] * 3))
    assert_same(steps_of(sgd(SCALING, 0.1, momentum=0.9), GRADIENTS, PARAMS), sgd_by_hand([0.1] * 3, momentum=0.9))


def test_stage_composes_on_either_side_of_a_linear_chain():
    before = optax.chain(scale_by_parametrization(SCALING), optax.sgd(0.1, momentum=0.9))
    after = optax.chain(optax.sgd(0.1, momentum=0.9), scale_by_parametrization(SCALING))
    for transform in (before, after):
        assert_same(steps_of(transform, GRADIENTS, PARAMS), sgd_by_hand([0.1] * 3, momentum=0.9))


def test_schedules_multiply_the_rates():
    schedule = optax.linear_schedule(0.0, 0.2, 2)
    assert_same(steps_of(sgd(SCALING, schedule), GRADIENTS, PARAMS), sgd_by_hand([0.0, 0.1, 0.2]))


INJECTED = {
    "a function of the rate": lambda rate: optax.inject_hyperparams(lambda learning_rate: sgd(SCALING, learning_rate))(
        learning_rate=rate
    ),
    "sgd itself": lambda rate: optax.inject_hyperparams(sgd)(SCALING, learning_rate=rate),
    "optax.sgd behind the stage": lambda rate: optax.chain(
        scale_by_parametrization(SCALING), optax.inject_hyperparams(optax.sgd)(learning_rate=rate)
    ),
}


@pytest.mark.parametrize("style", list(INJECTED))
@pytest.mark.parametrize("jit", [False, True])
def test_inject_hyperparams_sets_the_rate_between_steps(style, jit):
    transform = INJECTED[style](0.1)
    state, params = transform.init(PARAMS), PARAMS
    update = jax.jit(transform.update) if jit else transform.update
    for step, rate in enumerate((0.1, 0.5, 0.0), start=1):
        injected = state[1] if style == "optax.sgd behind the stage" else state
        injected.hyperparams["learning_rate"] = jnp.asarray(rate)
        updates, state = update(jax.tree.map(lambda g, by=step: by * g, GRADIENTS), state, params)
        params = optax.apply_updates(params, updates)
    assert_same(params, sgd_by_hand([0.1, 0.5, 0.0]))


def test_inject_hyperparams_takes_momentum_and_schedules():
    transform = optax.inject_hyperparams(sgd)(SCALING, learning_rate=optax.linear_schedule(0.0, 0.2, 2), momentum=0.9)
    transform = optax.GradientTransformation(transform.init, jax.jit(transform.update))
    assert_same(steps_of(transform, GRADIENTS, PARAMS), sgd_by_hand([0.0, 0.1, 0.2], momentum=0.9))
    adam_state = optax.inject_hyperparams(adamw)(SCALING, learning_rate=0.1, weight_decay=0.1).init(PARAMS)
    assert {"learning_rate", "b1", "b2", "eps", "weight_decay"} <= set(adam_state.hyperparams)


def test_multi_steps_apply_the_mean_of_their_gradients():
    transform = optax.MultiSteps(sgd(SCALING, 0.1), every_k_schedule=3).gradient_transformation()
    transform = optax.GradientTransformation(transform.init, jax.jit(transform.update))
    mean = jax.tree.map(lambda w, g, leaf: w - 0.1 * leaf.sgd_lr_mult * 2 * g, PARAMS, GRADIENTS, SCALING)
    assert_same(steps_of(transform, GRADIENTS, PARAMS, 3), mean)  # (1 + 2 + 3) / 3 = 2
    assert_same(steps_of(transform, GRADIENTS, PARAMS, 2), PARAMS, rtol=0)


@pytest.mark.parametrize("mask", ["leaves", "layers"])
def test_masked_updates_pass_unchanged(mask):
    """A mask may name leaves, or whole layers."""
    kept = {layer: layer != "layer_2" for layer in LAYERS}
    mask = {layer: {"kernel": keep} for layer, keep in kept.items()} if mask == "leaves" else kept
    transform = optax.masked(scale_by_parametrization(SCALING), mask)
    updates, _ = transform.update(GRADIENTS, transform.init(PARAMS), PARAMS)
    for layer, keep in kept.items():
        multiplier = SCALING[layer]["kernel"].sgd_lr_mult if keep else 1.0
        np.testing.assert_array_equal(updates[layer]["kernel"], multiplier * GRADIENTS[layer]["kernel"])
    assert SCALING["layer_2"]["kernel"].sgd_lr_mult != 1  # control: the mask is seen


def test_layers_may_be_frozen_by_multi_transform():
    labels = {layer: "frozen" if layer == "layer_2" else "trained" for layer in LAYERS}
    transform = optax.multi_transform({"trained": sgd(SCALING, 0.1), "frozen": optax.set_to_zero()}, labels)
    expected = sgd_by_hand([0.1] * 3) | {"layer_2": PARAMS["layer_2"]}
    assert_same(steps_of(transform, GRADIENTS, PARAMS), expected)


def test_clipping_comes_before_the_multipliers():
    transform = optax.chain(optax.clip_by_global_norm(1.0), sgd(SCALING, 0.1))
    norm = optax.tree.norm(GRADIENTS)
    assert norm > 2  # control: there is something to clip
    expected = jax.tree.map(lambda w, g, leaf: w - 0.1 * leaf.sgd_lr_mult * g / norm, PARAMS, GRADIENTS, SCALING)
    assert_same(steps_of(transform, GRADIENTS, PARAMS, 1), expected)


@pytest.mark.parametrize("optimizer", [partial(sgd, momentum=0.9), adamw], ids=["sgd", "adamw"])
def test_boxed_gradients_give_boxed_updates_of_the_same_values(optimizer):
    def boxed(tree):
        return jax.tree.map(lambda value, leaf: ScaledParam(value, leaf), tree, SCALING)

    transform = optimizer(SCALING, 0.1)
    ours = steps_of(transform, boxed(GRADIENTS), boxed(PARAMS))
    assert scaling_tree(ours) == SCALING
    assert_same(nn.meta.unbox(ours), steps_of(transform, GRADIENTS, PARAMS), rtol=0)


def test_gradients_by_boxed_variables_train_the_boxes():
    model = MLP((4, 8, 4), 3, 1, mup(base_width=2))
    x = jnp.asarray(np.random.default_rng(2).standard_normal((5, INPUT_DIM)), jnp.float32)
    boxes = jax.tree.map(lambda value, leaf: ScaledParam(value, leaf), PARAMS, SCALING)
    gradients = jax.grad(lambda params: model.apply({"params": params}, x).sum())(boxes)
    assert scaling_tree(gradients) == SCALING
    trained = steps_of(sgd(SCALING, 0.1), gradients, boxes)
    assert_same(nn.meta.unbox(trained), steps_of(sgd(SCALING, 0.1), nn.meta.unbox(gradients), PARAMS), rtol=0)
    model.apply({"params": trained}, x)  # and the network takes them back


@pytest.mark.parametrize("optimizer", [partial(sgd, momentum=0.9, nesterov=True), adamw], ids=["sgd", "adamw"])
def test_training_in_a_compiled_scan_equals_a_loop(optimizer):
    transform = optimizer(SCALING, 0.01)

    def step(carry, by):
        params, state = carry
        updates, state = transform.update(jax.tree.map(lambda g: by * g, GRADIENTS), state, params)
        return (optax.apply_updates(params, updates), state), None

    scanned = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(1.0, 4.0)))
    (ours, _), _ = scanned((PARAMS, transform.init(PARAMS)))
    assert_same(ours, steps_of(transform, GRADIENTS, PARAMS))


# What is refused


def test_updates_of_another_tree_are_refused_by_path():
    transform = scale_by_parametrization(SCALING)
    state = transform.init(PARAMS)
    missing = {layer: GRADIENTS[layer] for layer in LAYERS[1:]}
    extra = GRADIENTS | {"head": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    with pytest.raises(ValueError, match=r"got no update for \['layer_1'\]\['kernel'\]\."):
        transform.update(missing, state)
    with pytest.raises(ValueError, match=r"got no scaling for \['head'\]\['bias'\], \['head'\]\['kernel'\]\."):
        transform.update(extra, state)
    with pytest.raises(
        ValueError, match=r"got no scaling for \['params'\]\['layer_1'\].*; no update for \['layer_1'\]"
    ):
        transform.update({"params": GRADIENTS}, state)
    with pytest.raises(ValueError, match=r"got no update for \['layer_1'\]\['kernel'\]\."):  # also while tracing
        jax.jit(transform.update)(missing, state)


def test_scaling_of_another_kind_is_refused_by_path():
    with pytest.raises(TypeError, match=r"Expected `scaling` to be a tree of ParamScaling.* at \['layer_1'\]\['kernel"):
        sgd(PARAMS, 0.1)
    with pytest.raises(TypeError, match=r"Expected `scaling` to be a tree of ParamScaling"):
        check_optimizer(lambda scaling, rate: optax.sgd(rate), PARAMS)


def test_unknown_rule_is_refused():
    jaxtyping_config.update("jaxtyping_disable", True)  # as users run it: the annotation alone would refuse the name
    try:
        with pytest.raises(ValueError, match="Expected `rule` to be 'sgd' or 'adam', got rule='lion'"):
            scale_by_parametrization(SCALING, "lion")
        with pytest.raises(ValueError, match="Expected `rule` to be 'sgd' or 'adam', got rule='lion'"):
            check_optimizer(sgd, SCALING, "lion")
    finally:
        jaxtyping_config.update("jaxtyping_disable", False)


# check_optimizer


def stage(kind: str):
    return lambda scaling: scale_by_parametrization(scaling, kind)


def chained(*makers):
    """An optimizer from makers, each a function of the scaling or a finished transform; the rate comes last."""

    def optimizer(scaling, learning_rate):
        stages = [m if isinstance(m, optax.GradientTransformation) else m(scaling) for m in makers]
        return optax.chain(*stages, optax.scale_by_learning_rate(learning_rate))

    return optimizer


def warmed_up(optimizer):
    return lambda scaling, _: optimizer(scaling, optax.linear_schedule(0.0, 1.0, 10))


KEEP = {
    "sgd": ("sgd", sgd),
    "momentum": ("sgd", partial(sgd, momentum=0.9)),
    "nesterov": ("sgd", partial(sgd, momentum=0.9, nesterov=True)),
    "decayed sgd": ("sgd", partial(sgd, weight_decay=0.1)),
    "coupled decay": ("sgd", chained(optax.add_decayed_weights(0.1), stage("sgd"))),
    "adam": ("adam", adam),
    "adam, epsilon 1e-5": ("adam", partial(adam, eps=1e-5)),
    "adam, epsilon 1e-3": ("adam", partial(adam, eps=1e-3)),
    "nesterov adam": ("adam", partial(adam, nesterov=True)),
    "adamw": ("adam", partial(adamw, weight_decay=0.1)),
    "coupled decay, adam": ("adam", chained(optax.add_decayed_weights(0.1), optax.scale_by_adam(), stage("adam"))),
    "optax.adam": ("adam", chained(optax.scale_by_adam(), stage("adam"))),
    "lion": ("adam", chained(optax.scale_by_lion(), stage("adam"))),
    "rmsprop": ("adam", chained(optax.scale_by_rms(), stage("adam"))),
    "adafactor": ("adam", chained(optax.scale_by_factored_rms(), stage("adam"))),
    "lamb": ("adam", chained(optax.scale_by_adam(), optax.scale_by_trust_ratio(), stage("adam"))),
    "clipped": ("sgd", chained(optax.clip_by_global_norm(1.0), stage("sgd"))),
    "clipped by entry": ("sgd", chained(optax.clip(1.0), stage("sgd"))),
    "clipped updates": ("sgd", chained(stage("sgd"), optax.clip_by_global_norm(1.0))),
    "clipped adam": ("adam", chained(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), stage("adam"))),
    "warm-up": ("sgd", warmed_up(sgd)),
    "warm-up, adamw": ("adam", warmed_up(adamw)),
    "MultiSteps": ("sgd", lambda s, rate: optax.MultiSteps(sgd(s, rate), 4).gradient_transformation()),
    "MultiSteps, adam": ("adam", lambda s, rate: optax.MultiSteps(adam(s, rate), 4).gradient_transformation()),
    "inject_hyperparams": ("sgd", lambda s, rate: optax.inject_hyperparams(sgd)(s, learning_rate=rate)),
}
LOSE = {
    "plain sgd": ("sgd", lambda s, rate: optax.sgd(rate)),
    "plain adam": ("adam", lambda s, rate: optax.adam(rate)),
    "stage before adam": ("adam", chained(stage("adam"), optax.scale_by_adam())),
    "SGD's stage before adam": ("adam", chained(stage("sgd"), optax.scale_by_adam())),
    "SGD's stage after adam": ("adam", chained(optax.scale_by_adam(), stage("sgd"))),
    "Adam's stage after sgd": ("sgd", chained(optax.trace(0.9), stage("adam"))),
    "twice": ("sgd", chained(stage("sgd"), stage("sgd"))),
    "sign after": ("adam", chained(stage("adam"), optax.scale_by_sign())),
    "trust ratio after": ("adam", chained(optax.scale_by_adam(), stage("adam"), optax.scale_by_trust_ratio())),
    "MultiSteps of plain sgd": ("sgd", lambda s, rate: optax.MultiSteps(optax.sgd(rate), 4).gradient_transformation()),
    "warm-up of plain sgd": ("sgd", lambda s, _: optax.sgd(optax.linear_schedule(0.0, 1.0, 10))),
}
WIDE = {layer: scaling_of(mup(base_width=8), 64)[layer] for layer in ("layer_1", "layer_2", "readout")}


@pytest.mark.parametrize("case", list(KEEP))
def test_check_passes_what_keeps_the_multipliers(case):
    """The rule is inferred, as `dense.train` has it; under muP the wrong one would not pass."""
    check_optimizer(KEEP[case][1], WIDE, None)


@pytest.mark.parametrize("case", ["momentum", "adam", "warm-up", "MultiSteps"])
def test_check_takes_the_rule_at_its_word(case):
    rule, optimizer = KEEP[case]
    check_optimizer(optimizer, WIDE, rule)
    with pytest.raises(ValueError, match="Expected the optimizer to keep"):
        check_optimizer(optimizer, WIDE, "adam" if rule == "sgd" else "sgd")


@pytest.mark.parametrize("case", list(LOSE))
def test_check_names_the_first_parameter_whose_multiplier_is_lost(case):
    rule, optimizer = LOSE[case]
    layer = "readout" if case.endswith(("after adam", "after sgd")) else "layer_2"  # the other rule agrees on layer_2
    with pytest.raises(ValueError, match=rf"keep the {rule} multiplier .* of \['{layer}'\]\['kernel'\] relative to"):
        check_optimizer(optimizer, WIDE, None)


@pytest.mark.parametrize("case", ["plain sgd", "SGD's stage after adam"])
def test_check_raises_with_a_given_rule_too(case):
    rule, optimizer = LOSE[case]
    with pytest.raises(ValueError, match=f"Expected the optimizer to keep the {rule} multiplier"):
        check_optimizer(optimizer, WIDE, rule)


def test_check_names_a_layer_that_a_mask_leaves_out():
    mask = {layer: layer != "readout" for layer in WIDE}
    with pytest.raises(ValueError, match=r"multiplier 0.125 of \['readout'\]\['kernel'\] relative to .*, got 1: is"):
        check_optimizer(chained(lambda s: optax.masked(scale_by_parametrization(s), mask)), WIDE)


@pytest.mark.parametrize("frozen", ["layer_1", "layer_2", "readout"])
def test_check_leaves_frozen_layers_out(frozen):
    labels = {layer: "frozen" if layer == frozen else "trained" for layer in WIDE}

    def frozen_sgd(trained):
        return lambda s, rate: optax.multi_transform(
            {"trained": trained(s, rate), "frozen": optax.set_to_zero()}, labels
        )

    check_optimizer(frozen_sgd(sgd), WIDE)
    with pytest.raises(ValueError, match="Expected the optimizer to keep"):
        check_optimizer(frozen_sgd(lambda s, rate: optax.sgd(rate)), WIDE)


def test_check_warns_where_all_updates_are_zero():
    with pytest.warns(UserWarning, match="undetermined, 64 updates were all zero"):
        check_optimizer(lambda s, rate: optax.set_to_zero(), WIDE)
    late = chained(stage("sgd"), optax.scale_by_schedule(lambda count: jnp.where(count < 5, 0.0, 1.0)))
    with pytest.warns(UserWarning, match="undetermined, 5 updates were all zero"):
        check_optimizer(late, WIDE, max_steps=5)
    check_optimizer(late, WIDE, max_steps=6)


def test_check_works_while_a_program_is_traced():
    outcomes = []

    @jax.jit
    def program(x):
        for optimizer in (adamw, KEEP["MultiSteps"][1], LOSE["plain sgd"][1]):
            try:
                check_optimizer(optimizer, WIDE, None)
                outcomes.append("kept")
            except ValueError:
                outcomes.append("lost")
        return 2 * x

    program(1.0)
    assert outcomes == ["kept", "kept", "lost"]


def test_check_passes_anything_where_nothing_is_to_be_lost():
    """At the base width every multiplier is one."""
    check_optimizer(lambda s, rate: optax.sgd(rate), scaling_of(mup(base_width=8), 8))


# At the base width the network is the plain one

WIDTH, OUTPUTS = 32, 3
DATA = np.random.default_rng(0)
XI = jnp.asarray(DATA.standard_normal((8, INPUT_DIM)), jnp.float32)
TARGETS = jnp.asarray(DATA.standard_normal((8, OUTPUTS)), jnp.float32)
CLASSES = jnp.asarray(DATA.integers(0, OUTPUTS, 8))
LOSSES = {
    "mse": lambda f: 0.5 * jnp.mean(jnp.sum((f - TARGETS) ** 2, axis=-1)),
    "cross-entropy": lambda f: jnp.mean(optax.softmax_cross_entropy_with_integer_labels(f, CLASSES)),
}
PAIRS = {
    "sgd": (partial(sgd, learning_rate=0.3), optax.sgd(0.3)),
    "momentum": (partial(sgd, learning_rate=0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)),
    "nesterov": (
        partial(sgd, learning_rate=0.1, momentum=0.9, nesterov=True),
        optax.sgd(0.1, momentum=0.9, nesterov=True),
    ),
    "adam": (partial(adam, learning_rate=0.01), optax.adam(0.01)),
    "adamw": (partial(adamw, learning_rate=0.01, weight_decay=0.1), optax.adamw(0.01, weight_decay=0.1)),
}


class Plain(nn.Module):
    """Flax alone."""

    @nn.compact
    def __call__(self, x):
        for index in (1, 2, 3):
            x = jnp.tanh(nn.Dense(WIDTH, use_bias=False, precision="highest", name=f"layer_{index}")(x))
        return nn.Dense(OUTPUTS, use_bias=False, precision="highest", name="readout")(x)


@functools.cache
def plain_program(loss: str):
    xi = XI / INPUT_DIM**0.5
    return jax.jit(jax.value_and_grad(lambda params: LOSSES[loss](Plain().apply({"params": params}, xi))))


@functools.cache
def our_program(loss: str, name: str, base_width: int):
    model = MLP(WIDTH, 3, OUTPUTS, get(name, base_width=base_width))
    return jax.jit(jax.value_and_grad(lambda params: LOSSES[loss](model.apply({"params": params}, XI))))


def trained(program, transform, params, steps=10):
    """Parameters after each step, and losses before each."""
    state, trajectory, losses = transform.init(params), [], []
    for _ in range(steps):
        loss, gradients = program(params)
        updates, state = transform.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        trajectory.append(params)
        losses.append(loss)
    return trajectory, np.array(losses)


@functools.cache
def initial_weights():
    return draw(scaling_of(sp(base_width=WIDTH), WIDTH, OUTPUTS), 1, std=lambda leaf: leaf.init_std)


@functools.cache
def plainly_trained(loss: str, pair: str):
    return trained(plain_program(loss), PAIRS[pair][1], initial_weights())


def relative_difference(ours, theirs) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max() / abs(b).max()), ours, theirs)))


@pytest.mark.parametrize("name", ["sp", "mup"])
@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("pair", list(PAIRS))
def test_at_the_base_width_ten_steps_equal_plain_flax_and_optax(name, loss, pair):
    ours = PAIRS[pair][0]
    expected, expected_losses = plainly_trained(loss, pair)
    assert expected_losses[-1] < 0.7 * expected_losses[0]  # ten steps do something
    scaling, wide = (scaling_of(get(name, base_width=n0), WIDTH, OUTPUTS) for n0 in (WIDTH, WIDTH // 2))
    assert [scaling[layer]["kernel"].init_std for layer in LAYERS] == [1.0, *[WIDTH**-0.5] * 3]
    got, losses = trained(our_program(loss, name, WIDTH), ours(scaling), initial_weights())
    # Every multiplier is exactly 1 and the products are the same: equal to the last bit on the CPUs tried. 100 EPS is
    # for devices on which the two programs are fused differently: ten steps, ten roundings each.
    assert relative_difference(got[-1], expected[-1]) <= 100 * EPS
    np.testing.assert_allclose(losses, expected_losses, rtol=100 * EPS)
    # Control, the same weights at twice the base width: after three steps they differ by 4 % to 23 % (measured).
    got, _ = trained(our_program(loss, name, WIDTH), ours(wide), initial_weights(), steps=3)
    assert relative_difference(got[-1], expected[2]) > 0.01


@pytest.mark.parametrize("name", ["sp", "mup"])
def test_at_the_base_width_outputs_are_those_of_plain_flax_fed_xi_over_sqrt_d(name):
    model = MLP(WIDTH, 3, OUTPUTS, get(name, base_width=WIDTH))
    variables = {"params": initial_weights()}
    f, plain = model.apply(variables, XI), Plain().apply(variables, XI / INPUT_DIM**0.5)
    np.testing.assert_allclose(f, plain, rtol=0, atol=100 * EPS * np.abs(plain).max())
    assert np.abs(Plain().apply(variables, XI) - plain).max() > 0.1  # control: the 1/sqrt(d) is seen


# Orders in width

SAMPLES = np.random.default_rng(3).standard_normal((4, 8))
SAMPLES = jnp.asarray(SAMPLES * (8**0.5 / np.linalg.norm(SAMPLES, axis=1, keepdims=True)), jnp.float32)
VALUES = 5 * jnp.array([[1.0], [-1.0], [0.5], [-0.7]])  # above f_0, so that f - y varies little between draws
WIDTHS = {64: 8, 256: 8, 1024: 4}  # with the number of seeds: wide networks differ less


@functools.cache
def network(width: int):
    """Features and gradients of the width-n network. All presets store a=0, so they share this one program."""
    model = MLP(width, 3, 1, sp())

    def loss(params):
        features = model.apply({"params": params}, SAMPLES, method="features")
        return 0.5 * jnp.mean((features.f - VALUES) ** 2), (*features.h, features.f)

    scaling = scaling_tree(jax.eval_shape(model.init, jax.random.key(0), SAMPLES))
    assert all(leaf.multiplier == 1 for leaf in jax.tree.leaves(scaling))
    return jax.jit(jax.value_and_grad(loss, has_aux=True)), scaling


@functools.cache
def gaussians(width: int, seed: int):
    return draw(network(width)[1], seed)


@functools.cache
def first_gradients(parametrization: Parametrization, width: int, seed: int):
    program, reference = network(width)
    scaling = map_scaling(lambda leaf: parametrization.scales(leaf.role, leaf.fan_in, leaf.fan_out), reference)
    params = jax.tree.map(lambda leaf, z: leaf.init_std * z, scaling, gaussians(width, seed))
    (_, features), gradients = program(params)
    return scaling, params, features, gradients


def change_of_features(parametrization: Parametrization, optimizer, width: int) -> np.ndarray:
    """Root mean square of h_1 - h_0 for each layer, and of f_1 - f_0, over samples, coordinates and seeds."""
    squares = []
    for seed in range(WIDTHS[width]):
        scaling, params, before, gradients = first_gradients(parametrization, width, seed)
        transform = optimizer(scaling)
        updates, _ = transform.update(gradients, transform.init(params), params)
        (_, after), _ = network(width)[0](optax.apply_updates(params, updates))
        squares.append([float(jnp.mean((b - a) ** 2)) for a, b in zip(before, after, strict=True)])
    return np.sqrt(np.mean(squares, axis=0))


def slopes(parametrization: Parametrization, optimizer) -> np.ndarray:
    changes = [change_of_features(parametrization, optimizer, width) for width in WIDTHS]
    return np.polyfit(np.log(list(WIDTHS)), np.log(changes), 1)[0]


def adam_step(scaling):
    return adam(scaling, 0.1)


def sgd_step(scaling):
    return sgd(scaling, 0.1)


# Orders of (h^1, h^2, h^3, f) after one step, as powers of n. ntp's logits: W_0 . dx^L is aligned, n^(1/2). ip starts
# from h^l ~ n^(-(l-1)/2), f ~ n^(-3/2), dh^3 ~ n^-1, dh^2 ~ n^(-3/2), dh^1 ~ n^-2, and moves as these products say.
ORDERS = {
    "mup, adam": (mup, adam_step, (0, 0, 0, 0)),
    "mup, sgd": (mup, sgd_step, (0, 0, 0, 0)),
    "ntp, adam": (ntp, adam_step, (0, 0, 0, 0.5)),
    "ntp, sgd": (ntp, sgd_step, (-0.5, -0.5, -0.5, 0)),
    "sp, adam": (sp, adam_step, (-1, 0, 0, 0.5)),
    "sp, sgd": (sp, sgd_step, (-1.5, -0.5, -0.5, 0)),
    "ip, adam": (ip, adam_step, (0, 0, -0.5, -0.5)),
    "ip, sgd": (ip, sgd_step, (-1, -0.5, -1, -1)),
}


@pytest.mark.parametrize("case", list(ORDERS))
def test_first_step_moves_features_by_the_stated_power_of_width(case):
    """Tolerance: finite width is seen at 64. Measured here: within .08; with 128..2048, all eight cases within .06."""
    preset, optimizer, orders = ORDERS[case]
    np.testing.assert_allclose(slopes(preset(), optimizer), orders, rtol=0, atol=0.1)


def test_adam_without_multipliers_moves_features_by_more_and_more():
    """Control: one rate for all layers. Later layers move by n."""
    fitted = slopes(mup(), lambda scaling: optax.adam(1e-3))
    assert abs(fitted[0]) < 0.1
    assert (fitted[1:] > 0.5).all()


# Adam's epsilon and AdamW's decay


def mean_update(transform, gradients, multipliers) -> np.ndarray:
    """Mean |update| of each layer in units of its multiplier: |g| / (|g| + epsilon)."""
    updates, _ = transform.update(gradients, transform.init(gradients), gradients)
    return np.array([float(jnp.mean(abs(updates[layer]["kernel"])) / multipliers[layer]) for layer in LAYERS])


@pytest.mark.parametrize("preset", [sp, ntp, mup])
def test_scaled_epsilon_keeps_update_sizes_constant_in_width(preset):
    """An epsilon of the order of the gradients at the base width, in networks 16 times as wide."""
    scaled, fixed = [], []
    for width, seed in itertools.product((64, 1024), range(4)):
        scaling, _, _, gradients = first_gradients(preset(base_width=64), width, seed)
        multipliers = {layer: scaling[layer]["kernel"].adam_lr_mult for layer in LAYERS}
        scaled.append(mean_update(adam(scaling, 1.0, eps=0.1), gradients, multipliers))
        plain = optax.chain(optax.scale_by_adam(eps=0.1), scale_by_parametrization(scaling, "adam"))
        fixed.append(mean_update(plain, gradients, multipliers))
    (base, wide), (base_fixed, wide_fixed) = (np.reshape(u, (2, 4, 4)).mean(axis=1) for u in (scaled, fixed))
    np.testing.assert_allclose(base, base_fixed, rtol=100 * EPS)  # at the base width nothing is scaled
    assert (base < 0.9).all()  # the epsilon counts: measured .17, .40, .37, .84
    assert (wide / base > 0.8).all()  # measured .90 to .98, which is the gradient's own drift from 64 to 1024
    assert (wide / base < 1.1).all()
    # Control, a fixed epsilon: gradients of order n^-v fall by 16^v (4 for sp and ntp, 16 for mup), but the readout's.
    assert (wide_fixed / base_fixed < (0.5, 0.5, 0.5, 1.0)).all()
    if preset is mup:
        assert (wide_fixed / base_fixed < (0.15, 0.15, 0.15, 1.0)).all()


@presets
@pytest.mark.parametrize("width", [32, (32, 96, 16)])
def test_decay_times_rate_does_not_scale(name, width):
    """With zero gradients every weight shrinks by 1 - rate * decay, whatever its layer and its width."""
    scaling = scaling_of(get(name), width)
    params = draw(scaling, 0)
    zeros = jax.tree.map(jnp.zeros_like, params)
    for transform in (adamw(scaling, 0.1, weight_decay=0.5), sgd(scaling, 0.1, weight_decay=0.5)):
        assert_same(steps_of(transform, zeros, params, 1), jax.tree.map(lambda w: 0.95 * w, params), rtol=2 * EPS)
    coupled = optax.chain(optax.add_decayed_weights(0.5), sgd(scaling, 0.1))  # control: this decay does scale
    shrunk = steps_of(coupled, zeros, params, 1)
    factors = [1 - 0.05 * scaling[layer]["kernel"].sgd_lr_mult for layer in LAYERS]
    for layer, factor in zip(LAYERS, factors, strict=True):
        np.testing.assert_allclose(
            shrunk[layer]["kernel"], factor * params[layer]["kernel"], rtol=0, atol=8 * EPS * 5 * 96
        )
    assert abs(factors[-1] - 0.95) > 0.01
