"""Assumption 4.1 on inputs: against brute force in exact arithmetic, planted violations, real images."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mupjax import datasets
from mupjax.theorems import inputs
from mupjax.theorems.inputs import Violation, check_inputs

small_integers = st.tuples(st.integers(1, 7), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(-4, 4))
)


def brute_force(x: np.ndarray):
    """All violations and the nearest miss of each kind by the definition, O(N^3), in Fractions."""
    rows = [[Fraction(v) for v in row] for row in x.tolist()]
    products = [[abs(sum(a * b for a, b in zip(p, q, strict=True))) for q in rows] for p in rows]
    norms = np.linalg.norm(x.astype(float), axis=1)
    n = len(rows)
    pairs = {(i, j): products[i][j] for i in range(n) for j in range(i, n)}
    triples = {
        (i, j, k): abs(products[i][j] - products[i][k])
        for i in range(n)
        for j, k in itertools.combinations(range(n), 2)
    }
    near_pair = [float(v) / (norms[i] * norms[j]) for (i, j), v in pairs.items() if v and i != j]
    near_triple = [float(v) / (norms[i] * norms.max()) for (i, _, _), v in triples.items() if v]
    repeats = sum(n - len(set(row)) for row in products)
    zeros = [ij for ij, v in pairs.items() if not v]
    equals = {ijk for ijk, v in triples.items() if not v}
    return zeros, equals, repeats, min(near_pair, default=None), min(near_triple, default=None)


def agrees(x: np.ndarray) -> None:
    zeros, equals, repeats, near_pair, near_triple = brute_force(x)
    check = check_inputs(x.astype(np.float64))
    assert check.holds == (not zeros and not equals)
    assert [v.inputs for v in check.violations if v.kind == "orthogonal"] == zeros
    assert {v.inputs for v in check.violations if v.kind == "equal"} <= equals
    assert (check.num_orthogonal, check.num_equal) == (len(zeros), repeats)
    assert check.num_equal == sum(v.kind == "equal" for v in check.violations) or check.num_equal > 100
    for miss, gap in ((check.nearest_orthogonal, near_pair), (check.nearest_equal, near_triple)):
        assert (miss is None) == (gap is None)
        if miss is not None:  # both divide by norms in float64; a difference of products is good to the resolution
            assert miss.gap == pytest.approx(gap, rel=1e-12, abs=check.resolution)


@settings(deadline=None, max_examples=150)
@given(small_integers)
def test_small_integer_arrays_by_brute_force(x):
    agrees(x)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("num", "dim"), [(2, 1), (9, 3), (17, 40)])
def test_gaussian_inputs_by_brute_force(num, dim, seed):
    x = np.random.default_rng(seed).standard_normal((num, dim))
    agrees(x)
    assert check_inputs(x).holds


def test_blocks_of_rows_change_nothing(monkeypatch):
    """57 inputs in blocks of 7 rows, with a last one of 1; violations within a block and across blocks."""
    x = np.random.default_rng(0).integers(-9, 10, (57, 6)).astype(float)
    whole = check_inputs(x)
    assert min(whole.num_orthogonal, whole.num_equal) > 0
    monkeypatch.setattr(inputs, "_BLOCK", 7 * 57)
    assert check_inputs(x) == whole


GENERIC = np.random.default_rng(5).standard_normal((20, 8)).astype(np.float32)


def planted(row: int, value: np.ndarray) -> np.ndarray:
    x = GENERIC.copy()
    x[row] = value
    return x


def test_generic_inputs_hold_and_a_duplicate_an_opposite_and_a_zero_do_not():
    assert check_inputs(GENERIC).holds
    for value in (GENERIC[3], -GENERIC[3]):
        check = check_inputs(planted(11, value))
        expected = tuple(Violation("equal", (i, 3, 11)) for i in range(20))  # in every row, the two's own included
        assert (check.holds, check.violations, check.num_equal) == (False, expected, 20)
    check = check_inputs(planted(11, 0 * GENERIC[3]))
    assert check.num_orthogonal == 20
    assert Violation("orthogonal", (11, 11)) in check.violations
    assert check.num_equal == 19  # the zero row, all of whose products are equal


def test_an_orthogonal_pair_is_found_and_the_same_pair_off_by_one_rounding_is_not():
    # Dyadic numbers: the products below are exact.
    value = np.array([GENERIC[3, 1], -GENERIC[3, 0], 0, 0, 0, 0, 0, 0], np.float32)
    check = check_inputs(planted(11, value))
    assert [v for v in check.violations if v.kind == "orthogonal"] == [Violation("orthogonal", (3, 11))]
    assert not check.num_equal
    value[0] = np.nextafter(value[0], np.float32(9))
    check = check_inputs(planted(11, value))
    assert check.holds
    assert check.nearest_orthogonal.inputs == (3, 11)
    assert check.nearest_orthogonal.gap < check.input_rounding
    assert "rounding the inputs can move it by 2.4e-07" in str(check)


def test_equal_products_are_found_where_float64_gives_different_sums():
    """A palindrome has the same product with a vector and with its reverse: the same terms in another order."""
    rng = np.random.default_rng(0)
    half, second = rng.standard_normal(500), rng.standard_normal(1000)
    x = np.stack([np.concatenate([half, half[::-1]]), second, second[::-1]])
    forward, backward = np.cumsum(x[0] * x[1])[-1], np.cumsum(x[0] * x[2])[-1]  # one term after the other
    assert forward != backward
    assert Violation("equal", (0, 1, 2)) in check_inputs(x).violations


def test_what_float64_cannot_tell_apart_is_told_apart():
    """Two products differ by 2^-60 of their size, far below the resolution of either."""
    x = np.array([[1.0, 2.0**-30], [1.0, 2.0**-29], [1.0, 2.0**-29 + 2.0**-50]])
    assert (x @ x.T)[0, 1] == (x @ x.T)[0, 2]
    check = check_inputs(x)
    assert check.holds
    assert check.nearest_equal.inputs == (0, 1, 2)
    assert check.nearest_equal.gap == pytest.approx(2.0**-80, rel=1e-9, abs=0)
    assert check.nearest_equal.gap < check.resolution


def test_a_product_below_the_resolution_that_is_not_zero_is_a_near_miss():
    check = check_inputs(np.array([[1.0, 1.0], [1.0, -1 - 2.0**-52]]))
    assert check.num_orthogonal == 0
    assert check.nearest_orthogonal.gap == pytest.approx(2.0**-53, rel=1e-9, abs=0)
    assert check.nearest_orthogonal.gap < check.resolution


def test_parallel_inputs_of_different_length_hold():
    assert check_inputs(np.array([[1.0, 1.0], [2.0, 2.0], [5.0, 5.0]])).holds
    assert check_inputs(np.array([[1.0], [2.0]])).holds
    assert not check_inputs(np.array([[1.0, 1.0], [2.0, 2.0], [-2.0, -2.0]])).holds


def test_one_and_two_inputs():
    one = check_inputs(np.array([[2.0, 0.0]]))
    assert (one.holds, one.nearest_equal, one.nearest_orthogonal) == (True, None, None)
    assert check_inputs(np.zeros((1, 3))).violations == (Violation("orthogonal", (0, 0)),)
    assert check_inputs(np.array([[1.0, 0.0], [1.0, 1.0]])).violations == (Violation("equal", (0, 0, 1)),)
    assert check_inputs(np.eye(2)).violations == (Violation("orthogonal", (0, 1)),)


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1e30, 1e300])
def test_the_size_of_the_inputs_does_not_matter(factor):
    x = GENERIC.astype(float)
    check, scaled = check_inputs(x), check_inputs(factor * x)
    assert scaled.holds
    assert scaled.nearest_equal.inputs == check.nearest_equal.inputs
    assert scaled.nearest_equal.gap == pytest.approx(check.nearest_equal.gap, abs=check.resolution)
    assert not check_inputs(np.concatenate([factor * x, -factor * x[:1]])).holds


def test_very_many_violations_are_counted_and_a_hundred_of_a_kind_are_listed():
    check = check_inputs(0.1 * np.eye(300))
    assert check.num_orthogonal == 300 * 299 // 2
    assert check.num_equal == 300 * 298
    assert sum(v.kind == "orthogonal" for v in check.violations) == 100
    assert len(str(check).splitlines()) <= 5


@pytest.mark.parametrize(("num", "dim"), [(2000, 5), (500, 3072)])
def test_generic_inputs_in_low_and_high_dimension_hold(num, dim):
    """2000 inputs have 4e9 differences in rows, the closest far below the float64 resolution of larger d."""
    x = np.random.default_rng(1).standard_normal((num, dim)).astype(np.float32)
    assert check_inputs(x).holds
    x[num // 2] = -x[-1]
    assert check_inputs(x).num_equal == num


@pytest.mark.parametrize("dataset", ["digits", pytest.param("cifar10", marks=pytest.mark.data("cifar10"))])
def test_real_images(dataset):
    check = datasets.load(dataset, classes=(0, 1), train_size=32, test_size=None).check_inputs()
    assert check.holds
    assert check.input_rounding == 2.0**-22
    assert check.nearest_equal.gap > check.resolution
    assert "holds for the" in str(check)


def test_binary_images_are_full_of_equal_products():
    raw = np.random.default_rng(0).integers(0, 2, (64, 16)).astype(np.float32)
    assert check_inputs(raw).num_equal > 1000  # binary images: 17 values for 64 products


def test_the_words():
    assert str(check_inputs(np.eye(2))).splitlines() == [
        "Assumption 4.1 (Chen et al. 2025) does not hold for the 2 training inputs.",
        "  1 pair has product zero: <x0, x1> = 0.",
        "  Nearest miss: |<x0, x0>| vs |<x0, x1>|, relative gap 1.0e+00.",
    ]
