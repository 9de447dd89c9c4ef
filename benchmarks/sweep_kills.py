"""Kill -9 at random moments, resume, and compare with a sweep that nobody disturbed; a part of sweep.py."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from goals import goal

from mupjax.results import store

CASE = Path(__file__).parents[1] / "tests" / "sweep_case.py"
LANES = 2  # directories at once


def kills(number: int) -> tuple[list[str], list[str]]:
    """Kill `number` times after the imports, in two directories at once."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(LANES) as pool:
        # Compiled programs are kept, or most kills would meet the compiler.
        kept = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        environment = os.environ | kept
        run = partial(_undisturbed, environment=environment)
        run(Path(folder) / "compiles")
        alone = [Path(folder) / f"undisturbed-{lane}" for lane in range(LANES)]
        lasts, reference = min(pool.map(run, alone)), store.read(alone[0] / store.STORE)
        lane = partial(_lane, lasts=lasts, reference=reference, environment=environment)
        outs = [Path(folder) / f"out-{lane}" for lane in range(LANES)]
        found = list(pool.map(lane, outs, [len(range(lane, number, LANES)) for lane in range(LANES)], range(LANES)))
    survived, finished = sum(lane[0] for lane in found), sum(lane[1] for lane in found)
    done = [cells for lane in found for cells in lane[2]]
    cells = reference.sizes["parametrization"] * reference.sizes["optimizer"] * reference.sizes["width"]
    before, after = done.count(0), done.count(cells)
    lines = [
        f"Kills: {number} at random moments of the {lasts:.1f} s that `tests/sweep_case.py` takes after its imports, "
        f"programs kept in a cache: {before} before the first of {cells} cells was done, {number - before - after} "
        f"between cells, {after} after the last; {finished} sweeps finished. {time.perf_counter() - start:.0f} s.",
        "",
    ]
    what = "kills after which the resumed sweep is bit-identical to an undisturbed one"
    return lines, [goal(f"{what}: all of {number}", survived, f"{survived} of {number}", survived == number)]


def _lane(out: Path, number: int, seed: int, lasts: float, reference: Any, environment: dict[str, str]):
    """Kill `number` times; a sweep that finished is compared and begun anew.

    Returns kills survived, sweeps finished, and how many cells were done at each kill.
    """
    moments = random.Random(seed)
    survived, finished, done, here = 0, 0, [], 0
    while len(done) < number or here:
        process = _case(out, environment)
        process.stdout.readline()
        try:
            process.wait(moments.uniform(0, lasts) if len(done) < number else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            here += 1
            done.append(len(list((out / store.STORE / "done").glob("*-*.json"))))
            continue
        _, errors = process.communicate()
        same = process.returncode == 0 and _same_bits(out / store.STORE, reference)
        if not same:
            print(f"after {here} kills: {errors}", file=sys.stderr, flush=True)
        survived, here, finished = survived + here * same, 0, finished + 1
        shutil.rmtree(out, ignore_errors=True)
    return survived, finished, done


def _case(out: Path, environment: dict[str, str]) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, str(CASE), str(out)], env=environment, cwd=CASE.parent, **pipes)


def _undisturbed(out: Path, environment: dict[str, str]) -> float:
    """Run to the end; seconds after the imports."""
    process = _case(out, environment)
    process.stdout.readline()
    start = time.perf_counter()
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"Expected {CASE.name} to finish, got {errors}")
    return time.perf_counter() - start


def _same_bits(path: Path, reference) -> bool:
    try:
        found = store.read(path)
    except ValueError as error:
        print(error, file=sys.stderr, flush=True)
        return False
    return found.equals(reference) and all(
        found[name].values.tobytes() == reference[name].values.tobytes() for name in reference.data_vars
    )
