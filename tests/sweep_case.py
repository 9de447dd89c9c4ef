"""A small sweep that several tests and processes run: `python tests/sweep_case.py OUT [devices]` writes it to OUT."""

import sys

import jax
import numpy as np

if __name__ == "__main__":  # before anything else wants a device
    jax.config.update("jax_num_cpu_devices", int(sys.argv[2]) if len(sys.argv) > 2 else 1)

from mupjax.sweeps.sweep import sweep
from mupjax.task import Task

RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((11, 3))
TASK = Task(INPUTS[:8], np.sign(INPUTS[:8, :1]), INPUTS[8:], np.sign(INPUTS[8:, :1]))
RATES = {"sgd": (0.25, 0.5, 1.0), "adam": (0.25, 0.5)}
GRID = {
    "parametrizations": ("sp", "mup"),
    "widths": (4, 8),
    "depths": (2,),
    "optimizers": ("sgd", "adam"),
    "learning_rates": RATES,
    "seeds": 2,
    "steps": 3,
    "batch_size": 4,
    "padding": "never",
}


def main() -> None:
    print("start", flush=True)  # imports are over
    sweep(TASK, out=sys.argv[1], **GRID)
    print("end", flush=True)


if __name__ == "__main__":
    main()
