"""The claims of `edge_of_chaos`, each judged from the stored Datasets of its parts.

Bounds were set before the study ran. The window is asserted of linear and tanh networks, whose loss is what theory
speaks of; a ReLU's is wider and depends on the data: it is drawn, not judged. Depth is judged against the derived law
of one small step, its constants included (`mupjax.theorems.depth`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mupjax.reproduce.edge_of_chaos.reading import by_depth, by_width, deep_changes, first_changes
from mupjax.reproduce.edge_of_chaos.settings import RATES, SMALL
from mupjax.reproduce.parts import MAIN
from mupjax.statistics import Verdict, control, decide, fit_slope, of_finite, of_mean, of_share, of_slope
from mupjax.statistics.catapults import detect_catapults, rises
from mupjax.theorems.depth import small_step

if TYPE_CHECKING:
    import xarray as xr

WINDOW, BELOW = (2.5, 3.0, 3.5), (1.0, 1.5)
JUDGED = ("linear", "tanh")
FOLLOWED = 3.0
LEARNS = 0.5  # of the loss at the start
POWERS = {"sp": 0.5, "mup": 0.0, "residual": 0.0, "nup_q0": 0.0, "nup_q1": 0.0, "nup_q2": 0.0}  # of the width
NEAR = 0.15  # to a power of the width
PROFILES = {"nup_q0": 0.0, "nup_q1": 1.0, "nup_q2": 2.0}  # exponents of the widths' growth with depth
CONSTANT, RATIO = 0.15, 0.2  # relative, of the law's size and of the ratio of its increments
MOST = 0.5  # of runs: what is claimed of 'the runs' holds of more than half


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
    return control(verdicts + _steps(found) + _deep(found) + _trained(found))


def _window(data: xr.Dataset, activation: str) -> list[Verdict]:
    run = data.sel(activation=activation, schedule="constant").transpose("factor", "seed", ...)
    verdicts = []
    for factors, words in ((WINDOW, "in the window"), (BELOW, "below it")):
        one = run.sel(factor=list(factors))
        last = one.isel(observe_step=-1)
        found = detect_catapults(one["train_loss"], last["sharpness"], last["rate"])
        as_theory = found.happened if factors is WINDOW else ~found.diverged & (found.growth <= 1) & (found.edge < 2)
        what = ", ".join(f"{factor:g}" for factor in factors)
        happens = "are catapulted" if factors is WINDOW else "stay below the edge, their loss never above its start"
        claim = f"{activation}: rate times initial sharpness {words}, {what}: share of runs that {happens}"
        verdicts.append(of_share(claim, as_theory, (MOST, 1.0), group="catapults"))
    return verdicts


def _schedule(data: xr.Dataset) -> list[Verdict]:
    """Whether the loss still rises again and again in the last quarter of the steps; and what that costs."""
    verdicts = []
    for schedule, often in (("following", True), ("constant", False)):
        run = data.sel(activation="tanh", schedule=schedule, factor=FOLLOWED).transpose("seed", ...)
        loss = run["train_loss"].values.astype(float)
        late = rises(loss)[:, -(loss.shape[1] // 4) :].sum(1) >= 2
        claim = f"tanh, c = {FOLLOWED:g}, {_RATES[schedule]}: share of runs whose loss rises again in the last quarter"
        bound = (MOST, 1.0) if often else (0.0, 1 - MOST)
        finite = np.isfinite(loss).all(1)  # a diverged run counts against the claim
        verdicts.append(of_share(claim, late & finite if often else late | ~finite, bound, group="the schedule"))
    ratio = loss_left(data, "following") / loss_left(data, "constant")
    claim = f"tanh, c = {FOLLOWED:g}, {_RATES['following']}: the loss stalls: logarithm of its last loss over that of "
    claim += "constant rates"
    return [*verdicts, of_mean(claim, np.log(ratio), (0.0, np.inf), group="the schedule")]


def loss_left(data: xr.Dataset, schedule: str) -> np.ndarray:
    """Return the median loss of the last quarter of the steps, not below rounding, [seed]."""
    run = data.sel(activation="tanh", schedule=schedule, factor=FOLLOWED).transpose("seed", ...)
    loss = run["train_loss"].values.astype(float)
    return np.maximum(np.median(loss[:, -(loss.shape[1] // 4) :], axis=1), np.finfo(np.float32).tiny)


_RATES = {"following": "rates that follow the sharpness (a reconstruction)", "constant": "constant rates"}


def _cosines(data: xr.Dataset) -> list[Verdict]:
    """Terjek 2025: updates go on in their direction (ballistic), or turn back where training is super-critical."""
    verdicts = []
    for factor, schedule, sign in ((BELOW[0], "constant", 1), (FOLLOWED, "following", -1)):
        run = data.sel(activation="tanh", schedule=schedule, factor=factor).transpose("seed", ...)
        cosines = run["cosine"].values.astype(float)[:, 1:]
        half = cosines[:, : cosines.shape[1] // 2] if sign > 0 else cosines[:, cosines.shape[1] // 2 :]
        when = "early" if sign > 0 else "late"
        claim = f"tanh, c = {factor:g}, {_RATES[schedule]}: median {when} cosine of the update with all earlier ones"
        bound = (0.0, 1.0) if sign > 0 else (-1.0, 0.0)
        verdicts.append(of_mean(claim, np.median(half, axis=1), bound, group="cosines"))
    return verdicts


def _sharpening(data: xr.Dataset) -> list[Verdict]:
    """Cohen et al. 2021 (arXiv:2103.00065): under full-batch descent it rises to 2 / rate and stays about it."""
    run = data.isel(activation=0, schedule=0).transpose("factor", "seed", "observe_step", "step")
    edge = (run["rate"] * run["sharpness"]).values.astype(float)
    low, late, high = np.quantile(edge[..., edge.shape[-1] // 2 :], (0.1, 0.5, 0.9), axis=-1)
    fell = run["train_loss"].values[..., -1] < 0.1 * run["train_loss"].values[..., 0]
    hovers = (edge[..., 0] < 1) & (abs(late - 2) < 0.2) & (low > 1.5) & (high < 2.5) & fell
    claim = "tanh, rates that start below 1 over the sharpness: share of runs whose rate times sharpness hovers about 2"
    claim += " (late median in 1.8 to 2.2, late deciles in 1.5 to 2.5)"
    return [of_share(claim, hovers, (MOST, 1.0), group="edge of stability")]


def _kernels(data: xr.Dataset) -> list[Verdict]:
    """NTP's kernel moves as 1/n (Dyer & Gur-Ari 2020, arXiv:1909.11304); muP's at every width alike."""
    verdicts = []
    for name, power, within in (("ntp", -1.0, 0.2), ("mup", 0.0, NEAR)):
        change = data["ntk_change"].sel(parametrization=name).isel(step=-1).transpose("width", "seed").values
        slope = fit_slope(data["width"].values, change.astype(float))
        claim = f"{name}: relative change of the tangent kernel in training: power of the width"
        verdicts.append(of_slope(claim, slope, (power - within, power + within), paper=power, group="tangent kernels"))
    return verdicts


def _steps(found: Mapping[str, xr.Dataset]) -> list[Verdict]:
    """A small first step: what it does to the last hidden layer, over depth and over width."""
    verdicts = []
    rows = by_depth(found, "step")
    for preset, q in PROFILES.items():
        of = rows.get(preset, {})
        if len(of) >= 3:
            verdicts += _law(preset, q, np.array(list(of)), first_changes(of))
    for preset, of in by_width(found).items():
        changes = first_changes(of)
        claim = f"{_named(preset)}: relative change of the last layer in one small step: power of the width"
        power = POWERS[preset]
        slope = fit_slope(np.array(list(of), float), changes)
        verdicts.append(of_slope(claim, slope, (power - NEAR, power + NEAR), group="one step over width"))
    return verdicts


def _deep(found: Mapping[str, xr.Dataset]) -> list[Verdict]:
    depths, changes = deep_changes(found)
    return _law("nup_q2", 2.0, depths, changes) if len(depths) >= 3 else []


def _law(preset: str, q: float, depths: np.ndarray, changes: np.ndarray) -> list[Verdict]:
    """The mean square of the last layer's change against the derived law: its size, and how its increments grow.

    The increments' ratio of the last two doublings is exactly 2 at q = 2 (1 for a logarithm, whose square grows
    a little faster, 4 for a line); of q = 0 about 8. Seeds are the same networks' at every depth, so the ratio's error
    is that of differences, seed by seed.
    """
    from scipy import stats

    rate = SMALL * RATES["nup"]
    squares = (changes / rate) ** 2  # [depths, seeds]
    law = np.array([small_step(int(depth), q=q)[-1] ** 2 for depth in depths])
    group, what = "one step over depth", ", ".join(f"{depth:g}" for depth in depths[-3:])
    name = f"{_named(preset)}, one small step"
    claim = f"{name}, {depths[-1]:g} hidden layers: mean square of the last layer's change over the derived law's"
    verdicts = [of_mean(claim, squares[-1] / law[-1], (1 - 2 * CONSTANT, 1 + 2 * CONSTANT), paper=1.0, group=group)]
    before, last = squares[-2] - squares[-3], squares[-1] - squares[-2]
    ratio = float(last.mean() / before.mean())
    stderr = float(np.std(last - ratio * before, ddof=1) / abs(before.mean()) / len(last) ** 0.5)
    half = float(stats.t.ppf(0.975, len(last) - 1)) * stderr
    exact = float((law[-1] - law[-2]) / (law[-2] - law[-3]))
    claim = f"{name}, depths {what}: what the last doubling adds to the mean square, over what the one before added"
    bound = (exact * (1 - RATIO), exact * (1 + RATIO))
    more = {"paper": exact, "stderr": stderr, "seeds": changes.shape[1], "group": group}
    return [*verdicts, decide(claim, ratio, (ratio - half, ratio + half), bound, **more)]


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
        ratio = data["train_loss"].values.astype(float).ravel() / np.log(int(data.attrs["num_classes"]))
        claim = f"{_named('nup_q2')}, {what}, trains: its loss over that of equal outputs"
        verdicts.append(of_finite(claim, ratio, (0.0, LEARNS), group="training in depth"))
    return verdicts
