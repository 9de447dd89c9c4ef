"""The worked example that the limits' tests share: 4 inputs in 10 dimensions, 3 hidden layers, tanh, muP, rate 1."""

from __future__ import annotations

import numpy as np

from mupjax.task import Task

X = np.random.default_rng(1).standard_normal((4, 10))
X *= np.sqrt(10) / np.linalg.norm(X, axis=1, keepdims=True)
Y = np.array([1.0, -1.0, 0.5, -0.7])
# Published with a standard error of f of 2e-4, so of a loss of 2e-4 * sqrt(2 * loss / 4) and rounding of 5e-6.
LOSSES = np.array(
    [0.34250, 0.22686, 0.13988, 0.06908, 0.02814, 0.01165, 0.00605, 0.00387, 0.00271, 0.00194, 0.00137, 0.00095]
)
F_1 = np.array([0.1795, -0.1965, 0.0382, -0.1682])

_RNG = np.random.default_rng(2)
X_TEST = _RNG.standard_normal((2, 10))
X_TEST *= np.sqrt(10) / np.linalg.norm(X_TEST, axis=1, keepdims=True)


def task(loss: str = "mse", outputs: int = 1, test: bool = False) -> Task:
    """The example with another loss, with several outputs, or with two test inputs."""
    if loss == "cross_entropy":
        labels = np.arange(4) % outputs
        return Task(X, labels, *((X_TEST, labels[:2]) if test else ()), loss=loss, num_classes=outputs)
    y = Y[:, None] if outputs == 1 else np.random.default_rng(3).standard_normal((4, outputs)) / outputs**0.5
    return Task(X, y, *((X_TEST, y[:2]) if test else ()))
