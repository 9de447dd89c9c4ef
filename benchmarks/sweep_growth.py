"""How a sweep's time and memory grow with its runs; a part of sweep.py.

    python benchmarks/sweep_growth.py CASE MEMORY_GB

prints the bytes by which the process grew at most in a sweep of one cell, its writing and reading included, that was
compiled before (Linux).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import jax
from baselines import seconds
from goals import at_most, goal
from sweep_grid import CELL, checked, digits

from mupjax.results import store
from mupjax.sweeps import cell as training
from mupjax.sweeps.plan import Plan, plan
from mupjax.sweeps.sweep import RATES, sweep
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec

RUNS = (8, 64, 512)  # of a cell
# Where the networks take most, and where the results do.
MEMORY = {
    "wide": CELL | {"widths": (1024,), "seeds": 4, "steps": 2},
    "recorded": CELL | {"widths": (16,), "seeds": 64, "steps": 100, "spec": TrajectorySpec(grams=())},
}
MANY = {
    "parametrizations": "sp,ntp,mup,ip",
    "widths": "16,32",
    "learning-rates": "0.0625:8:10",
    "steps": "20",
    "batch-size": "64",
}


def cell_of(width: int, number: int, steps: int) -> Callable[[], Any]:
    """Return a function that trains a cell of muP networks, `number` runs."""
    task = digits()
    chosen = checked(task, **CELL | {"widths": (width,), "seeds": number // len(RATES), "steps": steps})
    planned = plan(task, chosen)
    return lambda: training.run_cell(task, chosen, planned.programs[0], planned.cells[0])


def growth(widths: list[int], runs: tuple[int, ...], steps: int, repeats: int) -> tuple[list[str], list[str]]:
    """Time per run of cells with few and many runs, in turns; small cells are called several times."""
    lines = [
        f"Growth: ms per run of {steps} steps (initial weights and evaluations included), calls after compilation.",
        "",
        f"| width | {' | '.join(f'{n} runs a cell' for n in runs)} | greatest / least |",
        f"|---|{'---|' * len(runs)}---|",
    ]
    goals = []
    for width in widths:
        cells = {number: cell_of(width, number, steps) for number in runs}
        samples: dict[int, list[float]] = {number: [] for number in runs}
        for call in cells.values():
            call()
        for _ in range(repeats):
            for number, call in cells.items():
                calls = max(1, 64 // number)
                samples[number].append(1e3 * sum(seconds(call) for _ in range(calls)) / calls / number)
        times = [median(samples[number]) for number in runs]
        ratio = max(times) / min(times)
        lines.append(f"| {width} | {' | '.join(f'{ms:.2f}' for ms in times)} | {ratio:.3f} |")
        what = f"width {width}: time per run from {min(runs)} to {max(runs)} runs a cell, greatest / least"
        goals.append(at_most(what, 1.1, ratio, ".3f"))
    return [*lines, ""], goals


def memory() -> tuple[list[str], list[str]]:
    """The most by which a process grows in a sweep of one cell, beside the declared budget."""
    lines = [
        "Memory: how far the process grows (VmHWM) in a sweep of one compiled cell with `out`.",
        "",
    ]
    goals = []
    for name, settings in MEMORY.items():
        memory_gb, planned = _tight_plan(digits(), settings)
        # Without a fixed threshold, memory that was given back once is kept, and growth not seen.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
        words = [sys.executable, __file__, name, str(memory_gb)]
        answer = subprocess.run(words, capture_output=True, text=True, env=environment)
        if answer.returncode:
            print(answer.stderr, file=sys.stderr, flush=True)
        peak = None if answer.returncode else int(answer.stdout) / 1e9
        lines.append(
            f"- {name}: width {settings['widths'][0]}, {planned.num_runs} runs, {planned.programs[0].chunk} a call: "
            + ("not measured" if peak is None else f"{peak:.3f} GB of {memory_gb:.3f} GB")
        )
        goals.append(at_most(f"memory of a cell, {name}: GB", memory_gb, peak, ".3f"))
    return [*lines, ""], goals


def many(seeds: int) -> tuple[list[str], list[str]]:
    """A command of 80 runs a seed, from the start of Python to its report."""
    settings, number = MANY | {"seeds": str(seeds)}, 4 * 2 * 10 * seeds
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "mupjax.cli", "sweep", "--no-cache", "--out", folder]
        for name, value in settings.items():
            words += [f"--{name}", value]
        took = seconds(lambda: subprocess.run(words, check=True, capture_output=True))
        losses = store.read(Path(folder) / store.STORE).train_loss
        complete = losses.isel(step=0).count().item()
    return [
        f"Many runs: `mupjax sweep {' '.join(f'--{n} {v}' for n, v in settings.items())}`, {number} runs from the "
        f"start of Python to the report, nothing compiled before: {took:.0f} s.",
        "",
    ], [goal(f"{number} runs complete in one command", took, f"{complete} in {took:.0f} s", complete == number)]


def _tight_plan(task: Task, settings: dict[str, Any]) -> tuple[float, Plan]:
    """A tenth more than the least budget, of hundredths of a GB, that is not refused; and the plan."""
    for hundredths in count(1):
        try:
            plan(task, checked(task, **settings, memory_gb=hundredths / 100))
        except ValueError:
            continue
        memory_gb = 0.011 * hundredths
        return memory_gb, plan(task, checked(task, **settings, memory_gb=memory_gb))
    raise AssertionError


def main() -> None:
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    name, memory_gb = sys.argv[1:]
    task, settings = digits(), MEMORY[name] | {"memory_gb": float(memory_gb)}
    with tempfile.TemporaryDirectory() as folder:
        sweep(task, **settings, out=f"{folder}/compiles")
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
        sweep(task, **settings, out=f"{folder}/out")
        print(_status("VmHWM") - before)


def _status(name: str) -> int:
    """Bytes that the operating system says."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
