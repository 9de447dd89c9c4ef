"""Metrics against closed forms, and against the same quantities computed from the features themselves."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from mupjax import metrics
from mupjax.dynamics.gram import gram as gram_of

NUM, WIDTH = 6, 40
EPS = np.finfo(np.float64).eps

# Entries and eigenvalues are of order one and come from sums of a few dozen float64 products.
ROUNDING = 1e-12


def features(seed: int, *lead: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*lead, NUM, WIDTH))


def grams(now: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K_tt, K_t0, K_00 by definition."""
    return tuple(z @ np.swapaxes(w, -1, -2) / z.shape[-1] for z, w in ((now, now), (now, start), (start, start)))


def rotation(seed: int, size: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


START, NOW = features(0), features(0) + 0.3 * features(1)


# Feature change


def test_feature_change_is_the_ratio_of_frobenius_norms():
    expected = np.linalg.norm(NOW - START) / np.linalg.norm(START)
    assert metrics.feature_change(*grams(NOW, START)) == pytest.approx(expected, rel=ROUNDING)


def test_feature_change_per_input_is_the_ratio_of_each_row():
    expected = np.linalg.norm(NOW - START, axis=1) / np.linalg.norm(START, axis=1)
    np.testing.assert_allclose(metrics.feature_change_per_input(*grams(NOW, START)), expected, rtol=ROUNDING)


def test_feature_change_of_scaled_features_is_the_scale_minus_one():
    for scale in (2.0, -1.0, 0.5):
        changed = grams(scale * START, START)
        assert metrics.feature_change(*changed) == pytest.approx(abs(scale - 1), rel=ROUNDING)
        np.testing.assert_allclose(metrics.feature_change_per_input(*changed), abs(scale - 1), rtol=ROUNDING)


def test_feature_change_of_features_that_stay_is_zero():
    assert metrics.feature_change(*grams(START, START)) == 0
    assert not metrics.feature_change_per_input(*grams(START, START)).any()


def test_feature_change_of_orthogonal_features_is_the_square_root_of_two():
    both = rotation(0, 2 * NUM)
    assert metrics.feature_change(*grams(both[:NUM], both[NUM:])) == pytest.approx(2**0.5, rel=ROUNDING)


def test_a_transposed_cross_gram_changes_nothing_that_it_should_not():
    gram, cross, gram_0 = grams(NOW, START)
    assert metrics.feature_change(gram, cross.T, gram_0) == metrics.feature_change(gram, cross, gram_0)
    value = metrics.space_time(gram, cross, gram_0).value
    assert abs(metrics.space_time(gram, cross.T, gram_0).value - value) > 1e-3  # but the joint matrix needs it right


# Eigenvalues


def test_diversity_is_the_smallest_squared_singular_value_over_n():
    expected = np.linalg.svd(NOW, compute_uv=False)[-1] ** 2 / WIDTH
    value, resolution = metrics.diversity(grams(NOW, START)[0])
    norm = np.linalg.svd(NOW, compute_uv=False)[0] ** 2 / WIDTH
    assert value == pytest.approx(expected, rel=ROUNDING)
    assert resolution == pytest.approx(NUM * EPS * norm, rel=ROUNDING)


def test_space_time_is_the_smallest_squared_singular_value_of_all_features_over_n():
    together = np.concatenate([START, NOW])
    singular = np.linalg.svd(together, compute_uv=False)
    value, resolution = metrics.space_time(*grams(NOW, START))
    assert value == pytest.approx(singular[-1] ** 2 / WIDTH, rel=ROUNDING)
    assert resolution == pytest.approx(2 * NUM * EPS * singular[0] ** 2 / WIDTH, rel=ROUNDING)


def test_orthonormal_features_have_all_eigenvalues_one_over_n():
    both = rotation(0, WIDTH)
    assert metrics.diversity(grams(both[:NUM], both[:NUM])[0]).value == pytest.approx(1 / WIDTH, rel=ROUNDING)
    assert metrics.space_time(*grams(both[NUM : 2 * NUM], both[:NUM])).value == pytest.approx(1 / WIDTH, rel=ROUNDING)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_space_time_of_features_that_only_scale_is_zero_within_its_resolution(scale):
    value, resolution = metrics.space_time(*grams(scale * START, START))
    assert abs(value) <= resolution
    assert metrics.space_time(*grams(NOW, START)).value > 1e6 * resolution  # control: other features are far above it


def test_rotating_the_features_changes_no_metric():
    q = rotation(1, WIDTH)
    before, after = grams(NOW, START), grams(NOW @ q, START @ q)
    y = np.random.default_rng(5).standard_normal((NUM, 2))
    for metric in (
        lambda gram, cross, gram_0: metrics.feature_change(gram, cross, gram_0),
        lambda gram, cross, gram_0: metrics.feature_change_per_input(gram, cross, gram_0),
        lambda gram, cross, gram_0: metrics.diversity(gram).value,
        lambda gram, cross, gram_0: metrics.space_time(gram, cross, gram_0).value,
        lambda gram, cross, gram_0: metrics.alignment(gram, gram_0),
        lambda gram, cross, gram_0: metrics.effective_rank(gram),
        lambda gram, cross, gram_0: metrics.label_participation(gram, y),
    ):
        np.testing.assert_allclose(metric(*after), metric(*before), rtol=1e-11)  # 40 products a rotated coordinate
    only_one = grams(NOW @ q, START)  # control: rotating one of the two is a change
    assert abs(metrics.feature_change(*only_one) - metrics.feature_change(*before)) > 0.1


def test_fewer_coordinates_than_inputs_leave_no_diversity():
    narrow = features(3)[:, : NUM - 1]
    value, resolution = metrics.diversity(grams(narrow, narrow)[0])
    assert abs(value) <= resolution


# What float64 contraction is for


def planted(num: int = 64, width: int = 2048, largest: float = 15.0, smallest: float = 5e-10) -> np.ndarray:
    """Float32 features [num, width] whose Gram matrix has eigenvalues in geometric progression between the two."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.standard_normal((width, num)))[0]
    singular = np.sqrt(width * np.geomspace(largest, smallest, num))
    return (rotation(1, num) * singular @ directions.T).astype(np.float32)


def test_float32_features_contracted_in_float64_resolve_a_planted_eigenvalue():
    """Rounding z to float32 moves the smallest singular value, sqrt(5e-10 n), by some 3e-8 |z|: under a per cent."""
    z = jnp.asarray(planted())
    value, resolution = metrics.diversity(gram_of(z, z))
    assert resolution == pytest.approx(64 * EPS * 15, rel=1e-4)
    assert resolution < 5e-10 / 1000
    assert value == pytest.approx(5e-10, rel=0.03)


def test_float32_contraction_loses_it_and_goes_negative():
    """Negative control: entries of size 15/64 rounded to 2^-24 leave errors of 1e-7 in eigenvalues."""
    z = jnp.asarray(planted())
    contracted = np.asarray(jnp.matmul(z, z.T, precision="highest") / z.shape[1])
    value, resolution = metrics.diversity(contracted)
    assert value < -5e-9  # ten times the planted value, of the wrong sign
    assert resolution == pytest.approx(64 * np.finfo(np.float32).eps * 15, rel=1e-4)  # and it says so
    assert abs(value) < resolution


# Alignment, ranks, labels


def test_alignment_is_one_with_itself_and_zero_between_orthogonal_directions():
    gram, _, gram_0 = grams(NOW, START)
    assert metrics.alignment(gram, gram) == pytest.approx(1, rel=ROUNDING)
    assert metrics.alignment(gram, 7 * gram) == pytest.approx(1, rel=ROUNDING)
    assert 0 < metrics.alignment(gram, gram_0) < 1
    one, other = np.outer(*[[1, 0, 1]] * 2), np.outer(*[[1, 0, -1]] * 2)
    assert metrics.alignment(one, other) == 0


@pytest.mark.parametrize("seed", range(5))
def test_alignment_of_grams_lies_between_zero_and_one(seed):
    """The product of positive semidefinite matrices has a trace >= 0; Cauchy-Schwarz bounds it above."""
    rng = np.random.default_rng(seed)
    thin = [rng.standard_normal((NUM, 1 + seed)) for _ in range(2)]
    assert 0 <= metrics.alignment(*(z @ z.T for z in thin)) <= 1


def test_effective_rank_counts_equal_directions():
    assert metrics.effective_rank(3 * np.eye(NUM)) == pytest.approx(NUM, rel=ROUNDING)
    assert metrics.effective_rank(np.ones((NUM, NUM))) == pytest.approx(1, rel=ROUNDING)
    assert metrics.effective_rank(np.diag([1.0, 1.0, 0.0])) == pytest.approx(2, rel=ROUNDING)
    eigenvalues = np.linalg.eigvalsh(grams(NOW, START)[0])
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert metrics.effective_rank(grams(NOW, START)[0]) == pytest.approx(expected, rel=ROUNDING)


def test_label_participation_is_one_on_the_top_direction_and_small_on_the_last():
    gram = grams(NOW, START)[0]
    eigenvalues, vectors = np.linalg.eigh(gram)
    assert metrics.label_participation(gram, 5 * vectors[:, -1]) == pytest.approx(1, rel=ROUNDING)
    ratio = eigenvalues[0] / eigenvalues[-1]
    assert metrics.label_participation(gram, vectors[:, 0]) == pytest.approx(ratio, rel=1e-10)
    both = metrics.label_participation(gram, vectors[:, [0, -1]])  # outputs are summed before the division
    assert both == pytest.approx((1 + ratio) / 2, rel=1e-10)
    assert metrics.label_participation(np.eye(NUM), np.arange(1, 1 + NUM)) == pytest.approx(1, rel=ROUNDING)


# What sampling alone leaves


def test_sampling_factor_at_its_ends():
    assert metrics.sampling_factor(np.inf, 64) == 1
    assert metrics.sampling_factor(64, 64) == 0
    assert metrics.sampling_factor(10, 64) == 0
    np.testing.assert_allclose(metrics.sampling_factor(np.array([16, 64, 256, np.inf]), 64), [0, 0, 0.25, 1])


def test_sampling_factor_is_the_edge_that_white_wishart_matrices_fluctuate_about():
    """400 Gram matrices of N = 40 white vectors at n = 160.

    The smallest eigenvalue is (1 - sqrt(N/n))^2 plus sigma times minus a Tracy-Widom variable (mean -1.2065, standard
    deviation 1.268), sigma = (sqrt n - sqrt N)(1/sqrt N - 1/sqrt n)^{1/3} / n; Ma 2012 replaces N, n by N - 1/2,
    n - 1/2 and takes logarithms to make the next order O(N^{-4/3}) = 0.7 % of a standard deviation. Tested: |z| < 4.
    """
    num, width, draws = 40, 160, 400
    z = np.random.default_rng(0).standard_normal((draws, num, width))
    log_smallest = np.log(np.linalg.svd(z, compute_uv=False)[:, -1] ** 2)
    root_n, root_num = (width - 0.5) ** 0.5, (num - 0.5) ** 0.5
    edge = (root_n - root_num) ** 2
    spread = (root_n - root_num) * (1 / root_num - 1 / root_n) ** (1 / 3) / edge
    centre = np.log(edge) - spread**3 / 8
    error = 1.268 * spread / draws**0.5
    assert abs(np.mean(log_smallest) - (centre + 1.2065 * spread)) < 4 * error
    # control: the plain factor is a lower edge, many standard errors below the mean at this N; and the same net with
    # one vector more would be seen
    factor = metrics.sampling_factor(width, num)
    assert edge / width == pytest.approx(factor, rel=0.01)
    assert np.mean(log_smallest) - np.log(width * factor) > 8 * error
    assert np.log(metrics.sampling_factor(width, num + 1) / factor) < -4 * error


def test_white_spectra_approach_the_sampling_factor_from_above():
    gaps = []
    for num in (8, 32, 128):
        z = np.random.default_rng(num).standard_normal((40, num, 4 * num))
        smallest = np.linalg.svd(z, compute_uv=False)[:, -1] ** 2 / (4 * num)
        gaps.append(np.mean(smallest) / metrics.sampling_factor(4 * num, num) - 1)
    assert gaps[0] > gaps[1] > gaps[2] > 0
    # relative spread of the smallest eigenvalue ~ N^-2/3: a factor 16 in N is one of 6.3, within the error of 40 draws
    assert gaps[2] < gaps[0] / 3


# Batches, broken runs, input


def test_leading_axes_are_kept_and_every_entry_is_its_own():
    start = features(7, 2, 3)
    now = start + features(8, 2, 3)
    three, y = grams(now, start), np.arange(NUM) - 2.5
    for metric in (
        lambda gram, cross, gram_0: metrics.feature_change(gram, cross, gram_0),
        lambda gram, cross, gram_0: metrics.feature_change_per_input(gram, cross, gram_0),
        lambda gram, cross, gram_0: metrics.diversity(gram).value,
        lambda gram, cross, gram_0: metrics.diversity(gram).resolution,
        lambda gram, cross, gram_0: metrics.space_time(gram, cross, gram_0).value,
        lambda gram, cross, gram_0: metrics.space_time(gram, cross, gram_0).resolution,
        lambda gram, cross, gram_0: metrics.alignment(gram, gram_0),
        lambda gram, cross, gram_0: metrics.effective_rank(gram),
        lambda gram, cross, gram_0: metrics.label_participation(gram, y),
    ):
        whole = metric(*three)
        assert whole.shape[:2] == (2, 3)
        for index in np.ndindex(2, 3):
            one = metric(*(matrix[index] for matrix in three))
            np.testing.assert_allclose(whole[index], one, rtol=1e-11)  # LAPACK may block a batch differently


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_diverged_run_spoils_its_own_row_alone(broken):
    start, y = features(7, 3), np.arange(NUM) - 2.5
    now = start + features(8, 3)
    now[1, 2, 3] = broken
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inf * 0 here, in the test's own products
        three = grams(now, start)
    gram, _, gram_0 = three
    for values in (
        metrics.feature_change(*three),
        metrics.diversity(gram).value,
        metrics.diversity(gram).resolution,
        metrics.space_time(*three).value,
        metrics.space_time(*three).resolution,
        metrics.alignment(gram, gram_0),
        metrics.effective_rank(gram),
        metrics.label_participation(gram, y),
    ):
        assert list(np.isnan(values)) == [False, True, False]
        assert np.isfinite(values[[0, 2]]).all()
    per_input = metrics.feature_change_per_input(*three)
    assert np.isnan(per_input[1]).all()
    assert np.isfinite(per_input[[0, 2]]).all()


def test_float32_grams_are_measured_in_float64():
    gram, cross, gram_0 = grams(NOW, START)
    single = [matrix.astype(np.float32) for matrix in (gram, cross, gram_0)]
    y = np.ones(NUM)
    for values in (
        metrics.feature_change(*single),
        metrics.feature_change_per_input(*single),
        metrics.diversity(single[0]).value,
        metrics.space_time(*single).value,
        metrics.alignment(single[0], single[2]),
        metrics.effective_rank(single[0]),
        metrics.label_participation(single[0], y),
    ):
        assert values.dtype == np.float64
    double = [matrix.astype(np.float64) for matrix in single]
    assert metrics.alignment(single[0], single[2]) == metrics.alignment(double[0], double[2])
    assert metrics.effective_rank(single[0]) == metrics.effective_rank(double[0])


def test_whole_numbers_and_jax_arrays_are_accepted():
    assert metrics.diversity(np.diag([2, 3])) == (2.0, 2 * EPS * 3)
    assert metrics.effective_rank(jnp.eye(3)) == pytest.approx(3)
    assert metrics.alignment([[1, 0], [0, 1]], np.eye(2)) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 3, 4)])
def test_matrices_that_are_not_square_are_refused_by_name(shape):
    wrong, right = np.zeros(shape), np.eye(3)
    message = r"Expected `{}` to have shape \[..., N, N\], got shape \({}"
    for name, call in (
        ("gram", lambda: metrics.diversity(wrong)),
        ("gram", lambda: metrics.effective_rank(wrong)),
        ("gram", lambda: metrics.label_participation(wrong, np.ones(3))),
        ("gram", lambda: metrics.feature_change(wrong, right, right)),
        ("cross_gram", lambda: metrics.feature_change(right, wrong, right)),
        ("gram_0", lambda: metrics.feature_change_per_input(right, right, wrong)),
        ("cross_gram", lambda: metrics.space_time(right, wrong, right)),
        ("gram_0", lambda: metrics.space_time(right, right, wrong)),
        ("gram_1", lambda: metrics.alignment(wrong, right)),
        ("gram_2", lambda: metrics.alignment(right, wrong)),
    ):
        with pytest.raises(ValueError, match=message.format(name, shape[0])):
            call()
