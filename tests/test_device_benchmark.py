"""The benchmark of a device in its small form: every stage runs, on packages that such a machine is likely to have."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("right", "law", "shared", "rate", "grid", "limit", "kernel", "wide")
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


def test_the_small_form_runs_every_stage_and_measures_nothing_of_an_accelerator(tmp_path):
    results = tmp_path / "RESULTS.md"
    command = [sys.executable, "-c", PROGRAM, "--results", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    text = results.read_text()
    assert [line.split()[1].rstrip(",") for line in text.splitlines() if line.startswith("### ")] == list(STAGES)
    found = [line.split(" | ") for line in text.splitlines() if line.startswith("goal: ")]
    assert len(found) >= 18
    shared = [line for line in found if "several devices" in line[0]]
    assert shared[0][1:] == ["figure: 0.0e+00", "met"]
    assert all(line[1:] == ["figure: -", "not measured"] for line in found if line not in shared), found
    assert "8 devices share 9 runs" in text
    assert text.startswith("# Results of the benchmarks\n\n## device.py, small sizes, ")


def test_a_stage_that_fails_or_takes_too_long_leaves_a_goal_that_was_not_met(bench, monkeypatch):
    def fails(of):
        raise ValueError("no such\nthing")

    def waits(of):
        while True:
            time.sleep(0.01)

    monkeypatch.setitem(bench.STAGES, "right", fails)
    monkeypatch.setitem(bench.STAGES, "wide", waits)
    assert bench.run("right", None, 5)[1] == ["goal: right ends | figure: ValueError: no such thing | not met"]
    lines, found = bench.run("wide", None, 0.2)
    assert found == ["goal: wide ends | figure: OutOfTime: stopped after 0.2 s | not met"]
    assert lines[0].startswith("### wide, 0 s of 0.2")


def test_all_limits_together_are_six_minutes(bench):
    assert set(bench.LIMITS) == set(bench.STAGES) == set(STAGES)
    assert sum(bench.LIMITS.values()) <= 360


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
    """The stage's z-score against published losses: within its bound, and far out where a loss is off by 5 per cent."""
    right = bench.right
    assert right.limit_z(1024, 8) < right.Z
    monkeypatch.setattr(right, "LIMIT", tuple(1.05 * loss for loss in right.LIMIT))
    assert right.limit_z(1024, 8) > right.Z


def test_memory_that_was_not_measured_is_not_within_bounds(bench):
    assert bench.bounds.Peak(3.0, None).ratio is None
    assert bench.bounds.Peak(3.0, 2.0).ratio == 1.5
