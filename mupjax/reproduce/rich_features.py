r"""Rich features and global convergence in muP (Chen, Yang, Zhao & Gu 2025, arXiv:2503.09565): settings and claims.

The paper's experiment (Sec. 5): a multilayer perceptron with three hidden layers on CIFAR-10 under SP, NTP, IP and muP;
feature change, feature diversity and space-time non-degeneracy against width. Here on 32 images of two classes, each
with the infinite-width value beside it, and beyond the paper other depths, ReLU, minibatches, inputs that break
Assumption 4.1, test errors and first-order models. The paper shows its results as figures; where it prints no number,
`Verdict.paper` holds what its theory says (a power of the width) or None.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mupjax.reproduce.hypotheses import hypotheses
from mupjax.reproduce.parts import MAIN, WIDE, Part, run_parts, task_of
from mupjax.reproduce.rich_claims import judge
from mupjax.statistics import Verdict

WIDE_STEP = 6  # what width 10^6 can be trained for: every step asks every hidden matrix in 32 new directions
_DATA = {"classes": (0, 1), "train_size": 32, "test_size": None}
_FULL = {"seeds": 5, "steps": 300, "centred": False, "particles": 4096, "limit_runs": 16, "max_directions": 512}
_QUICK = {"seeds": 5, "steps": 80, "centred": False, "particles": 512, "limit_runs": 4, "max_directions": 256}


def parts(quick: bool = False) -> list[Part]:
    """Return the study's parts.

    Args:
      quick: fewer widths, seeds, steps and depths, too few for some claims, which then are 'not shown'.

    Example:
      >>> [part.name for part in parts()][:4]
      ['main', 'wide', 'relu', 'minibatch']
    """
    base: dict[str, Any] = _QUICK if quick else _FULL
    few = base if quick else base | {"particles": 2048, "limit_runs": 4}
    widths = (128, 512) if quick else (256, 1024)
    one = few | {"parametrizations": ("mup",), "widths": widths}
    steps = {"gram_steps": (0, WIDE_STEP, -1)}
    every = (128, 256, 512) if quick else (64, 128, 256, 512, 1024, 2048, 4096)
    wide = base | {"steps": WIDE_STEP, "matrix_free_from": 1}
    wide |= {"widths": (32768,), "seeds": 3} if quick else {"widths": (16384, 65536, 1048576)}
    depths = (1, 5) if quick else tuple(range(1, 9))
    deep = one | {"learning_rate": 0.5}  # at rate 1 training is unstable, and depends on the width, from 6 layers on
    eight = _DATA | {"train_size": 4 if quick else 8}
    covariance = {"widths": (64, 256) if quick else (64, 256, 1024, 4096), "runs": 50 if quick else 400}
    covariance |= {"particles": 1024, "limit_runs": 8} if quick else {"particles": 4096, "limit_runs": 16}
    sizes = _DATA | ({"train_size": 64, "test_size": 100} if quick else {"train_size": 128, "test_size": 180})
    test = few | {"widths": widths[-1:], "steps": 60 if quick else 100}
    return [
        Part(MAIN, "the paper's experiment", _DATA, base | steps | {"widths": every}),
        Part(WIDE, "networks without hidden matrices", _DATA, wide),
        Part("relu", "ReLU in place of tanh", _DATA, one | {"activation": "relu", "learning_rate": 0.3}),
        Part("minibatch", "batches of 8", _DATA, one | {"batch_size": 8}),
        *(Part(f"depth-{depth}", f"{depth} hidden layers", _DATA, deep | {"depth": depth}) for depth in depths),
        Part("duplicated", "an input twice", _DATA, one, "duplicated"),
        Part("opposite", "an input and its negative", _DATA, one, "opposite"),
        Part("correlated", "an input and a near copy", _DATA, one, "correlated"),
        Part("covariance", "covariance preservation", eight, covariance, kind="covariance"),
        Part("test", "test errors", sizes, test),
        Part("linearized", "test errors of first-order models", sizes, test | {"linearize": True}),
    ]


def reproduce(
    dataset: str,
    *,
    quick: bool = False,
    names: Sequence[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    memory_gb: float | None = None,
    progress: bool = False,
) -> tuple[dict[str, Any], list[Verdict]]:
    """Run the study, or read what `out` holds of it, and judge its claims.

    Args:
      dataset: 'cifar10', as in the paper, or another one.
      quick: see `parts`.
      names: of the parts to run; by default all.
      data_dir, out, memory_gb, progress: as in `parts.run_part`. Finished parts are kept: the same call goes on.

    Returns:
      {part: Dataset}, those that `out` holds already among them, and the verdicts on their claims, the hypotheses'
      first.

    Raises:
      ValueError: for an unknown part, and as `run_part`.
    """
    every, assumed = parts(quick), []
    common: dict[str, Any] = {"data_dir": data_dir, "out": out, "memory_gb": memory_gb, "progress": progress}
    found = run_parts(every, dataset, names=names, **common)
    for part in every:
        if part.name in found and (part.name in (MAIN, "relu") or part.change != "none"):
            assumed += hypotheses(part, task_of(part, dataset, data_dir))
    return found, [*assumed, *judge(found)]
