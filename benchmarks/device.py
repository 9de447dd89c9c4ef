"""Is mupjax right and fast on this device? One process, every stage under a time limit of its own.

    python benchmarks/device.py [--small] [--results FILE] [--stages right,grid]     (make bench-device)

Each stage prints its lines and goals and adds them to RESULTS.md as it ends: a run that is cut short leaves what it
had. On a CPU everything runs in tiny sizes and goals say 'not measured'. All is compiled anew. Nothing is imported
that is not used: beside JAX, Flax, Optax, chex, NumPy and xarray the packages of requirements/device.txt, and PyTorch
with mup where they are installed.
"""

from __future__ import annotations

import argparse
import faulthandler
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # not installed where nothing can be

import jax

if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_num_cpu_devices", 8)  # of no effect on accelerators: there the runs share what there is

import device_bounds as bounds
import device_fast as fast
import device_right as right
import goals

# Seconds of each stage on one H100, in all 6 minutes; what takes longer is stopped, and the next one begins.
LIMITS = {"right": 60, "law": 45, "shared": 10, "rate": 85, "grid": 45, "limit": 30, "kernel": 35, "wide": 50}
GRACE = 25  # a compilation cannot be interrupted: this long after its limit the whole process ends

Stage = Callable[[fast.Measured], tuple[list[str], list[str]]]
STAGES: dict[str, Stage] = {
    "right": lambda of: right.numbers(of.small),
    "law": lambda of: right.laws(of.small),
    "shared": fast.shared,
    "rate": fast.matrix_rate,
    "grid": fast.grid,
    "limit": fast.limit,
    "kernel": fast.kernel,
    "wide": fast.wide,
}


class OutOfTime(Exception):
    """A stage took longer than its limit."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime after so many seconds, or end the process where nothing raised reaches Python any more."""

    def stop(number: int, frame: object) -> None:
        raise OutOfTime(f"stopped after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + GRACE, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def run(name: str, of: fast.Measured, limit: float) -> tuple[list[str], list[str]]:
    """One stage: its lines and goals; what went wrong is a goal that was not met."""
    start = time.perf_counter()
    try:
        with limited(limit):
            lines, found = STAGES[name](of)
    except Exception as error:  # the next stage has a chance of its own
        words = " ".join(str(error).split())[:300]
        lines, found = [], [goals.goal(f"{name} ends", 0.0, f"{type(error).__name__}: {words}", False)]
    return [f"### {name}, {time.perf_counter() - start:.0f} s of {limit:g}", "", *lines], found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="tiny sizes, as on a CPU")
    parser.add_argument("--results", type=Path, default=goals.RESULTS, help="the file that sections are added to")
    parser.add_argument("--stages", default=",".join(STAGES), help="which, comma-separated: %(default)s")
    arguments = parser.parse_args()
    names = arguments.stages.split(",")
    if unknown := sorted(set(names) - set(STAGES)):
        parser.error(f"Expected --stages of {', '.join(STAGES)}, got {unknown[0]!r}.")
    start, device = time.perf_counter(), jax.local_devices()[0]
    small = arguments.small or device.platform == "cpu"
    add = goals.appender("device.py" + (", small sizes" if small else ""), arguments.results)
    stats = device.memory_stats() or {}
    memory = f"{stats['bytes_limit'] / 1e9:.1f} GB for JAX" if "bytes_limit" in stats else "memory not told"
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "neural-tangents", "matfree", "torch", "mup")
    add(
        [
            f"`python benchmarks/device.py` on {goals.machine()}; {goals.versions(*packages)}.",
            f"{jax.local_device_count()} x {device.device_kind} ({device.platform}), {memory}; {bounds.driver()}.",
        ]
    )
    of = fast.Measured(small)
    for name in names:
        lines, found = run(name, of, LIMITS[name] * (10 if small else 1))
        add(lines, found)
    add([f"In all {time.perf_counter() - start:.0f} s."])


if __name__ == "__main__":
    main()
