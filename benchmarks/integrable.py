"""What integrable parametrizations cost: `make bench-integrable` prints goals and appends RESULTS.md.

The quick study and the notebook run as whole commands, nothing compiled before. A first step of its own is timed beside
plain IP and beside muP in the same run, calibration in steps of the network that it calibrates, ranks beside NumPy's
`matrix_rank` of the same matrix.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import goals
import jax
import jax.numpy as jnp
import numpy as np
from timing import seconds, whole

from mupjax import calibrate_initial_rates, datasets
from mupjax.dynamics import dense
from mupjax.observers.ranks import ranks
from mupjax.parametrization import ip, ip_llr, mup
from mupjax.trajectory import TrajectorySpec

NETWORK: dict[str, Any] = {"width": 512, "depth": 4, "activation": "relu", "learning_rate": 0.1}
STEPS = 50


def training() -> tuple[float, float, float, float]:
    """Seconds of STEPS steps of IP, IP-LLR and muP, and of one calibration."""
    task = datasets.load("digits", classes=None, train_size=512, test_size=None, loss="cross_entropy")
    key, spec = jax.random.key(0), TrajectorySpec(steps=(-1,), grams=(), eval_inputs=())
    batches = jnp.tile(jnp.arange(512), (STEPS, 1))
    llr = ip_llr(4, sigma=2**0.5)
    first = calibrate_initial_rates(task, llr, key=key, **NETWORK).rates
    runs = []
    for preset, rates in ((ip(sigma=2**0.5), None), (llr, first), (mup(sigma=2**0.5), None)):
        settings = NETWORK | {"steps": STEPS, "key": key, "spec": spec, "batches": batches, "initial_rates": rates}
        runs.append(seconds(lambda p=preset, s=settings: dense.train(task, p, **s)))
    calibration = seconds(lambda: calibrate_initial_rates(task, llr, key=key, batches=batches, **NETWORK))
    return runs[0], runs[1], runs[2], calibration


def ranking() -> tuple[float, float]:
    """Seconds of `ranks` and of NumPy's matrix_rank for 5,000 x 1,024 float32 features."""
    matrix = np.random.default_rng(0).standard_normal((5000, 1024), dtype=np.float32)
    ours, on_device = jax.jit(ranks), jnp.asarray(matrix)
    start = time.perf_counter()
    np.linalg.matrix_rank(matrix)
    return seconds(lambda: ours(on_device), 3), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-keep", action="store_true", help="print only; RESULTS.md stays as it is")
    keep = not parser.parse_args().no_keep
    warnings.simplefilter("ignore", UserWarning)
    lines, met = [goals.machine(), goals.versions("jax", "jaxlib", "numpy", "nbclient"), ""], []
    plain, switched, other, calibration = training()
    lines.append(
        f"{STEPS} steps at width 512, 4 hidden layers, batches of 512: IP {plain:.2f} s, IP-LLR {switched:.2f} s, "
        f"muP {other:.2f} s"
    )
    met.append(goals.at_most("a first step of its own: times plain IP", 1.1, switched / plain))
    met.append(goals.at_most("a first step of its own: times muP", 1.1, switched / other))
    lines.append(f"one calibration {1e3 * calibration:.0f} ms, a step of the network {1e3 * switched / STEPS:.0f} ms")
    met.append(goals.at_most("calibration: steps of its network", 6, calibration / (switched / STEPS), ".1f"))
    ours, numpy = ranking()
    lines.append(f"ranks of 5,000 x 1,024 features {ours:.2f} s, NumPy's matrix_rank {numpy:.2f} s")
    met.append(goals.at_most("ranks: times NumPy's matrix_rank", 1.0, ours / numpy))
    with tempfile.TemporaryDirectory() as name:
        met += whole("integrable", "integrable", Path(name))
    goals.report("Integrable parametrizations (`make bench-integrable`)", lines, met, keep=keep)


if __name__ == "__main__":
    main()
