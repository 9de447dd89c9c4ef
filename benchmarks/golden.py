"""Did a change of structure change a number? Small runs of everything, recorded before and checked after.

    python benchmarks/golden.py record | check [--cases dense,sweep,...] [--quick]

`record` keeps arrays in results/golden (they hold for one machine and one JAX); `check` computes them again and prints,
for every case, 'identical' or the largest relative difference, and ends with code 1 where one is above 1e-6. --quick
leaves the papers out, which take some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", os.cpu_count())

import numpy as np
import optax
import xarray as xr

import mupjax
from mupjax.studies.catapults import catapult_study
from mupjax.studies.covariance import covariance_study
from mupjax.studies.training import training_study

FOLDER = Path(__file__).parents[1] / "results" / "golden"
SAME = 1e-6
NETWORK = {"depth": 3, "learning_rate": 0.5, "steps": 5}
Arrays = dict[str, np.ndarray]


def task(test_size: int | None = 4, **settings: Any) -> mupjax.Task:
    return mupjax.datasets.load("digits", train_size=16, test_size=test_size, **settings)


def of_tree(tree: Any) -> Arrays:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def of_dataset(data: xr.Dataset) -> Arrays:
    return {name: array.values for name, array in data.variables.items()}


def dynamics() -> Arrays:
    key, mup = {"key": jax.random.key(0)}, mupjax.mup()
    found, of = {}, mupjax.dynamics
    batches = mupjax.batch_order(jax.random.key(1), 16, 4, 5)
    for name, preset in (("mup", mup), ("ntp", mupjax.ntp()), ("hp", mupjax.hp()), ("nup", mupjax.nup())):
        found[f"dense {name}"] = of.dense.train(task(), preset, width=16, **NETWORK, **key)
    heavy_ball = {"batches": batches, "optimizer": partial(mupjax.sgd, momentum=0.5)}
    found["dense batches"] = of.dense.train(task(), mup, width=16, **heavy_ball, **NETWORK, **key)
    found["dense adam"] = of.dense.train(task(), mup, width=16, optimizer=mupjax.adam, **NETWORK, **key)
    found["dense linearized"] = of.dense.train(task(), mup, width=16, linearize=True, centred=True, **NETWORK, **key)
    found["matrix-free"] = of.matrix_free.train(task(), mup, width=3000, **NETWORK, **key)
    found["matrix-free wide"] = of.matrix_free.train(task(), mup, width=40_000, batches=batches, **NETWORK, **key)
    found["feature limit"] = of.feature_limit.train(task(), mup, num_particles=256, num_runs=4, **NETWORK, **key)
    found["kernel limit"] = of.kernel_limit.train(task(), mupjax.ntp(), **NETWORK)
    cross = task(test_size=None, loss="cross_entropy", classes=None)
    found["kernel limit draws"] = of.kernel_limit.train(cross, mupjax.sp(), num_draws=8, **NETWORK, **key)
    return of_tree(found)


def compare() -> Arrays:
    settings = {"widths": (16, (8, 24)), "depth": 2, "seeds": 2, "steps": 4, "particles": 256}
    some = of_dataset(mupjax.compare(task(), matrix_free_from=24, **settings))
    first_order = of_dataset(mupjax.compare(task(), linearize=True, parametrizations=("mup",), **settings))
    return some | {f"linearized {name}": array for name, array in first_order.items()}


def limit() -> Arrays:
    return of_dataset(mupjax.limit(task(), depth=2, steps=4, particles=256, widths=(64, 128)))


GRID = {"depths": (2,), "learning_rates": (0.5, 1.0), "seeds": 3, "steps": 4, "widths": (16, 32)}


def sweep() -> Arrays:
    return of_dataset(mupjax.sweep(task(), padding="always", observe=("sharpness", "cosines"), **GRID))


def sweep_alone() -> Arrays:
    momentum = partial(mupjax.sgd, momentum=0.5)
    return of_dataset(mupjax.sweep(task(), padding="never", optimizers={"sgd": momentum}, batch_size=4, **GRID))


def lion(scaling: Any, learning_rate: Any) -> optax.GradientTransformation:
    """An optimizer of one's own."""
    return optax.chain(
        optax.scale_by_lion(),
        mupjax.scale_by_parametrization(scaling, rule="adam"),
        optax.scale_by_learning_rate(learning_rate),
    )


def sweep_optimizers() -> Arrays:
    return of_dataset(mupjax.sweep(task(), optimizers=("adam", "adamw", lion), **(GRID | {"learning_rates": (0.01,)})))


def coord_check() -> Arrays:
    return of_dataset(mupjax.coord_check(task=task(), widths=(16, 32, 64), seeds=2))


def transfer() -> Arrays:
    return command(
        "transfer", "--widths", "16,32", "--seeds", "2", "--steps", "20", "--train-size", "16", "--batch-size", "8"
    )


def training() -> Arrays:
    settings = {"widths": (16,), "depth": 3, "learning_rate": 0.1, "steps": 4, "batch_size": 8, "observe_inputs": 8}
    observe = ("ranks", "contributions", "preactivations", "ntk")
    presets = ("mup", "ip_llr", "nup")
    return of_dataset(
        training_study(task(), parametrizations=presets, calibrated=("ip_llr",), observe=observe, **settings)
    )


def catapults() -> Arrays:
    return of_dataset(catapult_study(task(), activations=("tanh",), width=16, factors=(1.5, 3.0), seeds=2, steps=10))


def covariance() -> Arrays:
    return of_dataset(covariance_study(task(), widths=(32,), runs=4, depth=2, particles=64, limit_runs=2))


def command(*words: str) -> Arrays:
    """All stores and verdicts that a command leaves."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "mupjax.cli", *words, "--no-cache", "--out", folder]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode > 1:
            raise RuntimeError(done.stderr)
        found = {}
        for store in sorted(Path(folder).rglob("results.zarr")):
            name = str(store.parent.relative_to(folder))
            found |= {f"{name}/{key}": array for key, array in of_dataset(xr.open_zarr(store).load()).items()}
        for file in sorted(Path(folder).rglob("verdicts.json")):
            for number, verdict in enumerate(json.loads(file.read_text())):
                numbers = [value for value in verdict.values() if isinstance(value, float | int)]
                words = [value for value in verdict.values() if isinstance(value, str)]
                found[f"verdict {number}: {verdict['claim']}"] = np.array(numbers, float)
                found[f"verdict {number}: words"] = np.array(words)
        return found


def paper(name: str) -> Callable[[], Arrays]:
    return lambda: command("reproduce", name, "--quick", "--dataset", "digits")


CASES: dict[str, Callable[[], Arrays]] = {
    "dynamics": dynamics,
    "compare": compare,
    "limit": limit,
    "sweep": sweep,
    "sweep_alone": sweep_alone,
    "sweep_optimizers": sweep_optimizers,
    "coord_check": coord_check,
    "transfer": transfer,
    "training": training,
    "catapults": catapults,
    "covariance": covariance,
}
PAPERS = {name: paper(name) for name in ("rich-features", "integrable", "edge-of-chaos")}


def difference(before: np.ndarray, now: np.ndarray) -> float:
    """0 where all bits are the same, the largest relative difference of numbers, infinite where they cannot be held."""
    if before.dtype.kind in "OUSb" or before.shape != now.shape:
        return 0.0 if before.shape == now.shape and np.array_equal(before.astype(str), now.astype(str)) else np.inf
    if before.dtype == now.dtype and before.tobytes() == now.tobytes():
        return 0.0
    a, b = before.astype(float), now.astype(float)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return np.inf
    finite = np.isfinite(a)
    scale = np.max(np.abs(a[finite]), initial=0) or 1.0
    return float(max(np.max(np.abs(a - b)[finite], initial=0) / scale, np.finfo(float).tiny))


def check(name: str, now: Arrays) -> float:
    """Print how a case compares with what was recorded, and return the largest difference."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        before = dict(file)
    missing = sorted(set(before) - set(now))
    off = {key: difference(before[key], now[key]) for key in before if key in now}
    worst = max(off.values(), default=0.0)
    where = (
        "" if worst == 0 else f", at {max(off, key=lambda key: off[key])}; {sum(v > 0 for v in off.values())} differ"
    )
    print(f"{name}: {'identical' if worst == 0 else f'{worst:.1e}{where}'}, {len(before)} arrays", flush=True)
    if missing:
        print(f"  no longer there: {', '.join(missing[:10])}")
    return np.inf if missing else worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("record", "check"))
    parser.add_argument("--cases", help="which, comma-separated")
    parser.add_argument("--quick", action="store_true", help="without the papers")
    arguments = parser.parse_args()
    every = CASES if arguments.quick else CASES | PAPERS
    names = arguments.cases.split(",") if arguments.cases else list(every)
    worst = 0.0
    for name in names:
        found = {
            key: np.asarray(v, dtype=str) if v.dtype == object else v for key, v in (CASES | PAPERS)[name]().items()
        }
        if arguments.what == "record":
            FOLDER.mkdir(parents=True, exist_ok=True)
            np.savez(FOLDER / f"{name}.npz", **found)
            print(f"{name}: {len(found)} arrays recorded", flush=True)
        else:
            worst = max(worst, check(name, found))
    sys.exit(int(worst > SAME))


if __name__ == "__main__":
    main()
