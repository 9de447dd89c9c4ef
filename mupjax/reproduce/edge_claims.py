"""The claims of `edge_of_chaos`, each judged from the stored Datasets of its parts.

Bounds were set before the study ran. The window is asserted of linear and tanh networks, whose loss is what theory
speaks of; a ReLU's is wider and depends on the data: it is drawn, not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mupjax.catapults import detect_catapults
from mupjax.reproduce.parts import MAIN
from mupjax.verdicts import Verdict, fit_slope, settle

WINDOW, BELOW = (2.5, 3.0, 3.5), (1.0, 1.5)
JUDGED = ("linear", "tanh")
FOLLOWED = 3.0
LEARNS = 0.5  # of the loss at the start


def judge(found: Mapping[str, Any]) -> list[Verdict]:
    """Return the verdicts on the claims of these parts, from their Datasets alone."""
    verdicts: list[Verdict] = []
    if MAIN in found:
        for activation in JUDGED:
            verdicts += _window(found[MAIN], activation)
        verdicts += _schedule(found[MAIN])
    return verdicts + _depths(found)


def by_depth(found: Mapping[str, Any]) -> dict[str, dict[int, Any]]:
    """Return {parametrization: {depth: its Dataset}} of the parts over depths, depths ascending."""
    rows: dict[str, dict[int, Any]] = {}
    for name, data in found.items():
        kind, _, depth = name.partition("-")
        if kind in ("equal", "growing"):
            for preset in map(str, data["parametrization"].values):
                rows.setdefault(preset, {})[int(depth)] = data.sel(parametrization=preset).isel(width=0)
    return {preset: dict(sorted(of.items())) for preset, of in rows.items()}


def first_changes(of: Mapping[int, Any]) -> np.ndarray:
    """Return [depths, seeds], how much the first step moved the last hidden layer, relative."""
    rows = [data["preactivation_change"].sel(step=1).isel(layer=-1).values for data in of.values()]
    return np.stack(rows).astype(float)


def _window(data: Any, activation: str) -> list[Verdict]:
    run = data.sel(activation=activation, schedule="constant").transpose("factor", "seed", ...)
    verdicts = []
    for factors, words, wanted in ((WINDOW, "in the window", 1.0), (BELOW, "below it", 0.0)):
        one = run.sel(factor=list(factors))
        last = one.isel(observe_step=-1)
        caught = detect_catapults(one["train_loss"], last["sharpness"], last["rate"])
        share, seeds = float(caught.happened.mean()), caught.happened.size
        what = ", ".join(f"{factor:g}" for factor in factors)
        claim = f"{activation}: rate times initial sharpness {words}, {what}: share of runs that are catapulted"
        word = settle(share == wanted, abs(share - wanted) > 0.5)
        verdicts.append(Verdict(claim, None, share, None, seeds, f"{wanted:g}", word))
    return verdicts


def _schedule(data: Any) -> list[Verdict]:
    """Of the updates of the second half, how many are taken beyond the edge of stability."""
    verdicts = []
    for schedule, wanted in (("following", 1.0), ("constant", 0.0)):
        run = data.sel(activation="tanh", schedule=schedule, factor=FOLLOWED).transpose("seed", ...)
        edge = (run["rate"] * run["sharpness"]).values.astype(float)
        late = edge[:, edge.shape[1] // 2 :]
        share = float(np.mean(late > 2))
        claim = f"tanh, c = {FOLLOWED:g}, {schedule} rates: late steps at which rate times sharpness is beyond 2: share"
        word = settle(abs(share - wanted) <= 0.1, abs(share - wanted) > 0.5)
        bound = ">= 0.9" if wanted else "<= 0.1"
        verdicts.append(Verdict(claim, None, share, None, len(edge), bound, word))
    return verdicts


def _depths(found: Mapping[str, Any]) -> list[Verdict]:
    verdicts = []
    rows = by_depth(found)
    for preset in ("nup_q0", "nup_q2"):
        of = rows.get(preset, {})
        if len(of) < 3:
            continue
        changes = first_changes(of)
        power = fit_slope(np.array(list(of), float), changes)
        low, high = power.slope - power.half_width, power.slope + power.half_width
        claim = f"{preset}: relative change of the last layer in one step: power of the depth"
        if preset == "nup_q2":
            bound, word = "< 0.7 with its 95 % interval", settle(high < 0.7, low > 0.7)
        else:
            bound, word = "> 0.7 with its 95 % interval", settle(low > 0.7, high < 0.7)
        verdicts.append(Verdict(claim, None, power.slope, power.stderr, changes.shape[1], bound, word))
    if of := rows.get("nup_q2"):
        deepest = of[max(of)]
        ratio = deepest["train_loss"].values.astype(float) / np.log(int(deepest.attrs["num_classes"]))
        claim = f"nup_q2: the deepest network, {max(of)} hidden layers, trains: its loss over that of equal outputs"
        word = settle(bool(np.all(ratio < LEARNS)), bool(np.all(ratio > 0.95)))
        bound = f"< {LEARNS:g}, every seed"
        verdicts.append(Verdict(claim, None, float(ratio.max()), None, ratio.size, bound, word))
    return verdicts
