"""A paper's study: kept by parts, judged from stored Datasets alone, verdicts that a changed Dataset flips."""

import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from mupjax import cli, datasets, plots
from mupjax.reproduce import PAPERS, Setting, get, parts, rich_features, run_paper
from mupjax.reproduce.parts import Part, run_part, task_of
from mupjax.reproduce.reading import across_widths
from mupjax.reproduce.rich_features import tables
from mupjax.reproduce.rich_features.figures import three_lines
from mupjax.reproduce.rich_features.hypotheses import judge_hypotheses
from mupjax.reproduce.rich_features.width_limit import fit_approach
from mupjax.statistics import CONTRADICTED, REPRODUCED, UNDECIDED

DATA = {"classes": (0, 1), "train_size": 8, "test_size": 20}
BASE = {"seeds": 3, "steps": 30, "centred": False, "particles": 512, "limit_runs": 4, "max_directions": 96}
MAIN = Part("main", "small", DATA, BASE | {"widths": (64, 256, 1024), "gram_steps": (0, 6, -1)})


@pytest.fixture(scope="session")
def main(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    return run_part(MAIN, "digits", out=out), out


def verdict(found, start):
    """The one verdict whose claim begins so."""
    (one,) = (v for v in rich_features.judge(found) if v.claim.startswith(start))
    return one


@pytest.mark.xdist_group("reproduce")
def test_verdicts_come_from_the_dataset(main):
    """Of several layers the worst one is shown."""
    found, _ = main
    change = verdict({"main": found}, "mup: change of h in layers 1 to 3 stays")
    values = found.feature_change_h.sel(parametrization="mup").isel(width=slice(3), gram_step=-1)
    slopes = [
        [np.polyfit(np.log([64, 256, 1024]), np.log(values.isel(seed=seed, layer=layer)), 1)[0] for seed in range(3)]
        for layer in range(3)
    ]
    stderrs = [np.std(slope, ddof=1) / 3**0.5 for slope in slopes]
    rows = list(zip(np.mean(slopes, 1), stderrs, strict=True))
    assert any((change.ours, change.stderr) == pytest.approx(row) for row in rows)
    positive = verdict({"main": found}, "infinite width, x of layer 3: initial and last")
    assert positive.verdict == REPRODUCED
    assert positive.seeds == 4
    limit = found.space_time_lambda_min_x.sel(parametrization="mup", layer=3, width=np.inf).isel(gram_step=-1, seed=0)
    assert positive.ours == float(limit)


@pytest.mark.xdist_group("reproduce")
def test_a_changed_dataset_flips_the_verdicts(main):
    found, _ = main
    finite = np.isfinite(found.width.values)
    widths = found.width.copy(data=np.where(finite, found.width.values, 64.0) / 64)

    def word(data, start):
        return verdict({"main": data}, start).verdict

    grown = found.assign(feature_change_h=found.feature_change_h * widths)
    assert word(grown, "mup: change of h in layers 1 to 3 stays") == CONTRADICTED
    frozen = found.copy(deep=True)
    frozen.space_time_lambda_min_x.loc[{"width": np.inf, "parametrization": "mup"}] = 1e-14
    start = "infinite width, x of layer 3: initial and last"
    assert (word(found, start), word(frozen, start)) == (REPRODUCED, UNDECIDED)
    start = "mup: initial and last x stay independent"
    joint = "space_time_lambda_min_x"
    nothing = found.assign({joint: found[joint] * 0 + 2e-13, f"{joint}_stderr": found[f"{joint}_stderr"] * 0})
    assert word(nothing, start) == UNDECIDED  # a ratio of one, of nothing
    assert word(nothing.assign({joint: nothing[joint] + 1e-3}), start) == REPRODUCED
    halved = found.assign(space_time_lambda_min_x=found.space_time_lambda_min_x.where(~np.isfinite(found.width), 1.0))
    assert word(found, start) != CONTRADICTED
    assert word(halved, start) == CONTRADICTED
    kept = found.assign(diversity_h=found.diversity_h.where(found.parametrization != "ip", 1.0))
    assert word(kept, "ip: h of layer 2 collapse") == CONTRADICTED
    level = found.assign(space_time_lambda_min_h=found.space_time_lambda_min_h * 0 + 1e-3)
    assert word(level, "sp: initial and last h become dependent") == CONTRADICTED


@pytest.mark.xdist_group("reproduce")
def test_corollary_reads_predictions_and_targets(main):
    found, _ = main
    start = "infinite width: where weights stop changing"
    assert verdict({"main": found}, start).ours < 0.2
    far = found.assign(targets=-found.targets)
    assert verdict({"main": far}, start).ours > 1


@pytest.mark.xdist_group("reproduce")
def test_wider_networks_join_at_an_early_step(main):
    """Values, widths and the limit's row are those of their own Datasets; a fit's limit that is off is seen."""
    narrow, _ = main
    wide = narrow.sel(gram_step=[0, 6], step=slice(0, 6)).isel(seed=slice(2), width=slice(2, None))
    wide = wide.assign(feature_change_h=2 * wide.feature_change_h).assign_coords(width=[4096.0, np.inf])
    both = across_widths(narrow, wide)
    assert both.width.values.tolist() == [64.0, 256.0, 1024.0, 4096.0, np.inf]
    assert both.gram_step.values.tolist() == [0, 6]
    early = narrow.feature_change_h.sel(gram_step=6)
    joined = both.feature_change_h.sel(gram_step=6)
    for width, factor in ((256.0, 1), (np.inf, 1)):
        np.testing.assert_array_equal(joined.sel(width=width), factor * early.sel(width=width).isel(seed=slice(2)))
    np.testing.assert_array_equal(joined.sel(width=4096.0), 2 * early.sel(width=1024.0).isel(seed=slice(2)))
    assert both.step.values[-1] == 6
    assert plots.layers_figure(both, "space_time").axes[-1].get_xlim()[1] > 4096
    assert both.feature_change_h_stderr.equals(narrow.feature_change_h_stderr.sel(gram_step=[0, 6]))


def test_fit_finds_limit_and_power_with_honest_errors():
    """Of 200 sets of noise, z of limit and power have the spread that their errors say; of another form errors grow."""
    rng = np.random.default_rng(0)
    widths = 2.0 ** np.arange(8, 14)
    truth = 2 - 30 * widths**-0.8
    z = []
    for _ in range(200):
        noise = rng.standard_normal((len(widths), 5)) * 0.5 / widths[:, None] ** 0.5
        found = fit_approach(widths, truth[:, None] * (1 + noise))
        z.append([(found.limit - 2) / found.limit_stderr, (found.power - 0.8) / found.power_stderr])
    z = np.array(z)[np.isfinite(z).all(1)]
    assert len(z) > 190
    assert np.all(np.abs(np.median(z, 0)) < 0.4)  # a biased fit would be off by more: medians of 200 have error .09
    assert np.all(np.percentile(np.abs(z), 68, 0) < 1.2)  # 1 +- .07 if Gaussian, less as errors are only scaled up


@pytest.mark.xdist_group("reproduce")
def test_networks_far_from_the_limit_are_seen(main):
    found, _ = main
    wide = found.sel(gram_step=[0, 6])
    start = "mup, width 1024, step 6"
    assert verdict({"wide": wide}, start).paper == 1.0
    doubled = wide.assign(space_time_lambda_min_h=wide.space_time_lambda_min_h.where(~np.isfinite(wide.width), 1.0))
    assert verdict({"wide": doubled}, start).verdict == CONTRADICTED


@pytest.mark.xdist_group("reproduce")
def test_a_finished_part_is_read_back_and_another_is_refused(main, monkeypatch):
    found, out = main

    def never(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setitem(parts.KINDS, "compare", never)
    again = run_part(MAIN, "digits", out=out)
    np.testing.assert_array_equal(again.feature_change_h, found.feature_change_h)
    assert str(rich_features.judge({"main": again})) == str(rich_features.judge({"main": found}))
    with pytest.raises(ValueError, match="of the same arguments"):
        run_part(MAIN._replace(settings=MAIN.settings | {"seeds": 2}), "digits", out=out)


@pytest.mark.xdist_group("reproduce")
def test_test_error_counts_wrong_signs(main):
    found, _ = main
    task = datasets.load("digits", **DATA)
    f = found.predictions.isel(step=-1, input=slice(8, None), output=0, seed=1).sel(parametrization="ntp", width=256.0)
    wrong = np.mean(np.sign(f.values) != np.asarray(task.y_test)[:, 0])
    assert found.test_error.sel(parametrization="ntp", width=256.0).values[1] == wrong
    _, columns, rows, *_ = tables.test_errors({"test": found})
    assert len(columns) == 4
    assert ["mup", "limit", "infinite"] in [row[:3] for row in rows]
    assert not [row for row in rows if row[0] == "ip" and row[2] == "infinite"]  # it has no limit


def test_inputs_that_break_the_assumption_are_judged_dependent():
    """Dependent at infinite width where an input comes twice; a near copy stays independent."""
    small = BASE | {"parametrizations": ("mup",), "widths": (64,), "depth": 2, "steps": 6}
    found = {}
    for name in ("duplicated", "correlated"):
        part = Part(name, name, DATA | {"test_size": None}, small, name)
        task = task_of(part, "digits")
        assert task.check_inputs().holds == (name == "correlated")
        found[name] = run_part(part, "digits")
    (twice,), (near,) = (rich_features.judge({name: found[name]}) for name in ("duplicated", "correlated"))
    assert twice.verdict == near.verdict == REPRODUCED
    values = found["duplicated"].diversity_x
    for other in (np.nan, 0.013):  # a limit that diverged; one whose error is as large as it is
        data = found["duplicated"].assign(diversity_x=values * 0 + other)
        data = data.assign(diversity_x_stderr=data.diversity_x_stderr * 0 + 0.011)
        assert rich_features.judge({"duplicated": data})[0].verdict == UNDECIDED
    swapped = rich_features.judge({"duplicated": found["correlated"], "correlated": found["duplicated"]})
    assert [v.verdict for v in swapped] == [CONTRADICTED, UNDECIDED]


def test_finished_parts_are_judged_with_the_chosen_one(tmp_path):
    """So that running one part more does not forget the verdicts on the others."""
    small = BASE | {"parametrizations": ("mup",), "widths": (16,), "depth": 2, "steps": 2, "particles": 64}
    every = [Part(name, name, DATA | {"test_size": None}, small) for name in ("minibatch", "relu")]
    paper = rich_features.PAPER._replace(parts=lambda setting: every)
    for name in ("minibatch", "relu"):
        found, _ = run_paper(paper, "digits", names=[name], out=tmp_path)
    assert list(found) == ["minibatch", "relu"]


def test_quick_and_full_ask_the_same_questions():
    for quick in (False, True):
        names = [part.name for part in rich_features.parts(quick)]
        assert len(set(names)) == len(names)
        assert {"main", "wide", "relu", "minibatch", "opposite", "covariance", "test", "linearized"} <= set(names)
    full = {part.name: part for part in rich_features.parts()}
    assert full["main"].settings["widths"][-1] == 4096
    assert full["wide"].settings["widths"][-1] == 1048576
    assert full["main"].settings["seeds"] == 5


def test_command_writes_verdicts_and_reports(tmp_path):
    """On digits, which is said, where no CIFAR-10 is found; and it ends with 0."""
    arguments = ["reproduce", "rich-features", "--quick", "--parts", "depth-1", "--out", str(tmp_path / "study")]
    empty = tmp_path / "empty"
    empty.mkdir()
    command = [sys.executable, "-m", "mupjax.cli", *arguments, "--data-dir", str(empty), "--no-cache"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    assert "No cifar10, as in the paper" in run.stdout
    *_, verdict = json.loads((tmp_path / "study" / "verdicts.json").read_text())
    assert verdict["claim"].startswith("depth-1")
    assert verdict["verdict"] == "reproduced"
    assert verdict["ours"] > 5 * verdict["stderr"]
    assert {"report.html", "results.zarr", "loss.png"} <= {
        path.name for path in (tmp_path / "study" / "depth-1").iterdir()
    }


def test_hypotheses_are_checked_on_the_parts_own_inputs():
    """Whatever a part is called: inputs that do not break the assumption contradict a part that is there to."""
    small = {part.name: part for part in rich_features.parts(quick=True)}
    task = task_of(small["duplicated"], "digits")
    assert [v.verdict for v in judge_hypotheses(small["duplicated"], task)] == [REPRODUCED] * 2
    assert [v.verdict for v in judge_hypotheses(small["main"], task)] == [CONTRADICTED, REPRODUCED]
    unchanged = task_of(small["main"], "digits")
    assert [v.verdict for v in judge_hypotheses(small["opposite"], unchanged)] == [CONTRADICTED, REPRODUCED]
    relu = small["relu"]
    assert [v.verdict for v in judge_hypotheses(relu, unchanged)] == [REPRODUCED] * 2
    softplus = relu._replace(settings=relu.settings | {"activation": "softplus"})
    assert "has no counterexample" in judge_hypotheses(softplus, unchanged)[1].claim


@pytest.mark.xdist_group("reproduce")
def test_tables_show_mean_and_error(main):
    found, _ = main
    _, columns, rows, *_ = tables.side_by_side({"relu": found.drop_vars("test_error")})
    assert [row[3] for row in rows] == ["64", "256", "1024", "infinite"]
    values = found.diversity_x.sel(parametrization="mup", width=256.0).isel(layer=-1, gram_step=-1).values
    expected = f"{values.mean():.3g} ± {values.std(ddof=1) / 3**0.5:.1g}"
    assert rows[1][columns.index("diversity of x")] == expected
    axes = three_lines(found, found)
    labels = [line.get_label() for line in axes[list(found.parametrization.values).index("ntp")].lines]
    assert labels == ["network", "first-order model", "infinite width"]


def test_unknown_part_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(parts, "run_part", None)
    with pytest.raises(ValueError, match=r"`parts` to be drawn from main, .* got 'depth-9'"):
        rich_features.reproduce("digits", names=["depth-9"])


@pytest.mark.parametrize("name", PAPERS)
def test_help_of_a_paper_ends_with_an_example_that_runs_parts_that_are_there(name, monkeypatch, tmp_path):
    asked = []

    def run(paper, dataset, *, quick, names, **options):
        asked.append((paper, Setting(dataset, quick), names, options["out"]))
        return {}, []

    monkeypatch.setattr(cli.reproduce, "run_paper", run)
    monkeypatch.setattr(cli.running, "prepare_jax", lambda cache: None)
    monkeypatch.chdir(tmp_path)
    shown = " ".join(CliRunner().invoke(cli.app, ["reproduce", name, "--help"]).output.split())
    example = shown.rpartition("Example: ")[2]
    assert example == get(name).example
    command, *words = shlex.split(example)
    assert command == "mupjax"
    assert CliRunner().invoke(cli.app, words, catch_exceptions=False).exit_code == 0
    ((paper, setting, names, out),) = asked
    assert paper is get(name)
    assert set(names) <= {part.name for part in paper.parts(setting)}
    assert (tmp_path / out / "verdicts.json").read_text() == "[]\n"


def test_an_unknown_paper_is_named():
    with pytest.raises(
        ValueError, match=r"`name` to be one of rich-features, edge-of-chaos, integrable, got name='gpt'"
    ):
        get("gpt")
