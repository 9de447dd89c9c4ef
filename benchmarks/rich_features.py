"""Time of the rich-features study, its notebooks and its checks: `make bench-rich`.

The quick study and the notebooks run as whole commands, nothing compiled before. The check of the inputs is timed
beside the plain float64 product of the same inputs in the same run, which is the machine's own limit; the
infinite-width limit beside a dense network of as many units as it has particles.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import goals
import jax
import numpy as np
from timing import NOTEBOOKS, command, notebook

from mupjax import datasets
from mupjax.dynamics import dense, feature_limit
from mupjax.parametrization import mup
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec


def quick_study(folder: Path) -> float:
    study = [sys.executable, "-m", "mupjax.cli", "reproduce", "rich-features", "--quick", "--no-cache"]
    return command([*study, "--dataset", "digits", "--out", str(folder / "study")], folder)


def check_inputs(count: int) -> tuple[float, float]:
    """Seconds of the check and of the plain product, medians of 3."""
    x = np.random.default_rng(0).standard_normal((count, 784))
    task = Task(x, np.zeros((count, 1)))
    wide = np.asarray(task.x_train, np.float64)
    times: list[list[float]] = [[], []]
    for _ in range(3):
        for row, call in zip(times, (task.check_inputs, lambda: wide @ wide.T), strict=True):
            start = time.perf_counter()
            call()
            row.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def limit_and_network(particles: int, steps: int) -> tuple[float, float]:
    """Seconds of one run of the limit and of one dense network, compiled before, medians of 3."""
    task = datasets.load("digits", classes=(0, 1), train_size=32, test_size=None)
    common = {"depth": 3, "learning_rate": 1.0, "steps": steps, "spec": TrajectorySpec(steps=(0, steps))}
    calls = (
        lambda seed: feature_limit.train(
            task, mup(), key=jax.random.key(seed), num_particles=particles, max_directions=512, **common
        ),
        lambda seed: dense.train(task, mup(), key=jax.random.key(seed), width=particles, **common),
    )
    found = []
    for call in calls:
        times = []
        for seed in range(4):
            start = time.perf_counter()
            jax.block_until_ready(call(seed).train_loss)
            times.append(time.perf_counter() - start)
        found.append(statistics.median(times[1:]))
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-keep", action="store_true", help="print only; RESULTS.md stays as it is")
    keep = not parser.parse_args().no_keep
    lines, met = [goals.machine(), goals.versions("jax", "jaxlib", "numpy", "nbclient"), ""], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        met.append(goals.at_most("quick study on digits: s", 180, quick_study(folder), ".0f"))
        for path in NOTEBOOKS:
            for smoke, bound in ((True, 30), (False, 120)):
                what = f"notebook {path.stem}{', small settings' if smoke else ''}: s"
                met.append(goals.at_most(what, bound, notebook(path, folder, smoke), ".0f"))
                print(met[-1], flush=True)
    checked, product = check_inputs(10_000)
    lines.append(f"check_inputs, 10,000 inputs in 784 dimensions: {checked:.1f} s; their plain product {product:.1f} s")
    met.append(goals.at_most("check_inputs: times the plain product", 4, checked / product))
    limit, network = limit_and_network(4096, 300)
    lines.append(
        f"300 steps on 32 inputs: limit with 4,096 particles {limit:.1f} s, network of width 4,096 {network:.1f} s"
    )
    met.append(goals.at_most("one run of the limit: times a dense network", 4, limit / network))
    goals.report("Rich features (`make bench-rich`)", lines, met, keep=keep)


if __name__ == "__main__":
    main()
