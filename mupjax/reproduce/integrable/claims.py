"""The claims of `integrable`, each judged from the stored Datasets of its parts.

Published numbers are read from the authors' stored notebooks. Bounds were set before the study ran. Where five trials
are compared with the mean of five others, the difference may reach three of its standard deviations; of ranks also 1 %,
since other images are other ranks, and half a rank of rounding. That something happens in so many steps is claimed of
the authors' settings alone: of others it is 'not shown' where it does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mupjax.reproduce.parts import MAIN
from mupjax.statistics import Verdict, fit_slope
from mupjax.statistics import settle as settle_plain

if TYPE_CHECKING:
    import xarray as xr

SIGMAS = 3.0
TRIALS = 5  # of every published mean
NEAR = 0.1  # relative, for published losses whose spread is not known
LOSSES = {  # of the training set after ten epochs of IP, by activation and depth; widths 128, 256, 512, 1024, 1400
    ("gelu", 2): {128: 0.44, 1400: 0.32},
    ("gelu", 3): {128: 0.65, 256: 0.62, 512: 0.66, 1024: 0.73, 1400: 0.79},
    ("relu", 2): {128: 0.47, 1400: 0.37},
    ("relu", 3): {128: 1.00, 256: 1.07, 512: 1.25, 1024: 1.60, 1400: 1.66},
}
FLAT = 0.01  # a loss that stays within this of its start has not moved
CURVE = {25: 1.85, 60: 1.2, 100: 0.75, 150: 0.5}  # IP-LLR with GELU, loss by step
RANKS = {  # of h^1..h^6 after one step
    ("mup", "relu"): (594, 907, 881, 860, 837, 809),
    ("mup", "tanh"): (594, 955, 951, 930, 906, 880),
    ("ip_llr", "relu"): (593, 146, 9, 2.4, 1, 1),
    ("ip_llr", "gelu"): (593, 388, 12, 10, 9.4, 9),
    ("ip_llr", "elu"): (592, 87, 11.4, 10, 9, 9),
    ("ip_llr", "tanh"): (594, 60, 19, 14, 12, 11),
}
STUCK_ACCURACY = 0.1


def judge(found: Mapping[str, xr.Dataset], *, published: bool) -> list[Verdict]:
    """Return the verdicts on the claims of these parts, from their Datasets alone.

    Args:
      found: {part: Dataset}.
      published: whether the settings are the authors', so that published numbers are compared.
    """
    verdicts: list[Verdict] = []
    for name, data in found.items():
        kind, *rest = name.split("-")
        if kind == "vanishing":
            verdicts += _vanishing(data, rest[0], int(rest[1]), published)
        elif kind == "curves":
            verdicts += _curves(data, rest[0], published)
        elif kind == "losses":
            verdicts += _losses(data) if published else []
        elif kind == "uncalibrated":
            verdicts += _diverges(data, published)
        elif kind == "ranks":
            verdicts += _ranks(data, rest[0], published)
        elif kind == "stuck":
            verdicts += _stuck(data, rest[0], published)
        elif kind == "line":
            verdicts += _line(data, published)
        elif name == MAIN:
            verdicts += _limits(data)
    return verdicts


def settle(met: bool | np.bool_, refuted: bool | np.bool_) -> str:
    return settle_plain(bool(met), bool(refuted))


def _vanishing(data: xr.Dataset, activation: str, depth: int, published: bool) -> list[Verdict]:
    losses = data["train_loss"].sel(parametrization="ip").transpose("width", "seed").values.astype(float)
    widths, start = data["width"].values, _start(data)
    seeds, verdicts = losses.shape[1], []
    moved = float(np.max(np.abs(losses - start)))
    if depth >= 4:
        claim = (
            f"IP, {activation}, {depth} hidden layers: the loss stays at its start, ln C: largest move of all widths"
        )
        verdict = settle(moved <= FLAT, moved > FLAT)
        verdicts.append(Verdict(claim, 0.0 if published else None, moved, None, seeds, f"<= {FLAT:g}", verdict))
        return verdicts
    if depth == 3:
        claim = (
            f"IP, {activation}, 3 hidden layers: the wider, the slower: loss of the widest over that of the narrowest"
        )
        ratio = losses[-1].mean() / losses[0].mean()
        paper = LOSSES[activation, 3]
        figure = paper[1400] / paper[128] if published else None
        verdicts.append(Verdict(claim, figure, float(ratio), None, seeds, "> 1", settle(ratio > 1, ratio <= 1)))
    if published:
        for width, paper in LOSSES[activation, depth].items():
            mean = float(losses[list(widths).index(width)].mean())
            claim = f"IP, {activation}, {depth} hidden layers, width {width}: training loss after 10 epochs"
            away = abs(mean / paper - 1)
            word = settle(away <= NEAR, away > 3 * NEAR)
            stderr = float(losses[list(widths).index(width)].std(ddof=1)) / seeds**0.5 if seeds > 1 else None
            verdicts.append(Verdict(claim, paper, mean, stderr, seeds, f"{paper:g} within {100 * NEAR:g} %", word))
    return verdicts


def _curves(data: xr.Dataset, activation: str, published: bool) -> list[Verdict]:
    verdicts, start = [], _start(data)
    for name in ("ip_llr", "mup"):
        losses = _of(data, "batch_loss", name).values.astype(float)[:, :-1]  # the last record has no batch
        last = losses[:, -max(1, losses.shape[1] // 10) :].mean(1)
        claim = f"{name}, {activation}: trains: mean loss of the last tenth of the steps over that of the start"
        ratio = last / start
        refuted = published and bool(np.all(ratio > 0.9) or not np.all(np.isfinite(ratio)))
        word = settle(bool(np.all(ratio < 0.5)), refuted)
        verdicts.append(Verdict(claim, None, float(ratio.max()), None, len(ratio), "< 0.5, every seed", word))
    return verdicts


def _losses(data: xr.Dataset) -> list[Verdict]:
    verdicts = []
    for step, paper in CURVE.items():
        values = _of(data, "batch_loss", "ip_llr").sel(step=step).values.astype(float)
        claim = f"IP-LLR, gelu, calibrated: loss at step {step}"
        verdicts.append(_against_trials(claim, paper, values, 0.0))
    return verdicts


def _diverges(data: xr.Dataset, published: bool) -> list[Verdict]:
    """Which of the two it is that explodes: rates that are not switched, or rates that are not calibrated."""
    verdicts = []
    for name, words in (("ip_llr_unswitched", "first step's rates at every step"), ("ip_llr", "rates switched")):
        losses = _of(data, "batch_loss", name).values.astype(float)[:, :-1]
        wild = ~(losses < 2 * _start(data))  # NaN counts
        share = float(np.mean(wild.any(1)))
        claim = f"IP-LLR, relu, not calibrated, {words}: diverges within 10 steps: share of seeds"
        bound, met = ("1", share == 1) if name == "ip_llr_unswitched" else ("0", share == 0)
        paper = 1.0 if published and name == "ip_llr_unswitched" else None
        word = settle(met, published and share == 1 - float(bound))
        verdicts.append(Verdict(claim, paper, share, None, len(losses), bound, word))
    moved = float(np.max(np.abs(_of(data, "train_loss", "ip_llr").values - _start(data))))
    claim = "IP-LLR, relu, not calibrated, rates switched: learns nothing: largest move of the loss in 11 steps"
    word = settle(moved <= FLAT, moved > 10 * FLAT)
    return [*verdicts, Verdict(claim, None, moved, None, data.sizes["seed"], f"<= {FLAT:g}", word)]


def _ranks(data: xr.Dataset, activation: str, published: bool) -> list[Verdict]:
    verdicts = []
    last = {}
    for name in ("mup", "ip_llr"):
        ranks = _of(data, "rank_h", name).sel(step=1).transpose("seed", "layer").values.astype(float)
        last[name] = ranks[:, -1].mean()
        for layer, paper in enumerate(RANKS.get((name, activation), ()) if published else (), 1):
            claim = f"{name}, {activation}: rank of h^{layer} after one step"
            verdicts.append(_against_trials(claim, paper, ranks[:, layer - 1], 0.01 * paper + 0.5))
    ratio = last["ip_llr"] / last["mup"]
    claim = f"IP-LLR, {activation}: features of the last layer have few directions after one step: rank over muP's"
    seeds = data.sizes["seed"]
    word = settle(0 < ratio < 0.1, ratio > 0.5)  # a diverged run has no rank: -1
    return [*verdicts, Verdict(claim, None, float(ratio), None, seeds, "< 0.1", word)]


def _stuck(data: xr.Dataset, activation: str, published: bool) -> list[Verdict]:
    verdicts, start = [], math.log(int(data.attrs["num_classes"]))
    for name in ("ip_bias", "ip_non_centered"):
        losses = _of(data, "batch_loss", name).values.astype(float)[:, :-1]  # the last record has no batch
        last = losses[:, -max(1, losses.shape[1] // 10) :].mean(1)
        claim = f"{name}, {activation}: stays stuck: mean loss of the last tenth of the steps over ln C"
        ratio = last / start
        word = settle(bool(np.all(ratio > 0.95)), bool(np.all(ratio < 0.8)))
        verdicts.append(Verdict(claim, None, float(ratio.min()), None, len(ratio), "> 0.95, every seed", word))
        if name == "ip_bias" and published:
            accuracy = 1 - _of(data, "test_error", name).values.astype(float)
            shares = data["class_share"].values.astype(float)  # what answering one class alone gets right
            distance = np.abs(accuracy[:, None] - shares[None, :]).min(1)
            far = int(np.argmax(distance))
            claim = (
                f"ip_bias, {activation}: test accuracy on grey CIFAR-10 is a class's share, the seed farthest from it"
            )
            word = settle(float(distance[far]) <= 0.005, float(distance[far]) > 0.05)
            bound = f"within 0.005 of one of {shares.min():.3f}..{shares.max():.3f}"
            verdicts.append(Verdict(claim, STUCK_ACCURACY, float(accuracy[far]), None, len(accuracy), bound, word))
    return verdicts


def _line(data: xr.Dataset, published: bool) -> list[Verdict]:
    moved = _of(data, "predictions", "ip").values.astype(float)
    change = float(np.max(np.abs(moved[:, 1] - moved[:, 0])))
    seeds = data.sizes["seed"]
    claim = "IP, relu, 4 hidden layers, one variable: the function stays where it starts: largest change"
    verdicts = [Verdict(claim, None, change, None, seeds, f"<= {FLAT:g}", settle(change <= FLAT, change > FLAT))]
    for name in ("ip_llr", "mup"):
        loss = float(np.max(_of(data, "train_loss", name).values))
        claim = f"{name}, relu, 4 hidden layers, one variable: fits its points: largest training loss"
        verdicts.append(
            Verdict(claim, None, loss, None, seeds, "< 0.01", settle(loss < 0.01, published and not loss < 0.1))
        )
    return verdicts


def _limits(data: xr.Dataset) -> list[Verdict]:
    """IP-LLR, HP and HPZ come to one limit as n^-1/2; muP's networks stay away from it."""
    limit = data["predictions"].sel(parametrization="ip_llr", width=np.inf).isel(seed=0)
    widths = data["width"].values[np.isfinite(data["width"].values)]
    size = float(np.sqrt(np.mean(limit.values**2)))
    away = {}
    for name in map(str, data["parametrization"].values):
        f = data["predictions"].sel(parametrization=name, width=widths)
        square = ((f - limit) ** 2).mean(("step", "input", "output"))
        away[name] = np.sqrt(square.transpose("width", "seed").values.astype(float))
    verdicts, seeds = [], data.sizes["seed"]
    for name in ("ip_llr", "hp", "hpz"):
        slope = fit_slope(widths, away[name])
        claim = f"{name}, relu: distance of its outputs from the limit of IP-LLR: power of the width"
        met = abs(slope.slope + 0.5) + slope.half_width <= 0.2
        refuted = abs(slope.slope + 0.5) - slope.half_width > 0.2
        bound = "-0.5 ± 0.2 with its 95 % interval"
        verdicts.append(Verdict(claim, -0.5, slope.slope, slope.stderr, seeds, bound, settle(met, refuted)))
    ratio = float(np.min(away["mup"][-1]) / size)
    claim = "muP, relu: its widest networks stay away from that limit: distance over the size of the outputs"
    return [*verdicts, Verdict(claim, None, ratio, None, seeds, "> 0.2, every seed", settle(ratio > 0.2, ratio < 0.05))]


def _against_trials(claim: str, paper: float, values: np.ndarray, beside: float) -> Verdict:
    """Compare the mean of our trials with that of the paper's, whose spread is taken to be ours."""
    seeds, mean, std = len(values), float(np.mean(values)), float(np.std(values, ddof=1))
    within = SIGMAS * std * (1 / seeds + 1 / TRIALS) ** 0.5 + beside
    away = abs(mean - paper)
    word = settle(away <= within, away > 2 * within)
    return Verdict(claim, paper, mean, std / seeds**0.5, seeds, f"{paper:g} ± {within:.2g}", word)


def _of(data: xr.Dataset, variable: str, name: str) -> xr.DataArray:
    """A variable of the one width that a part has, seeds first."""
    return data[variable].sel(parametrization=name).isel(width=0).transpose("seed", ...)


def _start(data: xr.Dataset) -> float:
    """The cross-entropy of outputs that are all the same."""
    return math.log(int(data.attrs["num_classes"]))
