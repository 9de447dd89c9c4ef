"""The worked example of the limits: 4 inputs in 10 dimensions, 3 hidden layers, tanh, muP, rate 1, full batches."""

from __future__ import annotations

import numpy as np

from mupjax.task import Task

# The limit's losses at steps 0..11, computed beforehand with a standard error of f of F_ERROR, rounded to five digits.
LOSSES = (0.34250, 0.22686, 0.13988, 0.06908, 0.02814, 0.01165, 0.00605, 0.00387, 0.00271, 0.00194, 0.00137, 0.00095)
F_ERROR = 2e-4


def task() -> Task:
    x = np.random.default_rng(1).standard_normal((4, 10))
    x *= np.sqrt(10) / np.linalg.norm(x, axis=1, keepdims=True)
    return Task(x, np.array([[1.0], [-1.0], [0.5], [-0.7]]))
