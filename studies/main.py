"""The table of theory section 3 over widths 128 to 2048: which parametrizations keep features moving and diverse.

`make study-main` runs it: every finished cell is kept under results/study-main, so that a stopped study resumes where
it was. CIFAR-10 is taken from MUPJAX_DATA where it is there, digits otherwise (the verdicts say which). They go to
studies/main_verdicts.json with command, date and versions.
"""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import jax
import numpy as np

WIDTHS = (128, 256, 512, 1024, 2048)
SEEDS, STEPS, INPUTS = 5, 300, 32
HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "study-main"


def comparison(dataset: str):
    """All widths, computed now or read back."""
    from mupjax import datasets
    from mupjax.studies.comparison import compare

    task = datasets.load(dataset, classes=(0, 1), train_size=INPUTS, test_size=None)
    settings = {"widths": WIDTHS, "seeds": SEEDS, "steps": STEPS, "centred": False, "limit": False}
    data = compare(task, **settings, out=RESULTS / dataset, about={"dataset": dataset}, progress=True)
    return data.sel(width=list(map(float, WIDTHS)))


def slope(widths: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Fitted power of the width over seeds [width, seed], and its standard error over seeds."""
    slopes = [np.polyfit(np.log(widths), np.log(values[:, seed]), 1)[0] for seed in range(values.shape[1])]
    return float(np.mean(slopes)), float(np.std(slopes, ddof=1) / np.sqrt(len(slopes)))


def verdicts(data) -> list[dict]:
    """Judge each claim from the Dataset alone."""
    last = data.isel(gram_step=-1, layer=-1).transpose("parametrization", "width", "seed", ...)
    change = last.feature_change_h
    joint = np.maximum(last.space_time_lambda_min_h, last.space_time_lambda_min_h_resolution)
    rows = []
    for name in ("sp", "ntp"):
        ours, stderr = slope(data.width.values, change.sel(parametrization=name).values)
        rows.append(
            verdict(
                f"{name}: feature change falls as width^-1/2", -0.5, ours, stderr, "-.5 +- .1", abs(ours + 0.5) <= 0.1
            )
        )
    mup = change.sel(parametrization="mup").mean("seed")
    spread = float(mup.max() / mup.min() - 1)
    rows.append(
        verdict(
            "mup: feature change stays (largest over smallest width mean, less 1)",
            0.0,
            spread,
            None,
            "<= .15",
            spread <= 0.15,
        )
    )
    for name in ("sp", "ntp"):
        ratio = joint.sel(parametrization="mup", width=2048.0) / joint.sel(parametrization=name, width=2048.0)
        ours = float(ratio.mean())
        stderr = float(ratio.std(ddof=1)) / SEEDS**0.5
        rows.append(
            verdict(
                f"mup's joint smallest eigenvalue over {name}'s at width 2048",
                None,
                ours,
                stderr,
                ">= 100",
                ours >= 100,
            )
        )
    diversity = float(last.diversity_h.sel(parametrization="ip").mean("seed").max())
    rows.append(verdict("ip: largest diversity over widths", None, diversity, None, "< 1e-5", diversity < 1e-5))
    return rows


def verdict(claim: str, paper: float | None, ours: float, stderr: float | None, bound: str, met: bool) -> dict:
    return {
        "claim": claim,
        "paper": paper,
        "ours": ours,
        "stderr": stderr,
        "seeds": SEEDS,
        "bound": bound,
        "verdict": "reproduced" if met else "contradicted",
    }


def main() -> None:
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    from mupjax.results import versions

    data_dir = os.environ.get("MUPJAX_DATA")
    has_cifar = data_dir is not None and (Path(data_dir) / "cifar-10-batches-bin").is_dir()
    dataset = "cifar10" if has_cifar else "digits"
    data = comparison(dataset)
    rows = verdicts(data)
    last = data.isel(gram_step=-1, layer=-1).mean("seed")
    print(f"{dataset}: 32 images, {SEEDS} seeds, {STEPS} steps, layer-3 preactivations, means over seeds")
    for name in data.parametrization.values:
        for variable in ("feature_change_h", "diversity_h", "space_time_lambda_min_h"):
            values = " / ".join(f"{value:.3g}" for value in last[variable].sel(parametrization=name).values)
            print(f"  {name:4s} {variable:26s} {values}")
    for row in rows:
        print(f"goal: {row['claim']} {row['bound']} | figure: {row['ours']:.4g} | {row['verdict']}")
    record = {
        "command": "make study-main",
        "date": datetime.date.today().isoformat(),
        "dataset": dataset,
        "widths": WIDTHS,
        "versions": versions(),
        "verdicts": rows,
    }
    (HERE / "main_verdicts.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
