"""Whether widths that share a program are chosen well; a part of sweep.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import median
from typing import Any

import jax
from baselines import seconds
from goals import at_most
from sweep_grid import CELL, GRID, checked

from mupjax import devices
from mupjax.sweeps.plan import describe, plan
from mupjax.sweeps.sweep import sweep
from mupjax.task import Task

# Compiling weighs most in the first, training in the second.
GRIDS = {
    "few steps of narrow networks": GRID | {"widths": (8, 16, 32, 64), "seeds": 2, "steps": 20},
    "many steps": GRID | {"widths": (16, 32, 64, 256), "seeds": 1, "steps": 200},
}
QUICK = {"two widths": CELL | {"widths": (8, 16), "seeds": 1, "steps": 20}}
CHOICES = ("auto", "always", "never")


def padding(
    task: Task, grids: dict[str, Any], repeats: int, compile_seconds: Iterable[float], flops: Iterable[float]
) -> tuple[list[str], list[str]]:
    """What padding is weighed by, beside what was measured of each width; 'auto' beside the other choices."""
    of = devices.traits()
    lines = [
        f"Padding is weighed by {of.compile_seconds:.1f} s for a program and {of.flops / 1e9:.0f} GFLOP/s; "
        f"measured here, widths in order: {', '.join(f'{s:.1f}' for s in compile_seconds)} s and "
        f"{', '.join(f'{rate / 1e9:.0f}' for rate in flops)} GFLOP/s.",
        "",
        "Total seconds, compiled anew; plans that are the same are timed once.",
        "",
        "| grid | auto | always | never | programs of auto, always, never | auto / best |",
        f"|{'---|' * 6}",
    ]
    goals = []
    for name, grid in grids.items():
        plans = {choice: describe(plan(task, checked(task, **grid, padding=choice))) for choice in CHOICES}
        alike = {choice: next(first for first in CHOICES if plans[first] == plans[choice]) for choice in CHOICES}
        samples: dict[str, list[float]] = defaultdict(list)
        for _ in range(repeats):
            for choice in dict.fromkeys(alike.values()):
                jax.clear_caches()
                samples[choice].append(seconds(lambda grid=grid, choice=choice: sweep(task, **grid, padding=choice)))
        times = [median(samples[alike[choice]]) for choice in CHOICES]
        programs = ", ".join(str(len(plans[choice]["programs"])) for choice in CHOICES)
        ratio = times[0] / min(times)
        lines.append(f"| {name} | {' | '.join(f'{t:.1f}' for t in times)} | {programs} | {ratio:.2f} |")
        goals.append(at_most(f"padding, {name}: auto / best of auto, always, never", 1.1, ratio))
    return [*lines, ""], goals
