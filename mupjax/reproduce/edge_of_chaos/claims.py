"""The claims of `edge_of_chaos`, each judged from the stored Datasets of its parts.

Bounds were set before the study ran. The window is asserted of linear and tanh networks, whose loss is what theory
speaks of; a ReLU's is wider and depends on the data: it is drawn, not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mupjax.reproduce.edge_of_chaos.reading import by_depth, by_width, deep_changes, first_changes
from mupjax.reproduce.parts import MAIN
from mupjax.statistics import Slope, Verdict, fit_slope, settle
from mupjax.statistics.catapults import detect_catapults

if TYPE_CHECKING:
    import xarray as xr

WINDOW, BELOW = (2.5, 3.0, 3.5), (1.0, 1.5)
JUDGED = ("linear", "tanh")
FOLLOWED = 3.0
LEARNS = 0.5  # of the loss at the start
POWERS = {"sp": 0.5, "mup": 0.0, "residual": 0.0, "nup_q0": 0.0, "nup_q1": 0.0, "nup_q2": 0.0}  # of the width
NEAR = 0.15  # to a power of the width
LAWS = {"nup_q0": "line", "nup_q2": "logarithm"}  # of the depth


def judge(found: Mapping[str, xr.Dataset]) -> list[Verdict]:
    """Return the verdicts on the claims of these parts, from their Datasets alone."""
    verdicts: list[Verdict] = []
    if MAIN in found:
        for activation in JUDGED:
            verdicts += _window(found[MAIN], activation)
        verdicts += _schedule(found[MAIN]) + _cosines(found[MAIN])
    if "sharpening" in found:
        verdicts += _sharpening(found["sharpening"])
    if "kernels" in found:
        verdicts += _kernels(found["kernels"])
    return verdicts + _steps(found) + _deep(found) + _trained(found)


def _window(data: xr.Dataset, activation: str) -> list[Verdict]:
    run = data.sel(activation=activation, schedule="constant").transpose("factor", "seed", ...)
    verdicts = []
    for factors, words in ((WINDOW, "in the window"), (BELOW, "below it")):
        one = run.sel(factor=list(factors))
        last = one.isel(observe_step=-1)
        found = detect_catapults(one["train_loss"], last["sharpness"], last["rate"])
        as_theory = found.happened if factors is WINDOW else ~found.diverged & (found.growth <= 1) & (found.edge < 2)
        share, what = float(as_theory.mean()), ", ".join(f"{factor:g}" for factor in factors)
        happens = "are catapulted" if factors is WINDOW else "stay below the edge, their loss never above its start"
        claim = f"{activation}: rate times initial sharpness {words}, {what}: share of runs that {happens}"
        verdicts.append(Verdict(claim, None, share, None, as_theory.size, "1", settle(share == 1, share < 0.5)))
    return verdicts


def _schedule(data: xr.Dataset) -> list[Verdict]:
    """Whether the loss still rises again and again in the last quarter of the steps, and no run diverges."""
    verdicts = []
    for schedule, wanted in (("following", 1.0), ("constant", 0.0)):
        run = data.sel(activation="tanh", schedule=schedule, factor=FOLLOWED).transpose("seed", ...)
        loss = run["train_loss"].values.astype(float)
        late = loss[:, -(loss.shape[1] // 4) :]
        rises = np.sum(late[:, 1:] > 1.05 * late[:, :-1], axis=1) >= 2
        share, finite = float(np.mean(rises)), bool(np.isfinite(loss).all())
        claim = f"tanh, c = {FOLLOWED:g}, {_RATES[schedule]}: share of runs whose loss rises again in the last quarter"
        word = settle(finite and share == wanted, not finite or abs(share - wanted) > 0.5)
        verdicts.append(Verdict(claim, None, share, None, len(loss), f"{wanted:g}, none diverged", word))
    return verdicts


_RATES = {"following": "rates that follow the sharpness (a reconstruction)", "constant": "constant rates"}


def _cosines(data: xr.Dataset) -> list[Verdict]:
    """Terjek 2025: updates go on in their direction (ballistic), or turn back where training is super-critical."""
    verdicts = []
    for factor, schedule, sign in ((BELOW[0], "constant", 1), (FOLLOWED, "following", -1)):
        run = data.sel(activation="tanh", schedule=schedule, factor=factor).transpose("seed", ...)
        cosines = run["cosine"].values.astype(float)[:, 1:]
        half = cosines[:, : cosines.shape[1] // 2] if sign > 0 else cosines[:, cosines.shape[1] // 2 :]
        medians = np.median(half, axis=1)
        when = "early" if sign > 0 else "late"
        claim = f"tanh, c = {factor:g}, {_RATES[schedule]}: median {when} cosine of the update with all earlier ones"
        word = settle(bool(np.all(sign * medians > 0)), bool(np.all(sign * medians < 0)))
        bound = f"{'>' if sign > 0 else '<'} 0, every seed"
        verdicts.append(Verdict(claim, None, float(np.mean(medians)), None, len(medians), bound, word))
    return verdicts


def _sharpening(data: xr.Dataset) -> list[Verdict]:
    """Cohen et al. 2021 (arXiv:2103.00065): under full-batch descent it rises to 2 / rate and stays about it."""
    run = data.isel(activation=0, schedule=0).transpose("factor", "seed", "observe_step", "step")
    edge = (run["rate"] * run["sharpness"]).values.astype(float)
    low, late, high = np.quantile(edge[..., edge.shape[-1] // 2 :], (0.1, 0.5, 0.9), axis=-1)
    fell = run["train_loss"].values[..., -1] < 0.1 * run["train_loss"].values[..., 0]
    hovers = (edge[..., 0] < 1) & (abs(late - 2) < 0.2) & (low > 1.5) & (high < 2.5) & fell
    share = float(np.mean(hovers))
    claim = "tanh, rates that start below 1 over the sharpness: share of runs whose rate times sharpness hovers about 2"
    bound = "1: late median in 1.8 to 2.2, late deciles in 1.5 to 2.5"
    return [Verdict(claim, None, share, None, late.size, bound, settle(share == 1, share < 0.5))]


def _kernels(data: xr.Dataset) -> list[Verdict]:
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


def _near(power: Slope, wanted: float) -> tuple[str, str]:
    off = abs(power.slope - wanted)
    word = settle(off + power.half_width < NEAR, off - power.half_width > NEAR)
    return f"{wanted:g} +- {NEAR:g} with its 95 % interval", word


def _steps(found: Mapping[str, xr.Dataset]) -> list[Verdict]:
    """A small first step: what it does to the last hidden layer, over depth and over width."""
    verdicts = []
    rows = by_depth(found, "step")
    for preset in LAWS:
        of = rows.get(preset, {})
        if len(of) >= 3:
            verdicts.append(_doubling(preset, np.array(list(of)), first_changes(of)))
    for preset, of in by_width(found).items():
        changes = first_changes(of)
        power = fit_slope(np.array(list(of), float), changes)
        claim = f"{_named(preset)}: relative change of the last layer in one small step: power of the width"
        bound, word = _near(power, POWERS[preset])
        verdicts.append(Verdict(claim, None, power.slope, power.stderr, changes.shape[1], bound, word))
    return verdicts


def _deep(found: Mapping[str, xr.Dataset]) -> list[Verdict]:
    depths, changes = deep_changes(found)
    return [_doubling("nup_q2", depths, changes)] if len(depths) >= 3 else []


def _doubling(preset: str, depths: np.ndarray, changes: np.ndarray) -> Verdict:
    """Increment over the last doubling of the depth, relative to that before: 1 for a logarithm, 2 for a line.

    Seeds are the same networks' at every depth, so the error is that of differences, seed by seed.
    """
    from scipy import stats

    before, last = changes[-2] - changes[-3], changes[-1] - changes[-2]
    ratio = float(last.mean() / before.mean())
    stderr = float(np.std(last - ratio * before, ddof=1) / abs(before.mean()) / len(last) ** 0.5)
    half, law = float(stats.t.ppf(0.975, len(last) - 1)) * stderr, LAWS[preset]
    inside = {name: abs(ratio - value) < half for name, value in (("logarithm", 1.0), ("line", 2.0))}
    other = "line" if law == "logarithm" else "logarithm"
    what = ", ".join(f"{depth:g}" for depth in depths[-3:])
    claim = f"{_named(preset)}, depths {what}, one small step: what the last doubling adds to the last layer's change, "
    claim += "over what the one before did"
    word = settle(bool(inside[law] and not inside[other]), bool(not inside[law]))
    bound = f"{'1' if law == 'logarithm' else '2'}, a {law}, within the 95 % interval, and not a {other}"
    return Verdict(claim, None, ratio, stderr, changes.shape[1], bound, word)


def _named(preset: str) -> str:
    return f"{preset} (a reconstruction)" if preset.startswith("nup") else preset


def _trained(found: Mapping[str, xr.Dataset]) -> list[Verdict]:
    verdicts = []
    deepest = {}
    for depth, data in list(by_depth(found, "train").get("nup_q2", {}).items())[-1:]:
        deepest[f"{depth} hidden layers"] = data
    if "narrow-24" in found:
        deepest["24 hidden layers, the first of 4 units"] = found["narrow-24"].isel(parametrization=0, width=0)
    for what, data in deepest.items():
        ratio = data["train_loss"].values.astype(float) / np.log(int(data.attrs["num_classes"]))
        ratio = np.where(np.isfinite(ratio), ratio, np.inf)
        claim = f"{_named('nup_q2')}, {what}, trains: its loss over that of equal outputs"
        word = settle(bool(np.all(ratio < LEARNS)), bool(np.all(ratio > 0.95)))
        bound = f"< {LEARNS:g}, every seed"
        verdicts.append(Verdict(claim, None, float(ratio.max()), None, ratio.size, bound, word))
    return verdicts
