"""`mupjax limit`, `mupjax.infinite`, the comparison's muP row and the width study."""

import json
from functools import partial, wraps
from inspect import signature

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import mupjax
from mupjax import report, results
from mupjax.cli import app
from mupjax.dynamics import feature_limit, kernel_limit, runs
from mupjax.parametrization import ip, mup, ntp
from mupjax.studies.limit import limit
from mupjax.studies.limit import widths as width_study
from mupjax.studies.limit.widths import Point
from mupjax.trajectory import Trajectory
from tests import worked_example

SMALL = {"depth": 2, "steps": 3, "particles": 256, "limit_runs": 4}


@pytest.fixture(scope="session")
def study():
    return limit(worked_example.task(), widths=(64, 1024), seeds=64, **SMALL)


@pytest.mark.xdist_group("width study")
def test_limit_is_the_feature_limit_with_error_bars(study):
    keys = jax.random.fold_in(jax.random.key(0), runs.DRAWS)
    settings = {"depth": 2, "learning_rate": 1.0, "steps": 3, "num_particles": 256, "num_runs": 4}
    run = feature_limit.train(worked_example.task(), mup(), key=keys, **settings)
    row = study.isel(parametrization=0, width=0, seed=0)
    np.testing.assert_allclose(row.predictions, run.predictions, atol=1e-6)
    np.testing.assert_allclose(row.predictions_stderr, run.stderr.predictions, rtol=1e-4, atol=1e-9)
    assert study.limit.item() == "feature-learning limit, 4 x 256 particles, rank 16 kept"
    assert (study.space_time_lambda_min_h_stderr.isel(gram_step=-1) > 0).all()


@pytest.mark.xdist_group("width study")
def test_width_study_finds_the_power_of_one_network(study):
    assert study.point_dynamics.values.tolist() == ["dense", "dense", "matrix-free"]
    assert study.point_seeds.values.tolist() == [64, 4, 16]
    # From 64 to 1024 alone, with its own error: the full study is `make study-limits`.
    assert abs(float(study.slope_run) + 0.5) < 4 * float(study.slope_run_stderr) < 0.5
    dense, free = study.error_run.values[1:]
    assert 0.5 < dense / free < 2  # four seeds against sixteen
    assert np.isnan(study.error_mean.values).tolist() == [False, True, False]
    assert report.format_width_study(study)[1][1][-1] == "–"


def test_errors_of_known_runs():
    """Runs = reference + bias + noise: the run's error has both, the mean's the bias alone."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((5, 4, 1))
    f = reference + 0.1 + 0.3 * rng.standard_normal((4000, 5, 4, 1))
    run, run_stderr, mean, mean_stderr = width_study._errors(f, reference, np.zeros_like(reference))
    assert abs(run - np.hypot(0.1, 0.3)) < 4.5 * run_stderr < 0.05
    assert abs(mean - 0.1) < 4.5 * mean_stderr < 0.02
    unbiased = width_study._errors(f - 0.1, reference, np.zeros_like(reference))
    assert unbiased[2] < 4.5 * unbiased[3]


@pytest.mark.parametrize("power", [-0.5, -1.0])
def test_fitted_power(power):
    rng = np.random.default_rng(1)
    widths = 4 ** np.arange(3, 9)
    errors = widths**power * (1 + 0.02 * rng.standard_normal(6))
    points = [Point(int(n), "dense", 64, e, 0.02 * e, e, 0.02 * e) for n, e in zip(widths, errors, strict=True)]
    points.append(Point(10**6, "dense", 4, 1.0, 1.0, 1.0, 1.0))  # not resolved: left out, with all behind it
    points.append(Point(10**7, "dense", 4, 1.0, 0.1, 1.0, 0.1))
    for kind in ("run", "mean"):
        slope = width_study.fit(points, kind)
        assert abs(slope.value - power) < 4.5 * slope.stderr < 0.1
        assert slope.points == 6
    assert np.isnan(width_study.fit(points[:1], "run").value)


def test_jackknife_of_eigenvalues_of_sampled_grams():
    """Grams of few Gaussian coordinates: single runs' smallest eigenvalues are low, the corrected mean's is not."""
    rng = np.random.default_rng(2)
    exact = np.diag([1.0, 0.8, 0.6, 0.4])
    corrected, single, inside = [], [], 0
    for _ in range(200):
        z = np.sqrt(np.diag(exact))[:, None] * rng.standard_normal((8, 1, 1, 4, 100))
        grams = z @ np.swapaxes(z, -1, -2) / 100
        zeros = np.zeros((8, 1))
        runs = Trajectory(zeros, zeros, None, np.zeros((8, 1, 1, 1)), grams, grams, grams, grams)
        mean, stderr = results.measure_limit(runs)
        value, error = mean["diversity_h"].item(), stderr["diversity_h"].item()
        corrected.append(value)
        single.append(results.measure(jax.tree.map(lambda leaf: leaf[:1], runs))["diversity_h"].item())
        inside += abs(value - 0.4) < 2.36 * error  # Student's t with 7 degrees of freedom, 95 %
    spread = np.std(corrected) / 200**0.5
    assert abs(np.mean(corrected) - 0.4) < 4.5 * spread
    assert np.mean(single) < 0.4 - 5 * np.std(single) / 200**0.5  # the control
    assert inside > 170


def test_infinite_picks_the_limit(key):
    settings = {"depth": 2, "learning_rate": 0.5, "steps": 2, "key": key}
    task = worked_example.task()
    ours = mupjax.infinite(task, ntp(), centred=True, **settings)
    exact = kernel_limit.train(task, ntp(), centred=True, depth=2, learning_rate=0.5, steps=2)
    np.testing.assert_array_equal(ours.predictions, exact.predictions)
    with pytest.raises(TypeError, match=r"argument 'num_particles': the kernel limit takes .*num_draws"):
        mupjax.infinite(task, ntp(), num_particles=64, **settings)
    for preset in (mup(), ip()):  # the last has no limit, nor options of one
        with pytest.raises(TypeError, match="argument 'num_draws': the feature-learning limit takes"):
            mupjax.infinite(task, preset, num_draws=64, **settings | {"depth": 3})
    with pytest.raises(ValueError, match="stay at their start"):
        mupjax.infinite(task, ip(), **settings | {"depth": 3})


def test_infinite_takes_every_option_of_the_limit_that_it_picks(key):
    """Rates of the first step, which an earlier version forgot, are those of the limit itself."""
    task, rates = worked_example.task(), [3.0, 2.0, 1.0, 4.0]
    settings = {"depth": 3, "activation": "relu", "learning_rate": 0.5, "steps": 2, "key": key}
    settings |= {"initial_rates": rates, "num_particles": 64}
    ours = mupjax.infinite(task, mupjax.ip_llr(3), **settings)
    np.testing.assert_array_equal(ours.predictions, feature_limit.train(task, mupjax.ip_llr(3), **settings).predictions)
    without = mupjax.infinite(task, mupjax.ip_llr(3), **{k: v for k, v in settings.items() if k != "initial_rates"})
    assert np.max(np.abs(ours.predictions - without.predictions)) > 1e-3


OPTIONS = {  # a value that is not the default, for every option of both limits
    "batches": np.array([[0, 1], [2, 3]]),
    "centred": True,
    "error": 10.0,
    "force": True,
    "initial_rates": (1.0, 2.0),
    "key": 3,
    "learning_rate": 0.25,
    "max_directions": 2,
    "max_seconds": 60.0,
    "memory_gb": 1.0,
    "num_draws": 8,
    "num_particles": 32,
    "num_runs": 2,
    "optimizer": partial(mupjax.sgd, momentum=0.5),
    "spec": mupjax.TrajectorySpec(steps=(0, -1)),
    "steps": 3,
}


@pytest.mark.parametrize(("preset", "picked"), [(mup(), feature_limit), (ntp(), kernel_limit)])
def test_infinite_hands_over_every_option(monkeypatch, preset, picked):
    """Each option by its name: a new one of a limit needs a value above, and is then taken by construction."""
    taken = set(signature(picked.train).parameters) - {"task", "parametrization", "depth", "activation"}
    assert taken <= set(OPTIONS)
    seen = {}

    @wraps(picked.train)
    def recorded(task, parametrization, **options):
        seen.update(options)
        return Trajectory(step=None, train_loss=None, test_loss=None, predictions=None)

    monkeypatch.setattr(picked, "train", recorded)
    options = {name: OPTIONS[name] for name in taken}
    mupjax.infinite(worked_example.task(), preset, depth=1, activation="erf", **options)
    assert {name: seen[name] for name in taken} == options
    for other in sorted(set(OPTIONS) - taken):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{other}'"):
            mupjax.infinite(worked_example.task(), preset, depth=1, **{other: OPTIONS[other]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parametrization": "ip", "depth": 3}, "to have an infinite-width limit, got ip: trivial"),
        ({"particles": 0}, "`particles` to be a positive int, got particles=0"),
        ({"limit_runs": -1}, "`limit_runs`"),
        ({"steps": 0}, "`steps`"),
        ({"widths": (64, 32)}, r"`widths` to be ascending positive ints, got widths=\(64, 32\)"),
        ({"widths": (64,), "seeds": 2}, "`seeds` to be at least 4"),
        ({"learning_rate": 0.0}, "`learning_rate`"),
        ({"particles": 1 << 30}, "GB for the feature-learning limit with 1073741824 particles"),
        ({"error": -1.0}, "`error`"),
        ({"widths": (64,), "limit_runs": 1}, "`limit_runs` to be at least 2 beside `widths`"),
        ({"widths": (64, 1 << 26)}, "networks of width 67108864 .matrix-free"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        limit(worked_example.task(), **SMALL | options)


@pytest.mark.xdist_group("width study")
def test_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr("mupjax.cli.running.prepare_jax", lambda cache: None)
    command = ["limit", "--train-size", "4", "--depth", "1", "--steps", "2", "--particles", "64", "--out"]
    command += [str(tmp_path), "--widths", "16,32", "--seeds", "16"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "feature-learning limit, 4 x 64 particles" in done.output
    assert "fitted power" in done.output
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"results.zarr", "report.html", "loss.png", "grams.png", "width_study.png"}
    again = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "holds finished results" in again.output
    data = json.loads((tmp_path / "results.zarr" / "zarr.json").read_text())["attributes"]
    assert json.loads(data["arguments"])["particles"] == 64
    with pytest.raises(ValueError, match="steps=2, not 3"):
        CliRunner().invoke(app, [*command, "--steps", "3"], catch_exceptions=False)
