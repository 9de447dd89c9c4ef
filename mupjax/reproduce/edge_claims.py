"""The claims of `edge_of_chaos`, each judged from the stored Datasets of its parts.

Bounds were set before the study ran. The window is asserted of linear and tanh networks, whose loss is what theory
speaks of; a ReLU's is wider and depends on the data: it is drawn, not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mupjax.catapults import detect_catapults
from mupjax.reproduce.edge_reading import by_depth, by_width, deep_changes, first_changes
from mupjax.reproduce.parts import MAIN
from mupjax.verdicts import Verdict, fit_slope, settle

WINDOW, BELOW = (2.5, 3.0, 3.5), (1.0, 1.5)
JUDGED = ("linear", "tanh")
FOLLOWED = 3.0
LEARNS = 0.5  # of the loss at the start
POWERS = {"sp": 0.5, "mup": 0.0, "residual": 0.0, "nup_q0": 0.0, "nup_q1": 0.0, "nup_q2": 0.0}  # of the width
NEAR = 0.15  # to a power of the width


def judge(found: Mapping[str, Any]) -> list[Verdict]:
    """Return the verdicts on the claims of these parts, from their Datasets alone."""
    verdicts: list[Verdict] = []
    if MAIN in found:
        for activation in JUDGED:
            verdicts += _window(found[MAIN], activation)
        verdicts += _schedule(found[MAIN])
    if "sharpening" in found:
        verdicts += _sharpening(found["sharpening"])
    if "kernels" in found:
        verdicts += _kernels(found["kernels"])
    return verdicts + _steps(found) + _deep(found) + _trained(found)


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


def _sharpening(data: Any) -> list[Verdict]:
    """Cohen et al. 2021 (arXiv:2103.00065): under full-batch descent it rises to 2 / rate and stays about it."""
    run = data.isel(activation=0, schedule=0).transpose("factor", "seed", "observe_step", "step")
    edge = (run["rate"] * run["sharpness"]).values.astype(float)
    late = np.median(edge[..., edge.shape[-1] // 2 :], axis=-1)
    fell = run["train_loss"].values[..., -1] < 0.1 * run["train_loss"].values[..., 0]
    share = float(np.mean((edge[..., 0] < 1) & (abs(late - 2) < 0.2) & fell))
    claim = "tanh, rates that start below 1 over the sharpness: share of runs whose rate times sharpness ends about 2"
    word = settle(share == 1, share < 0.5)
    return [Verdict(claim, None, share, None, late.size, "1, in 1.8 to 2.2 on the median", word)]


def _kernels(data: Any) -> list[Verdict]:
    verdicts = []
    for name in ("ntp", "mup"):
        change = data["ntk_change"].sel(parametrization=name).isel(step=-1).transpose("width", "seed").values
        power = fit_slope(data["width"].values, change.astype(float))
        low, high = power.slope - power.half_width, power.slope + power.half_width
        claim = f"{name}: relative change of the tangent kernel in training: power of the width"
        if name == "ntp":
            bound, word = "<= -0.5 with its 95 % interval", settle(high <= -0.5, low > -0.5)
        else:
            bound, word = _near(power, 0.0)
        verdicts.append(Verdict(claim, None, power.slope, power.stderr, change.shape[1], bound, word))
    return verdicts


def _near(power: Any, wanted: float) -> tuple[str, Any]:
    off = abs(power.slope - wanted)
    word = settle(off + power.half_width < NEAR, off - power.half_width > NEAR)
    return f"{wanted:g} +- {NEAR:g} with its 95 % interval", word


def _steps(found: Mapping[str, Any]) -> list[Verdict]:
    """A small first step: what it does to the last hidden layer, over depth and over width."""
    verdicts = []
    rows = by_depth(found, "step")
    for preset in ("nup_q0", "nup_q2"):
        of = rows.get(preset, {})
        if len(of) < 3:
            continue
        changes = first_changes(of)
        power = fit_slope(np.array(list(of), float), changes)
        low, high = power.slope - power.half_width, power.slope + power.half_width
        claim = f"{preset}: relative change of the last layer in one small step: power of the depth"
        if preset == "nup_q2":
            bound, word = "< 0.7 with its 95 % interval", settle(high < 0.7, low > 0.7)
        else:
            bound, word = "> 0.7 with its 95 % interval", settle(low > 0.7, high < 0.7)
        verdicts.append(Verdict(claim, None, power.slope, power.stderr, changes.shape[1], bound, word))
    for preset, of in by_width(found).items():
        changes = first_changes(of)
        power = fit_slope(np.array(list(of), float), changes)
        claim = f"{preset}: relative change of the last layer in one small step: power of the width"
        bound, word = _near(power, POWERS[preset])
        verdicts.append(Verdict(claim, None, power.slope, power.stderr, changes.shape[1], bound, word))
    return verdicts


def _deep(found: Mapping[str, Any]) -> list[Verdict]:
    depths, changes = deep_changes(found)
    if len(depths) < 3:
        return []
    before, last = changes[-2] - changes[-3], changes[-1] - changes[-2]  # depths share keys: seed by seed
    ratio = float(last.mean() / before.mean())
    error = float(np.std(last - ratio * before, ddof=1) / abs(before.mean()) / len(last) ** 0.5)
    what = ", ".join(f"{depth:g}" for depth in depths[-3:])
    claim = f"nup_q2, depths {what}: what the last doubling adds to the last layer's change, over what the one before"
    word = settle(ratio + 2 * error < 1.5, ratio - 2 * error > 1.5)
    bound = "< 1.5 by 2 standard errors; 1 for a logarithm, 2 for a line"
    return [Verdict(claim, None, float(ratio), error, changes.shape[1], bound, word)]


def _trained(found: Mapping[str, Any]) -> list[Verdict]:
    verdicts = []
    rows = by_depth(found, "train")
    deepest = {max(of): of[max(of)] for name, of in rows.items() if name == "nup_q2"}
    if "narrow-24" in found:
        deepest[24] = found["narrow-24"].isel(parametrization=0, width=0)
    for depth, data in deepest.items():
        ratio = data["train_loss"].values.astype(float) / np.log(int(data.attrs["num_classes"]))
        ratio = np.where(np.isfinite(ratio), ratio, np.inf)
        claim = f"nup_q2, {depth} hidden layers, trains: its loss over that of equal outputs"
        word = settle(bool(np.all(ratio < LEARNS)), bool(np.all(ratio > 0.95)))
        bound = f"< {LEARNS:g}, every seed"
        verdicts.append(Verdict(claim, None, float(ratio.max()), None, ratio.size, bound, word))
    if {"nup_q2", "mup"} <= set(rows) and max(rows["mup"]) == max(rows["nup_q2"]):
        depth = max(rows["mup"])
        ours, other = (rows[name][depth]["test_error"].values.astype(float) for name in ("nup_q2", "mup"))
        difference = ours - np.where(np.isfinite(other), other, 1.0)
        claim = f"{depth} hidden layers: test error of nup_q2 less that of mup"
        word = settle(bool(np.all(difference < 0)), bool(np.all(difference > 0)))
        mean = float(np.mean(difference))
        verdicts.append(Verdict(claim, None, mean, None, difference.size, "< 0, every seed", word))
    return verdicts
