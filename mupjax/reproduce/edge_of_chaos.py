r"""MLPs at the edge of chaos (Terjek 2025, arXiv:2502.13110): depth, sharpness, catapults. Partly a RECONSTRUCTION.

The paper's abstract promises a parametrization whose preactivations evolve alike at every depth, explains feature
learning by the cosine of new and cumulative updates, and prolongs the catapult phase with a rate that follows the
geometry. The text was not at hand: `nup`, its constants and the schedule are reconstructions, and the settings here are
the library's own. So no published number stands beside a claim.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mupjax.activations import gain
from mupjax.parametrization import Parametrization, PerRole, mup, nup, sp
from mupjax.reproduce.edge_claims import judge
from mupjax.reproduce.parts import MAIN, Part, run_parts
from mupjax.verdicts import Verdict

GAIN = gain(0.5, 0.5)  # of a ReLU
FACTORS = (1.0, 1.5, 2.5, 3.0, 3.5, 4.5)
RATES = {"sp": 0.2, "mup": 0.1, "residual": 0.1, "nup": 0.03}


def presets(depth: int, growing: bool) -> tuple[Parametrization, ...]:
    """Return the parametrizations that are set beside each other, their base rates within: train them at rate 1.

    Args:
      depth: number of hidden layers; SP's rate falls as 1/L.
      growing: those whose widths grow with depth, nup with q = 1 and 2, or the others.

    Example:
      >>> [preset.name for preset in presets(4, growing=False)]
      ['sp', 'mup', 'residual', 'nup_q0']
    """

    def normalized(q: float) -> Parametrization:
        rates = PerRole(*(RATES["nup"] * rate for rate in (1.0, GAIN, GAIN, 1.0, 1.0)))
        return replace(nup(q=q, gain=GAIN, rates=rates), name=f"nup_q{q:g}")

    if growing:
        return normalized(1.0), normalized(2.0)
    rates = {name: PerRole(*(RATES[name],) * 5) for name in ("mup", "residual")}
    standard = sp(learning_rate_exponent=0.0, sigma=GAIN, rates=PerRole(*(RATES["sp"] / depth,) * 5))
    branches = replace(mup(sigma=GAIN, rates=rates["residual"], residual=0.5), name="residual")
    return standard, mup(sigma=GAIN, rates=rates["mup"]), branches, normalized(0.0)


def parts(quick: bool = False) -> list[Part]:
    """Return the study's parts: catapults, and depths with widths that do not grow, and that do.

    Example:
      >>> [part.name for part in parts(quick=True)][:3]
      ['main', 'equal-3', 'growing-3']
    """
    catapults: dict[str, Any] = {"activations": ("linear", "tanh", "relu"), "width": 512, "factors": FACTORS}
    catapults |= {"seeds": 3 if quick else 10, "steps": 80 if quick else 200, "record_every": 4}
    four = {"classes": (0, 1), "train_size": 4, "test_size": None}
    found = [Part(MAIN, "rates below, in and above the catapult window", four, catapults, kind="catapults")]
    images = {"classes": None, "train_size": 600 if quick else 1200, "test_size": 300, "loss": "cross_entropy"}
    for depth in (3, 6, 12) if quick else (4, 8, 16):
        for growing in (False, True):
            settings: dict[str, Any] = {"depth": depth, "activation": "relu", "learning_rate": 1.0, "batch_size": 60}
            settings |= {"widths": (16,) if growing else (64,), "seeds": 2 if quick else 4}
            settings |= {"parametrizations": presets(depth, growing), "steps": 30 if quick else 200}
            settings |= {"observe": ("preactivations",), "observe_inputs": 60}
            name = f"{'growing' if growing else 'equal'}-{depth}"
            title = f"{depth} hidden layers, widths that {'grow with depth' if growing else 'are equal'}"
            found.append(Part(name, title, images, settings, kind="training"))
    return found


def reproduce(
    dataset: str = "digits",
    *,
    quick: bool = False,
    names: Sequence[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    memory_gb: float = 8.0,
    progress: bool = False,
) -> tuple[dict[str, Any], list[Verdict]]:
    """Run the study, or read what `out` holds of it, and judge its claims.

    Args:
      dataset: whose images.
      quick: see `parts`.
      names: of the parts to run; by default all.
      data_dir, out, memory_gb, progress: as in `parts.run_part`. Finished parts are kept: the same call goes on.

    Returns:
      {part: Dataset}, those that `out` holds already among them, and the verdicts on their claims.

    Raises:
      ValueError: for an unknown part, and as `run_part`.
    """
    common: dict[str, Any] = {"data_dir": data_dir, "out": out, "memory_gb": memory_gb, "progress": progress}
    found = run_parts(parts(quick), dataset, names=names, **common)
    return found, judge(found)
