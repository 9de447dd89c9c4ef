"""Classification against Tensor Programs IV's rule, the table of presets, and real networks of growing width."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mupjax.activations import Activation
from mupjax.dynamics import dense
from mupjax.network import MLP
from mupjax.parametrization import Parametrization, PerRole, classification, get, ip, mup, ntp, sp
from mupjax.parametrization.classification import classify
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec
from tests.unchecked import without_type_checks

PLAIN = ("sp", "ntp", "mup", "ip")  # presets whose first step is as the later ones

ZERO = PerRole(0.0, 0.0, 0.0)


def abc(a, b, c) -> Parametrization:
    """A parametrization from three numbers (input, hidden, output) each of a, b and c."""
    return Parametrization("abc", PerRole(*a), PerRole(*b), PerRole(*c), ZERO)


def quarters(low: float, high: float) -> list[float]:
    return [k / 4 for k in range(int(4 * low), int(4 * high) + 1)]


# Tensor Programs IV


def tp4(a, b, c, depth: int) -> tuple[str, float]:
    """Yang & Hu 2021, Thm 3.5 ff. for one common c: (kind, r), after checking that the init is one it covers."""
    (a_1, a_h, a_out), (b_1, b_h, b_out) = a, b
    assert a_1 + b_1 == 0
    assert depth == 1 or a_h + b_h == 0.5
    layers = [2 * a_1 + 1] + [2 * a_h] * (depth - 1)
    r = min(a_out + b_out, 2 * a_out + c) + c - 1 + min(layers)
    stable = a_out + b_out >= 0.5 and r >= 0 and 2 * a_out + c >= 1 and a_out + b_out + r >= 1
    nontrivial = 2 * a_out + c == 1 or a_out + b_out + r == 1
    return ("unstable" if not stable else "trivial" if not nontrivial else "feature" if r == 0 else "kernel"), r


def tp4_per_layer(v_out: float, e, depth: int) -> tuple[str, float]:
    """The same rule with a rate for each layer: r_l = min(v_{L+1}, e_{L+1}) - 1 + e_l + (l == 1)."""
    e_1, e_h, e_out = e
    r = min([min(v_out, e_out) - 1 + e_1 + 1] + [min(v_out, e_out) - 1 + e_h] * (depth - 1))
    stable = v_out >= 0.5 and r >= 0 and e_out >= 1 and v_out + r >= 1
    nontrivial = e_out == 1 or v_out + r == 1
    return ("unstable" if not stable else "trivial" if not nontrivial else "feature" if r == 0 else "kernel"), r


unchecked_classify = without_type_checks(classification).classify
KINDS = {"unstable", "trivial", "kernel", "feature"}


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_it_agrees_with_tensor_programs_iv_wherever_that_is_stable_at_initialisation(depth):
    """Every (a, b, c) of quarters with v_1 = 0, v_l = 1/2 and one common c. All sums of quarters are exact."""
    seen = set()
    some = [-0.5, 0.0, 0.5]
    for a_1, a_h, a_out, v_out, c in itertools.product(some, some, some, quarters(0.25, 1.5), quarters(-1, 1.5)):
        a, b = (a_1, a_h, a_out), (-a_1, 0.5 - a_h, v_out - a_out)
        kind, r = tp4(a, b, c, depth)
        ours = unchecked_classify(abc(a, b, (c, c, c)), depth, "relu")
        assert (ours.kind, ours.r) == (kind, r), f"{a=} {b=} {c=}"
        seen.add(kind)
    assert seen == KINDS


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_it_agrees_with_the_rule_for_rates_per_layer(depth):
    """Quarters again, in the effective exponents (v_out; e_1, e_h, e_out)."""
    seen = set()
    grid = itertools.product(quarters(0.25, 1.5), quarters(-1.5, 0.5), quarters(-0.5, 1.25), quarters(0.75, 1.5))
    for v_out, *e in grid:
        kind, r = tp4_per_layer(v_out, e, depth)
        ours = unchecked_classify(abc((0, 0, 0), (0, 0.5, v_out), e), depth, "relu")
        assert (ours.kind, ours.r) == (kind, r), f"{v_out=} {e=}"
        seen.add(kind)
    assert seen == KINDS


def test_the_activation_does_not_enter_where_tensor_programs_iv_applies():
    """There all preactivations are of order one. A coarser grid than above: it evaluates phi(0) each time."""
    for v_out, e_1, e_h, e_out in itertools.product((0.25, 0.5, 1), (-1, 0, 0.5), (0, 1), (0.5, 1, 1.5)):
        p = abc((0, 0, 0), (0, 0.5, v_out), (e_1, e_h, e_out))
        kind, r = tp4_per_layer(v_out, (e_1, e_h, e_out), 3)
        for activation in ("tanh", "sigmoid", Activation("square", jnp.square, degree=2)):
            ours = unchecked_classify(p, 3, activation)
            assert (ours.kind, ours.r) == (kind, r)


def test_rules_of_one_step_miss_features_that_move_in_the_second():
    """Negative control of the propagation: a readout that starts below its updates shows features at step 2 alone."""
    exponents = classify(abc((0, 0, 0), (0, 0.5, 1.5), (-1, 0, 1)), depth=3).exponents
    assert max(exponents.delta_h[0]) == -0.5
    assert max(exponents.delta_h[1]) == 0


# Presets


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(
    ("p", "kinds"),
    [
        (sp(), ("kernel",) * 5),
        (ntp(), ("kernel",) * 5),
        (mup(), ("feature",) * 5),
        (ip(), ("feature", "feature", "trivial", "trivial", "trivial")),
        (sp(learning_rate_exponent=0), ("unstable",) * 5),
    ],
    ids=["sp", "ntp", "mup", "ip", "sp with rate eta"],
)
def test_presets_are_of_the_published_kinds(p, kinds, activation):
    assert tuple(classify(p, depth, activation).kind for depth in (1, 2, 3, 4, 5)) == kinds


@pytest.mark.parametrize(("name", "r"), [("sp", [1.5, 0.5, 0.5]), ("ntp", [0.5, 0.5, 0.5]), ("mup", [0.0, 0.0, 0.0])])
def test_r_of_the_presets(name, r):
    """Layers move by n^-r; sp's input layer, the only one at depth 1, by n^-3/2."""
    assert [classify(get(name), depth).r for depth in (1, 2, 3)] == r


def test_r_is_none_where_tensor_programs_iv_does_not_reach():
    assert classify(ip(), 1).r == 0  # one hidden layer: ip is muP
    assert classify(ip(), 2).r is None
    assert classify(abc((0, 0, 0), (0.5, 0.5, 0.5), (1, 1, 1)), 2).r is None


@pytest.mark.parametrize("activation", ["sigmoid", "softplus"])
@pytest.mark.parametrize("depth", [3, 4, 5])
def test_ip_is_not_stuck_where_phi_of_zero_is_not_zero(activation, depth):
    """The last layer's input is then of order one whatever comes below it, and moves in the first step."""
    ours = classify(ip(), depth, activation)
    assert ours.kind == "feature"
    assert ours.exponents.delta_h[0][-1] == ours.exponents.delta_f[0] == 0


def test_ip_is_stuck_earlier_with_homogeneous_activations_of_higher_degree():
    """h^l of ip starts at n^{-(1 + p + .. + p^{l-2})/2}, and phi'(h) h falls with the degree p."""
    square = Activation("square", jnp.square, degree=2)
    assert classify(ip(), 4, square).exponents.h[0] == (0, -0.5, -1.5, -3.5)
    assert classify(ip(), 4, "relu").exponents.h[0] == (0, -0.5, -1.0, -1.5)
    assert [classify(ip(), depth, square).kind for depth in (1, 2, 3)] == ["feature", "trivial", "trivial"]


quarter_shifts = st.builds(PerRole, *[st.integers(-8, 8).map(lambda k: k / 4)] * 5)


@settings(derandomize=True, database=None, deadline=None, max_examples=40)
@given(t=quarter_shifts, name=st.sampled_from(PLAIN), depth=st.integers(1, 5), base=st.sampled_from([1, 64]))
def test_it_is_invariant_under_shifts_and_the_base_width(t, name, depth, base):
    assert classify(get(name, base_width=base).shift(t), depth, "relu") == classify(get(name), depth, "relu")


@pytest.mark.parametrize("depth", [0, -1])
def test_depth_below_one_is_refused(depth):
    with pytest.raises(ValueError, match=f"Expected `depth` to be a positive int, got depth={depth}"):
        classify(mup(), depth)


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="Expected `activation` to be one of"):
        classify(mup(), 3, "tanhh")


# Real networks. The reference below is a network in NumPy that keeps its updates as outer products; it takes nothing
# from the library but the numbers of `scales`. It is first held against the library's own training.


class Run(NamedTuple):
    """Over three states, 0..2 updates: h and dh [3][L] arrays [P, n], f [3] arrays [P, C]."""

    h: list
    dh: list
    f: list


TANH = (np.tanh, lambda h: 1 - np.tanh(h) ** 2)
SIGMOID = (lambda h: 1 / (1 + np.exp(-h)), lambda h: 1 / (np.exp(h / 2) + np.exp(-h / 2)) ** 2)


def two_steps(p: Parametrization, phi, gaussians, x, y, rate: float = 1.0) -> Run:
    """Two full-batch SGD steps on 0.5 |f - y|^2. dh is d(f_1 + .. + f_C)/dh."""
    phi, dphi = phi
    depth = len(gaussians) - 1
    roles = ["input", *["hidden"] * (depth - 1), "output"]
    scales = [p.scales(role, *g.shape) for role, g in zip(roles, gaussians, strict=True)]
    std = [x.dtype.type(s.multiplier * s.init_std) for s in scales]
    rates = [x.dtype.type(rate * s.multiplier**2 * s.sgd_lr_mult) for s in scales]
    updates = []  # of each step: inputs of every layer and backward vectors D of its outputs, W -= rate * x^T D

    def forward(layer, z):
        moved = sum((z @ xs[layer].T) @ ds[layer] for xs, ds in updates)
        return std[layer] * (z @ gaussians[layer]) - rates[layer] * moved

    def backward(layer, d):
        moved = sum((d @ ds[layer].T) @ xs[layer] for xs, ds in updates)
        return std[layer] * (d @ gaussians[layer].T) - rates[layer] * moved

    run = Run([], [], [])
    for _ in range(3):
        xs, hs = [x / x.dtype.type(x.shape[1] ** 0.5)], []
        for layer in range(depth):
            hs.append(forward(layer, xs[-1]))
            xs.append(phi(hs[-1]))
        f = forward(depth, xs[-1])
        chi = (f - y) / len(x)
        both, ds = np.concatenate([np.ones_like(f), chi]), [None] * depth  # two backward passes at once
        for layer in reversed(range(depth)):
            both = np.tile(dphi(hs[layer]), (2, 1)) * backward(layer + 1, both)
            ds[layer] = both
        run.h.append(hs)
        run.dh.append([d[: len(x)] for d in ds])
        run.f.append(f)
        updates.append((xs, [*(d[len(x) :] for d in ds), chi]))
    return run


def data(dtype):
    """Two inputs of squared norm d = 8, four outputs; targets of one sign, so that no average vanishes by chance."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 8)), 1 + 0.5 * rng.standard_normal((2, 4))
    return (x * (8**0.5 / np.linalg.norm(x, axis=1, keepdims=True))).astype(dtype), y.astype(dtype)


@pytest.mark.parametrize(("phi", "dphi"), [TANH, SIGMOID], ids=["tanh", "sigmoid"])
def test_the_reference_has_the_right_derivatives(phi, dphi):
    s, step = np.linspace(-3, 3, 13), 1e-5
    # central differences: step^2/6 = 2e-11 of a third derivative below 2, rounding 1e-16/step = 1e-11
    np.testing.assert_allclose((phi(s + step) - phi(s - step)) / (2 * step), dphi(s), rtol=0, atol=1e-10)


def test_the_reference_network_is_the_library_s():
    """Compiled training of a shifted form with a base width, against outer products of effective weights."""
    p, depth, width = mup(base_width=4).shift(PerRole(0.25, -0.25, 0.5)), 2, 16
    with jax.enable_x64(True):
        x, y = data(np.float64)
        key = jax.random.key(3)
        params = nn.meta.unbox(MLP(width, depth, 4, p).init(key, x[:1]))["params"]
        run = dense.train(
            Task(x, y),
            p,
            width=width,
            depth=depth,
            learning_rate=1.0,
            steps=2,
            key=key,
            spec=TrajectorySpec(grams=("h",)),
        )
    kernels = [np.asarray(params[layer]["kernel"]) for layer in ("layer_1", "layer_2", "readout")]
    stds = [p.scales(role, *k.shape).init_std for role, k in zip(("input", "hidden", "output"), kernels, strict=True)]
    ours = two_steps(p, TANH, [k / std for k, std in zip(kernels, stds, strict=True)], x, y)
    # float64 rounding of sums over 16 coordinates: 1e-15, with a margin for two steps of order-one factors
    np.testing.assert_allclose(run.predictions, np.stack(ours.f), rtol=0, atol=1e-13)
    np.testing.assert_allclose(run.train_loss, [0.5 * np.sum((f - y) ** 2) / len(x) for f in ours.f], rtol=1e-12)
    for layer in range(depth):
        grams = [ours.h[t][layer] @ ours.h[t][layer].T / width for t in (0, 2)]
        np.testing.assert_allclose(run.h_gram[:, layer], np.stack(grams), rtol=1e-11)


WIDTHS = (64, 128, 256, 512, 1024)
SEEDS = (32, 32, 16, 8, 8)


class Case(NamedTuple):
    p: Parametrization
    depth: int
    activation: str = "tanh"
    rate: float = 1.0


CASES = {
    "sp": Case(sp(), 3),
    "ntp": Case(ntp(), 3),
    "mup": Case(mup(), 3),
    "ip": Case(ip(), 3),
    "ip of two hidden layers": Case(ip(), 2),
    "ip, sigmoid": Case(ip(), 3, "sigmoid", rate=8.0),
    "sp with rate eta": Case(sp(learning_rate_exponent=0), 3),
}


def named_sizes(run: Run) -> dict[str, float]:
    """Mean squares of everything that `Exponents` speaks of, under the same names."""
    sizes = {}
    for t, layer in np.ndindex(3, len(run.h[0])):
        sizes[f"h[{t}][{layer}]"] = np.mean(run.h[t][layer] ** 2)
        sizes[f"dh[{t}][{layer}]"] = np.mean(run.dh[t][layer] ** 2)
        if t:
            sizes[f"delta_h[{t - 1}][{layer}]"] = np.mean((run.h[t][layer] - run.h[0][layer]) ** 2)
    for t in range(3):
        sizes[f"f[{t}]"] = np.mean(run.f[t] ** 2)
        if t:
            sizes[f"delta_f[{t - 1}]"] = np.mean((run.f[t] - run.f[0]) ** 2)
    return sizes


def named_exponents(case: Case) -> dict[str, float]:
    exponents = classify(case.p, case.depth, case.activation).exponents._asdict()
    named = {f"{key}[{t}]": value for key in ("f", "delta_f") for t, value in enumerate(exponents[key])}
    for key in ("h", "dh", "delta_h"):
        named |= {f"{key}[{t}][{layer}]": v for t, row in enumerate(exponents[key]) for layer, v in enumerate(row)}
    return named


@functools.cache
def fitted_slopes() -> dict[str, dict[str, float]]:
    """Slopes of log rms against log width. Networks of one width and seed share their Gaussians."""
    logs = {name: [] for name in CASES}
    x, y = data(np.float32)
    for n, seeds in zip(WIDTHS, SEEDS, strict=True):
        squares = {name: [] for name in CASES}
        for seed in range(seeds):
            rng = np.random.default_rng((n, seed))
            shapes = [(8, n), (n, n), (n, n), (n, 4)]
            gaussians = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
            for name, case in CASES.items():
                weights = [*gaussians[: case.depth], gaussians[-1]]
                phi = SIGMOID if case.activation == "sigmoid" else TANH
                squares[name].append(named_sizes(two_steps(case.p, phi, weights, x, y, case.rate)))
        for name, rows in squares.items():
            logs[name].append({key: 0.5 * np.log(np.mean([row[key] for row in rows])) for key in rows[0]})
    slopes = {}
    for name, rows in logs.items():
        slopes[name] = {key: np.polyfit(np.log(WIDTHS), [row[key] for row in rows], 1)[0] for key in rows[0]}
    return slopes


# f_0 is the noisiest: an rms over at least 8 seeds x 4 outputs x 2 (correlated) inputs has a relative error of about
# 0.1, its slope over log(1024/64) one of about 0.04. Corrections of order n^-1/2 to the power laws add up to 0.05.
SLOPE_ERROR = 0.1


@pytest.mark.parametrize("name", ["sp", "ntp", "mup", "ip", "ip of two hidden layers"])
def test_exponents_are_the_slopes_of_real_networks(name):
    slopes, exponents = fitted_slopes()[name], named_exponents(CASES[name])
    assert slopes.keys() == exponents.keys()
    wrong = {key: (slopes[key], exponents[key]) for key in slopes if abs(slopes[key] - exponents[key]) > SLOPE_ERROR}
    assert not wrong


@pytest.mark.parametrize(("name", "other"), list(itertools.permutations(["sp", "ntp", "mup", "ip"], 2)))
def test_slopes_of_one_parametrization_are_not_the_exponents_of_another(name, other):
    """Negative control of the fit."""
    slopes, exponents = fitted_slopes()[name], named_exponents(CASES[other])
    assert max(abs(slopes[key] - exponents[key]) for key in slopes) > 4 * SLOPE_ERROR


def test_slopes_show_that_ip_with_a_sigmoid_moves_in_the_first_step():
    """Changes of the last layer and of f by O(1), as `classify` says; with tanh they are O(1/n).

    Later backward vectors and the second step have prefactors of phi'(0)^2 = 1/16 a layer and reach their power laws
    at widths far above 1024 only; they are left out.
    """
    slopes, exponents = fitted_slopes(), named_exponents(CASES["ip, sigmoid"])
    keys = ["f[0]", "f[1]", "delta_f[0]", *(f"delta_h[0][{layer}]" for layer in range(3))]
    assert [exponents[key] for key in keys] == [-0.5, 0, 0, -1, -0.5, 0]
    for key in keys:
        assert abs(slopes["ip, sigmoid"][key] - exponents[key]) < SLOPE_ERROR
    for key in ("delta_h[0][2]", "delta_f[0]"):
        assert abs(slopes["ip"][key] + 1) < SLOPE_ERROR


def test_slopes_show_that_sp_with_rate_eta_is_unstable():
    slopes = fitted_slopes()["sp with rate eta"]
    assert slopes["delta_f[0]"] > 0.4  # 1: tanh saturates, so that x is of order one and the readout moves by n
    assert abs(slopes["f[0]"]) < SLOPE_ERROR


def test_without_the_step_of_size_n_the_input_layer_of_mup_would_not_move():
    """Negative control at the level of one exponent: SP's input rate in muP leaves the first layer behind."""
    lazy = dataclasses.replace(mup(), c=mup().c._replace(input=0.0))
    assert classify(lazy, 3).kind == "feature"  # the hidden layers still move
    assert classify(lazy, 3).exponents.delta_h[1][0] == -1
    assert classify(mup(), 3).exponents.delta_h[1][0] == 0


@pytest.mark.parametrize("activation", ["relu", "elu", "tanh"])
@pytest.mark.parametrize("transform", [jax.vmap, jax.jit, lambda f: jax.jit(jax.vmap(f))])
def test_classification_is_decided_while_a_program_is_traced(activation, transform):
    def kind(x):
        assert classify(mup(), 3, activation).kind == "feature"
        return x

    transform(kind)(jnp.arange(3.0))
