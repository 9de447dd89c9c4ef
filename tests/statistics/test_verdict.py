"""Fitted powers of the width and the verdicts that rest on them: intervals that cover, JSON that loses nothing."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from mupjax import statistics
from mupjax.statistics import REPRODUCED, Verdict, fit_slope, mean_slope

WIDTHS = np.array([64, 128, 512, 1024])


def test_the_interval_is_scipys():
    slopes = np.random.default_rng(0).normal(0.3, 0.1, 7)
    found, by_scipy = mean_slope(slopes), stats.ttest_1samp(slopes, 0).confidence_interval(0.95)
    np.testing.assert_allclose(
        [found.slope - found.half_width, found.slope + found.half_width], by_scipy, rtol=1e-12
    )  # the same formula in float64
    np.testing.assert_allclose(found.stderr, stats.sem(slopes), rtol=1e-12)
    assert found.seeds == 7


def test_a_power_of_the_width_is_fitted_seed_by_seed():
    values = np.random.default_rng(1).lognormal(size=(4, 3))
    by_scipy = [stats.linregress(np.log(WIDTHS), np.log(column)).slope for column in values.T]
    np.testing.assert_allclose(fit_slope(WIDTHS, values)[:3], mean_slope(by_scipy)[:3], rtol=1e-12)
    exact = fit_slope(WIDTHS, 3 * WIDTHS[:, None] ** -0.5 * [1.0, 2.0])
    np.testing.assert_allclose(exact.slope, -0.5, rtol=1e-14)
    assert exact.half_width < 1e-14


def test_intervals_cover_the_true_slope_in_95_percent_of_the_cases():
    """Noise of log values is Gaussian, so are the slopes: coverage is exact. A normal quantile instead of Student's
    would cover 85 % with four seeds."""
    rng, trials, covered = np.random.default_rng(2), 2000, 0
    for _ in range(trials):
        found = fit_slope(WIDTHS, WIDTHS[:, None] ** 0.25 * rng.lognormal(sigma=0.3, size=(4, 4)))
        covered += abs(found.slope - 0.25) <= found.half_width
    z = (covered / trials - 0.95) / (0.95 * 0.05 / trials) ** 0.5
    assert abs(z) < 4


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_what_has_no_logarithm_has_no_slope(bad):
    values = np.ones((4, 3))
    values[2, 1] = bad
    found = fit_slope(WIDTHS, values)
    assert math.isnan(found.slope)
    assert math.isnan(found.stderr)
    assert found[2:] == (math.inf, 3)


def test_one_seed_has_no_interval():
    found = fit_slope(WIDTHS, np.ones((4, 1)))
    assert found.slope == 0
    assert math.isnan(found.stderr)
    assert found[2:] == (math.inf, 1)


def test_verdicts_survive_json(tmp_path):
    whole = Verdict("a claim", 0.5, np.float64(0.1 + 0.2), 1e-300, 8, "<= 1", REPRODUCED)
    lost = Verdict("another", None, math.nan, math.inf, 0, "none", statistics.NOT_SHOWN)
    path = statistics.write([whole, lost], tmp_path)
    assert path == tmp_path / "verdicts.json"
    first, second = (Verdict(**row) for row in json.loads(path.read_text()))
    assert first == whole
    assert second == lost._replace(ours=None, stderr=None)  # JSON has no NaN
    assert [entry.name for entry in tmp_path.iterdir()] == ["verdicts.json"]
