"""A paper's study: kept by parts, judged from stored Datasets alone, verdicts that a changed Dataset flips."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mupjax import datasets
from mupjax.reproduce import parts, rich_features
from mupjax.reproduce.parts import Part, run_part, task_of
from mupjax.verdicts import CONTRADICTED, NOT_SHOWN, REPRODUCED

DATA = {"classes": (0, 1), "train_size": 8, "test_size": 20}
BASE = {"seeds": 3, "steps": 30, "centred": False, "particles": 512, "limit_runs": 4, "max_directions": 96}
MAIN = Part("main", "small", DATA, BASE | {"widths": (64, 256, 1024), "gram_steps": (0, 6, -1)})


@pytest.fixture(scope="module")
def main(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    return run_part(MAIN, "digits", out=out), out


def words(found):
    return {v.claim.split(":")[0] + ":" + v.claim.split(":")[1]: v.verdict for v in rich_features.judge(found)}


@pytest.mark.xdist_group("reproduce")
def test_verdicts_come_from_the_dataset(main):
    found, _ = main
    verdicts = rich_features.judge({"main": found})
    by_claim = {v.claim: v for v in verdicts}
    change = by_claim["mup: feature change stays as the width grows: power of the width"]
    values = found.feature_change_h.sel(parametrization="mup").isel(width=slice(3), gram_step=-1, layer=-1).values
    slopes = [np.polyfit(np.log([64, 256, 1024]), np.log(values[:, seed]), 1)[0] for seed in range(3)]
    assert change.ours == pytest.approx(np.mean(slopes))
    assert change.stderr == pytest.approx(np.std(slopes, ddof=1) / 3**0.5)
    positive = by_claim["infinite width, x of layer 3: initial and last features are linearly independent"]
    assert positive.verdict == REPRODUCED
    assert positive.seeds == 4
    limit = found.space_time_lambda_min_x.sel(parametrization="mup", layer=3, width=np.inf).isel(gram_step=-1, seed=0)
    assert positive.ours == float(limit)


@pytest.mark.xdist_group("reproduce")
def test_a_changed_dataset_flips_the_verdicts(main):
    found, _ = main
    finite = np.isfinite(found.width.values)
    widths = np.where(finite, found.width.values, 64.0) / 64
    grown = found.assign(feature_change_h=found.feature_change_h * found.width.copy(data=widths))
    assert words({"main": grown})["mup: feature change stays as the width grows"] == CONTRADICTED
    frozen = found.copy(deep=True)
    frozen.space_time_lambda_min_x.loc[{"width": np.inf, "parametrization": "mup"}] = 1e-14
    before, after = words({"main": found}), words({"main": frozen})
    name = "infinite width, x of layer 3: initial and last features are linearly independent"
    assert (before[name], after[name]) == (REPRODUCED, NOT_SHOWN)
    kept = found.assign(diversity_h=found.diversity_h.where(found.parametrization != "ip", 1.0))
    assert words({"main": kept})["ip: features collapse"] == CONTRADICTED
    level = found.assign(space_time_lambda_min_h=found.space_time_lambda_min_h * 0 + 1e-3)
    assert words({"main": level})["sp: space-time Gram degenerates as 1/width"] == CONTRADICTED


@pytest.mark.xdist_group("reproduce")
def test_a_finished_part_is_read_back_and_another_is_refused(main, monkeypatch):
    found, out = main

    def never(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(parts, "compare", never)
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
    columns, rows = rich_features.test_errors({"test": found})
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
    twice, near = rich_features.judge(found)
    assert twice.verdict == near.verdict == REPRODUCED
    swapped = rich_features.judge({"duplicated": found["correlated"], "correlated": found["duplicated"]})
    assert [v.verdict for v in swapped] == [CONTRADICTED, NOT_SHOWN]


def test_quick_and_full_ask_the_same_questions():
    for quick in (False, True):
        names = [part.name for part in rich_features.parts(quick)]
        assert len(set(names)) == len(names)
        assert {"main", "wide", "widest", "relu", "minibatch", "opposite", "test", "linearized"} <= set(names)
    full = {part.name: part for part in rich_features.parts()}
    assert full["main"].settings["widths"][-1] == 4096
    assert full["widest"].settings["widths"] == (1048576,)
    assert full["main"].settings["seeds"] == 5


def test_command_writes_verdicts_and_reports(tmp_path):
    """On digits, which is said, where no CIFAR-10 is found; and it ends with 0."""
    arguments = ["reproduce", "rich-features", "--quick", "--parts", "depth-1", "--out", str(tmp_path / "study")]
    empty = tmp_path / "empty"
    empty.mkdir()
    command = [sys.executable, "-m", "mupjax.cli", *arguments, "--data-dir", str(empty), "--no-cache"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    assert "No CIFAR-10, as in the paper" in run.stdout
    (verdict,) = json.loads((tmp_path / "study" / "verdicts.json").read_text())
    assert verdict["verdict"] == "reproduced"
    assert verdict["ours"] > 5 * verdict["stderr"]
    assert {"report.html", "results.zarr", "loss.png"} <= {
        path.name for path in (tmp_path / "study" / "depth-1").iterdir()
    }


def test_unknown_part_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(rich_features, "run_part", None)
    with pytest.raises(ValueError, match=r"`parts` to be drawn from main, .* got 'depth-9'"):
        rich_features.reproduce("digits", names=["depth-9"])
