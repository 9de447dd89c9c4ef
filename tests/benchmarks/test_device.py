"""The benchmark of a device in its small form: every stage runs, on packages that such a machine is likely to have."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
# Installed with mupjax, and of no use to a benchmark on a device: importing them fails, as it would there.
ABSENT = ("zarr", "typer", "matplotlib", "sklearn", "pooch", "pytest")
PROGRAM = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, "benchmarks")
import runpy
runpy.run_path("benchmarks/device.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import device

    yield device
    sys.path.remove(str(ROOT / "benchmarks"))


def test_the_small_form_runs_every_stage_and_measures_nothing_of_an_accelerator(bench, tmp_path):
    results = tmp_path / "RESULTS.md"
    command = [sys.executable, "-c", PROGRAM, "--small", "--results", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    text = results.read_text()
    assert text.startswith("# Results of the benchmarks\n\n## device.py, small sizes, ")
    lines = text.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("### ")] == list(bench.STAGES)
    found = [line.split(" | ") for line in lines if line.startswith("- goal: ")]
    assert len(found) >= 20
    shared = [line for line in found if "several devices" in line[0]]
    assert shared[0][1:] == ["figure: 0.0e+00", "met"]
    assert all(line[1:] == ["figure: -", "not measured"] for line in found if line not in shared), found
    assert "8 devices share 9 runs" in text


def run_stage(bench, monkeypatch, stage, seconds):
    monkeypatch.setitem(bench.STAGES, "right", (seconds, stage))
    lines = []
    bench.run("right", None, seconds, lines.append)
    return lines


def test_a_stage_that_fails_leaves_its_lines_and_a_goal_that_was_not_met(bench, monkeypatch):
    def fails(session):
        yield "a line"
        raise ValueError("no such\nthing")

    lines = run_stage(bench, monkeypatch, fails, 5)
    assert lines[:3] == ["### right", "a line", "goal: right ends | figure: ValueError: no such thing | not met"]


def test_a_stage_that_takes_too_long_leaves_its_lines_and_a_goal_that_was_not_met(bench, monkeypatch):
    def waits(session):
        yield "a line"
        while True:
            time.sleep(0.01)

    lines = run_stage(bench, monkeypatch, waits, 0.2)
    assert lines[:3] == ["### right", "a line", "goal: right ends | figure: OutOfTime: stopped after 0.2 s | not met"]


def test_all_stages_end_within_six_minutes(bench):
    assert bench.DEADLINE + bench.GRACE <= 360
    assert all(seconds <= 90 for seconds, _ in bench.STAGES.values())


def test_small_sizes_are_never_an_accelerators_figures(bench):
    session = bench.bounds.Session(small=True, measured=False)
    assert session.at_most("a time", 1.0, 0.5).endswith("| figure: - | not measured")
    assert session.memory("a call", bench.bounds.Peak(1.0, 1.0)).endswith("not measured")
    measured = bench.bounds.Session(small=False, measured=True)
    assert measured.memory("a call", bench.bounds.Peak(1e9, 2e9)).endswith("figure: 0.50 (1 and 2 GB) | met")
    assert measured.memory("a call", bench.bounds.Peak(1e9, 3e9)).endswith("| not met")
    assert measured.memory("a call", bench.bounds.Peak(1e9, None)).endswith("not measured")


def test_launches_are_counted_through_loops(bench):
    def step(carry, _):
        return jnp.tanh(carry @ carry), carry.sum()

    def compiled(length):
        fn = jax.jit(lambda a: jax.lax.scan(step, a, length=length))
        return fn.lower(jnp.ones((64, 64))).compile().as_text()

    short, long = (bench.bounds.launches(compiled(length)) for length in (10, 30))
    assert short >= 20  # a product and a tanh at least, every turn
    assert 2.5 < long / short < 3.5


def test_a_wrong_limit_is_seen(bench, monkeypatch):
    """The stage's z-score against published losses: within its bound, and far out where they are off by 5 per cent."""
    right, runs = bench.right, []
    train = right.feature_limit.train

    def train_once(*args, **settings):
        runs[:] = runs or [train(*args, **settings)]
        return runs[0]

    monkeypatch.setattr(right.feature_limit, "train", train_once)
    assert right.limit_z(1024, 8) < right.Z
    monkeypatch.setattr(right.limit_example, "LOSSES", tuple(1.05 * loss for loss in right.limit_example.LOSSES))
    assert right.limit_z(1024, 8) > right.Z


def test_differences_from_the_processor_are_relative_to_the_largest_entry(bench):
    near, exact = [np.array([1.0, 2.0]), np.array([4.0])], [np.array([1.0, 2.2]), np.array([4.0])]
    assert bench.right.relative(near, exact) == pytest.approx(0.2 / 2.2)
    with bench.right.on_cpu():
        assert jnp.ones(1).devices() == {jax.local_devices(backend="cpu")[0]}
