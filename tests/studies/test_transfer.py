"""The best rate and its drift: known optima are found, intervals cover, verdicts come from the losses alone."""

import math

import numpy as np
import pytest
import xarray as xr

import mupjax
from mupjax import datasets
from mupjax.statistics import CONTRADICTED, REPRODUCED, UNDECIDED
from mupjax.studies.transfer import RESOLUTION, best_rates, judge

WIDTHS = np.array([64.0, 128.0, 256.0, 512.0])
OCTAVES = np.log2(WIDTHS / 64)
RATES = 2.0 ** np.arange(-6, 4.01, 0.5)


def valley(x):
    """The logarithm of a loss, x octaves from its minimum: a parabola."""
    return 0.3 * x**2


def sweep_of(optima, losses=valley, rates=RATES, cliff=np.inf):
    """The Dataset of a sweep whose losses are smallest at the rates 2^optima [parametrization, width, seed].

    The loss is 1 there and 1e3 at step 0; `cliff` octaves beyond and more, runs diverge.
    """
    optima = np.asarray(optima, float)
    x = np.log2(rates)[:, None] - optima[..., None, :]  # parametrization, width, rate, seed
    last = np.where(x < cliff, np.exp(losses(x)), np.nan)
    values = np.stack([np.full(x.shape, 1e3), last], axis=-1)[:, None, None]
    dims = ("parametrization", "depth", "optimizer", "width", "learning_rate", "seed", "step")
    names = ["mup", "sp", *(f"p{i}" for i in range(len(optima)))][: len(optima)]
    coords = {"parametrization": names, "depth": [3], "optimizer": ["sgd"], "width": WIDTHS, "step": [0, 20]}
    coords |= {"learning_rate": rates, "seed": np.arange(optima.shape[-1])}
    was_run = (("optimizer", "learning_rate"), np.ones((1, len(rates)), bool))
    return xr.Dataset({"train_loss": (dims, values), "was_run": was_run}, coords)


def optima_of(drift, noise=0.1, seeds=8, shape=(), at=-0.3, seed=0):
    """log2 of optima [*shape, width, seed] that drift, with Gaussian noise of their own."""
    noises = noise * np.random.default_rng(seed).normal(size=(*shape, len(WIDTHS), seeds))
    return at + drift * OCTAVES[:, None] + noises


def test_a_parabola_is_found_between_the_rates():
    optima = optima_of(-0.6)
    found = best_rates(sweep_of(optima[None]))
    np.testing.assert_allclose(np.log2(found.best_rate[0, 0]), optima, atol=1e-12)  # exact but for float64 rounding
    assert (found.best_rate_resolution == 0).all()
    by_polyfit = np.polyfit(OCTAVES, optima, 1)[0]
    np.testing.assert_allclose(found.drift, [[by_polyfit.mean()]], rtol=1e-9)
    np.testing.assert_allclose(found.drift_stderr, [[by_polyfit.std(ddof=1) / 8**0.5]], rtol=1e-9)


@pytest.mark.parametrize("spacing", [0.5, 1.0])
def test_uneven_valleys_shift_the_optimum_but_leave_no_drift(spacing):
    """Shallow to the left, steep to the right, as losses are: the parabola's minimum lies up to a quarter of the grid's
    step aside, but by about as much at every width. Half a step of error in one of them would drift by .15."""

    def uneven(x):
        return np.logaddexp(-0.7 * x, 1.4 * x - np.log(2))

    rates = 2.0 ** np.arange(-6, 4.01, spacing)
    optima = optima_of(-0.37, noise=0.0, seeds=16) + np.linspace(0, 1, 16)  # at every place of the grid
    found = best_rates(sweep_of(optima[None], uneven, rates))
    assert abs(np.log2(found.best_rate[0, 0]) - optima).max() < spacing / 4
    assert abs(float(found.drift[0, 0]) + 0.37) < 0.02


def test_intervals_cover_the_drift_in_95_percent_of_the_sweeps():
    trials = 1000
    found = best_rates(sweep_of(optima_of(-0.5, noise=0.2, seeds=4, shape=(trials,))))
    covered = (abs(found.drift + 0.5) <= found.drift_half_width).mean()
    assert abs(float(covered) - 0.95) / (0.95 * 0.05 / trials) ** 0.5 < 4  # z


def test_finer_grids_know_the_optimum_better():
    """Losses with noise: the parabola over an octave to each side gains from every rate in it."""
    errors = []
    for spacing in (0.5, 0.125):
        rates = 2.0 ** np.arange(-6, 4.01, spacing)
        optima = optima_of(0.0, noise=0.2, seeds=64)
        data = sweep_of(optima[None], rates=rates)
        data["train_loss"] *= np.exp(0.03 * np.random.default_rng(3).normal(size=data.train_loss.shape))
        errors.append((np.log2(best_rates(data).best_rate[0, 0]) - optima).std())
    assert errors[1] < 0.7 * errors[0]  # 17 points for 5: the root of the ratio of their number is .54


def test_rates_that_an_optimizer_was_not_run_with_are_left_out():
    data = sweep_of(optima_of(0.0)[None])
    whole = best_rates(data)
    data["was_run"][0, ::2] = False
    data["train_loss"][..., ::2, :, :] = np.nan
    np.testing.assert_allclose(best_rates(data).best_rate, whole.best_rate, rtol=1e-9)


# Edges and cliffs


def test_an_optimum_at_the_end_of_the_rates_is_not_bracketed():
    optima = optima_of(0.0, noise=0.0)
    optima[3, 2] = np.log2(RATES[-1]) + 1
    data = sweep_of(optima[None])
    found = best_rates(data)
    assert np.isnan(found.best_rate).sum() == 1
    assert np.isnan(found.drift).all()
    (verdict,) = judge(data)
    assert verdict.verdict == UNDECIDED
    assert "1 of 32 optima are not bracketed" in verdict.needs
    assert np.isnan(best_rates(sweep_of(optima[None] - 20)).best_rate).all()  # falling to the left
    assert np.isnan(best_rates(data.isel(learning_rate=slice(2))).best_rate).all()  # no three rates


@pytest.mark.parametrize("end", [np.nan, np.inf, 1e4])
def test_no_parabola_crosses_the_cliff_of_divergence(end):
    """Beside diverged runs the best rate is the grid's, and the interval holds what that leaves open."""
    data = sweep_of(optima_of(-0.25, noise=0.0)[None], cliff=0.2)
    data["train_loss"] = data.train_loss.where(np.isfinite(data.train_loss), end)  # 1e4 is above the first loss
    found = best_rates(data)
    np.testing.assert_allclose(np.log2(found.best_rate) % 0.5, 0, atol=1e-12)
    np.testing.assert_allclose(found.best_rate_resolution, 0.5, rtol=1e-12)
    error = np.log2(found.best_rate[0, 0]) - optima_of(-0.25, noise=0.0)
    assert abs(error).max() <= 0.5
    assert float(found.drift_stderr[0, 0]) < 1e-12  # all seeds alike: the scatter over seeds knows nothing of it
    np.testing.assert_allclose(found.drift_half_width, 0.5 * 0.8, rtol=1e-9)  # |weights| of four octaves add up to .8
    assert abs(float(found.drift[0, 0]) + 0.25) <= 0.4
    assert judge(data)[0].verdict == UNDECIDED


def test_a_cliff_further_away_takes_nothing():
    """Runs that diverge beyond the neighbour leave the parabola through the rest, which is exact."""
    optima = optima_of(-0.25, noise=0.0)
    found = best_rates(sweep_of(optima[None], cliff=0.8))
    np.testing.assert_allclose(np.log2(found.best_rate[0, 0]), optima, atol=1e-9)
    assert (found.best_rate_resolution == 0).all()


def test_where_there_is_no_valley_the_rate_is_known_to_an_octave():
    """Losses that scatter more than they bend."""
    data = sweep_of(optima_of(0.0, noise=0.0)[None])
    losses = np.full(len(RATES), 10.0)
    losses[10:15] = 1.1, 8.0, 1.0, 8.0, 1.1  # the smallest at rate 1
    data["train_loss"][..., 1] = losses[:, None]
    found = best_rates(data)
    np.testing.assert_allclose(found.best_rate, 1.0)
    np.testing.assert_allclose(found.best_rate_resolution, 1.0)


def test_networks_that_diverge_at_every_rate_have_no_best_one():
    data = sweep_of(optima_of(0.0)[None])
    data["train_loss"][0, 0, 0, 1, :, 3] = np.nan
    found = best_rates(data)
    assert np.isnan(found.best_rate).sum() == 1
    assert np.isnan(found.drift).all()


# Verdicts


def verdicts(mup=0.0, sp=-0.7, noise=0.1, seeds=8):
    data = sweep_of(np.stack([optima_of(mup, noise, seeds), optima_of(sp, noise, seeds, seed=1)]))
    return data, [verdict.verdict for verdict in judge(data)]


def test_drifts_decide_the_verdicts():
    assert verdicts()[1] == [REPRODUCED, REPRODUCED]
    assert verdicts(mup=-0.3, sp=0.0)[1] == [CONTRADICTED, CONTRADICTED]
    assert verdicts(mup=0.05, noise=0.01)[1] == [REPRODUCED, REPRODUCED]  # not 0, but within the resolution of it
    assert verdicts(noise=0.5)[1] == [UNDECIDED, REPRODUCED]  # far beyond the resolution, whatever the noise
    assert verdicts(mup=0.077, noise=0.2)[1][0] == UNDECIDED  # not 'none' while its interval reaches beyond
    assert verdicts(noise=3.0)[1] == [UNDECIDED, UNDECIDED]
    assert verdicts(seeds=1)[1] == [UNDECIDED, UNDECIDED]
    assert verdicts(sp=-0.1, noise=0.05)[1] == [REPRODUCED, UNDECIDED]  # between no drift and drift


def test_perturbed_losses_flip_the_verdicts():
    data, _ = verdicts()
    moved = data.copy(deep=True)
    for width in range(len(WIDTHS)):  # shift muP's losses by one rate a width, and undo the control's drift
        moved.train_loss[0, 0, 0, width] = np.roll(data.train_loss[0, 0, 0, width], -width, axis=0)
        moved.train_loss[1, 0, 0, width] = data.train_loss[1, 0, 0, 0]
    claims = judge(moved)
    assert [verdict.verdict for verdict in claims] == [CONTRADICTED, CONTRADICTED]
    np.testing.assert_allclose(claims[0].ours - judge(data)[0].ours, -0.5, rtol=1e-9)
    assert [v.claim[:28] for v in claims] == ["mup (sgd): the best rate sta", "sp (sgd): the best rate fall"]
    assert claims[0].seeds == 8
    assert (claims[0].bound, claims[1].bound) == ((-RESOLUTION, RESOLUTION), (-math.inf, -RESOLUTION))


def test_errors_name_what_is_wrong():
    data = sweep_of(optima_of(0.0)[None])
    with pytest.raises(ValueError, match="`loss`"):
        best_rates(data, "test_loss")
    with pytest.raises(ValueError, match="two widths or more, got 1 and 1"):
        best_rates(data.isel(width=[0]))
    with pytest.raises(ValueError, match="one depth and two widths"):
        best_rates(xr.concat([data, data.assign_coords(depth=[4])], "depth", data_vars="minimal"))


def test_on_digits_mup_transfers_and_one_rate_for_all_widths_does_not():
    """SGD, 20 steps on 1024 digits, widths 32 and 256: muP's drift .02 +- .03, that of one rate -.64 +- .05."""
    task = datasets.load("digits", classes=None, train_size=1024, test_size=None, loss="cross_entropy")
    data = mupjax.sweep(
        task,
        parametrizations=(mupjax.mup(base_width=32), mupjax.sp(base_width=32, learning_rate_exponent=0.0)),
        widths=(32, 256),
        depths=(2,),
        learning_rates=tuple(2.0 ** np.arange(-2, 3.6, 0.5)),
        seeds=8,
        steps=20,
        batch_size=64,
    )
    assert [verdict.verdict for verdict in judge(data)] == [REPRODUCED] * 2
    assert (best_rates(data).drift.sel(parametrization="sp") < -0.5).all()


# The study


SMALL = {"widths": (4, 8), "depth": 1, "seeds": 2, "steps": 2, "batch_size": None}
TASK = mupjax.Task(np.eye(4), np.ones((4, 1)))


def parametrizations_of(**given):
    data = mupjax.transfer(TASK, optimizers=("sgd",), learning_rates=(0.1,), **SMALL, **given)
    return tuple(data.parametrization.values), data


def test_the_control_is_run_beside_whatever_is_studied():
    """Once, first unless it is given, with one rate for all widths: wider networks, other losses than sp's own."""
    names, data = parametrizations_of(parametrizations=("mup",))
    assert names == ("sp", "mup")
    assert [verdict.claim for verdict in judge(data)] == [
        "sp (sgd): the best rate falls as the width grows: octaves of rate per octave of width",
        "mup (sgd): the best rate stays as the width grows: octaves of rate per octave of width",
    ]
    for same in (("mup", "sp"), ("mup", mupjax.sp(base_width=64, learning_rate_exponent=0.0))):
        names, other = parametrizations_of(parametrizations=same)
        assert names == ("mup", "sp")
        assert other.train_loss.sel(parametrization=["sp", "mup"]).equals(data.train_loss)
    names, alone = parametrizations_of(parametrizations=("mup",), control=False)
    assert names == ("mup",)
    assert len(judge(alone, control=None)) == 1
    own = parametrizations_of(parametrizations=("sp",), control=False)[1]
    assert not own.train_loss.equals(data.train_loss.sel(parametrization=["sp"]))


def test_optimizers_without_default_rates_are_refused():
    with pytest.raises(ValueError, match="`learning_rates` with adamw: only sgd and adam"):
        mupjax.transfer(TASK, optimizers=("sgd", "adamw"), **SMALL)
