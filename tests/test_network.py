"""The Flax network: its function and its initial weights by hand, its boxes, and how they survive JAX and Flax."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze
from flax.errors import ScopeParamShapeError
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import config as jaxtyping_config

from mupjax.network import MLP, Dense, ScaledParam, describe, is_boxed, rowwise_normal, scaling_tree
from mupjax.parametrization import Parametrization, ParamScaling, PerRole, get, mup, sp

PLAIN = ("sp", "ntp", "mup", "ip")  # presets whose first step is as the later ones

EPS = 2.0**-23  # spacing of float32 at 1
X = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
LAYERS = ("layer_1", "layer_2", "readout")

presets = pytest.mark.parametrize("name", PLAIN)


def model_of(parametrization: Parametrization, width=(24, 8), **options) -> MLP:
    return MLP(width, 2, 2, parametrization, **options)


def params_of(variables):
    return nn.meta.unbox(variables)["params"]


def shapes_of(model: nn.Module):
    """What `init` returns, without computing it: enough for everything but values."""
    return jax.eval_shape(model.init, jax.random.key(0), X)


# The function


def test_shapes_of_kernels_features_and_outputs(key):
    model = model_of(mup())
    variables = model.init(key, X)
    assert jax.tree.map(jnp.shape, params_of(variables)) == {
        "layer_1": {"kernel": (3, 24)},
        "layer_2": {"kernel": (24, 8)},
        "readout": {"kernel": (8, 2)},
    }
    features = model.apply(variables, X, method="features")
    assert [h.shape for h in features.h] == [x.shape for x in features.x] == [(5, 24), (5, 8)]
    assert features.f.shape == (5, 2)
    assert model.apply(variables, X[0]).shape == (2,)
    assert model.apply(variables, X[None]).shape == (1, 5, 2)


@pytest.mark.parametrize("use_bias", [False, True])
def test_features_are_those_of_the_formula_in_numpy(key, use_bias):
    model = model_of(mup(bias_std=1.0), use_bias=use_bias)
    variables = model.init(key, X)
    features = model.apply(variables, X, method="features")
    np.testing.assert_array_equal(features.f, model.apply(variables, X))
    params = jax.tree.map(np.float64, params_of(variables))
    x = X.astype(np.float64) / np.sqrt(3)
    for layer, ours in zip(LAYERS, (*features.h, features.f), strict=True):
        w, b = params[layer]["kernel"], params[layer].get("bias", np.zeros(params[layer]["kernel"].shape[1]))
        # A float32 sum of k products errs by at most k EPS sum|x||w| (Higham 2002, Sec. 3.1); the inputs of later
        # layers err by the layers before, of the same size: the factor 4.
        bound = 4 * EPS * (len(w) + 2) * (np.abs(x) @ np.abs(w) + np.abs(b)).max()
        np.testing.assert_allclose(ours, x @ w + b, rtol=0, atol=bound)
        x = np.tanh(x @ w + b)
    undivided = X.astype(np.float64) @ params["layer_1"]["kernel"]  # control: the factor 1/sqrt(d) is seen
    assert np.abs(features.h[0] - undivided).max() > 0.1


def test_roles_follow_from_the_place():
    scaling = scaling_tree(shapes_of(MLP((8, 24, 4), 3, 2, mup(), use_bias=True)))
    assert jax.tree.map(lambda leaf: leaf.role, scaling) == {
        "layer_1": {"kernel": "input", "bias": "bias"},
        "layer_2": {"kernel": "hidden", "bias": "bias"},
        "layer_3": {"kernel": "hidden", "bias": "bias"},
        "readout": {"kernel": "output", "bias": "output_bias"},
    }
    fans = jax.tree.map(lambda leaf: (leaf.fan_in, leaf.fan_out), scaling)
    assert [layer["kernel"] for layer in fans.values()] == [(3, 8), (8, 24), (24, 4), (4, 2)]
    assert [layer["bias"] for layer in fans.values()] == [(3, 8), (8, 24), (24, 4), (4, 2)]


def test_depth_one_has_an_input_and_an_output_layer_alone():
    scaling = scaling_tree(shapes_of(MLP(8, 1, 2, mup())))
    assert {name: layer["kernel"].role for name, layer in scaling.items()} == {"layer_1": "input", "readout": "output"}


@pytest.mark.parametrize("activation", ["relu", jnp.sin])
def test_activation_is_applied_between_layers_and_not_to_outputs(key, activation):
    model = model_of(mup(), activation=activation)
    features = model.apply(model.init(key, X), X, method="features")
    phi = jax.nn.relu if activation == "relu" else activation
    for h, x in zip(features.h, features.x, strict=True):
        np.testing.assert_array_equal(x, phi(h))
    assert features.f.min() < 0


# Initial weights


def expected_stds(name: str, widths: tuple[int, int, int], n0: int) -> list[float]:
    """Standard deviations of the four kernels, from the published table (Yang & Hu 2021, Table 1) with SP's at n0.

    Unequal widths under muP and IP: Yang, Simon & Bernstein 2023, Condition 1.
    """
    stds = [1.0]
    for fan_in, fan_out in ((widths[0], widths[1]), (widths[1], widths[2])):
        if name in ("sp", "ntp"):
            stds.append(fan_in**-0.5)
        else:
            spectral = min(1.0, (fan_out / fan_in) ** 0.5)
            stds.append(spectral * {"mup": fan_in**-0.5, "ip": n0**0.5 / fan_in}[name])
    return [*stds, widths[2] ** -0.5 if name in ("sp", "ntp") else n0**0.5 / widths[2]]


@presets
@pytest.mark.parametrize(
    ("widths", "base_width"), [((64, 64, 64), 1), ((192, 192, 192), 64), ((64, 192, 32), 1), ((64, 192, 32), 16)]
)
def test_kernels_have_the_standard_deviations_of_the_table(key, name, widths, base_width):
    model = MLP(widths, 3, widths[0], get(name, base_width=base_width))
    params = params_of(model.init(key, np.ones((1, widths[0]), np.float32)))

    def z_score(kernel: np.ndarray, std: float) -> float:
        """k entries: sum w^2 / std^2 is chi-square with k degrees of freedom, of mean k and variance 2k."""
        return (np.sum(kernel**2) / std**2 - kernel.size) / (2 * kernel.size) ** 0.5

    stds = expected_stds(name, widths, base_width)
    for layer, std in zip(("layer_1", "layer_2", "layer_3", "readout"), stds, strict=True):
        kernel = np.float64(params[layer]["kernel"])
        # 128 z-scores in all: the largest exceeds 4.5 with probability 1e-3 (the seed is fixed).
        assert abs(z_score(kernel, std)) < 4.5
        assert abs(kernel.mean() / std * kernel.size**0.5) < 4.5
        # Control: even the smallest kernel (2048 entries) tells 10 % of its standard deviation.
        assert abs(z_score(kernel, 0.9 * std)) > 4.5


def test_biases_have_their_standard_deviation_and_start_at_zero_by_default(key):
    layer, x = Dense(2000, "input", mup(bias_std=0.5), use_bias=True), np.ones((1, 1), np.float32)
    bias = np.float64(params_of(layer.init(key, x))["bias"])
    assert abs(np.sum(bias**2) / 0.25 - 2000) / 4000**0.5 < 4.5  # chi-square with 2000 degrees of freedom
    assert not params_of(Dense(2000, "input", mup(), use_bias=True).init(key, x))["bias"].any()


@presets
def test_parametrizations_share_their_gaussians(key, name):
    """With one key, kernels divided by their standard deviations agree."""
    ours, reference = (model_of(p).init(key, X) for p in (get(name), sp()))
    for layer in LAYERS:
        boxes = [variables["params"][layer]["kernel"] for variables in (ours, reference)]
        gaussians = [np.float64(box.value) / box.scaling.init_std for box in boxes]
        np.testing.assert_allclose(*gaussians, rtol=2 * EPS)  # w = std g: std and the product are each rounded once
    other = params_of(model_of(sp()).init(jax.random.key(1), X))
    assert np.abs(other["layer_1"]["kernel"] - params_of(reference)["layer_1"]["kernel"]).max() > 0.1


def test_layers_do_not_share_their_gaussians(key):
    params = params_of(MLP(64, 3, 64, sp()).init(key, np.ones((1, 64), np.float32)))
    kernels = [np.float64(layer["kernel"]).ravel() for layer in params.values()]
    correlations = np.corrcoef(kernels)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() * 64 < 4.5  # each is N(0, 1/4096)


# A narrow kernel is a block of a wide one


@pytest.mark.parametrize("shape", [(8, 2), (5, 7)])
def test_narrow_draw_is_the_top_left_block_of_a_wide_one(key, shape):
    wide, narrow = (rowwise_normal(key, size, jnp.float32) for size in ((24, 8), shape))
    np.testing.assert_array_equal(narrow, wide[: shape[0], : shape[1]])


def test_narrow_draw_is_a_block_under_vmap_over_keys(key):
    keys = jax.random.split(key, 3)
    wide, narrow = (
        jax.vmap(lambda k, shape=shape: rowwise_normal(k, shape, jnp.float32))(keys) for shape in ((24, 8), (8, 2))
    )
    np.testing.assert_array_equal(narrow, wide[:, :8, :2])
    np.testing.assert_array_equal(wide[2], rowwise_normal(keys[2], (24, 8), jnp.float32))


def test_one_draw_of_the_whole_matrix_has_no_such_block(key):
    """Control: what rowwise_normal is there for."""
    wide, narrow = (jax.random.normal(key, shape) for shape in ((24, 8), (5, 7)))
    assert not np.array_equal(narrow, wide[:5, :7])


def test_rows_of_a_draw_are_independent_standard_gaussians(key):
    draw = np.float64(rowwise_normal(key, (64, 192), jnp.float32))
    assert abs(np.sum(draw**2) - draw.size) / (2 * draw.size) ** 0.5 < 4.5  # chi-square
    correlations = (draw @ draw.T / 192)[np.triu_indices(64, 1)]
    assert np.abs(correlations).max() * 192**0.5 < 5.5  # 2016 of about N(0, 1/192): beyond 5.5 with probability 8e-5


@presets
def test_narrow_network_is_a_block_of_a_wide_one(key, name):
    narrow, wide = (model_of(get(name), width).init(key, X)["params"] for width in ((8, 2), (24, 8)))
    for layer in LAYERS:
        small, large = narrow[layer]["kernel"], wide[layer]["kernel"]
        rows, columns = small.value.shape
        np.testing.assert_allclose(
            small.value / small.scaling.init_std,
            large.value[:rows, :columns] / large.scaling.init_std,
            rtol=4 * EPS,  # a product and a quotient on each side, each rounded once
        )


# Other forms of one parametrization

shifts = st.builds(PerRole, *(st.floats(-1.0, 1.0) for _ in PerRole._fields))


@settings(deadline=None, max_examples=6)
@given(st.sampled_from(PLAIN), shifts)
def test_shifted_form_is_the_same_function_of_the_same_gaussians(name, t):
    key, parametrization = jax.random.key(0), get(name, base_width=2, bias_std=1.0)
    model, shifted = (model_of(p, use_bias=True) for p in (parametrization, parametrization.shift(t)))
    features, moved = (m.apply(m.init(key, X), X, method="features") for m in (model, shifted))
    for ours, theirs in zip((*moved.h, moved.f), (*features.h, features.f), strict=True):
        # Weights differ by two roundings each, sums of at most 25 terms by 25 more (a bound), over three layers.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=100 * EPS * np.abs(theirs).max())


@presets
def test_forward_multiplier_is_what_makes_shifted_forms_agree(key, name):
    """Control: a shifted form's stored numbers without their multipliers are another function."""
    model, shifted = (model_of(p) for p in (get(name), get(name).shift(0.5)))
    stored = {"params": params_of(shifted.init(key, X))}
    f = shifted.apply(stored, X)
    np.testing.assert_allclose(f, model.apply(model.init(key, X), X), rtol=0, atol=100 * EPS * np.abs(f).max())
    assert np.abs(model.apply(stored, X) - f).max() > 0.5 * np.abs(f).max()


# Boxes


def test_unboxed_parameters_and_scaling_have_one_structure():
    variables = shapes_of(model_of(mup(), use_bias=True))
    scaling = scaling_tree(variables)
    assert jax.tree.structure(scaling) == jax.tree.structure(params_of(variables))
    assert all(isinstance(leaf, ParamScaling) for leaf in jax.tree.leaves(scaling))
    assert len(jax.tree.leaves(scaling)) == 6
    assert all(is_boxed(leaf) for leaf in jax.tree.leaves(variables, is_leaf=is_boxed))
    assert scaling == scaling_tree(variables["params"]) == scaling_tree(freeze(variables)).unfreeze()


def test_boxed_and_unboxed_parameters_give_the_same_outputs(key):
    model = model_of(mup())
    variables = model.init(key, X)
    np.testing.assert_array_equal(model.apply(variables, X), model.apply({"params": params_of(variables)}, X))


def test_boxes_survive_jit(key):
    model = MLP(8, 1, 2, mup())
    variables, jitted = model.init(key, X), jax.jit(model.init)(key, X)
    assert scaling_tree(jitted) == scaling_tree(variables) == scaling_tree(shapes_of(model))
    assert scaling_tree(jax.jit(lambda v: jax.tree.map(jnp.sin, v))(variables)) == scaling_tree(variables)
    # A compiled draw may differ from an uncompiled one by a rounding or two (fused products).
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=4 * EPS), jitted, variables)
    traces = []
    apply = jax.jit(lambda v: traces.append(None) or model.apply(v, X))
    apply(variables)
    apply(jax.tree.map(lambda leaf: 2 * leaf, variables))
    assert len(traces) == 1  # the boxes are static and equal: no second trace


def test_boxes_survive_vmap_over_seeds(key):
    model = MLP(8, 1, 2, mup())
    keys = jax.random.split(key, 3)
    stacked = jax.vmap(lambda k: model.init(k, X))(keys)
    assert scaling_tree(stacked) == scaling_tree(shapes_of(model))
    outputs = jax.vmap(lambda variables: model.apply(variables, X))(stacked)
    for index, f in enumerate(outputs):
        alone = model.init(keys[index], X)
        jax.tree.map(lambda one, many, index=index: np.testing.assert_array_equal(one, many[index]), alone, stacked)
        # Products of at most 8 terms over two layers, summed in another order.
        np.testing.assert_allclose(f, model.apply(alone, X), rtol=0, atol=20 * EPS * np.abs(f).max())


class Stack(nn.Module):
    """An input layer, three equal hidden layers as one scanned layer, a readout."""

    parametrization: Parametrization
    width: int = 8

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(Dense(self.width, "input", self.parametrization, name="first")(x))

        def layer(dense, x, _):
            return jnp.tanh(dense(x)), None

        scanned = nn.scan(layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = scanned(Dense(self.width, "hidden", self.parametrization, name="hidden"), x, None)
        return Dense(2, "output", self.parametrization, name="readout")(x)


def test_scan_over_hidden_layers_stacks_values_and_keeps_the_scaling(key):
    parametrization = mup(base_width=2)
    model = Stack(parametrization)
    variables = model.init(key, X)
    box = variables["params"]["hidden"]["kernel"]
    assert isinstance(box, ScaledParam)
    assert box.scaling == parametrization.scales("hidden", 8, 8)
    assert box.value.shape == (3, 8, 8)
    assert len({float(kernel[0, 0]) for kernel in box.value}) == 3  # each layer its own draw
    params = params_of(variables)
    x = jnp.tanh(X @ params["first"]["kernel"])
    for kernel in params["hidden"]["kernel"]:
        x = jnp.tanh(x @ kernel)
    f = x @ params["readout"]["kernel"]
    # Five products of at most eight terms, summed in another order.
    np.testing.assert_allclose(model.apply(variables, X), f, rtol=0, atol=100 * EPS * np.abs(f).max())
    gradients = jax.grad(lambda v: model.apply(v, X).sum())(variables)
    assert scaling_tree(gradients) == scaling_tree(variables)


def test_lifted_vmap_stacks_values_and_keeps_the_scaling(key):
    ensemble = nn.vmap(Dense, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=3)
    variables = ensemble(8, "input", mup()).init(key, X)
    box = variables["params"]["kernel"]
    assert box.scaling == mup().scales("input", 3, 8)
    assert box.value.shape == (3, 3, 8)
    f = jnp.einsum("bi,kij->kbj", X, box.value)
    np.testing.assert_allclose(ensemble(8, "input", mup()).apply(variables, X), f, rtol=0, atol=4 * EPS * abs(f).max())


def test_float64_numpy_inputs_are_cast_without_x64(key):
    model = model_of(mup())
    variables = model.init(key, X.astype(np.float64))  # warnings are errors: no draw asks for float64
    jax.tree.map(np.testing.assert_array_equal, variables, model.init(key, X))
    assert model.apply(variables, X.astype(np.float64)).dtype == jnp.float32
    layer = Dense(24, "input", mup())
    assert params_of(layer.init(key, X.astype(np.float64)))["kernel"].dtype == jnp.float32


def test_float64_inputs_give_float64_parameters_and_outputs(key):
    model = MLP(8, 1, 2, mup())
    with jax.enable_x64(True):
        variables = model.init(key, X.astype(np.float64))
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float64)}
        f = np.asarray(model.apply(variables, X.astype(np.float64)))
    assert f.dtype == np.float64
    single = model.apply(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variables), X)
    assert single.dtype == jnp.float32
    error = np.abs(f - single).max() / np.abs(f).max()
    assert 0 < error < 20 * EPS  # float32 rounding, and not none: the float64 outputs are not float32 in disguise


# What is refused


@pytest.mark.parametrize(
    "other", [mup(base_width=4), get("ip"), sp(), sp(learning_rate_exponent=0.0), mup().shift(0.5), mup(bias_std=1.0)]
)
def test_boxes_of_another_parametrization_are_refused_by_name(other):
    variables, model = shapes_of(model_of(other, use_bias=True)), model_of(mup(), use_bias=True)
    with pytest.raises(ValueError, match=r"Expected parameter 'layer_\d/(kernel|bias)' to carry the scaling of mup"):
        jax.eval_shape(model.apply, variables, X)
    jax.eval_shape(model.apply, {"params": params_of(variables)}, X)  # without boxes there is nothing to hold


def test_parameters_of_another_width_are_refused():
    variables = shapes_of(model_of(mup(), 8))
    for given_ in (variables, {"params": params_of(variables)}):
        with pytest.raises(ScopeParamShapeError, match="layer_1"):
            jax.eval_shape(model_of(mup(), 16).apply, given_, X)


class Mixed(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, name="foreign")(Dense(8, "input", mup(), name="ours")(x))
        return Dense(1, "output", mup(), name="readout")(x)


def test_parameters_without_scaling_are_refused_by_path():
    variables = shapes_of(Mixed())
    with pytest.raises(ValueError, match=r"got none at \['foreign'\]\['bias'\], \['foreign'\]\['kernel'\]\. Build"):
        scaling_tree(variables)
    with pytest.raises(ValueError, match=r"got none at \['layer_1'\]\['kernel'\], .*keep the boxes of `init`"):
        scaling_tree(params_of(shapes_of(model_of(mup()))))


def test_parameters_without_scaling_may_opt_out():
    variables = shapes_of(Mixed())
    default = sp().scales("hidden", 8, 8)
    scaling = scaling_tree(variables, default=default)
    assert jax.tree.structure(scaling) == jax.tree.structure(params_of(variables))
    assert scaling["foreign"] == {"kernel": default, "bias": default}
    assert scaling["ours"]["kernel"] == mup().scales("input", 3, 8)


@pytest.mark.parametrize("width", [0, -1, True, (8, 0), (8, False), (8, -8)])
def test_widths_that_are_not_positive_ints_are_refused(key, width):
    wrong = width[1] if isinstance(width, tuple) else width
    with pytest.raises(ValueError, match=rf"Expected `width` to be a positive int, got width={wrong}\."):
        MLP(width, 2, 1, mup()).init(key, X)


@pytest.mark.parametrize("width", [(8,), (8, 8, 8), ()])
def test_tuples_of_widths_of_another_length_than_depth_are_refused(key, width):
    with pytest.raises(ValueError, match="Expected `width` to name one width for each of 2 layers, got width="):
        MLP(width, 2, 1, mup()).init(key, X)


@pytest.mark.parametrize("depth", [0, -1, True])
def test_depths_that_are_not_positive_ints_are_refused(key, depth):
    with pytest.raises(ValueError, match=rf"Expected `depth` to be a positive int, got depth={depth}\."):
        MLP(8, depth, 1, mup()).init(key, X)


@pytest.mark.parametrize("out_dim", [0, -1, True])
def test_numbers_of_outputs_that_are_not_positive_ints_are_refused(key, out_dim):
    with pytest.raises(ValueError, match=rf"Expected `out_dim` to be a positive int, got out_dim={out_dim}\."):
        MLP(8, 2, out_dim, mup()).init(key, X)


def test_unknown_activation_and_role_are_refused(key):
    with pytest.raises(ValueError, match=r"Expected `activation` to be one of tanh, .* got 'tahn'"):
        MLP(8, 2, 1, mup(), activation="tahn").init(key, X)
    jaxtyping_config.update("jaxtyping_disable", True)  # as users run it: the annotation alone would refuse the name
    try:
        with pytest.raises(ValueError, match=r"Expected `role` to be one of input, .* got role='readout'"):
            Dense(8, "readout", mup()).init(key, X)
    finally:
        jaxtyping_config.update("jaxtyping_disable", False)


# describe


def test_describe_has_a_row_a_parameter_with_every_number():
    rows = describe(scaling_tree(shapes_of(MLP(64, 2, 1, mup(base_width=16), use_bias=True))))
    assert [row["parameter"] for row in rows] == [
        f"{layer}/{name}" for layer in ("layer_1", "layer_2", "readout") for name in ("bias", "kernel")
    ]
    by_name = {row.pop("parameter"): row for row in rows}
    # By hand at n = 64, n0 = 16: hidden std 16^-1/2 (64/16)^-1/2, SGD rate 1, Adam rate 16/64, gradient 1/4.
    assert by_name["layer_2/kernel"] == {
        "role": "hidden",
        "fan_in": 64,
        "fan_out": 64,
        "multiplier": 1.0,
        "init_std": 0.125,
        "sgd_lr_mult": 1.0,
        "adam_lr_mult": 0.25,
        "adam_epsilon_mult": 0.25,
        "init_mean": 0.0,
        "sgd_lr_mult_first": None,
        "init_kept": None,
        "normalized": False,
    }
    assert by_name["layer_1/kernel"]["sgd_lr_mult"] == by_name["layer_1/bias"]["sgd_lr_mult"] == 4.0
    assert (by_name["readout/kernel"]["init_std"], by_name["readout/kernel"]["sgd_lr_mult"]) == (0.0625, 0.25)
    assert by_name["readout/bias"]["adam_lr_mult"] == 1.0
