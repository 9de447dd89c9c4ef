"""Fitted powers of the width and the verdicts that rest on them: intervals that cover, JSON that loses nothing."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from mupjax import statistics
from mupjax.statistics import (
    CONTRADICTED,
    REPRODUCED,
    UNDECIDED,
    control,
    decide,
    exact,
    fit_slope,
    mean_slope,
    not_measured,
    of_estimate,
    of_mean,
    of_share,
    worst,
)

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


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        ((-0.1, 0.1), REPRODUCED),  # ends count
        ((-0.05, 0.0), REPRODUCED),
        ((-0.05, 0.11), UNDECIDED),
        ((-0.2, 0.2), UNDECIDED),
        ((0.1, 0.3), UNDECIDED),
        ((0.11, 0.3), CONTRADICTED),
        ((-0.3, -0.11), CONTRADICTED),
        ((-math.inf, math.inf), UNDECIDED),
        ((math.nan, math.nan), UNDECIDED),
    ],
)
def test_interval_and_bound_decide_alone(interval, word):
    verdict = decide("a claim", sum(interval) / 2, interval, (-0.1, 0.1), seeds=4)
    assert verdict.verdict == word
    assert bool(verdict.needs) == (word == UNDECIDED)


def test_intervals_are_scipys():
    values = np.random.default_rng(3).normal(size=6)
    found = of_mean("a mean", values, (-9, 9))
    np.testing.assert_allclose([found.low, found.high], stats.ttest_1samp(values, 0).confidence_interval(), rtol=1e-12)
    share = of_share("a share", [True] * 7 + [False], (0, 1))
    np.testing.assert_allclose(
        [share.low, share.high], [stats.beta.ppf(0.025, 7, 2), stats.beta.ppf(0.975, 8, 1)], rtol=1e-6
    )
    one = of_estimate("an estimate", 2.0, 0.5, (0, 9), seeds=4)
    np.testing.assert_allclose([one.low, one.high], stats.t.interval(0.95, 3, 2.0, 0.5), rtol=1e-12)


def test_a_noisy_study_cannot_pass():
    """Ten times the noise decides less, whatever the bound: none of its claims becomes reproduced."""
    rng = np.random.default_rng(4)
    for scale, share in ((0.01, 1.0), (10.0, 0.0)):
        words = [of_mean("zero", scale * rng.normal(size=5), (-0.1, 0.1)).verdict for _ in range(50)]
        assert words.count(REPRODUCED) / 50 == share


def test_so_many_seeds_do_decide():
    """The number of seeds that an undecided claim asks for decides nine of ten repetitions."""
    rng, seeds, bound = np.random.default_rng(5), 8, (-0.15, 0.15)
    values = rng.normal(size=seeds)
    values = 0.05 + 0.2 * (values - values.mean()) / values.std(ddof=1)
    first = of_mean("near zero", values, bound)
    needed = int(first.needs.split()[1])
    assert first.verdict == UNDECIDED
    decided = [of_mean("", rng.normal(0.05, 0.2, needed), bound).verdict == REPRODUCED for _ in range(400)]
    assert 0.85 < np.mean(decided) < 0.99  # .93 +- .013


def test_right_groups_are_accused_in_five_of_a_hundred():
    """Ten right claims at the ends of their bounds, the worst case: without control 22 of 100 groups are accused."""
    rng, trials, claims = np.random.default_rng(6), 300, 10
    accused = np.zeros((trials, 2), bool)
    for trial in range(trials):
        group = [of_mean("a", rng.normal(size=6), (-math.inf, 0.0), group="g") for _ in range(claims)]
        for place, judged in enumerate((group, control(group))):
            accused[trial, place] = any(verdict.verdict == CONTRADICTED for verdict in judged)
    alone, together = accused.mean(0)
    assert alone > 0.15  # 1 - .975^10 = .22
    assert together < 0.025 + 4 * (0.025 * 0.975 / trials) ** 0.5  # one side of a two-sided 5 %


def test_control_keeps_what_is_far_off_and_what_is_exact():
    far = of_mean("far", [1.0, 1.01, 0.99, 1.0], (-0.1, 0.1), group="g")
    near = of_mean("near", [0.2, 0.5, 0.3, 0.6], (-0.1, 0.1), group="g")
    number = exact("a count", 3, (0, 0), group="g")
    rest = [exact("right", 0, (0, 0), group="g")] * 20
    assert near.verdict == CONTRADICTED
    words = [verdict.verdict for verdict in control([far, near, number, *rest])[:3]]
    assert words == [CONTRADICTED, UNDECIDED, CONTRADICTED]
    assert control([near])[0].verdict == CONTRADICTED  # alone it stands


def test_the_worst_of_many_layers_counts_as_many_looks():
    """A claim that is the worst of ten right layers is accused no more often than one of a single layer."""
    rng, trials = np.random.default_rng(7), 300
    accused = 0
    for _ in range(trials):
        layers = [of_mean("layer", rng.normal(size=6), (-math.inf, 0.0), group="g") for _ in range(10)]
        (verdict,) = control([worst(layers)])
        assert verdict.looks == 10
        accused += verdict.verdict == CONTRADICTED
    assert accused / trials < 0.025 + 4 * (0.025 * 0.975 / trials) ** 0.5


def test_no_claim_is_reproduced_by_runs_that_diverge():
    assert exact("stays large", math.inf, (0.95, math.inf)).verdict == UNDECIDED
    assert exact("stays small", math.inf, (0.0, 1.0)).verdict == CONTRADICTED


def test_verdicts_survive_json(tmp_path):
    whole = decide("a claim", 0.1 + 0.2, (0.0, 0.5), (-math.inf, 1.0), paper=0.5, stderr=1e-300, seeds=8)
    path = statistics.write([whole, not_measured("another", (0.0, 1.0))], tmp_path)
    assert path == tmp_path / "verdicts.json"
    first, second = json.loads(path.read_text())
    assert first == whole._asdict() | {"bound": [None, 1.0]}  # JSON has no infinity
    assert (second["ours"], second["verdict"], second["needs"]) == (None, UNDECIDED, "not measured")
    assert [entry.name for entry in tmp_path.iterdir()] == ["verdicts.json"]
