"""Wall-clock seconds of calls, whole commands and notebooks."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import goals
import jax

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
KERNEL = """
import sys, nbformat
from nbclient import NotebookClient
NotebookClient(nbformat.read(sys.argv[1], 4), timeout=600).execute()
"""


def command(arguments: list[str], folder: Path, **environment: str) -> float:
    """Seconds that a command takes in a folder; CalledProcessError where it fails."""
    start = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(arguments, cwd=folder, env=os.environ | environment, check=True, **quiet)
    return time.perf_counter() - start


def notebook(path: Path, folder: Path, smoke: bool) -> float:
    data = folder / "jupyter"
    command([sys.executable, "-m", "ipykernel", "install", "--prefix", str(data), "--name", "python3"], folder)
    environment = {"JUPYTER_PATH": str(data / "share" / "jupyter"), "MUPJAX_SMOKE": "1" if smoke else "0"}
    return command([sys.executable, "-c", KERNEL, str(path)], folder, **environment)


def whole(paper: str, word: str, folder: Path) -> list[str]:
    """Return the goals of a paper's quick study on digits and of the notebook that has a word in its name."""
    study = [sys.executable, "-m", "mupjax.cli", "reproduce", paper, "--quick", "--no-cache", "--dataset", "digits"]
    took = command([*study, "--out", str(folder / "study")], folder)
    met = [goals.at_most("quick study on digits: s", 180, took, ".0f")]
    path = next(path for path in NOTEBOOKS if word in path.stem)
    for smoke, bound in ((True, 30), (False, 120)):
        what = f"notebook {path.stem}{', small settings' if smoke else ''}: s"
        met.append(goals.at_most(what, bound, notebook(path, folder, smoke), ".0f"))
    return met


def seconds(call: Callable[[], Any], repeats: int = 5) -> float:
    """Median over repeats, the first call left out: it compiles."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
