"""Time per step and run of dense training on CPUs, beside PyTorch with the package `mup` and the machine's bound.

    python benchmarks/dense.py [--widths 64,128] [--repeats 5]

Everything is measured in one run, in turns: 32 runs at once through `map_runs` and `dynamics.dense.train` with
one XLA device a core; a PyTorch loop, one run after the other; and what the machine can do at best, from its matrix
rate, its bandwidth and its tanh rate. The goals for speed are the figures of a first trial of the same layout.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
from goals import at_least, goal, machine, report, versions
from jax import lax

from mupjax.dynamics import dense
from mupjax.parametrization import mup
from mupjax.runs import map_runs, run_key
from mupjax.task import Task, batch_order
from mupjax.trajectory import TrajectorySpec

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", os.cpu_count())

DEPTH, INPUT_DIM, BATCH_SIZE, NUM_TRAIN, RUNS = 3, 64, 64, 256, 32
STEPS = {64: 800, 128: 300, 256: 100, 512: 32, 1024: 12}
TORCH_STEPS = {64: 300, 128: 300, 256: 150, 512: 80, 1024: 25}
RATE_GOALS = {64: 0.45, 128: 0.72, 256: 0.85, 512: 0.81}
SPEED_UP_GOALS = {64: 10.0, 128: 5.9, 256: 2.8, 512: 1.8}
SQUARE, PRODUCTS = 2048, 8  # side of BLAS's square matrices (a core of XLA's: half of it), and how many XLA multiplies
TANH_SHAPE, TANH_CALLS = (64, 256), 2000
STREAM_BYTES = 1 << 29  # read and written by a core to measure its bandwidth


def sizes(width: int) -> list[int]:
    return [INPUT_DIM, *[width] * DEPTH, 1]


def num_parameters(width: int) -> int:
    return sum(a * b for a, b in pairwise(sizes(width)))


def flops(width: int) -> int:
    """Of all products of a step: outputs, kernels' gradients, and inputs' gradients but for the first layer's."""
    return 2 * BATCH_SIZE * (3 * num_parameters(width) - INPUT_DIM * width)


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
        settings = {"width": width, "depth": DEPTH, "learning_rate": rate, "num_steps": steps, "spec": spec}
        return dense.train(task, mup(), key=key, batches=batches, **settings)

    arguments = (keys, task, jnp.float32(0.1), batches)
    start = time.perf_counter()
    compiled = jax.jit(lambda runs, *shared: map_runs(run, runs, *shared, inner=inner)).lower(*arguments).compile()
    return compiled, arguments, time.perf_counter() - start


def seconds(compiled, arguments) -> float:
    start = time.perf_counter()
    jax.block_until_ready(compiled(*arguments))
    return time.perf_counter() - start


def on_every_core(step, start: np.ndarray, repeats: int):
    """Compile `repeats` dependent calls of `step` on every device at once."""

    def loop(_, value):
        return lax.fori_loop(0, repeats, lambda _, now: step(now), value)

    arguments = (jnp.arange(jax.device_count()), jnp.asarray(start, jnp.float32))
    compiled = jax.jit(lambda runs, value: map_runs(loop, runs, value)).lower(*arguments).compile()
    seconds(compiled, arguments)
    return compiled, arguments


class Bound:
    """What the machine can do at best, over all cores; `measure` takes one more sample of every rate."""

    def __init__(self, widths: list[int]) -> None:
        generator = np.random.default_rng(0)
        self.square = generator.standard_normal((SQUARE, SQUARE)).astype(np.float32)
        rotation = np.linalg.qr(generator.standard_normal((SQUARE // 2, SQUARE // 2)))[0].astype(np.float32)
        self.products = on_every_core(lambda a: jnp.matmul(a, rotation, precision="highest"), rotation, PRODUCTS)
        self.tanh = on_every_core(jnp.tanh, generator.standard_normal(TANH_SHAPE), TANH_CALLS)
        self.passes = {width: -(-STREAM_BYTES // (8 * num_parameters(width))) for width in widths}
        self.streams = {
            width: on_every_core(lambda a: a * 0.999, np.ones(num_parameters(width)), passes)
            for width, passes in self.passes.items()
        }
        self.samples: dict[str, list[float]] = defaultdict(list)

    def measure(self) -> None:
        cores = jax.device_count()
        start = time.perf_counter()
        self.square @ self.square
        self.samples["BLAS"].append(2 * SQUARE**3 / (time.perf_counter() - start))
        self.samples["XLA"].append(cores * PRODUCTS * 2 * (SQUARE // 2) ** 3 / seconds(*self.products))
        self.samples["tanh"].append(cores * TANH_CALLS * np.prod(TANH_SHAPE) / seconds(*self.tanh))
        for width, stream in self.streams.items():
            moved = self.passes[width] * 8 * num_parameters(width)
            self.samples[f"stream {width}"].append(cores * moved / seconds(*stream))

    def matrix_rate(self) -> float:
        return max(median(self.samples["BLAS"]), median(self.samples["XLA"]))

    def milliseconds(self, width: int) -> float:
        """Per step and run: products, the update's reading and writing of every weight, activations."""
        products = flops(width) / self.matrix_rate()
        update = 8 * num_parameters(width) / median(self.samples[f"stream {width}"])
        activations = DEPTH * BATCH_SIZE * width / median(self.samples["tanh"])
        return 1e3 * (products + update + activations)

    def describe(self) -> str:
        streams = ", ".join(f"{median(self.samples[f'stream {w}']) / 1e9:.0f}" for w in self.streams)
        return (
            f"Rates over all cores: float32 products {median(self.samples['BLAS']) / 1e9:.0f} (NumPy's BLAS) and "
            f"{median(self.samples['XLA']) / 1e9:.0f} (XLA) GFLOP/s, the larger one in the bound; weights read and "
            f"written {streams} GB/s (arrays as large as one run's weights, widths in order); "
            f"tanh {median(self.samples['tanh']) / 1e9:.2f} billion a second."
        )


class Torch:
    """The PyTorch loop in its own process, or nothing where PyTorch or mup is missing."""

    def __init__(self) -> None:
        self.process = None
        self.threads = 0
        if importlib.util.find_spec("torch") and importlib.util.find_spec("mup"):
            script = Path(__file__).with_name("torch_mup.py")
            command = [sys.executable, str(script), *map(str, (DEPTH, INPUT_DIM, BATCH_SIZE, NUM_TRAIN))]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
            self.process = subprocess.Popen(command, **pipes)
            ready = self.process.stdout.readline()
            if ready:
                self.threads = int(ready.split()[1])
            else:  # PyTorch does not load; its own words are on stderr
                self.process = None

    def milliseconds(self, width: int) -> float | None:
        if self.process is None:
            return None
        self.process.stdin.write(f"{width} {TORCH_STEPS[width]}\n")
        return 1e3 * float(self.process.stdout.readline())

    def close(self) -> None:
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


class Ours:
    """mupjax at one width: the time of T steps less that of one step, which is the set-up, shown apart."""

    def __init__(self, width: int, inner: str) -> None:
        self.steps = STEPS[width]
        self.whole, self.arguments, self.compile_seconds = program(width, self.steps, inner)
        self.one, self.one_arguments, _ = program(width, 1, inner)
        seconds(self.whole, self.arguments)
        seconds(self.one, self.one_arguments)
        self.samples: list[float] = []
        self.set_up: list[float] = []

    def measure(self) -> None:
        one, whole = seconds(self.one, self.one_arguments), seconds(self.whole, self.arguments)
        self.set_up.append(1e3 * one / RUNS)
        self.samples.append(1e3 * (whole - one) / (self.steps - 1) / RUNS)

    def bytes_ratio(self, width: int) -> float:
        """Estimated over real bytes of a device."""
        spec = TrajectorySpec(steps=(0, -1), grams=())
        estimate = dense.estimate_bytes(
            data(), width=width, depth=DEPTH, num_steps=self.steps, batch_size=BATCH_SIZE, spec=spec
        )
        real = self.whole.memory_analysis()
        runs = -(-RUNS // jax.device_count())
        return (estimate.working + runs * estimate.result) / (real.temp_size_in_bytes + real.output_size_in_bytes)


def spread(samples: list[float], digits: int = 3) -> str:
    return f"{median(samples):.{digits}f} ({min(samples):.{digits}f}-{max(samples):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=lambda text: [int(w) for w in text.split(",")], default=list(STEPS))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    widths = arguments.widths

    load = os.getloadavg()[0]
    torch = Torch()
    bound = Bound(widths)
    ours = {(width, inner): Ours(width, inner) for width in widths for inner in ("map", "vmap")}
    theirs: dict[int, list[float]] = defaultdict(list)
    for repeat in range(arguments.repeats):
        print(f"repeat {repeat + 1} of {arguments.repeats}", file=sys.stderr, flush=True)
        bound.measure()
        for width in widths:
            for inner in ("map", "vmap"):
                ours[width, inner].measure()
            sample = torch.milliseconds(width)
            if sample is not None:
                theirs[width].append(sample)
    torch.close()

    lines = [
        f"`python benchmarks/dense.py` on {machine()}; {versions('jax', 'jaxlib', 'flax', 'optax', 'torch', 'mup')}.",
        f"Depth {DEPTH}, tanh, muP, MSE, {INPUT_DIM} inputs, batch {BATCH_SIZE}, SGD, {RUNS} runs at once over "
        f"{jax.device_count()} devices; {arguments.repeats} repeats in turns, medians (least-greatest).",
        f"Load average at the start: {load:.2f}; other work on the machine spoils figures, PyTorch's most.",
        f"PyTorch trains one run at a time with {torch.threads} threads, timed on one run and given per step and run."
        if torch.threads
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
