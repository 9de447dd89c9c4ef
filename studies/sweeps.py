"""Learning-rate transfer and coordinate check on digits, judged: `make study-sweeps`.

Transfer: muP beside its control, a standard network with one rate for all widths, under SGD and Adam, two hidden
layers, all ten digits. Coordinate check: muP and its control under both. Resumable: the sweep keeps its cells in
results/study-sweeps, and verdicts are computed from its Dataset alone.
"""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import jax

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "study-sweeps"
TRANSFER = {
    "widths": (64, 128, 256, 512, 1024),
    "depths": (2,),
    "optimizers": ("sgd", "adam"),
    "learning_rates": {
        "sgd": tuple(2.0 ** (half / 2) for half in range(-7, 7)),
        "adam": tuple(2.0 ** (half / 2) for half in range(-21, -5)),
    },
    "seeds": 12,
    "steps": 20,
    "batch_size": 64,
    "base_width": 64,
}


def main() -> None:
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    import judged

    import mupjax
    from mupjax import plots, report
    from mupjax.results import versions
    from mupjax.statistics import rows
    from mupjax.studies import transfer
    from mupjax.studies.coordinates import judge

    digits = {"classes": None, "train_size": 1024, "test_size": None, "loss": "cross_entropy"}
    presets = (mupjax.sp(base_width=64, learning_rate_exponent=0.0), mupjax.mup(base_width=64))
    task = mupjax.datasets.load("digits", **digits)
    data = mupjax.sweep(task, parametrizations=presets, out=RESULTS, about=digits, progress=True, **TRANSFER)
    verdicts = transfer.judge(data)
    with_optima = data.merge(transfer.best_rates(data)).assign_attrs(kind="transfer")
    report.write(with_optima, RESULTS, plots.save_all(with_optima, RESULTS), verdicts)
    small = mupjax.datasets.load("digits", **(digits | {"train_size": 64}))
    for optimizer in ("sgd", "adam"):
        checked = judge(mupjax.coord_check(task=small, optimizer=optimizer, progress=True))
        verdicts += [verdict._replace(claim=f"{optimizer}: {verdict.claim}") for verdict in checked]
    for verdict in verdicts:
        judged.say(verdict)
    record = {
        "command": "make study-sweeps",
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "verdicts": rows(verdicts),
    }
    (HERE / "sweeps_verdicts.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
