"""Base widths of layers of unequal width, and constants of the forward pass.

Symbols: base widths m_1..m_L, ri and ro the ratios of a layer's fan_in and fan_out to their base widths.
"""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from typer.testing import CliRunner

from mupjax import activations, cli, optim
from mupjax.cli import parsing
from mupjax.dynamics import feature_limit
from mupjax.dynamics.implicit.scalings import check_known, scalings_of
from mupjax.dynamics.kernel_limit import kernels, layer_weights
from mupjax.network import MLP, scaling_tree
from mupjax.parametrization import Parametrization, PerRole, classification, get, ip_llr, mup, ntp, nup, sp
from mupjax.studies.covariance import covariance_study
from mupjax.sweeps.grid import _octaves, grid_of
from mupjax.sweeps.sweep import SPEC
from mupjax.task import Task

PLAIN = ("sp", "ntp", "mup", "ip")  # presets that have a standard network
presets = pytest.mark.parametrize("name", PLAIN)
ROUNDING = 1e-14  # float64, products of at most four powers
INPUT_DIM, OUTPUTS = 5, 3


def scalings(p: Parametrization, widths: tuple[int, ...]):
    """Of the kernels of layers 1..L and the readout, then of their biases."""
    depth, fans = len(widths), list(enumerate(pairwise((INPUT_DIM, *widths, OUTPUTS)), start=1))
    roles = ["input", *["hidden"] * (depth - 1), "output"]
    kernels = [p.scales(role, *fan, layer) for role, (layer, fan) in zip(roles, fans, strict=True)]
    return kernels, [p.scales("output_bias" if layer > depth else "bias", *fan, layer) for layer, fan in fans]


# Against the standard network and microsoft/mup's rule


@presets
@pytest.mark.parametrize("base", [(128, 64), (64, 128), (24, 7, 40), (5,)])
def test_at_its_base_widths_every_preset_is_the_standard_network(name, base):
    kernels, biases = scalings(get(name, base_width=base, bias_std=0.5), base)
    for leaf, std in zip((*kernels, *biases), (1, *(m**-0.5 for m in base), *[0.5] * len(biases)), strict=True):
        assert (leaf.init_std, leaf.sgd_lr_mult, leaf.adam_lr_mult, leaf.adam_epsilon_mult) == (std, 1, 1, 1), leaf


def test_one_number_for_unequal_widths_is_another_network():
    """Negative control: 128 to 64 starts .707 times as large and learns at half the rate."""
    leaf = mup(base_width=128).scales("hidden", 128, 64)
    assert (leaf.init_std * 128**0.5, leaf.sgd_lr_mult) == pytest.approx((0.5**0.5, 0.5), rel=ROUNDING)


@presets
@pytest.mark.parametrize("base", [1, 16])
def test_equal_numbers_are_one_number(name, base):
    several, one = (scalings(get(name, base_width=m, bias_std=0.5), (64, 8)) for m in ((base, base), base))
    assert several == one


def microsoft_mup(widths: tuple[int, ...], base: tuple[int, ...]) -> list[tuple[float, float, float]]:
    """(initial size, SGD rate, Adam rate) of effective kernels under microsoft/mup, relative to the base network's.

    Its rule, of parameters w of the standard network: hidden ones start with ri^-1/2 times the base network's size and
    have SGD rates ro/ri and Adam rates 1/ri. Input kernels have SGD rates ro. The readout multiplies its input by 1/ri,
    starts with the base network's size and has SGD rates ri, so that W = w/ri starts with 1/ri and moves with ri/ri^2.
    """
    ratios = [n / m for n, m in zip(widths, base, strict=True)]
    hidden = [(ri**-0.5, ro / ri, 1 / ri) for ri, ro in pairwise(ratios)]
    return [(1.0, ratios[0], 1.0), *hidden, (1 / ratios[-1], ratios[-1] / ratios[-1] ** 2, 1 / ratios[-1])]


@pytest.mark.parametrize("base", [(128, 64, 64), (64, 128, 32), (7, 9, 5)])
@pytest.mark.parametrize("widths", [(128, 64, 64), (256, 128, 128), (64, 512, 96), (96, 32, 200)])
def test_rows_beside_those_of_microsoft_mup(widths, base):
    """Equal but for the size of a layer that narrows relative to the base network: sqrt(ro/ri) times theirs."""
    kernels, _ = scalings(mup(base_width=base), widths)
    ratios = [n / m for n, m in zip(widths, base, strict=True)]
    narrows = [1.0, *(min(1.0, ro / ri) ** 0.5 for ri, ro in pairwise(ratios)), 1.0]
    at_base = [1.0, *(m**-0.5 for m in base)]
    for leaf, theirs, narrow, std in zip(kernels, microsoft_mup(widths, base), narrows, at_base, strict=True):
        ours = leaf.init_std / std, leaf.sgd_lr_mult, leaf.adam_lr_mult
        assert ours == pytest.approx((narrow * theirs[0], *theirs[1:]), rel=ROUNDING)


# Training beside plain networks, in float64

WIDTHS = (12, 5)
DATA = np.random.default_rng(0)
XI, TARGETS = DATA.standard_normal((6, INPUT_DIM)), DATA.standard_normal((6, OUTPUTS))
NAMES = ("layer_1", "layer_2", "readout")
FANS = dict(zip(NAMES, pairwise((INPUT_DIM, *WIDTHS, OUTPUTS)), strict=True))
GAUSSIANS = {name: DATA.standard_normal(fan) for name, fan in FANS.items()}
OPTIMIZERS = {
    "sgd": (partial(optim.sgd, momentum=0.5), partial(optax.sgd, momentum=0.5), 0.3),
    # an epsilon as large as typical gradients: one of another size would be seen
    "adam": (partial(optim.adam, eps=0.1), partial(optax.adam, eps=0.1), 0.05),
    "adamw": (partial(optim.adamw, weight_decay=0.2), partial(optax.adamw, weight_decay=0.2), 0.05),
}
SAME = 1e-12  # float64: entries of order one, three steps of some hundred roundings each


class Plain(nn.Module):
    """Flax alone, with constants in its forward pass."""

    alpha_in: Any
    alpha_out: Any

    @nn.compact
    def __call__(self, x):
        dense = partial(nn.Dense, use_bias=False, precision="highest", param_dtype=jnp.float64)
        x = jnp.tanh(self.alpha_in * dense(WIDTHS[0], name="layer_1")(x))
        x = jnp.tanh(dense(WIDTHS[1], name="layer_2")(x))
        return self.alpha_out * dense(OUTPUTS, name="readout")(x)


def loss_of(outputs):
    return 0.5 * jnp.mean(jnp.sum((outputs - TARGETS) ** 2, axis=-1))


@functools.cache
def plain_program():
    """Losses and gradients of parameters and constants."""

    def loss(params, alphas):
        return loss_of(Plain(*alphas).apply({"params": params}, XI / INPUT_DIM**0.5))

    return jax.jit(jax.value_and_grad(loss))


@functools.cache
def our_program(preset: Parametrization):
    """Losses and gradients of parameters; one program for all parametrizations without forward factors."""
    model = MLP(WIDTHS, 2, OUTPUTS, preset)
    return jax.jit(jax.value_and_grad(lambda params: loss_of(model.apply({"params": params}, XI))))


def plainly(*alphas: float):
    return lambda params: plain_program()(params, alphas)


def our(preset: Parametrization):
    return our_program(preset if preset.traits.multipliers else sp())


def tree_of(preset: Parametrization):
    model = MLP(WIDTHS, 2, OUTPUTS, preset)
    return scaling_tree(jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(XI)))


def drawn(tree):
    return {name: {"kernel": jnp.asarray(tree[name]["kernel"].init_std * g)} for name, g in GAUSSIANS.items()}


def trained(program, transform, params, steps=3):
    """Losses before every step, then the parameters after the last."""
    state, losses = transform.init(params), []
    for _ in range(steps):
        loss, gradients = program(params)
        losses.append(float(loss))
        updates, state = transform.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    assert abs(losses[-1] / losses[0] - 1) > 0.01  # the steps do something
    return np.array(losses), {name: np.asarray(layer["kernel"]) for name, layer in params.items()}


def distance(ours, theirs, factors=(1.0, 1.0, 1.0)) -> float:
    """The largest distance of losses and of parameters, `theirs` times factors, over their sizes."""
    of_losses = np.max(np.abs(ours[0] / theirs[0] - 1))
    pairs = [(ours[1][name], factor * theirs[1][name]) for name, factor in zip(NAMES, factors, strict=True)]
    return max(of_losses, *(np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in pairs))


@pytest.mark.parametrize(("name", "rule"), [*(("mup", rule) for rule in OPTIMIZERS), ("sp", "sgd"), ("ip", "adam")])
def test_at_its_base_widths_training_equals_plain_flax_and_optax(name, rule):
    ours, theirs, rate = OPTIMIZERS[rule]
    with jax.enable_x64(True):
        preset = get(name, base_width=WIDTHS)
        weights = drawn(tree_of(sp(base_width=WIDTHS)))
        expected = trained(plainly(1.0, 1.0), theirs(rate), weights)
        jax.tree.map(np.testing.assert_array_equal, drawn(tree_of(preset)), weights)
        assert distance(trained(our(preset), ours(tree_of(preset), rate), weights), expected) < SAME
        if name != "sp":  # control: the first base width for all is another network
            wrong = tree_of(get(name, base_width=WIDTHS[0]))
            assert distance(trained(our(preset), ours(wrong, rate), weights), expected) > 1e-3


# Constants of the forward pass

ALPHAS = (1.5, 3.0)
RULES = {
    "mup, momentum": (mup, partial(optim.sgd, momentum=0.5), 0.3),
    "mup, adam": (mup, partial(optim.adam, eps=0.1), 0.05),
    "mup, adamw": (mup, partial(optim.adamw, weight_decay=0.2), 0.05),
    "shifted": (lambda **options: ntp(**options).shift(PerRole(0.3, 0.0, 0.2)), optim.sgd, 0.3),
    "normalized": (partial(nup, q=0.0), optim.sgd, 0.1),
    "first step": (partial(ip_llr, 2), optim.sgd, 0.3),
}


@pytest.mark.parametrize("rule", RULES)
def test_multipliers_are_those_of_an_explicit_forward_pass(rule):
    """The optimizer of the explicit network knows nothing of its constants."""
    make, optimizer, rate = RULES[rule]
    with jax.enable_x64(True):
        plain = make(base_width=(6, 10))
        tree, ours = tree_of(plain), replace(plain, input_multiplier=ALPHAS[0], output_multiplier=ALPHAS[1])
        assert make(base_width=(6, 10), input_multiplier=ALPHAS[0], output_multiplier=ALPHAS[1]) == ours
        forward = [tree[name]["kernel"].multiplier for name in NAMES]  # 1, but in the shifted form

        assert forward[1] == 1
        explicit = plainly(ALPHAS[0] * forward[0], ALPHAS[1] * forward[2])
        expected = trained(explicit, optimizer(tree, rate), drawn(tree))
        scaled = tree_of(ours)
        got = trained(our(ours), optimizer(scaled, rate), drawn(scaled))
        assert distance(got, expected, factors=(ALPHAS[0], 1.0, ALPHAS[1])) < SAME


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_multipliers_at_the_base_widths_equal_plain_flax_and_optax(rule):
    ours, theirs, rate = OPTIMIZERS[rule]
    with jax.enable_x64(True):
        tree = tree_of(mup(base_width=WIDTHS, input_multiplier=ALPHAS[0], output_multiplier=ALPHAS[1]))
        expected = trained(plainly(*ALPHAS), theirs(rate), drawn(tree_of(sp(base_width=WIDTHS))))
        got = trained(our(mup(base_width=WIDTHS)), ours(tree, rate), drawn(tree))
        assert distance(got, expected, factors=(ALPHAS[0], 1.0, ALPHAS[1])) < SAME


def test_kernels_alone_contain_the_multipliers():
    one, other = (scalings(mup(bias_std=0.5, **options), (8, 4)) for options in ({}, {"output_multiplier": 3.0}))
    assert one[1] == other[1]
    assert one[0][:-1] == other[0][:-1]
    assert one[0][-1] != other[0][-1]


def test_an_input_that_is_not_divided_has_another_rate_of_the_input_kernel_alone():
    """README: a rate tuned for networks of x is multiplied by d for SGD and by sqrt(d) for Adam in layer 1."""
    d = INPUT_DIM
    moved = mup(base_width=WIDTHS, input_multiplier=d**0.5, sigma=PerRole(d**-0.5, 1.0, 1.0))
    (first, *others), biases = scalings(moved, WIDTHS)
    (plain, *same), same_biases = scalings(mup(base_width=WIDTHS), WIDTHS)
    assert (others, biases) == (same, same_biases)
    numbers = (first.init_std, first.sgd_lr_mult, first.adam_lr_mult)
    assert numbers == pytest.approx((plain.init_std, d * plain.sgd_lr_mult, d**0.5 * plain.adam_lr_mult), rel=ROUNDING)


# Other dynamics and studies


def test_networks_without_hidden_matrices_have_the_same_scalings():
    p = mup(base_width=(6, 10), bias_std=0.5, biases="all", output_multiplier=3.0)
    found = scalings_of(p, Task(XI, TARGETS), WIDTHS)
    kernels, biases = scalings(p, WIDTHS)
    assert (found.kernels, found.biases) == (tuple(kernels), tuple(biases))


@pytest.mark.parametrize("preset", [sp, ntp])
def test_kernel_limits_weigh_each_layer_by_the_base_width_below(preset):
    """The weights are limits of rates times sizes, at widths of any ratios: n, 3n, n/2."""
    p = preset(base_width=(16, 2, 6), input_multiplier=1.5, output_multiplier=3.0).shift(0.3)
    widths = (10**12, 3 * 10**12, 10**12 // 2)
    leaves, _ = scalings(p, widths)
    rates = [leaf.sgd_lr_mult * leaf.multiplier**2 for leaf in leaves]
    readout = widths[-1] * (leaves[-1].init_std * leaves[-1].multiplier) ** 2
    expected = [rate * n for rate, n in zip(rates, (1, *widths), strict=True)]
    expected = [*(readout * share for share in expected[:-1]), expected[-1]]
    # as in test_kernel_limit: rounding of powers of 1e12, and the share that falls as 1/n
    np.testing.assert_allclose(layer_weights(p, depth=3), expected, rtol=1e-9, atol=1e-9)


def test_kernels_contain_the_multipliers():
    """Linear, one hidden layer: Theta = 2 (alpha_in alpha_out)^2 <x, x'>/d."""
    limit = kernels(np.eye(2), ntp(input_multiplier=2.0, output_multiplier=3.0), depth=1, activation="linear")
    np.testing.assert_allclose(limit.ntk, 36 * np.eye(2), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(limit.nngp, 18 * np.eye(2), rtol=1e-12, atol=1e-12)


def test_limits_that_know_layers_of_one_width_refuse_others():
    settings, tanh = {"depth": 2, "learning_rate": 1.0, "steps": 1, "key": 0}, activations.get("tanh")
    message = "Expected one `base_width` for all layers in the feature-learning limit, got base_width=\\(4, 8\\)"
    with pytest.raises(ValueError, match=message):
        feature_limit.train(Task(XI, TARGETS), mup(base_width=(4, 8)), **settings)
    check_known(mup(base_width=(8, 8)), 2, tanh, 0.0)
    with pytest.raises(ValueError, match="Expected one `base_width` for all layers, got base_width=\\(8, 4, 8\\)"):
        covariance_study(Task(XI, TARGETS), parametrization=mup(base_width=(8, 4, 8)), depth=3)


def test_grids_take_base_widths_of_layers():
    settings = {"parametrizations": ("sp", "mup"), "widths": ((8, 4), (16, 8)), "base_width": (8, 4), "seeds": 1}
    settings |= {"learning_rates": (1.0,), "optimizers": ("sgd",), "steps": 1, "batch_size": None, "centred": False}
    settings |= {"activation": "tanh", "spec": SPEC, "padding": "auto", "key": jax.random.key(0), "memory_gb": None}
    grid = grid_of(Task(XI, TARGETS), depths=(2,), **settings)
    assert [p.base_width for p in grid.parametrizations] == [(8, 4), (8, 4)]
    with pytest.raises(ValueError, match="one for each of 3 hidden layers, got base_width=\\(8, 4\\)"):
        grid_of(Task(XI, TARGETS), depths=(2, 3), **(settings | {"widths": (8,)}))
    distances = [_octaves(*pair) for pair in ((8, 4), ((8, 4), 4), (8, (8, 4)), ((8, 16), (8, 4)))]
    assert distances == [1.0, 1.0, 1.0, 2.0]


def test_the_command_line_writes_base_widths_as_widths():
    assert [parsing.base_width(text) for text in ("64", "64x32")] == [64, (64, 32)]
    with pytest.raises(ValueError, match="Expected `base_width` to be one width, such as 64 or 64x32, got '64,32'"):
        parsing.base_width("64,32")
    words = ["describe", "--width", "128x64", "--depth", "2", "--base-width", "128x64"]
    printed = CliRunner().invoke(cli.app, words, catch_exceptions=False).stdout
    row = next(line for line in printed.splitlines() if "layer_2/kernel" in line)
    assert [word for word in row.split() if word not in "│┃"][5:8] == ["0.08839", "1", "1"]


# Orders in width

GROWN, SEEDS, RATE = ((64, 32), (256, 128)), 8, 0.03  # a rate far below the edge of stability of the base network


@functools.cache
def steps_of(widths: tuple[int, ...]):
    """Mean |change| of the coordinates of h^1, h^2 and f in two steps of SGD, a function of sizes and rates."""
    model = MLP(widths, 2, OUTPUTS, sp())
    shapes = dict(zip(NAMES, pairwise((INPUT_DIM, *widths, OUTPUTS)), strict=True))

    def loss(params):
        features = model.apply({"params": params}, XI, method="features")
        return loss_of(features.f), (*features.h, features.f)

    def step(params, rates):
        (_, seen), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda w, g, rate: w - RATE * rate * g, params, gradients, rates), seen

    def changes(seed, stds, rates):
        keys = dict(zip(NAMES, jax.random.split(jax.random.key(seed), len(NAMES)), strict=True))
        params = {
            name: {"kernel": stds[name]["kernel"] * jax.random.normal(keys[name], shapes[name])} for name in NAMES
        }
        params, first = step(params, rates)
        last = loss(step(params, rates)[0])[1]
        return jnp.stack([jnp.mean(jnp.abs(now - then)) for now, then in zip(last, first, strict=True)])

    return jax.jit(lambda stds, rates: jax.lax.map(lambda seed: changes(seed, stds, rates), jnp.arange(SEEDS)).mean(0))


def growth(preset: Parametrization) -> np.ndarray:
    """How many times as far the coordinates of the wider network move; the readouts start at zero, as in the limit."""
    moved = []
    for widths in GROWN:
        leaves, _ = scalings(preset, widths)
        stds, rates = (
            {name: {"kernel": getattr(leaf, field)} for name, leaf in zip(NAMES, leaves, strict=True)}
            for field in ("init_std", "sgd_lr_mult")
        )
        moved.append(np.asarray(steps_of(widths)(stds | {"readout": {"kernel": 0.0}}, rates)))
    return moved[1] / moved[0]


def test_coordinates_move_as_far_at_four_times_the_widths():
    with jax.enable_x64(True):
        # theory, section 2: constant within 25 % at widths of ratios 1, 3, 1/2
        np.testing.assert_allclose(growth(mup(base_width=GROWN[0])), 1.0, atol=0.25)
        one_rate = growth(sp(base_width=GROWN[0], learning_rate_exponent=0.0))
        assert np.max(one_rate) > 2, one_rate  # control


# The object


@presets
def test_json_keeps_base_widths_and_multipliers(name):
    p = get(name, base_width=(64, 32), input_multiplier=1 / 3, output_multiplier=3.0)
    q = Parametrization.from_json(p.to_json())
    assert (q, hash(q), q.base_width) == (p, hash(p), (64, 32))
    assert json.loads(p.to_json())["base_width"] == [64, 32]
    assert "base_width=(64, 32)" in repr(p)
    older = json.loads(get(name, base_width=4).to_json())
    del older["input_multiplier"], older["output_multiplier"]
    assert Parametrization.from_json(json.dumps(older)) == get(name, base_width=4)


@pytest.mark.parametrize("wrong", [0, (), (64, 0), (64, True)])
def test_what_is_no_base_width_is_refused(wrong):
    with pytest.raises(ValueError, match="Expected `base_width` to be a positive int, or a tuple of one a layer, got"):
        replace(mup(), base_width=wrong)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["input_multiplier", "output_multiplier"])
def test_what_is_no_multiplier_is_refused(name, wrong):
    with pytest.raises(ValueError, match=f"Expected `{name}` to be finite and positive, got {name}={wrong}"):
        mup(**{name: wrong})


@pytest.mark.parametrize(
    ("role", "layer"),
    [
        ("input", None),
        ("input", 2),
        ("hidden", None),
        ("hidden", 1),
        ("hidden", 3),
        ("bias", 0),
        ("bias", 3),
        ("output", 2),
        ("output", None),
        ("output_bias", 4),
    ],
)
def test_a_layer_that_is_missing_or_of_another_network_is_refused(role, layer):
    with pytest.raises(ValueError, match=f"Expected `layer` to be one that has {role} parameters .* got layer={layer}"):
        mup(base_width=(64, 32)).scales(role, 64, 32, layer)


def test_another_depth_is_refused():
    message = "Expected `base_width` to be one number, or one for each of 3 hidden layers, got base_width=\\(64, 32\\)"
    p = mup(base_width=(64, 32))
    with pytest.raises(ValueError, match=message):
        MLP(64, 3, 1, p).init(jax.random.key(0), jnp.ones((1, 4)))
    with pytest.raises(ValueError, match=message):
        classification.classify(p, 3)
    with pytest.raises(ValueError, match=message):
        ip_llr(3, base_width=(64, 32))
