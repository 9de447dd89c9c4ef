"""The experiments of Hajjar et al. 2021 (arXiv:2110.15596) with their settings, judged: `make study-integrable`.

MNIST and CIFAR-10 (in grey, all 50,000 training images) are taken from MUPJAX_DATA where both are there, digits
otherwise. Resumable: every part is kept in results/study-integrable, and verdicts are computed from these Datasets
alone. Parts may be named on the command line; the verdicts are then of all that is finished.
"""

from __future__ import annotations

import argparse
import os

import jax


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="parts to run; all by default")
    names = parser.parse_args().parts or None
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    import judged

    from mupjax.reproduce import integrable
    from mupjax.reproduce.parts import papers_or_digits

    data_dir = os.environ.get("MUPJAX_DATA")
    dataset, _ = papers_or_digits(integrable.PAPER.datasets, data_dir)
    common = {"data_dir": data_dir, "out": judged.folder("integrable"), "memory_gb": 20.0, "progress": True}
    found, verdicts = integrable.reproduce(dataset, names=names, **common)
    judged.record("integrable", dataset, found, verdicts, integrable.parts(dataset))


if __name__ == "__main__":
    main()
