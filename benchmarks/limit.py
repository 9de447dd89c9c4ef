"""Speed of the infinite-width limit and of networks without hidden matrices: `make bench-limits`.

The task is that of theory section 5.1: 4 inputs in 10 dimensions, 3 hidden layers, tanh, 12 steps. Everything is
compiled first and timed in one run, dense training at widths 4,096 and 8,192 beside it. The machine's own limit is its
memory bandwidth: the columns that a step must read are counted, the bandwidth is that of a large copy in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time

import goals
import jax
import jax.numpy as jnp
import limit_example
import numpy as np

from mupjax.dynamics import dense, feature_limit, matrix_free
from mupjax.parametrization import mup
from mupjax.task import Task

SETTINGS = {"depth": 3, "learning_rate": 1.0, "steps": 12}
WIDTHS = (16_384, 65_536, 262_144, 1_048_576)
STEPS = (6, 12, 24, 48)
PASSES = 8  # over the columns in use, for every batch of queries (dynamics/implicit/gaussian_matrix.py)
QUERIES = 4  # batches a step: two hidden matrices, queried from both sides


def seconds(call, repeats: int) -> float:
    """Median time of a call that was made once before."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def exponent(sizes, times) -> float:
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def bandwidth() -> float:
    """Bytes a second that a copy of 512 MiB reads and writes."""
    source = jnp.ones(2**27)
    return 2 * source.nbytes / seconds(lambda: _shifted(source), 5)


@jax.jit
def _shifted(array):
    return array + 1


def columns_read(width: int, steps: int, directions: int) -> float:
    """Bytes of columns in use that all queries pass over, their number growing evenly to `directions`."""
    return PASSES * QUERIES * steps * directions / 2 * width * 4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    jax.config.update("jax_num_cpu_devices", 2)
    task, key, on_cpu = limit_example.task(), jax.random.key(0), jax.default_backend() == "cpu"
    lines = [
        f"`python benchmarks/limit.py` on {goals.machine()}; {goals.versions('jax', 'jaxlib', 'numpy')}.",
        f"Device: {jax.devices()[0].device_kind}. 4 inputs, d = 10, depth 3, tanh, 12 steps; medians of {repeats}.",
        "",
    ]

    def limit():
        return feature_limit.train(task, mup(), key=key, num_particles=4096, num_runs=8, **SETTINGS)

    limit_time, stderr = seconds(lambda: limit().train_loss, repeats), float(np.max(limit().stderr.predictions))
    lines += [f"- Limit, 8 runs of 4,096 particles: {limit_time:.2f} s, standard error of f at most {stderr:.1e}"]

    def free(width, steps=12):
        settings = SETTINGS | {"steps": steps}
        return matrix_free.train(task, mup(), width=width, key=key, memory_gb=64, **settings)

    copy = bandwidth()
    lines += [
        f"- Memory bandwidth of a copy: {copy / 1e9:.1f} GB/s",
        "",
        "| width | steps | matrix-free, s | dense, s | times | columns read, GB | share of the bandwidth |",
        "|---|---|---|---|---|---|---|",
    ]
    by_width, by_steps, times_dense = {}, {}, {}
    for width in (4096, 8192):
        free_time = seconds(lambda width=width: free(width).train_loss, repeats)
        by_width[width] = free_time
        times_dense[width] = seconds(
            lambda width=width: dense.train(task, mup(), width=width, key=key, **SETTINGS).train_loss, 1
        )
        times = times_dense[width] / free_time
        lines += [f"| {width} | 12 | {free_time:.3f} | {times_dense[width]:.2f} | {times:.0f}x | | |"]
    for width in WIDTHS:
        by_width[width] = seconds(lambda width=width: free(width).train_loss, repeats)
        moved = columns_read(width, 12, 48)
        share = moved / by_width[width] / copy
        lines += [f"| {width} | 12 | {by_width[width]:.2f} | | | {moved / 1e9:.1f} | {share:.0%} |"]
    for steps in STEPS:
        by_steps[steps] = seconds(lambda steps=steps: free(65_536, steps).train_loss, repeats)
        moved = columns_read(65_536, steps, 4 * steps)
        share = moved / by_steps[steps] / copy
        lines += [f"| 65536 | {steps} | {by_steps[steps]:.2f} | | | {moved / 1e9:.1f} | {share:.0%} |"]
    found = [
        goals.at_most("largest standard error of f, 8 runs of 4,096 particles", 1e-3, stderr, ".1e"),
        goals.at_most("seconds for it, compiled", 2.0, limit_time if on_cpu else None),
        goals.at_most("seconds at width 1,048,576, compiled", 12.0, by_width[1_048_576] if on_cpu else None),
        goals.at_most("fitted exponent of time in width", 1.1, exponent(WIDTHS, [by_width[n] for n in WIDTHS])),
        goals.at_most("fitted exponent of time in steps x samples", 2.2, exponent(STEPS, list(by_steps.values()))),
        goals.at_least("times as fast as dense training at width 8,192", 20, times_dense[8192] / by_width[8192], ".0f"),
    ]
    accelerator = None
    if not on_cpu:
        ten = Task(np.random.default_rng(0).standard_normal((10, 10)), np.ones((10, 1)))
        settings = SETTINGS | {"steps": 100, "depth": 3}
        accelerator = seconds(
            lambda: matrix_free.train(ten, mup(), width=10**6, key=key, memory_gb=256, **settings).train_loss, 1
        )
    share = 0 if accelerator is None else columns_read(10**6, 100, 1000) / accelerator / copy
    figure = "" if accelerator is None else f"{accelerator:.1f} s, {share:.0%} of the bandwidth"
    found += [goals.goal("accelerator: width 10^6, 100 steps, 10 samples", accelerator, figure, True)]
    goals.report("limit.py", lines, found)


if __name__ == "__main__":
    main()
