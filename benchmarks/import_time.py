"""What `import mupjax` costs beyond `import jax, flax, optax`, and which heavy modules it brings along."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from goals import at_most, machine, report, versions

BASE, WITH = "import jax, flax, optax", "import jax, flax, optax, mupjax"
HEAVY = ("xarray", "zarr", "sklearn", "matplotlib", "pooch", "typer", "neural_tangents")
REPEATS = 9


def output(program: str) -> str:
    """Return what a fresh Python process prints."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def seconds(statement: str) -> float:
    """Return how long a fresh process takes for an import, without the interpreter's own start."""
    return float(output(f"import time; start = time.perf_counter()\n{statement}\nprint(time.perf_counter() - start)"))


def brought_along() -> list[str]:
    """Return the heavy modules in sys.modules after the import that were not there before it."""
    program = (
        f"{BASE}\nimport json, sys\nbefore = set(sys.modules)\nimport mupjax\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in set(sys.modules) - before]))"
    )
    return json.loads(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    )


def main() -> None:
    start = time.perf_counter()
    pairs = [(seconds(BASE), seconds(WITH)) for _ in range(REPEATS + 1)][1:]  # the first one fills the file cache
    base, whole = (statistics.median(column) for column in zip(*pairs, strict=True))
    differences = [pair[1] - pair[0] for pair in pairs]
    beyond, heavy = statistics.median(differences), brought_along()
    lines = [
        f"`python benchmarks/import_time.py` on {machine()}; {versions('jax', 'flax', 'optax')}.",
        f"Medians of {REPEATS} pairs of fresh processes, {time.perf_counter() - start:.0f} s in all.",
        "",
        f"- `{BASE}`: {base:.2f} s; with mupjax: {whole:.2f} s; difference {beyond:.3f} s "
        f"(from {min(differences):.3f} to {max(differences):.3f})",
        f"- heavy modules imported with it: {', '.join(heavy) or 'none'}",
    ]
    goals = [
        at_most("seconds of `import mupjax` beyond jax, flax, optax", 0.3, beyond, ".3f"),
        at_most("heavy modules imported with mupjax", 0, len(heavy), ".0f"),
    ]
    report("import_time.py", lines, goals)


if __name__ == "__main__":
    main()
