"""The claims on the infinite-width limit that are too slow for the tests: `make study-limits`.

Every claim is computed once and kept under results/study-limits, so that a stopped study resumes where it was. Verdicts
go to studies/limits_verdicts.json with command, date and versions. CIFAR-10 is taken from MUPJAX_DATA where it
is there, digits otherwise; the claim says which.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
from scipy import stats

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "study-limits"
EXAMPLE = {"depth": 3, "learning_rate": 1.0, "steps": 12, "activation": "tanh"}
Z_BOUND = 4.5
CASES = {
    "the worked example": {},
    **{f"depth {depth}": {"depth": depth} for depth in (1, 2, 4, 5)},
    **{name: {"activation": name} for name in ("silu", "erf", "relu")},
    "batches of 2": {"batch_size": 2},
    "10 outputs": {"outputs": 10},
    "cross-entropy, 10 classes": {"loss": "cross_entropy", "outputs": 10},
    "momentum 0.5": {"momentum": 0.5, "learning_rate": 0.5},
}


def worked_example(loss: str = "mse", outputs: int = 1):
    """The task of theory section 5.1, or the same inputs with other targets."""
    from mupjax.task import Task

    x = np.random.default_rng(1).standard_normal((4, 10))
    x *= np.sqrt(10) / np.linalg.norm(x, axis=1, keepdims=True)
    if loss == "cross_entropy":
        return Task(x, np.arange(4) % outputs, loss=loss, num_classes=outputs)
    y = np.array([1.0, -1.0, 0.5, -0.7])[:, None]
    return Task(x, y if outputs == 1 else np.random.default_rng(3).standard_normal((4, outputs)) / outputs**0.5)


def finite_networks(name: str) -> dict:
    """Largest |z| of 2 mean f_2n - mean f_n over 400 networks of widths 256 and 512 against the limit."""
    from mupjax.dynamics import dense, feature_limit
    from mupjax.dynamics.runs import map_runs
    from mupjax.optim import sgd
    from mupjax.parametrization import mup
    from mupjax.task import batch_order
    from mupjax.trajectory import TrajectorySpec

    settings = EXAMPLE | CASES[name]
    settings["optimizer"] = partial(sgd, momentum=settings.pop("momentum", 0.0))
    task = worked_example(settings.pop("loss", "mse"), settings.pop("outputs", 1))
    batch_size, key, seeds = settings.pop("batch_size", None), jax.random.key(0), 400
    batches = None if batch_size is None else batch_order(key, 4, batch_size, settings["steps"])
    limit = feature_limit.train(task, mup(), key=key, num_particles=8192, num_runs=8, batches=batches, **settings)
    total, variance = 0.0, limit.stderr.predictions**2
    for width, factor in ((512, 2.0), (256, -1.0)):

        def run(key, task, batches, width=width):
            spec = TrajectorySpec(grams=())
            return dense.train(task, mup(), width=width, key=key, batches=batches, spec=spec, **settings).predictions

        f = np.asarray(map_runs(run, jax.random.split(jax.random.key(width), seeds), task, batches), np.float64)
        total, variance = total + factor * f.mean(0), variance + factor**2 * f.var(0, ddof=1) / seeds
    z = float(np.max(np.abs(total - limit.predictions)[1:] / np.sqrt(variance)[1:]))
    claim = f"limit, {name}: finite networks extrapolate to it (largest |z| over steps, inputs, outputs)"
    return verdict(claim, z, None, seeds, f"< {Z_BOUND}", z < Z_BOUND)


def accuracy(activation: str) -> dict:
    """Root mean square error of networks of width 1,024, exact in law, over that of 1,024 particles."""
    from mupjax.dynamics import feature_limit, matrix_free
    from mupjax.dynamics.runs import map_runs
    from mupjax.parametrization import mup

    rate = 0.3 if activation == "abs_relu" else 1.0  # |h| at rate 1 leaves the edge of stability: no limit to compare
    settings = EXAMPLE | {"activation": activation, "learning_rate": rate}
    task, key = worked_example(), jax.random.key(1)
    reference = feature_limit.train(task, mup(), key=key, num_particles=16384, num_runs=8, **settings)
    ours = feature_limit.sample(task, mup(), key=jax.random.key(2), num_particles=1024, num_runs=64, **settings)

    def run(key, task):
        return matrix_free.train(task, mup(), width=1024, key=key, **settings).predictions

    theirs = map_runs(run, jax.random.split(key, 64), task)
    rms = [np.sqrt(np.mean((np.asarray(f) - reference.predictions) ** 2)) for f in (ours.predictions, theirs)]
    ratio = float(rms[1] / rms[0])
    claim = f"{activation}, rate {rate:g}: error of a network over the limit's at equal n (limit's x sqrt n: "
    claim += f"{rms[0] * 32:.3f})"
    return verdict(claim, ratio, None, 64, ">= 1.8", ratio >= 1.8)


def coverage() -> dict:
    """Share of 400 calls (16 runs of 1,024 particles) whose f_T of input 1 is within its t interval of the limit."""
    from mupjax.dynamics import feature_limit
    from mupjax.parametrization import mup

    task, calls = worked_example(), 400
    runs = feature_limit.sample(task, mup(), key=jax.random.key(3), num_particles=1024, num_runs=16 * calls, **EXAMPLE)
    f = np.asarray(runs.predictions, np.float64)[:, -1, 0, 0].reshape(calls, 16)
    stderr = f.std(1, ddof=1) / 4
    reference = feature_limit.train(task, mup(), key=jax.random.key(4), num_particles=16384, num_runs=96, **EXAMPLE)
    tenth = float(reference.stderr.predictions[-1, 0, 0] / stderr.mean())
    share = float(np.mean(np.abs(f.mean(1) - reference.predictions[-1, 0, 0]) / stderr <= stats.t.ppf(0.975, 15)))
    claim = f"share of 400 calls whose t interval holds the limit (reference's error / theirs: {tenth:.3f})"
    met = 0.92 <= share <= 0.98 and tenth <= 0.1
    return verdict(claim, share, (share * (1 - share) / calls) ** 0.5, calls, ".92-.98, reference <= .1", met)


def independence() -> dict:
    """Theorem 4.5: the joint smallest eigenvalue of features of 32 images after 50 steps, in standard errors."""
    from mupjax import datasets, results
    from mupjax.dynamics import feature_limit
    from mupjax.parametrization import mup

    name = image_dataset()
    task = datasets.load(name, classes=(0, 1), train_size=32, test_size=None)
    settings = EXAMPLE | {"steps": 50}
    runs = feature_limit.sample(task, mup(), key=jax.random.key(5), num_particles=4096, num_runs=6, **settings)
    mean, stderr = results.measure_limit(runs)
    worst = min(
        float(mean[f"space_time_lambda_min_{z}"][0, 1, layer] / stderr[f"space_time_lambda_min_{z}"][1, layer])
        for z in "hx"
        for layer in range(3)
    )
    value = float(mean["space_time_lambda_min_h"][0, 1, 2])
    claim = (
        f"mup, 32 images of {name}: joint smallest eigenvalue over its standard error, all layers (h^3: {value:.3g})"
    )
    return verdict(claim, worst, None, 6, "> 5", worst > 5)


def kernel_limit_is_degenerate() -> dict:
    """The kernel limit's joint smallest eigenvalue over its resolution."""
    from mupjax import datasets, metrics
    from mupjax.dynamics import kernel_limit
    from mupjax.parametrization import ntp

    name = image_dataset()
    task = datasets.load(name, classes=(0, 1), train_size=32, test_size=None)
    run = kernel_limit.train(task, ntp(), depth=3, learning_rate=0.3, steps=50, centred=True)
    joint = metrics.space_time(run.h_gram[1], run.h_cross_gram[1], run.h_gram[0])
    ratio = float(np.max(np.abs(joint.value) / joint.resolution))
    claim = f"ntp, 32 images of {name}: joint smallest eigenvalue over its resolution, all layers"
    return verdict(claim, ratio, None, 1, "<= 1", ratio <= 1)


def width_study() -> list[dict]:
    """Slopes of `mupjax limit --widths all` on the worked example, and agreement where both dynamics train."""
    from mupjax._files import write_whole
    from mupjax.plots import distance_from_limit, png
    from mupjax.report import format_width_study
    from mupjax.studies.limit import limit
    from mupjax.studies.limit.widths import WIDTHS

    widths = tuple(sorted({128, 512, *WIDTHS}))
    data = limit(
        worked_example(),
        widths=widths,
        steps=12,
        seeds=8192,
        particles=16384,
        limit_runs=64,
        memory_gb=16,
        progress=True,
    )
    write_whole(HERE / "width_study.png", png(distance_from_limit(data).figure))
    print(*("  ".join(row) for row in format_width_study(data)[1]), sep="\n", flush=True)
    rows = []
    for kind, wanted, within in (("run", -0.5, 0.05), ("mean", -1.0, 0.2)):
        slope, stderr = float(data[f"slope_{kind}"]), float(data[f"slope_{kind}_stderr"])
        claim = f"distance from the limit, {kind}: power of the width, 64 to 1,048,576"
        bound = f"{wanted} +- {within}, standard error at most half of that"
        row = verdict(claim, slope, stderr, 8192, bound, abs(slope - wanted) <= within, paper=wanted)
        rows.append(row if 2 * stderr <= within else row | {"verdict": "not shown"})
    errors = data["error_run"].values, data["error_run_stderr"].values
    names, widths = data["point_dynamics"].values, data["point_width"].values
    away = []
    for width in np.unique(widths[names == "matrix-free"]):
        (dense, free) = (
            [i for i in np.flatnonzero(widths == width) if names[i] == n] for n in ("dense", "matrix-free")
        )
        away += [(errors[0][i] - errors[0][j]) / np.hypot(errors[1][i], errors[1][j]) for i in dense for j in free]
    z = float(np.max(np.abs(away)))
    claim = "dense and matrix-free networks of equal width are equally far from the limit (largest |z|)"
    return [*rows, verdict(claim, z, None, 8192, f"< {Z_BOUND}", z < Z_BOUND)]


def image_dataset() -> str:
    data_dir = os.environ.get("MUPJAX_DATA")
    has_cifar = data_dir is not None and (Path(data_dir) / "cifar-10-batches-bin").is_dir()
    return "cifar10" if has_cifar else "digits"


def verdict(
    claim: str, ours: float, stderr: float | None, seeds: int, bound: str, met: bool, paper: float | None = None
) -> dict:
    word = "reproduced" if met else "contradicted" if np.isfinite(ours) else "not shown"
    return {
        "claim": claim,
        "paper": paper,
        "ours": ours,
        "stderr": stderr,
        "seeds": seeds,
        "bound": bound,
        "verdict": word,
    }


def kept(name: str, compute: Callable[[], dict | list[dict]]) -> list[dict]:
    """The rows of one claim, computed now or read back."""
    path = RESULTS / f"{name.replace(' ', '_').replace(',', '')}.json"
    if not path.exists():
        rows = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        dated = [
            row | {"date": datetime.date.today().isoformat()} for row in (rows if isinstance(rows, list) else [rows])
        ]
        scratch.write_text(json.dumps(dated))
        os.replace(scratch, path)
    rows = json.loads(path.read_text())
    for row in rows:
        print(f"goal: {row['claim']} {row['bound']} | figure: {row['ours']:.4g} | {row['verdict']}", flush=True)
    return rows


def main() -> None:
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    from mupjax.activations import ACTIVATIONS
    from mupjax.results import versions

    rows = [row for name in CASES for row in kept(f"finite {name}", lambda name=name: finite_networks(name))]
    rows += [row for name in ACTIVATIONS for row in kept(f"accuracy {name}", lambda name=name: accuracy(name))]
    for name, compute in (
        ("coverage", coverage),
        ("independence", independence),
        ("kernel limit", kernel_limit_is_degenerate),
        ("width study", width_study),
    ):
        rows += kept(name, compute)
    record = {
        "command": "make study-limits",
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "verdicts": rows,
    }
    (HERE / "limits_verdicts.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
