"""What became of a sweep's runs: means over the seeds that did not diverge, best rates, cells that are not done."""

from __future__ import annotations

import numpy as np
import pytest

from mupjax.statistics.outcomes import outcomes
from tests.result_datasets import SGD, sweep


def test_outcomes_of_a_sweep():
    dataset = sweep()
    dataset["train_loss"][1, 0, 1, 2] = np.nan  # a cell that is not done
    dataset["train_loss"][1, 0, 0, 0, 8, 0, 1] = -np.inf
    found = outcomes(dataset)
    rates = dataset["learning_rate"].values
    np.testing.assert_array_equal(found.done[0], True)
    np.testing.assert_array_equal(found.done[1, 0], [[True, True, True], [True, True, False]])
    expected = 0.02 * (1 + 10 / 8) * (1 + np.log2(rates) ** 2)[:, None] * np.array([1.0, 1.1, 1.2])  # mup, sgd, 64
    was_run = np.isin(rates, SGD)
    expected[:, :1][(rates == 8) | (rates == 0.5)] = np.nan
    expected[~was_run] = np.nan
    np.testing.assert_allclose(
        found.loss.mean[1, 0, 0, 0][was_run], np.nanmean(expected[was_run], 1), rtol=1e-6
    )  # float32
    np.testing.assert_array_equal(found.diverged[1, 0, 0, 0], np.where(was_run, np.isnan(expected).sum(1), 0))
    assert found.diverged[1, 0, 0, 0].sum() == 2
    np.testing.assert_array_equal(found.diverged[1, 0, 1, 2], 0)
    best = np.where(found.best >= 0, rates[found.best], np.nan)
    np.testing.assert_array_equal(best[0, 0], [[1, 0.5, 0.25], [2.0**-7, 2.0**-8, 2.0**-9]])
    np.testing.assert_array_equal(best[1, 0], [[1, 1, 1], [2.0**-7, 2.0**-7, np.nan]])


def test_a_rate_at_which_a_seed_diverged_is_not_the_best():
    dataset = sweep(("mup",), ("sgd",))
    dataset["train_loss"][0, 0, 0, 0, 3, 2, 1] = np.nan
    dataset["train_loss"][0, 0, 0, 0, 2, :, 1] *= 0.9
    assert dataset["learning_rate"].values[outcomes(dataset).best[0, 0, 0, 0]] == 0.5
    dataset["train_loss"][0, 0, 0, 0, :, 1, 1] = np.nan
    assert outcomes(dataset).best[0, 0, 0, 0] == -1
    with pytest.raises(ValueError, match="Expected `loss` to be one of train_loss, test_loss, got loss='loss'"):
        outcomes(dataset, "loss")
