"""Parametrizations: effective scales against the published tables, and the symmetry of the abc exponents."""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mupjax import optim, parametrization
from mupjax.dynamics import dense
from mupjax.parametrization import PRESETS, Parametrization, PerRole, Traits, get, ip, mup, ntp, sp, traits_of
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec

PLAIN = ("sp", "ntp", "mup", "ip")  # presets whose first step is as the later ones

WEIGHTS = ("input", "hidden", "output")
ROLES = PerRole._fields
INPUT_DIM, NUM_OUTPUTS = 7, 3

# Powers of n are computed in float64 as ratio**exponent, products of at most four of them: a few units of 2^-53 each.
ROUNDING = 1e-14

# Yang & Hu 2021, Table 1, in effective form: (variance, SGD rate / eta) of input, hidden and output weights.
EFFECTIVE = {
    "sp": lambda n: {"input": (1, 1 / n), "hidden": (1 / n, 1 / n), "output": (1 / n, 1 / n)},
    "ntp": lambda n: {"input": (1, 1), "hidden": (1 / n, 1 / n), "output": (1 / n, 1 / n)},
    "mup": lambda n: {"input": (1, n), "hidden": (1 / n, 1), "output": (1 / n**2, 1 / n)},
    "ip": lambda n: {"input": (1, n), "hidden": (1 / n**2, 1), "output": (1 / n**2, 1 / n)},
}
# Rates of Adam / eta; sp has one global rate, 1/n by default.
ADAM = {
    "sp": lambda n: {"input": 1 / n, "hidden": 1 / n, "output": 1 / n, "bias": 1 / n, "output_bias": 1 / n},
    "ntp": lambda n: {"input": 1, "hidden": 1 / n, "output": 1 / n, "bias": 1, "output_bias": 1},
    "mup": lambda n: {"input": 1, "hidden": 1 / n, "output": 1 / n, "bias": 1, "output_bias": 1},
    "ip": lambda n: {"input": 1, "hidden": 1 / n, "output": 1 / n, "bias": 1, "output_bias": 1},
}
# Biases are input-like with fan_in 1: SGD rates / eta of hidden layers' biases and of the readout's.
BIAS = {"sp": lambda n: (1 / n, 1 / n), "ntp": lambda n: (1, 1), "mup": lambda n: (n, 1), "ip": lambda n: (n, 1)}

presets = pytest.mark.parametrize("name", PLAIN)
widths = pytest.mark.parametrize("n", [1, 16, 100, 4096, 10**7])


def fans(role: str, n: int) -> tuple[int, int]:
    return {"input": (INPUT_DIM, n), "bias": (INPUT_DIM, n), "hidden": (n, n)}.get(role, (n, NUM_OUTPUTS))


def scaling(p: Parametrization, role: str, n: int) -> parametrization.ParamScaling:
    return p.scales(role, *fans(role, n))


def effective(s: parametrization.ParamScaling) -> tuple[float, ...]:
    """What training sees: initial size, SGD rate and Adam rate of W = multiplier * w, epsilon relative to dLoss/dW."""
    return (
        s.multiplier * s.init_std,
        s.multiplier**2 * s.sgd_lr_mult,
        s.multiplier * s.adam_lr_mult,
        s.adam_epsilon_mult / s.multiplier,
    )


# Presets against the tables


@presets
@widths
def test_sgd_matches_the_table_of_yang_and_hu(name, n):
    for role in WEIGHTS:
        std, rate, _, _ = effective(scaling(get(name), role, n))
        assert (std**2, rate) == pytest.approx(EFFECTIVE[name](n)[role], rel=ROUNDING)


def test_the_tables_of_the_presets_differ_from_each_other():
    """Negative control: at any n > 1 no preset passes with another one's row."""
    rows = {name: tuple(np.ravel([EFFECTIVE[name](16)[role] for role in WEIGHTS])) for name in PLAIN}
    assert len(set(rows.values())) == len(PLAIN)
    for name in PLAIN:
        measured = np.ravel(
            [[std**2, rate] for std, rate, _, _ in (effective(scaling(get(name), r, 16)) for r in WEIGHTS)]
        )
        fitting = [other for other in PLAIN if np.allclose(measured, rows[other], rtol=ROUNDING, atol=0)]
        assert fitting == [name]


@presets
@widths
def test_adam_rates_match_their_rows(name, n):
    for role in ROLES:
        assert effective(scaling(get(name), role, n))[2] == pytest.approx(ADAM[name](n)[role], rel=ROUNDING)


@presets
@widths
def test_biases_are_input_like_with_fan_in_one(name, n):
    p = get(name, bias_std=0.3)
    hidden, readout = scaling(p, "bias", n), scaling(p, "output_bias", n)
    assert (hidden.init_std, readout.init_std) == (0.3, 0.3)
    assert (effective(hidden)[1], effective(readout)[1]) == pytest.approx(BIAS[name](n), rel=ROUNDING)
    assert scaling(get(name), "bias", n).init_std == 0


@pytest.mark.parametrize("exponent", [0, 0.5, 1])
def test_sp_has_one_rate_of_the_chosen_exponent_for_everything(exponent):
    p = sp(learning_rate_exponent=exponent)
    for role in ROLES:
        _, sgd, adam, _ = effective(scaling(p, role, 64))
        assert (sgd, adam) == pytest.approx((64**-exponent, 64**-exponent), rel=ROUNDING)


@presets
def test_presets_keep_the_effective_weight_in_the_kernel(name):
    for role in ROLES:
        assert scaling(get(name), role, 64).multiplier == 1


@pytest.mark.parametrize(("name", "size"), [("sp", 64**-0.5), ("ntp", 64**-0.5), ("mup", 1 / 64), ("ip", 1 / 64)])
def test_epsilon_has_the_order_of_the_gradient(name, size):
    """dLoss/dW of every layer below the readout has the readout's size; the readout's own is x^L chi = Theta(1)."""
    for role in ("input", "hidden", "bias"):
        assert effective(scaling(get(name), role, 64))[3] == pytest.approx(size, rel=ROUNDING)
    for role in ("output", "output_bias"):
        assert effective(scaling(get(name), role, 64))[3] == 1


@presets
def test_input_dimension_and_number_of_outputs_never_enter(name):
    p = get(name, base_width=8)
    for role, one, other in (
        ("input", (1, 64), (999, 64)),
        ("bias", (1, 64), (999, 64)),
        ("output", (64, 1), (64, 10)),
    ):
        ignored = {"fan_in", "fan_out"} if role != "output" else {"fan_in", "fan_out", "adam_epsilon_mult"}
        first, second = (
            {key: value for key, value in vars(p.scales(role, *fan)).items() if key not in ignored}
            for fan in (one, other)
        )
        assert first == second
    assert p.scales("output", 64, 1).adam_epsilon_mult == p.scales("output", 64, 10).adam_epsilon_mult


# Unequal widths


@pytest.mark.parametrize(("fan_in", "fan_out"), [(64, 64), (64, 192), (192, 32), (1000, 1), (1, 1000)])
def test_unequal_widths_follow_the_spectral_condition(fan_in, fan_out):
    """Yang, Simon & Bernstein 2023: std sqrt(1/fan_in) min(1, sqrt(fan_out/fan_in)), rate fan_out/fan_in."""
    std, rate, adam, _ = effective(mup().scales("hidden", fan_in, fan_out))
    assert std == pytest.approx((1 / fan_in) ** 0.5 * min(1, (fan_out / fan_in) ** 0.5), rel=ROUNDING)
    assert rate == pytest.approx(fan_out / fan_in, rel=ROUNDING)
    assert adam == pytest.approx(1 / fan_in, rel=ROUNDING)


@pytest.mark.parametrize("name", ["sp", "ntp"])
def test_kernel_parametrizations_of_unequal_widths_use_fan_in_alone(name):
    std, rate, _, _ = effective(get(name).scales("hidden", 192, 32))
    assert (std**2, rate) == pytest.approx((1 / 192, 1 / 192), rel=ROUNDING)


def test_ip_of_unequal_widths_is_mup_with_another_hidden_size():
    for role, fan in (("input", (7, 192)), ("hidden", (192, 32)), ("output", (32, 3))):
        ours, theirs = effective(ip().scales(role, *fan)), effective(mup().scales(role, *fan))
        smaller = 192**-0.5 if role == "hidden" else 1
        assert ours == pytest.approx((theirs[0] * smaller, *theirs[1:]), rel=ROUNDING)


def test_without_the_spectral_form_unequal_widths_differ():
    """Negative control of the two tests above."""
    plain = dataclasses.replace(mup(), spectral=False)
    assert effective(plain.scales("hidden", 192, 32))[:2] == pytest.approx((192**-0.5, 1), rel=ROUNDING)
    assert effective(plain.scales("hidden", 64, 64)) == effective(mup().scales("hidden", 64, 64))


# Base width


@presets
@pytest.mark.parametrize("base", [1, 16, 300])
def test_at_base_width_every_preset_is_the_standard_network(name, base):
    """microsoft/mup's invariant: stds 1, n0^-1/2, n0^-1/2, and one rate for all parameters under SGD and Adam."""
    p = get(name, base_width=base, bias_std=0.5)
    stds = {"input": 1, "hidden": base**-0.5, "output": base**-0.5, "bias": 0.5, "output_bias": 0.5}
    for role in ROLES:
        s = scaling(p, role, base)
        assert (s.init_std, s.multiplier, s.sgd_lr_mult, s.adam_lr_mult, s.adam_epsilon_mult) == (
            stds[role],
            1,
            1,
            1,
            1,
        )


@presets
@pytest.mark.parametrize(("n", "base"), [(64, 16), (16, 64), (1000, 3)])
def test_away_from_base_width_powers_are_taken_of_the_ratio(name, n, base):
    """Variance = SP's at base * (n/n0)^{-2(a+b)}, rate (n/n0)^{-(2a+c)}: the rows of the table in n/n0."""
    p, ratio = get(name, base_width=base), n / base
    at_base = {"input": 1, "hidden": 1 / base, "output": 1 / base}
    for role in WEIGHTS:
        std, sgd, adam, _ = effective(scaling(p, role, n))
        variance, rate = EFFECTIVE[name](ratio)[role]
        assert (std**2, sgd) == pytest.approx((at_base[role] * variance, rate), rel=ROUNDING)
        assert adam == pytest.approx(ADAM[name](ratio)[role], rel=ROUNDING)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(64, 64), (64, 192), (192, 32)])
def test_mup_with_base_and_unequal_widths_scales_by_both_ratios(fan_in, fan_out):
    base = 16
    ri, ro = fan_in / base, fan_out / base
    std, sgd, _, _ = effective(mup(base_width=base).scales("hidden", fan_in, fan_out))
    assert std == pytest.approx(base**-0.5 * ri**-0.5 * min(1, (ro / ri) ** 0.5), rel=ROUNDING)
    assert sgd == pytest.approx(ro / ri, rel=ROUNDING)
    assert effective(mup(base_width=base).scales("input", 5, fan_out))[1] == pytest.approx(ro, rel=ROUNDING)
    assert effective(mup(base_width=base).scales("output", fan_in, 2))[1] == pytest.approx(1 / ri, rel=ROUNDING)


# Tracers


@presets
def test_scales_of_tracers_are_the_numbers_of_ints(name):
    p = get(name, base_width=4, bias_std=0.2).shift(0.3)
    numbers = ("multiplier", "init_std", "sgd_lr_mult", "adam_lr_mult", "adam_epsilon_mult")

    @functools.partial(jax.jit, static_argnums=0)
    def traced(role, fan_in, fan_out):
        s = p.scales(role, fan_in, fan_out)
        return tuple(getattr(s, field) for field in numbers)

    for role in ROLES:
        for fan in ((24, 96), (96, 24)):
            expected = [getattr(p.scales(role, *fan), field) for field in numbers]
            # float32 arithmetic: pow is good to ~8 ulp of 2^-24, and each number is a product of at most three
            np.testing.assert_allclose(traced(role, *fan), expected, rtol=2e-6)


def test_scales_map_over_a_batch_of_widths():
    stds = jax.vmap(lambda n: mup().scales("hidden", n, 2 * n).init_std)(np.array([16, 64, 256]))
    np.testing.assert_allclose(stds, [0.25, 0.125, 0.0625], rtol=2e-6)  # float32, as above


# The shift symmetry

exponent_shifts = st.one_of(st.floats(0.05, 1), st.floats(-1, -0.05))
role_shifts = st.builds(PerRole, *[exponent_shifts] * 5)


@settings(derandomize=True, database=None, deadline=None, max_examples=50)
@given(t=role_shifts, name=st.sampled_from(PLAIN))
def test_shift_leaves_v_e_and_the_adam_exponent_alone(t, name):
    p = get(name)
    q = p.shift(t)
    # exponents below 4 in size: sums of two or three of them are rounded by less than 4 * 2^-52
    for before, after in ((p.v, q.v), (p.e, q.e)):
        assert after == pytest.approx(before, abs=1e-15)
    adam = [np.add(form.a, form.adam_c) for form in (p, q)]
    np.testing.assert_allclose(adam[1], adam[0], rtol=0, atol=1e-15)
    assert q.a == pytest.approx(t, abs=1e-15)


@settings(derandomize=True, database=None, deadline=None, max_examples=50)
@given(
    t=role_shifts,
    name=st.sampled_from(PLAIN),
    base=st.sampled_from([1, 32]),
    fan=st.tuples(st.integers(1, 512), st.integers(1, 512)),
)
def test_shift_leaves_every_effective_scale_alone(t, name, base, fan):
    p = get(name, base_width=base, bias_std=0.7)
    for role in ROLES:
        before, after = effective(p.scales(role, *fan)), effective(p.shift(t).scales(role, *fan))
        assert after == pytest.approx(before, rel=1e-13)  # ten float64 powers of ratios up to 512


def test_shifts_compose_and_undo_each_other():
    p = mup(base_width=3)
    assert p.shift(0.25).shift(0.5) == p.shift(0.75)  # quarters are exact
    assert p.shift(0.25).shift(-0.25) == p
    assert p.shift(0.0) == p
    assert p.shift(PerRole(0.5, 0.0, 0.0)) != p.shift(0.5)


@pytest.mark.parametrize(
    ("form", "a", "b", "c"),
    [
        (ntp().shift(PerRole(0, 0.5, 0.5)), (0, 0.5, 0.5), (0, 0, 0), (0, 0, 0)),  # Jacot et al. 2018
        (mup().shift(PerRole(-0.5, 0, 0.5)), (-0.5, 0, 0.5), (0.5, 0.5, 0.5), (0, 0, 0)),  # Yang & Hu 2021, Sec. 5
    ],
)
def test_shift_gives_the_published_forms(form, a, b, c):
    assert (form.a[:3], form.b[:3], form.c[:3]) == (a, b, c)


# Whole training trajectories. Run operation by operation (`disable_jit`): every shift is another program, and compiling
# it takes ten times as long as running it; compiled training under a shift is part of test_classification.py.

NUM_STEPS, WIDTH = 5, 16
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((4, 6)), RNG.standard_normal((4, 2))
OPTIMIZERS = {
    "sgd": {"learning_rate": 0.4},
    "momentum": {"learning_rate": 0.2, "optimizer": functools.partial(optim.sgd, momentum=0.9)},
    # an epsilon as large as typical gradients, so that one that does not scale with them shows
    "adam": {"learning_rate": 0.1, "optimizer": functools.partial(optim.adam, eps=0.1)},
}


def trajectory(p: Parametrization, **options) -> np.ndarray:
    """Losses and predictions of five steps in float64, [6, 9]."""
    with jax.enable_x64(True), jax.disable_jit():
        run = dense.train(
            Task(X, Y),
            p,
            width=WIDTH,
            depth=2,
            steps=NUM_STEPS,
            key=jax.random.key(0),
            spec=TrajectorySpec(grams=()),
            **options,
        )
        return np.concatenate([run.train_loss[:, None], run.predictions.reshape(NUM_STEPS + 1, -1)], axis=1)


@functools.cache
def unshifted(name: str, rule: str) -> np.ndarray:
    return trajectory(get(name), **OPTIMIZERS[rule])


# Entries are of order one; float64 rounding 1e-16 grows by at most ~10 a step over five steps, ~1e-13 at most observed.
SAME_TRAJECTORY = 1e-10


@pytest.mark.parametrize("rule", OPTIMIZERS)
@settings(derandomize=True, database=None, deadline=None, max_examples=3, phases=[Phase.generate])  # shrinking is slow
@given(t=role_shifts, name=st.sampled_from(PLAIN))
def test_shift_leaves_the_whole_training_trajectory_alone(rule, t, name):
    expected = unshifted(name, rule)
    assert np.ptp(expected[:, 0]) > 0.01  # it did train
    np.testing.assert_allclose(
        trajectory(get(name).shift(t), **OPTIMIZERS[rule]), expected, rtol=0, atol=SAME_TRAJECTORY
    )


@pytest.mark.parametrize(("rule", "wrong"), [("sgd", "c"), ("adam", "adam_c")])
def test_a_wrong_shift_changes_the_trajectory(rule, wrong):
    """Negative control: c - t instead of c - 2t under SGD, c' - 2t instead of c' - t under Adam."""
    t, p = 0.25, mup()
    step = {"c": 1, "adam_c": 2}[wrong]
    q = dataclasses.replace(p.shift(t), **{wrong: PerRole(*(c - step * t for c in getattr(p, wrong)))})
    assert np.abs(trajectory(q, **OPTIMIZERS[rule]) - unshifted("mup", rule)).max() > 1e-2


def test_an_epsilon_that_does_not_scale_breaks_the_symmetry():
    """Negative control: the same Adam with a fixed epsilon tells a shifted form from the original one."""

    def fixed_epsilon(scaling, learning_rate):
        return optax.chain(
            optax.scale_by_adam(eps=0.1),
            optim.scale_by_parametrization(scaling, "adam"),
            optax.scale_by_learning_rate(learning_rate),
        )

    runs = [trajectory(p, learning_rate=0.1, optimizer=fixed_epsilon) for p in (mup(), mup().shift(0.5))]
    assert np.abs(runs[0] - runs[1]).max() > 1e-2


# The object


@presets
@pytest.mark.parametrize("t", [0.0, 1 / 3])
def test_json_keeps_every_bit(name, t):
    p = get(name, base_width=48, bias_std=0.1).shift(t)
    q = Parametrization.from_json(p.to_json())
    assert q == p
    assert hash(q) == hash(p)
    assert isinstance(q.a, PerRole)


@pytest.mark.parametrize("text", ["", "not json", "[1, 2]", "3", "null", "{}", '{"name": "mup"}'])
def test_json_of_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="Expected `text` to be JSON of a Parametrization, got"):
        Parametrization.from_json(text)


def test_json_with_an_unknown_field_is_refused():
    fields = json.loads(mup().to_json()) | {"momentum": 0.9}
    with pytest.raises(ValueError, match="Expected `text` to be JSON of a Parametrization"):
        Parametrization.from_json(json.dumps(fields))


def test_it_is_frozen_and_hashable():
    p = mup()
    with pytest.raises(dataclasses.FrozenInstanceError):
        p.base_width = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        p.scales("input", 2, 3).init_std = 2.0
    assert len({mup(), mup(), mup(base_width=2), ip(), mup().shift(0.5)}) == 4
    assert jax.jit(lambda form, x: x * form.base_width, static_argnums=0)(mup(base_width=3), 2) == 6


# Traits and text


@pytest.mark.parametrize(
    ("changes", "trait"),
    [
        ({"a": PerRole(0.0, 0.5, 0.0)}, "multipliers"),
        ({"c_first": PerRole(0.0, 0.0, 0.0)}, "first_step"),
        ({"b_later": PerRole(0.0, 0.0, 0.0)}, "first_step"),
        ({"biases": "first"}, "biases"),
        ({"update": "normalized"}, "normalized"),
        ({"residual": 0.0}, "residual"),
    ],
)
def test_a_field_gives_its_trait_and_no_other(changes, trait):
    plain, one = mup(), dataclasses.replace(mup(), **changes)
    assert plain.traits == Traits()
    assert one.traits == Traits(**{trait: True})
    assert traits_of([plain, one, plain]) == one.traits


@presets
def test_text_has_a_row_a_role_with_the_exponents(name):
    heading, columns, *rows = repr(get(name)).splitlines()
    assert heading.split(":")[0] == name
    assert [row.split()[0] for row in rows] == list(PerRole._fields)
    assert columns.split()[:3] == ["a", "b", "c"]
    assert [float(row.split()[3]) for row in rows] == list(get(name).c)
    assert len({len(row) for row in [columns, *rows]}) == 1  # aligned


def test_text_tells_parametrizations_apart():
    """Results are stored under texts of their arguments: whatever field differs is seen, to the last bit."""
    numbers = PerRole(0.0, 1 / 3, 0.0)
    fields = ("a", "b", "b_later", "c", "c_first", "adam_c", "sigma", "mean", "rates")
    forms = [mup(), *(dataclasses.replace(mup(), **{field: numbers}) for field in fields)]
    forms += [dataclasses.replace(mup(), sigma=PerRole(0.0, float(np.nextafter(1 / 3, 1)), 0.0))]
    forms += [dataclasses.replace(mup(), c_first=PerRole(0.0, (1 / 3,), 0.0))]
    others = {"name": "mine", "base_width": 2, "spectral": False, "biases": "all", "depth": 2, "update": "normalized"}
    others |= {"width_profile": 0.1, "residual": 0.5, "input_multiplier": 2.0, "output_multiplier": 2.0}
    forms += [dataclasses.replace(mup(), **{field: value}) for field, value in others.items()]
    assert {*fields, *others} == {field.name for field in dataclasses.fields(Parametrization)}
    assert len({repr(form) for form in forms}) == len(set(forms)) == len(forms)


def test_a_preset_says_by_its_signature_what_it_takes(monkeypatch):
    def of_depth(depth, degree=1.0, **common):
        return dataclasses.replace(mup(**common), name=f"{depth} {degree:g}")

    monkeypatch.setitem(PRESETS, "of_depth", of_depth)
    assert get("of_depth", depth=3, degree=2.0, base_width=4).name == "3 2"
    assert get("of_depth", depth=3).name == "3 1"
    with pytest.raises(ValueError, match="Expected one `depth` with of_depth"):
        get("of_depth")
    assert get("mup", depth=3, degree=2.0) == mup()


def test_a_scaling_is_one_leaf_of_a_tree():
    assert len(jax.tree.leaves({"w": mup().scales("input", 2, 3)})) == 1


@presets
def test_get_builds_presets_by_name(name):
    assert get(name, base_width=5) == PRESETS[name](base_width=5)
    assert get(name).name == name
    assert get(PRESETS[name]()) == PRESETS[name]()


def test_errors_name_the_argument():
    with pytest.raises(
        ValueError, match=r"Expected `parametrization` to be one of sp, ntp, mup, ip, ip_llr, .*, got 'mupp'\."
    ):
        get("mupp")
    with pytest.raises(ValueError, match=r"Expected no options beside a Parametrization, got base_width\."):
        get(mup(), base_width=2)
    for wrong in (0, -3, True):
        with pytest.raises(ValueError, match=f"Expected `base_width` to be a positive int, .* got base_width={wrong}"):
            mup(base_width=wrong)
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"Expected `bias_std` to be finite and >= 0, got bias_std={wrong}"):
            mup(bias_std=wrong)
    for field in ("a", "b", "c", "adam_c"):
        with pytest.raises(ValueError, match=f"Expected `{field}` to be a PerRole of finite numbers"):
            dataclasses.replace(mup(), **{field: PerRole(0.0, float("nan"), 0.0)})
    with pytest.raises(ValueError, match="Expected `a` to be a PerRole of finite numbers"):
        mup().shift(float("inf"))


def test_package_imports_the_standard_library_alone():
    """Arithmetic only: neither JAX nor NumPy, at the top or inside a function. The classification reads activations."""
    files = [path for path in Path(parametrization.__file__).parent.glob("*.py") if path.stem != "classification"]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    own = {name for name in imported if name.startswith("mupjax.parametrization")}
    assert len(files) > 5
    assert imported - own <= {"__future__", "collections.abc", *sys.stdlib_module_names}
