"""Covariance preservation: it holds in the limit, is missed by n^-1/2 and 1/n at finite width, and errors are seen."""

from __future__ import annotations

from functools import cache

import jax
import numpy as np
import pytest
from scipy import stats

from mupjax import plots
from mupjax.dynamics import feature_limit, matrix_free
from mupjax.dynamics.runs import map_runs
from mupjax.parametrization import ip, mup
from mupjax.statistics.slopes import fit_slope
from mupjax.theorems.covariance import FIELDS, covariance_preservation, pairs, summarize
from mupjax.trajectory import SpaceTime, Trajectory, TrajectorySpec
from tests import worked_example

SPEC = TrajectorySpec(gram_steps=(0, 1, 3), grams=(), space_time=("h", *FIELDS))
SETTINGS = {"depth": 3, "learning_rate": 1.0, "steps": 3, "spec": SPEC}
# The share of a variance that is missed, times n, is about 1.9 with a standard deviation over runs of .6 sqrt(n): these
# numbers tell n^-1 from n^-1/2 at an expected 5 standard errors, of which the test wants 3.
RUNS, GROUPS = {64: 2000, 256: 1200, 1024: 96}, 8
NARROW, WIDER = list(RUNS)[:2]
shared = pytest.mark.xdist_group("covariance")  # so that one process computes the runs below, once


@cache
def limit():
    key, task = jax.random.key(0), worked_example.task()
    return feature_limit.sample(task, mup(), key=key, num_particles=2048, num_runs=16, **SETTINGS)


@cache
def finite(width, parametrization=mup, runs=None):
    task = worked_example.task()

    def run(key):
        return matrix_free.train(task, parametrization(), width=width, key=key, **SETTINGS)

    return jax.tree.map(np.asarray, map_runs(run, jax.random.split(jax.random.key(width), runs or RUNS[width])))


def some(runs, chosen):
    return jax.tree.map(lambda leaf: leaf[chosen], runs._replace(info=None))


def replaced(runs, **fields):
    return runs._replace(space_time=runs.space_time._replace(**fields))


def test_statistics_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    runs, steps, layers, inputs = 5, 2, 3, 2
    arrays = {name: rng.standard_normal((runs, steps, steps, layers, inputs, inputs)) for name in FIELDS}
    arrays = {name: a + a.transpose(0, 2, 1, 3, 5, 4) for name, a in arrays.items()}
    found = covariance_preservation(Trajectory(0, 0, 0, 0, space_time=SpaceTime(**arrays)), sigma=1.5)
    summary = summarize(found, level=0.01)
    sides = [("x", 0, "zhat_forward", 1), ("dh", 1, "zhat_backward", 0)]
    for row, (one, (query, up, product, down)) in enumerate(zip(found[:2], sides, strict=True)):
        for m in range(layers - 1):
            at = np.s_[1, 0, m, 0, 1]
            predicted = 2.25 * arrays[query][:, 1, 0, m + up, 0, 1]
            empirical = arrays[product][:, 1, 0, m + down, 0, 1]
            stderr = np.std(empirical - predicted, ddof=1) / 5**0.5
            expected = (predicted.mean(), empirical.mean(), (empirical - predicted).mean(), stderr)
            np.testing.assert_allclose([array[at] for array in one[:4]], expected, rtol=1e-13)
            np.testing.assert_allclose(one.z[at], expected[2] / stderr, rtol=1e-13)
            places = [(s, i) for s in range(steps) for i in range(inputs)]
            once = [(s, t, m, i, j) for a, (s, i) in enumerate(places) for t, j in places[a:]]
            squares = [sum(array[place] ** 2 for place in once) for array in (one.difference, one.predicted)]
            assert len(once) == 10
            np.testing.assert_allclose(summary.relative_difference[row, m], (squares[0] / squares[1]) ** 0.5)
            stderr = sum(one.stderr[place] ** 2 for place in once)
            np.testing.assert_allclose(summary.relative_stderr[row, m], (stderr / squares[1]) ** 0.5)
            assert summary.max_z[row, m] == max(abs(one.z[place]) for place in once)


def test_bound_is_exceeded_as_rarely_as_it_says():
    """Of 4000 families of independent Gaussians nearly 5 % exceed it, to 4 standard errors."""
    rng, families, level = np.random.default_rng(1), 4000, 0.05
    arrays = {name: np.ones((6, 1, 1, 2, 2, 2)) for name in FIELDS}
    bound = summarize(
        covariance_preservation(Trajectory(0, 0, 0, 0, space_time=SpaceTime(**arrays))), level=level
    ).bound
    noise = rng.standard_normal((families, 6, 2 * 3))  # 2 directions, 1 matrix, 3 pairs
    z = noise.mean(1) / (noise.std(1, ddof=1) / 6**0.5)
    rate = np.mean(np.max(np.abs(z), 1) > bound)
    independent = 1 - (1 - level / 6) ** 6
    assert abs(rate - independent) < 4 * (level * (1 - level) / families) ** 0.5


@shared
def test_limit_preserves_covariance():
    """z within the bound, and differences of less than 1 %: so that z does not pass because errors are large."""
    summary = summarize(covariance_preservation(limit()))
    assert np.max(summary.max_z) < summary.bound
    assert np.max(summary.relative_difference) < 1e-2


@shared
@pytest.mark.parametrize("wrong", ["preactivations", "sigma", "other layer", "steps"])
def test_what_is_not_the_gaussian_part_is_seen(wrong):
    """The negative controls of the test above, each seen in the directions that it breaks."""
    runs, rows = limit(), [0]
    st = runs.space_time
    if wrong == "preactivations":  # with Zdot and the weights' movement
        found = covariance_preservation(replaced(runs, zhat_forward=st.h))
        at_start = found.forward.difference[0, 0], found.forward.predicted[0, 0]
        assert np.max(np.abs(at_start[0])) < 1e-2 * np.max(at_start[1])  # where h is its Gaussian part
    elif wrong == "sigma":
        found, rows = covariance_preservation(runs, sigma=1.05), [0, 1]
    elif wrong == "other layer":
        found, rows = covariance_preservation(replaced(runs, dh=np.roll(st.dh, 1, axis=3))), [1]
    else:
        found = covariance_preservation(replaced(runs, x=st.x[:, ::-1, ::-1]))
    summary = summarize(found)
    assert np.min(summary.max_z[rows]) > 2 * summary.bound
    assert np.min(summary.relative_difference[rows]) > 2e-2


@shared
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_first_passes_are_unbiased_at_finite_width(direction):
    """Queries at step 0 do not depend on the noise in their products."""
    for width in (NARROW, WIDER):
        found = covariance_preservation(finite(width))
        one, bound = getattr(found, direction), summarize(found).bound
        assert np.max(np.abs(one.z[0, 0])) < bound
    # The control: a part that misses 4/n of its variance, projected off the 4 inputs' directions, is seen.
    found = covariance_preservation(finite(NARROW))
    one = getattr(found, direction)
    assert np.min(np.max(np.abs((one.difference - 4 / NARROW * one.predicted) / one.stderr)[0, 0], (1, 2))) > bound


def variance_missed(runs):
    """The share of their variance that Gaussian parts of W_0^T dh^3 miss at the last step.

    Less that of step 0, whose mean is 0: most of the fluctuation is common to both.
    """
    one = covariance_preservation(runs).backward
    first, last = (-np.trace(one.difference[s, s, -1]) / np.trace(one.predicted[s, s, -1]) for s in (0, -1))
    return last - first


@shared
def test_later_mean_differences_fall_as_the_inverse_width():
    """n times the share that is missed: the same at two widths, to 4 standard errors, and not zero."""
    groups = [np.s_[g::GROUPS] for g in range(GROUPS)]
    shares = np.array([[n * variance_missed(some(finite(n), group)) for group in groups] for n in (NARROW, WIDER)])
    mean, error = shares.mean(1), shares.std(1, ddof=1) / GROUPS**0.5
    print("n times the share missed:", mean, "+-", error)
    assert mean[0] > 4 * error[0]
    assert abs(mean[1] - mean[0]) < 4 * np.hypot(*error)
    assert 2 * mean[0] - mean[1] > 3 * np.hypot(2 * error[0], error[1])  # the control: not as n^-1/2


@shared
@pytest.mark.parametrize("row", [0, 1])
def test_fluctuations_fall_as_the_root_of_the_width(row):
    """The slope over 8 groups of 12 runs holds -1/2 in its 99.9 % interval, and neither 0 nor -1."""

    def fluctuation(width):
        groups = (some(finite(width), np.s_[g:96:GROUPS]) for g in range(GROUPS))
        return [summarize(covariance_preservation(group)).relative_stderr[row].mean() for group in groups]

    slope = fit_slope(tuple(RUNS), [fluctuation(width) for width in RUNS])
    print(("forward", "backward")[row], slope)
    assert abs(slope.slope + 0.5) < stats.t.isf(5e-4, GROUPS - 1) * slope.stderr < 0.25


@shared
def test_another_variance_of_the_hidden_matrices():
    """ip's hidden entries have variance 1/n^2, so sigma = n^-1/2; its first pass is unbiased like muP's."""
    runs = finite(64, ip, 64)
    right, wrong = (covariance_preservation(runs, sigma=sigma) for sigma in (1 / 8, 1 / 7))
    bound = summarize(right).bound
    for one, other in zip(right[:2], wrong[:2], strict=True):
        assert np.max(np.abs(one.z[0, 0])) < bound
        assert np.min(np.max(np.abs(other.z[0, 0]), (1, 2))) > bound


def test_divergence_stays_where_it_is():
    st = some(limit(), np.s_[:3]).space_time
    x = st.x.copy()
    x[1, :, :, 0] = np.nan
    found = summarize(covariance_preservation(replaced(limit(), **st._replace(x=x)._asdict())))
    assert np.isnan(found.relative_difference).tolist() == [[True, False], [False, False]]


def test_refusals():
    runs = limit()
    one = some(runs, 0)
    with pytest.raises(ValueError, match="none of dh"):
        covariance_preservation(replaced(runs, dh=None))
    with pytest.raises(ValueError, match="none of x, dh, zhat_forward, zhat_backward"):
        covariance_preservation(runs._replace(space_time=None))
    for bad in (one, some(runs, np.s_[:1])):
        with pytest.raises(ValueError, match="at least 2 runs"):
            covariance_preservation(bad)
    shallow = SpaceTime(*(None if array is None else array[:, :, :, :1] for array in runs.space_time))
    with pytest.raises(ValueError, match="2 hidden layers"):
        covariance_preservation(runs._replace(space_time=shallow))
    for sigma in (0.0, -1.0, np.inf):
        with pytest.raises(ValueError, match="`sigma`"):
            covariance_preservation(runs, sigma=sigma)
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match="`level`"):
            summarize(covariance_preservation(runs), level=level)


@shared
def test_figure_shows_what_was_computed():
    cases = {"narrow": covariance_preservation(finite(NARROW)), "limit": covariance_preservation(limit())}
    axes = plots.covariance_preservation(cases)
    for one, marks in zip(cases["limit"][:2], axes[0].collections, strict=True):
        unit = np.max(np.abs(one.predicted))
        shown = np.asarray(marks.get_offsets()) * unit
        expected = np.stack([pairs(one.predicted).ravel(), pairs(one.empirical).ravel()], -1)
        np.testing.assert_allclose(shown, expected, rtol=1e-12)
    lines = {line.get_label(): line.get_ydata() for line in axes[1].lines}
    summaries = [summarize(found) for found in cases.values()]
    names = [["forward, layer 1 to 2", "forward, layer 2 to 3"], ["backward, layer 2 to 1", "backward, layer 3 to 2"]]
    for row, m in np.ndindex(2, 2):
        np.testing.assert_array_equal(lines[names[row][m]], [one.relative_difference[row, m] for one in summaries])
    dashes = [line.get_ydata() for line in axes[1].lines if line.get_marker() == "_" and len(line.get_ydata())]
    expected = np.stack([one.relative_stderr for one in summaries], -1).reshape(4, 2)
    np.testing.assert_array_equal(dashes, expected)
    assert [tick.get_text() for tick in axes[1].get_xticklabels()] == [f"narrow\n{RUNS[NARROW]} runs", "limit\n16 runs"]
    axes[0].figure.canvas.draw()  # nothing warns
    with pytest.raises(ValueError, match="`cases`"):
        plots.covariance_preservation({})
