"""Statistics over seeds: those that diverged are left out, values below their resolution count with it."""

from __future__ import annotations

import math

import numpy as np

from mupjax.statistics import seeds


def test_statistics_over_the_seeds_that_are_finite():
    found = seeds.over_seeds(np.array([[1.0, 3.0, np.nan], [np.inf, np.nan, np.nan], [5.0, np.nan, np.nan]]))
    np.testing.assert_array_equal(found.mean, [2, np.nan, 5])
    np.testing.assert_allclose(found.std, [math.sqrt(2), np.nan, np.nan], rtol=1e-15)
    np.testing.assert_array_equal(found.low, [1, np.nan, 5])
    np.testing.assert_array_equal(found.high, [3, np.nan, 5])
    np.testing.assert_array_equal(found.seeds, [2, 0, 1])
    np.testing.assert_array_equal(found.unresolved, 0)


def test_values_below_their_resolution_count_with_it():
    found = seeds.over_seeds(np.array([[-1e-15, 2e-13], [-1e-15, 5e-13]]), np.array([[3e-13, 4e-13], [3e-13, 4e-13]]))
    np.testing.assert_allclose(found.mean, [3.5e-13, 4e-13], rtol=1e-15)
    np.testing.assert_array_equal(found.unresolved, [2, 1])
    np.testing.assert_array_equal(found.resolution, 4e-13)
