"""Sweeps: speed beside PyTorch with `mup`, plain JAX and the machine's bound; growth with the runs; kills.

    python benchmarks/sweep.py [--repeats 3] [--quick]

The grid is sp, ntp, mup, ip x widths 64, 128, 256, 512 x 8 rates x 8 seeds, 200 steps of batch 64 on digits. The
loops of others train a sample of its runs, extrapolated to the grid. All is measured in one run, in turns.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from statistics import median

import jax
from baselines import BATCH_SIZE, DEPTH, NUM_TRAIN, Bound, Loop, flops, seconds, torch_loop
from goals import at_least, machine, report, spread, versions
from sweep_grid import CELL, GRID, SEEDS, STEPS, WIDTHS, digits
from sweep_growth import RUNS, growth, many, memory
from sweep_kills import kills
from sweep_padding import GRIDS, QUICK, padding

from mupjax.sweeps.sweep import RATES, sweep
from mupjax.task import Task

jax.config.update("jax_num_cpu_devices", os.cpu_count())

SHARE_GOALS = {64: 0.5, 128: 0.75, 256: 0.75, 512: 0.75}
TORCH_GOALS = {64: 10.0, 128: 5.0, 256: 2.5, 512: 1.7}


class Ours:
    """A cell of one width: the time of all steps less that of one step, which is the set-up, shown apart."""

    def __init__(self, task: Task, width: int, steps: int) -> None:
        self.runs, self.steps = len(RATES) * SEEDS, steps
        self.calls = [lambda steps=n: sweep(task, **CELL, widths=(width,), steps=steps) for n in (1, steps)]
        self.first = [seconds(call) for call in self.calls]
        self.later: list[list[float]] = [[], []]

    def measure(self) -> None:
        for call, samples in zip(self.calls, self.later, strict=True):
            samples.append(seconds(call))

    def compile_seconds(self) -> float:
        """Of one step, where training does not blur the difference; a program of many steps takes as long."""
        return self.first[0] - median(self.later[0])

    def set_up(self) -> float:
        """Seconds of a run's initial weights and evaluations, and its part in all else that a call does."""
        return median(self.later[0]) / self.runs

    def step_milliseconds(self) -> list[float]:
        """Per step and run, of steps alone."""
        pairs = zip(*self.later, strict=True)
        return [1e3 * (whole - one) / (self.steps - 1) / self.runs for one, whole in pairs]

    def milliseconds(self) -> float:
        """Per step and run, set-up included."""
        return 1e3 * median(self.later[1]) / self.steps / self.runs


class Speed:
    """Times of the grid: ours and theirs, in turns."""

    def __init__(self, task: Task, widths: list[int], steps: int, repeats: int) -> None:
        torches = [torch_loop(), *([torch_loop("cuda")] if jax.default_backend() == "gpu" else [])]
        plain = Loop("plain_jax.py", ())
        self.bound, self.ours = Bound(widths), {width: Ours(task, width, steps) for width in widths}
        self.torch, self.plain = defaultdict(list), defaultdict(list)
        for repeat in range(repeats):
            print(f"repeat {repeat + 1} of {repeats}", file=sys.stderr, flush=True)
            self.bound.measure()
            for width in widths:
                self.ours[width].measure()
                samples = [sample for loop in torches if (sample := loop.milliseconds(width, steps)) is not None]
                self.torch[width] += [min(samples)] if samples else []
                self.plain[width].append(plain.milliseconds(width, steps))
        for loop in (*torches, plain):
            loop.close()
        self.widths, self.steps, self.repeats = widths, steps, repeats
        self.about = f"PyTorch + mup ({next((loop.about for loop in torches if loop.about), 'not measured')})"
        self.about += f" and plain JAX ({plain.about}; one jit a width, a Python loop over runs and steps)"
        self.plain_compile_seconds = sum(plain.prepared.values())
        self.whole = seconds(lambda: sweep(task, **GRID, widths=widths, steps=steps))

    def table(self) -> tuple[list[str], list[str]]:
        """Rows by width, and their goals; shares and times PyTorch are goals of CPUs."""
        on_cpu = jax.default_backend() == "cpu"
        rows, shares, times = [], [], []
        for width in self.widths:
            ours, torch, plain = self.ours[width], self.torch[width], self.plain[width]
            bound = self.bound.milliseconds(width)
            share = bound / median(ours.step_milliseconds())
            times_torch = median(torch) / ours.milliseconds() if torch else None
            times_plain = median(plain) / ours.milliseconds()
            cells = [
                str(width),
                spread(ours.step_milliseconds()),
                f"{ours.milliseconds():.3f}",
                spread(torch) if torch else "not measured",
                spread(plain),
                f"{bound:.3f}",
                f"{share:.0%}",
                f"{times_torch:.1f}x" if times_torch else "not measured",
                f"{times_plain:.1f}x",
                f"{1e3 * ours.set_up():.2f}",
                f"{ours.compile_seconds():.1f}",
            ]
            rows.append(f"| {' | '.join(cells)} |")
            of_bound, of_torch = (share, times_torch) if on_cpu else (None, None)
            shares.append(at_least(f"width {width}: share of the bound", SHARE_GOALS[width], of_bound))
            times.append(at_least(f"width {width}: times PyTorch + mup", TORCH_GOALS[width], of_torch, ".1f"))
            times.append(at_least(f"width {width}: times plain JAX", 1.0, times_plain, ".2f"))
        return rows, shares + times

    def total(self) -> tuple[str, list[str]]:
        """The grid's seconds, and their goals."""
        cells = len(GRID["parametrizations"])
        runs = cells * len(RATES) * SEEDS  # of a width
        compiling = sum(ours.compile_seconds() for ours in self.ours.values())
        set_up = runs * sum(ours.set_up() for ours in self.ours.values())
        steps = 1e-3 * runs * self.steps
        bound = steps * sum(map(self.bound.milliseconds, self.widths))
        torch = steps * sum(map(median, self.torch.values())) if all(self.torch.values()) else None
        plain = steps * sum(map(median, self.plain.values())) + self.plain_compile_seconds
        total = self.whole + compiling
        others = f"PyTorch + mup {'not measured' if torch is None else f'{torch:.1f} s'}, plain JAX {plain:.1f} s"
        words = (
            f"The grid, {runs * len(self.widths)} runs in one call of `mupjax.sweep`: {self.whole:.1f} s, of which "
            f"initial weights and evaluations {set_up:.1f} s; {compiling:.1f} s to compile {len(self.widths)} "
            f"programs, counted once (a first call of one step less a later one); {total:.1f} s in all. "
            f"Extrapolated: {others}, of which {self.plain_compile_seconds:.1f} s to compile. "
            f"The bound of the steps: {bound:.1f} s."
        )
        times = None if torch is None else torch / total
        accelerated = None if jax.default_backend() == "cpu" else times
        return words, [
            at_least("the grid, compiled and trained: times PyTorch + mup", 1.0, times),
            at_least("the grid, compiled and trained: times plain JAX", 1.0, plain / total),
            at_least("accelerator, the grid: times PyTorch + mup", 20.0, accelerated, ".0f"),
        ]

    def lines(self) -> tuple[list[str], list[str]]:
        rows, by_width = self.table()
        words, of_grid = self.total()
        return [
            f"Speed: {', '.join(GRID['parametrizations'])} x widths {', '.join(map(str, self.widths))} x {len(RATES)} "
            f"rates x {SEEDS} seeds, {self.steps} steps of batch {BATCH_SIZE}. Milliseconds per step and run.",
            f"{self.about} train one run at a time; {self.repeats} a width were timed and extrapolated to the grid, "
            "initial weights and evaluations not counted. mupjax: a cell a width, its steps alone, and with set-up: "
            "initial weights, evaluations and all else that the call does. The latter is compared with the others.",
            self.bound.describe(),
            "",
            "| width | mupjax, steps | mupjax with set-up | PyTorch + mup | plain JAX | bound | share of bound "
            "| times PyTorch + mup | times plain JAX | set-up of a run | compile, s |",
            f"|{'---|' * 11}",
            *rows,
            "",
            words,
            "",
        ], by_width + of_grid

    def padding(self, task: Task, grids: dict[str, dict]) -> tuple[list[str], list[str]]:
        """The choice of padding, beside what was measured of these widths."""
        compiled = [ours.compile_seconds() for ours in self.ours.values()]
        rates = [1e3 * flops(width) / median(ours.step_milliseconds()) for width, ours in self.ours.items()]
        return padding(task, grids, self.repeats, compiled, rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="try a little of everything; RESULTS.md stays as it is")
    arguments = parser.parse_args()
    quick, repeats = arguments.quick, 1 if arguments.quick else arguments.repeats
    load, task = os.getloadavg()[0], digits()
    head = [
        f"`python benchmarks/sweep.py` on {machine()}; {versions('jax', 'jaxlib', 'flax', 'optax', 'torch', 'mup')}.",
        f"{jax.device_count()} devices: {jax.devices()[0].device_kind}. Digits 0 and 1, {NUM_TRAIN} inputs, "
        f"depth {DEPTH}, tanh, MSE, SGD; {repeats} repeats in turns, medians (least-greatest).",
        f"Load average at the start: {load:.2f}; other work on the machine spoils figures, PyTorch's most.",
        "",
    ]
    widths, steps = ([64], 20) if quick else (WIDTHS, STEPS)
    speed = Speed(task, widths, steps, repeats)
    parts = [
        speed.lines(),
        speed.padding(task, QUICK if quick else GRIDS),
        growth(widths[:2], RUNS[:2] if quick else RUNS, steps, repeats),
        *([] if quick else [memory()]),
        many(seeds=1 if quick else 125),
        kills(1 if quick else 50),
    ]
    lines = [*head, *(line for part, _ in parts for line in part)]
    report("sweep.py", lines, [line for _, part in parts for line in part], keep=not quick)


if __name__ == "__main__":
    main()
