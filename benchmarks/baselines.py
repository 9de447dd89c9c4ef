"""What training is timed beside: the machine's bound, and loops of others in processes of their own."""

from __future__ import annotations

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
from jax import lax

from mupjax.dynamics.runs import map_runs

DEPTH, INPUT_DIM, BATCH_SIZE, NUM_TRAIN = 3, 64, 64, 256
SQUARE, PRODUCTS = 2048, 8  # side of BLAS's square matrices (a core of XLA's: half of it), and how many XLA multiplies
TANH_SHAPE, TANH_CALLS = (64, 256), 2000
STREAM_BYTES = 1 << 29  # read and written by a core to measure its bandwidth


def num_parameters(width: int) -> int:
    return sum(a * b for a, b in pairwise([INPUT_DIM, *[width] * DEPTH, 1]))


def flops(width: int) -> int:
    """Of all products of a step: outputs, kernels' gradients, and inputs' gradients but for the first layer's."""
    return 2 * BATCH_SIZE * (3 * num_parameters(width) - INPUT_DIM * width)


def seconds(call, *arguments) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call(*arguments))
    return time.perf_counter() - start


class Bound:
    """What the machine can do at best, over all cores; `measure` takes one more sample of every rate."""

    def __init__(self, widths: list[int]) -> None:
        generator = np.random.default_rng(0)
        self.square = generator.standard_normal((SQUARE, SQUARE)).astype(np.float32)
        rotation = np.linalg.qr(generator.standard_normal((SQUARE // 2, SQUARE // 2)))[0].astype(np.float32)
        self.products = _on_every_core(lambda a: jnp.matmul(a, rotation, precision="highest"), rotation, PRODUCTS)
        self.tanh = _on_every_core(jnp.tanh, generator.standard_normal(TANH_SHAPE), TANH_CALLS)
        self.passes = {width: -(-STREAM_BYTES // (8 * num_parameters(width))) for width in widths}
        self.streams = {
            width: _on_every_core(lambda a: a * 0.999, np.ones(num_parameters(width)), passes)
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


class Loop:
    """A script that trains one run after the other in its own process, or nothing where a package it needs is missing.

    Arguments: the script's name, the packages, and more words of its command line. prepared: seconds by width before
    the first steps that are timed.
    """

    def __init__(self, script: str, packages: tuple[str, ...], *words: str) -> None:
        self.process = None
        self.about = ""
        self.prepared: dict[int, float] = {}
        if all(importlib.util.find_spec(package) for package in packages):
            sizes = map(str, (DEPTH, INPUT_DIM, BATCH_SIZE, NUM_TRAIN))
            command = [sys.executable, str(Path(__file__).with_name(script)), *sizes, *words]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
            shared = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # an accelerator's memory
            self.process = subprocess.Popen(command, env=shared, **pipes)
            ready = self.process.stdout.readline()
            if ready:
                self.about = ready.removeprefix("ready ").strip()
            else:  # the package does not load; its own words are on stderr
                self.process = None

    def milliseconds(self, width: int, steps: int) -> float | None:
        """Per step and run."""
        if self.process is None:
            return None
        self.process.stdin.write(f"{width} {steps}\n")
        if not (answer := self.process.stdout.readline()):  # it ended; its own words are on stderr
            self.process = None
            return None
        a_step, self.prepared[width] = map(float, answer.split())
        return 1e3 * a_step

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *raised: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


def torch_loop(device: str = "cpu") -> Loop:
    """PyTorch with the package mup."""
    return Loop("torch_mup.py", ("torch", "mup"), device)


def _on_every_core(step, start: np.ndarray, repeats: int):
    """Compile `repeats` dependent calls of `step` on every device at once; the program and its arguments."""

    def loop(_, value):
        return lax.fori_loop(0, repeats, lambda _, now: step(now), value)

    arguments = (jnp.arange(jax.device_count()), jnp.asarray(start, jnp.float32))
    compiled = jax.jit(lambda runs, value: map_runs(loop, runs, value)).lower(*arguments).compile()
    seconds(compiled, *arguments)
    return compiled, *arguments
