"""The grid of sweep.py, and what its parts share."""

from __future__ import annotations

from inspect import signature
from typing import Any

from baselines import BATCH_SIZE, DEPTH, NUM_TRAIN

from mupjax import datasets
from mupjax.sweeps.grid import Grid, grid_of
from mupjax.sweeps.sweep import RATES, sweep
from mupjax.task import Task

SEEDS, STEPS, WIDTHS = 8, 200, [64, 128, 256, 512]
GRID = {
    "parametrizations": ("sp", "ntp", "mup", "ip"),
    "learning_rates": RATES,
    "seeds": SEEDS,
    "depths": (DEPTH,),
    "batch_size": BATCH_SIZE,
}
CELL = GRID | {"parametrizations": ("mup",)}  # of one width; the other parametrizations share its program


def digits() -> Task:
    """Zeros and ones, 64 inputs."""
    return datasets.load("digits", train_size=NUM_TRAIN)


def checked(task: Task, **settings: Any) -> Grid:
    """The grid that `sweep` runs with these arguments."""
    around = {"task", "out", "executor", "about", "progress"}
    defaults = {name: p.default for name, p in signature(sweep).parameters.items() if name not in around}
    return grid_of(task, **(defaults | settings))
