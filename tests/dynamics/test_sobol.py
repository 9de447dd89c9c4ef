"""Scrambled Sobol points: SciPy's own before the scramble, balanced and unbiased after it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from scipy.stats import qmc

from mupjax.dynamics import sobol


def points(key, rows, num):
    directions = sobol.scrambled_directions(key, rows, num)
    shifts = jax.random.bits(jax.random.fold_in(key, 1), (rows,), jnp.uint32)
    return np.asarray(sobol.normal_rows(directions, shifts, num))


@pytest.mark.parametrize("num", [64, 100])
def test_unscrambled_points_are_scipys(num):
    directions = sobol._direction_numbers(5, 7)
    index = np.arange(num)
    ours = np.bitwise_xor.reduce(directions[:, :, None] * (index >> np.arange(7)[:, None] & 1), axis=1) / 2.0**32
    whole = qmc.Sobol(5, scramble=False, bits=32).random(128)  # the Gray code's order: compare as sets
    assert {tuple(point) for point in ours.T} <= {tuple(point) for point in whole}
    assert len({tuple(point) for point in ours.T}) == num


def test_every_row_is_stratified_and_gaussian(key):
    """Of 2^10 points each of 2^10 equal cells holds one, in every row; random ones would leave 1/e of them empty."""
    uniform = special.ndtr(points(key, 40, 1024).astype(np.float64))
    for row in uniform:
        assert len(np.unique(np.floor(row * 1024).astype(int))) > 1020  # float32 at cells' edges
    assert np.all(np.isfinite(points(key, 3, 1 << 16)))


def test_pairs_of_rows_are_balanced(key):
    """Early dimensions form nets: 2^5 x 2^5 boxes of the first two hold one point each."""
    uniform = special.ndtr(points(key, 2, 1024).astype(np.float64))
    boxes = np.floor(uniform * 32).astype(int)
    assert len({tuple(box) for box in boxes.T}) > 1015


def test_averages_are_unbiased_and_better_than_random(key):
    """E tanh(z_1 + z_2)^2 over 200 scrambles against quadrature; its scatter is a fifth of random points' at most."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    exact = np.sum(weights * np.tanh(np.sqrt(2) * nodes) ** 2) / np.sum(weights)
    keys = jax.random.split(key, 200)
    means = np.array([np.mean(np.tanh(z[0] + z[1]) ** 2, dtype=np.float64) for z in (points(k, 2, 256) for k in keys)])
    stderr = means.std(ddof=1) / 200**0.5
    assert abs(means.mean() - exact) / stderr < stats.t.ppf(1 - 1e-4, 199)
    z = np.random.default_rng(0).standard_normal((200, 2, 256))
    random = np.mean(np.tanh(z[:, 0] + z[:, 1]) ** 2, axis=1).std(ddof=1)
    assert means.std(ddof=1) < random / 5


def test_rows_beyond_the_table_are_stratified_and_not_correlated(key, monkeypatch):
    monkeypatch.setattr(sobol, "_DIMENSIONS", 8)
    z = points(key, 20, 4096)
    assert np.abs(np.corrcoef(z) - np.eye(20)).max() < 0.15  # random points: 4.5 / 64 = .07 for each pair
    for row in special.ndtr(z.astype(np.float64)):
        assert len(np.unique(np.floor(row * 4096).astype(int))) > 4070
