"""Measure whether mupjax is right and fast on this machine's accelerator, in at most six minutes.

    python benchmarks/device.py [--small] [--results FILE] [--stages right,grid]     (make bench-device)

One process runs stage after stage, each under a time limit of its own. Every line and goal is printed, and added to
RESULTS.md, as soon as it is known, so that a run that is cut short leaves what it had. All is compiled anew. On a CPU
everything runs in tiny sizes, goals say 'not measured', and nothing is kept unless --results names a file. Requires
JAX, Flax, Optax, chex, NumPy, xarray and requirements/device.txt; PyTorch and mup are optional.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # where nothing can be installed
if os.environ.get("JAX_PLATFORMS") and "cpu" not in os.environ["JAX_PLATFORMS"]:
    os.environ["JAX_PLATFORMS"] += ",cpu"  # the numbers of the processor are the reference

import jax

if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_num_cpu_devices", 8)  # accelerators share runs among those that there are

import device_bounds as bounds
import device_fast as fast
import device_right as right
import goals

DEADLINE = 330.0  # seconds for all stages; what starts later is not measured
GRACE = 25.0  # a compilation cannot be interrupted: so long after a limit the whole process ends

Stage = Callable[[bounds.Session], Iterator[str]]
# Name, seconds at most, lines and goals. Memory is a peak that only rises: stages that need more come later.
STAGES: dict[str, tuple[float, Stage]] = {
    "right": (70, right.numbers),
    "law": (45, right.laws),
    "shared": (15, fast.shared),
    "grid": (60, fast.grid),
    "limit-1e-4": (30, fast.limit_coarse),
    "kernel": (60, fast.kernel),
    "limit-1e-5": (90, fast.limit_fine),
    "width-1e7": (45, fast.wide_short),
    "width-1e6": (90, fast.wide_long),
    "rate": (90, fast.matrix_rate),
}


class OutOfTime(Exception):
    """A stage took longer than its limit."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime after so many seconds, or end the process where nothing raised reaches Python any more."""

    def stop(number: int, frame: object) -> None:
        raise OutOfTime(f"stopped after {seconds:.3g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + GRACE, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def run(name: str, session: bounds.Session, seconds: float, add: Callable[[str], None]) -> None:
    """Run one stage and hand every line on as it comes; an exception is recorded as a goal that was not met."""
    add(f"### {name}")
    start = time.perf_counter()
    one_device = nullcontext() if name == "shared" else jax.default_device(jax.local_devices()[0])
    try:
        with limited(seconds), one_device:
            for line in STAGES[name][1](session):
                add(line)
    except Exception as error:  # the next stage has a chance of its own
        words = " ".join(str(error).split())[:300]
        add(goals.goal(f"{name} ends", 0.0, f"{type(error).__name__}: {words}", False))
        waited, _ = bounds.once(lambda: jax.numpy.ones(()) + 1)  # what the device had still to do
        add(f"- The device went on for {waited:.0f} s.")
    add(f"- {name}: {time.perf_counter() - start:.0f} s of at most {seconds:.0f}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="tiny sizes, as on a CPU; nothing counts as measured")
    parser.add_argument("--results", type=Path, help="add the section to this file (on an accelerator: RESULTS.md)")
    parser.add_argument("--stages", default=",".join(STAGES), help="which, comma-separated: %(default)s")
    arguments = parser.parse_args()
    names = arguments.stages.split(",")
    if unknown := sorted(set(names) - set(STAGES)):
        parser.error(f"Expected --stages of {', '.join(STAGES)}, got {unknown[0]!r}.")
    start, device = time.perf_counter(), jax.local_devices()[0]
    on_cpu, driver = device.platform == "cpu", bounds.driver()
    if on_cpu and driver and not arguments.small:
        parser.error(f'Expected JAX to see the GPU ({driver}), got only CPUs: pip install -U "jax[cuda13]".')
    small = arguments.small or on_cpu
    kept = arguments.results or (None if on_cpu else goals.RESULTS)
    add = goals.appender("device.py" + (", small sizes" if small else ""), kept)
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "neural-tangents", "matfree", "torch", "mup")
    add(f"`python benchmarks/device.py` on {goals.machine()}; {goals.versions(*packages)}.")
    stats = device.memory_stats() or {}
    memory = f"{stats['bytes_limit'] / 1e9:.1f} GB for JAX" if "bytes_limit" in stats else "memory unknown"
    add(f"{jax.local_device_count()} x {device.device_kind} ({device.platform}), {memory}; {driver or 'no driver'}.\n")
    session = bounds.Session(small, measured=not small)
    for name in names:
        left = (10 if small else 1) * DEADLINE - (time.perf_counter() - start)
        if left < 5:
            add(f"### {name}\n- Not run: {DEADLINE:.0f} s are over.")
            add(goals.goal(f"{name} ends", None, "", False))
            continue
        run(name, session, min(STAGES[name][0] * (10 if small else 1), left), add)
    add(f"\nIn all {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
