"""Time per step and run of dense training on CPUs, beside PyTorch with the package `mup` and the machine's bound.

    python benchmarks/dense.py [--widths 64,128] [--repeats 5]

Everything is measured in one run, in turns: 32 runs at once through `map_runs` and `dynamics.dense.train` with
one XLA device a core; a PyTorch loop, one run after the other; and what the machine can do at best, from its matrix
rate, its bandwidth and its tanh rate. The goals for speed are the figures of a first trial of the same layout.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
from baselines import BATCH_SIZE, DEPTH, INPUT_DIM, NUM_TRAIN, Bound, flops, seconds, torch_loop
from goals import at_least, goal, machine, report, spread, versions

from mupjax.dynamics import dense
from mupjax.dynamics.runs import map_runs, run_key
from mupjax.parametrization import mup
from mupjax.task import Task, batch_order
from mupjax.trajectory import TrajectorySpec

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", os.cpu_count())

RUNS = 32
STEPS = {64: 800, 128: 300, 256: 100, 512: 32, 1024: 12}
TORCH_STEPS = {64: 300, 128: 300, 256: 150, 512: 80, 1024: 25}
RATE_GOALS = {64: 0.45, 128: 0.72, 256: 0.85, 512: 0.81}
SPEED_UP_GOALS = {64: 10.0, 128: 5.9, 256: 2.8, 512: 1.8}


def data() -> Task:
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((NUM_TRAIN, INPUT_DIM))
    return Task(inputs, generator.choice([-1.0, 1.0], (NUM_TRAIN, 1)))


def program(width: int, steps: int, inner: str):
    """Return (compiled program, its arguments, seconds to trace and compile)."""
    task = data()
    batches = batch_order(jax.random.key(0), NUM_TRAIN, BATCH_SIZE, steps)
    keys = jnp.stack([run_key(jax.random.key(0), seed, width) for seed in range(RUNS)])
    spec = TrajectorySpec(steps=(0, -1), grams=())

    def run(key, task, rate, batches):
        settings = {"width": width, "depth": DEPTH, "learning_rate": rate, "steps": steps, "spec": spec}
        return dense.train(task, mup(), key=key, batches=batches, **settings)

    arguments = (keys, task, jnp.float32(0.1), batches)
    start = time.perf_counter()
    compiled = jax.jit(lambda runs, *shared: map_runs(run, runs, *shared, inner=inner)).lower(*arguments).compile()
    return compiled, arguments, time.perf_counter() - start


class Ours:
    """mupjax at one width: the time of T steps less that of one step, which is the set-up, shown apart."""

    def __init__(self, width: int, inner: str) -> None:
        self.steps = STEPS[width]
        self.whole, self.arguments, self.compile_seconds = program(width, self.steps, inner)
        self.one, self.one_arguments, _ = program(width, 1, inner)
        seconds(self.whole, *self.arguments)
        seconds(self.one, *self.one_arguments)
        self.samples: list[float] = []
        self.set_up: list[float] = []

    def measure(self) -> None:
        one, whole = seconds(self.one, *self.one_arguments), seconds(self.whole, *self.arguments)
        self.set_up.append(1e3 * one / RUNS)
        self.samples.append(1e3 * (whole - one) / (self.steps - 1) / RUNS)

    def bytes_ratio(self, width: int) -> float:
        """Estimated over real bytes of a device."""
        spec = TrajectorySpec(steps=(0, -1), grams=())
        estimate = dense.estimate_bytes(
            data(), width=width, depth=DEPTH, steps=self.steps, batch_size=BATCH_SIZE, spec=spec
        )
        real = self.whole.memory_analysis()
        runs = -(-RUNS // jax.device_count())
        return (estimate.working + runs * estimate.result) / (real.temp_size_in_bytes + real.output_size_in_bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=lambda text: [int(w) for w in text.split(",")], default=list(STEPS))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    widths = arguments.widths

    load = os.getloadavg()[0]
    torch = torch_loop()
    bound = Bound(widths)
    ours = {(width, inner): Ours(width, inner) for width in widths for inner in ("map", "vmap")}
    theirs: dict[int, list[float]] = defaultdict(list)
    for repeat in range(arguments.repeats):
        print(f"repeat {repeat + 1} of {arguments.repeats}", file=sys.stderr, flush=True)
        bound.measure()
        for width in widths:
            for inner in ("map", "vmap"):
                ours[width, inner].measure()
            sample = torch.milliseconds(width, TORCH_STEPS[width])
            if sample is not None:
                theirs[width].append(sample)
    torch.close()

    lines = [
        f"`python benchmarks/dense.py` on {machine()}; {versions('jax', 'jaxlib', 'flax', 'optax', 'torch', 'mup')}.",
        f"Depth {DEPTH}, tanh, muP, MSE, {INPUT_DIM} inputs, batch {BATCH_SIZE}, SGD, {RUNS} runs at once over "
        f"{jax.device_count()} devices; {arguments.repeats} repeats in turns, medians (least-greatest).",
        f"Load average at the start: {load:.2f}; other work on the machine spoils figures, PyTorch's most.",
        f"PyTorch trains one run at a time ({torch.about}), timed on one run and given per step and run."
        if torch.about
        else "PyTorch with mup: not measured.",
        bound.describe(),
        "",
        "Milliseconds per step and run; set-up is initial weights and both evaluations, per run.",
        "",
        "| width | mupjax | mup + PyTorch | bound | share of bound | share of matrix rate | speed-up "
        "| vmap inside a core | set-up | compile, s | bytes estimated / real |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    rate_goals, speed_goals, byte_goals = [], [], []
    for width in widths:
        mapped, vmapped = ours[width, "map"], ours[width, "vmap"]
        time_here = median(mapped.samples)
        of_bound = bound.milliseconds(width) / time_here
        of_rate = 1e3 * flops(width) / bound.matrix_rate() / time_here
        speed_up = median(theirs[width]) / time_here if theirs[width] else None
        ratio = mapped.bytes_ratio(width)
        cells = [
            str(width),
            spread(mapped.samples),
            spread(theirs[width]) if theirs[width] else "not measured",
            f"{bound.milliseconds(width):.3f}",
            f"{of_bound:.0%}",
            f"{of_rate:.0%}",
            f"{speed_up:.1f}x" if speed_up else "not measured",
            spread(vmapped.samples),
            f"{median(mapped.set_up):.2f}",
            f"{mapped.compile_seconds:.1f}",
            f"{ratio:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
        if width in RATE_GOALS:
            rate_goals.append(at_least(f"width {width}: share of the matrix rate", RATE_GOALS[width], of_rate))
            speed_goals.append(at_least(f"width {width}: times mup + PyTorch", SPEED_UP_GOALS[width], speed_up, ".1f"))
        what = f"width {width}: bytes estimated / real in 0.5..2"
        byte_goals.append(goal(what, ratio, f"{ratio:.2f}", 0.5 <= ratio <= 2))
    report("dense.py", lines, rate_goals + speed_goals + byte_goals)


if __name__ == "__main__":
    main()
