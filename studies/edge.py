"""The edge of chaos (Terjek 2025, arXiv:2502.13110; partly a reconstruction) in full, judged: `make study-edge`.

Digits. Resumable: every part is kept in results/study-edge, and verdicts are computed from these Datasets alone. Parts
may be named on the command line; the verdicts are then of all that is finished.
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

    from mupjax.reproduce import edge_of_chaos

    common = {"out": judged.folder("edge"), "memory_gb": 20.0, "progress": True}
    found, verdicts = edge_of_chaos.reproduce("digits", names=names, **common)
    judged.record("edge", "digits", found, verdicts, edge_of_chaos.parts())


if __name__ == "__main__":
    main()
