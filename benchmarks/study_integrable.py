"""The experiments of Hajjar et al. 2021 (arXiv:2110.15596) with their settings, judged: `make study-integrable`.

MNIST and CIFAR-10 (in grey, all 50,000 training images) are taken from MUPJAX_DATA where both are there, digits
otherwise. Resumable: every part is kept in results/study-integrable, and verdicts are computed from these Datasets
alone. Parts may be named on the command line; the verdicts are then of all that is finished.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
from pathlib import Path

import jax

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "study-integrable"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="parts to run; all by default")
    names = parser.parse_args().parts or None
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    from mupjax.reproduce import integrable
    from mupjax.reproduce.parts import papers_or_digits
    from mupjax.results import versions

    data_dir = os.environ.get("MUPJAX_DATA")
    dataset, _ = papers_or_digits(integrable.DATASETS, data_dir)
    common = {"data_dir": data_dir, "out": RESULTS, "memory_gb": 20.0, "progress": True}
    found, verdicts = integrable.reproduce(dataset, names=names, **common)
    for verdict in verdicts:
        error = "" if verdict.stderr is None else f" +- {verdict.stderr:.2g}"
        print(f"goal: {verdict.claim}: {verdict.bound} | figure: {verdict.ours:.3g}{error} | {verdict.verdict}")
    seconds = {name: int(data.attrs["seconds"]) for name, data in found.items()}
    missing = [part.name for part in integrable.parts(dataset) if part.name not in found]
    print(f"cost: {sum(seconds.values())} s on {len(os.sched_getaffinity(0))} cores, {seconds}")
    if missing:
        print(f"not run yet: {', '.join(missing)}")
    record = {
        "command": "make study-integrable",
        "date": datetime.date.today().isoformat(),
        "dataset": dataset,
        "versions": versions(),
        "verdicts": [{**verdict._asdict(), "ours": _plain(verdict.ours)} for verdict in verdicts],
        "seconds": seconds,
        "not_run": missing,
    }
    (HERE / "study_integrable_verdicts.json").write_text(json.dumps(record, indent=1) + "\n")


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


if __name__ == "__main__":
    main()
