"""The claims of `integrable`, each judged from the stored Datasets of its parts.

Published numbers are read from the authors' stored notebooks; bounds around them are relative, set before the study
ran, and never follow from our own spread. Tables and curves are judged as wholes too, since entries that all lie on one
side of the paper's are seen only together. That something happens in so many steps is claimed of the authors' settings
alone, and that a network is stuck only beside a control that trains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mupjax.reproduce.parts import MAIN
from mupjax.statistics import (
    CONTRADICTED,
    REPRODUCED,
    UNDECIDED,
    Verdict,
    control,
    decide,
    exact,
    fit_slope,
    mean_slope,
    of_finite,
    of_mean,
    of_share,
    of_slope,
)

if TYPE_CHECKING:
    import xarray as xr

TRIALS = 5  # of every published mean
NEAR = 0.1  # relative, of a published number
TOGETHER = 0.05  # relative, of a whole table or curve
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
            verdicts += _vanishing(data, rest[0], int(rest[1]), published, found.get(f"vanishing-{rest[0]}-2"))
        elif kind == "curves":
            verdicts += _curves(data, rest[0], published)
        elif kind == "losses":
            verdicts += _losses(data) if published else []
        elif kind == "uncalibrated":
            verdicts += _diverges(data, published)
        elif kind == "ranks":
            verdicts += _ranks(data, rest[0], published)
        elif kind == "stuck":
            verdicts += _stuck(data, rest[0], published, _trains(found.get(f"curves-{rest[0]}")))
        elif kind == "line":
            verdicts += _line(data, published)
        elif name == MAIN:
            verdicts += _limits(data)
    return control(verdicts)


def _vanishing(
    data: xr.Dataset, activation: str, depth: int, published: bool, shallow: xr.Dataset | None
) -> list[Verdict]:
    losses = data["train_loss"].sel(parametrization="ip").transpose("width", "seed").values.astype(float)
    widths, start = data["width"].values, _start(data)
    seeds, group = losses.shape[1], "Fig. 2, vanishing IP"
    words = f"IP, {activation}, {depth} hidden layers"
    if depth >= 4:
        claim = f"{words}: the loss stays at its start, ln C: largest move of all widths"
        moved = float(np.max(np.abs(losses - start)))
        paper = 0.0 if published else None
        verdict = exact(claim, moved, (0.0, FLAT), paper=paper, seeds=seeds, group=group)
        moves = shallow is not None and bool((shallow["train_loss"].values < 0.9 * start).all())
        return [_beside(verdict, moves, "two hidden layers of the same part")]
    verdicts = []
    if depth == 3:
        claim = f"{words}: the wider, the slower: loss of the widest over that of the narrowest"
        paper = LOSSES[activation, 3][1400] / LOSSES[activation, 3][128] if published else None
        verdicts.append(of_mean(claim, losses[-1] / losses[0], (1.0, math.inf), paper=paper, group=group))
    if published:
        away = []
        for width, paper in LOSSES[activation, depth].items():
            values = losses[list(widths).index(width)]
            away.append(np.log(values / paper))
            claim = f"{words}, width {width}: training loss after 10 epochs"
            verdicts.append(_against_trials(claim, paper, values, NEAR * paper, group))
        claim = f"{words}: losses of all widths over the paper's, mean logarithm"
        verdicts.append(of_mean(claim, np.mean(away, 0), (-TOGETHER, TOGETHER), paper=0.0, group=group))
    return verdicts


def _curves(data: xr.Dataset, activation: str, published: bool) -> list[Verdict]:
    verdicts = []
    for name in ("ip_llr", "mup"):
        claim = f"{name}, {activation}: trains: mean loss of the last tenth of the steps over that of the start"
        ratio = _last_tenth(data, name) / _start(data)
        verdicts.append(_in_time(of_finite(claim, ratio, (0.0, 0.5), group="Fig. 3, training curves"), published))
    return verdicts


def _losses(data: xr.Dataset) -> list[Verdict]:
    verdicts, away, group = [], [], "Fig. 3, training curves"
    for step, paper in CURVE.items():
        values = _of(data, "batch_loss", "ip_llr").sel(step=step).values.astype(float)
        away.append(np.log(values / paper))
        claim = f"IP-LLR, gelu, calibrated: loss at step {step}"
        verdicts.append(_against_trials(claim, paper, values, NEAR * paper, group))
    claim = "IP-LLR, gelu, calibrated: losses of the curve over the paper's, mean logarithm"
    return [*verdicts, of_mean(claim, np.mean(away, 0), (-TOGETHER, TOGETHER), paper=0.0, group=group)]


def _diverges(data: xr.Dataset, published: bool) -> list[Verdict]:
    """Which of the two it is that explodes: rates that are not switched, or rates that are not calibrated."""
    verdicts, group = [], "uncalibrated IP-LLR"
    for name, words in (("ip_llr_unswitched", "first step's rates at every step"), ("ip_llr", "rates switched")):
        losses = _of(data, "batch_loss", name).values.astype(float)[:, :-1]
        wild = ~(losses < 2 * _start(data))  # NaN counts
        claim = f"IP-LLR, relu, not calibrated, {words}: diverges within 10 steps: share of seeds"
        often = name == "ip_llr_unswitched"
        paper = 1.0 if published and often else None
        verdict = of_share(claim, wild.any(1), (0.5, 1.0) if often else (0.0, 0.5), paper=paper, group=group)
        verdicts.append(_in_time(verdict, published))
    moved = float(np.max(np.abs(_of(data, "train_loss", "ip_llr").values - _start(data))))
    claim = "IP-LLR, relu, not calibrated, rates switched: learns nothing: largest move of the loss in 11 steps"
    return [*verdicts, exact(claim, moved, (0.0, FLAT), seeds=data.sizes["seed"], group=group)]


def _ranks(data: xr.Dataset, activation: str, published: bool) -> list[Verdict]:
    verdicts, group = [], "Table 1, ranks after one step"
    last = {}
    for name in ("mup", "ip_llr"):
        ranks = _of(data, "rank_h", name).sel(step=1).transpose("seed", "layer").values.astype(float)
        last[name] = ranks[:, -1]
        paper = RANKS.get((name, activation), ()) if published else ()
        for layer, rank in enumerate(paper, 1):
            claim = f"{name}, {activation}: rank of h^{layer} after one step"
            verdicts.append(_against_trials(claim, rank, ranks[:, layer - 1], max(NEAR * rank, 1.0), group))
        if paper:
            away = np.mean(np.log(np.maximum(ranks, 1.0) / np.array(paper)), axis=1)
            claim = f"{name}, {activation}: ranks of all layers over the paper's, mean logarithm"
            verdicts.append(of_mean(claim, away, (-TOGETHER, TOGETHER), paper=0.0, group=group))
    ratio = np.where(last["ip_llr"] > 0, last["ip_llr"] / last["mup"], np.inf)  # a diverged run has no rank: -1
    claim = f"IP-LLR, {activation}: features of the last layer have few directions after one step: rank over muP's"
    return [*verdicts, of_finite(claim, ratio, (0.0, 0.1), group=group)]


def _stuck(data: xr.Dataset, activation: str, published: bool, trains: bool) -> list[Verdict]:
    verdicts, start, group = [], math.log(int(data.attrs["num_classes"])), "Sec. 4, what stays stuck"
    for name in ("ip_bias", "ip_non_centered"):
        claim = f"{name}, {activation}: stays stuck: mean loss of the last tenth of the steps over ln C"
        ratio = _last_tenth(data, name) / start
        stuck = of_finite(claim, ratio, (0.95, 1.1), group=group)  # above it, the loss has moved too
        verdicts.append(_beside(stuck, trains, f"curves-{activation}"))
        if name == "ip_bias" and published:
            accuracy = 1 - _of(data, "test_error", name).values.astype(float)
            shares = data["class_share"].values.astype(float)  # what answering one class alone gets right
            distance = float(np.abs(accuracy[:, None] - shares[None, :]).min(1).max())
            claim = (
                f"ip_bias, {activation}: test accuracy on grey CIFAR-10 is a class's share (paper: {STUCK_ACCURACY})"
            )
            claim += ": distance of the farthest seed"
            verdicts.append(exact(claim, distance, (0.0, 0.005), seeds=len(accuracy), group=group))
    return verdicts


def _line(data: xr.Dataset, published: bool) -> list[Verdict]:
    moved = _of(data, "predictions", "ip").values.astype(float)
    change = float(np.max(np.abs(moved[:, 1] - moved[:, 0])))
    seeds, group = data.sizes["seed"], "functions of one variable"
    fits = []
    for name in ("ip_llr", "mup"):
        claim = f"{name}, relu, 4 hidden layers, one variable: fits its points: largest training loss"
        loss = float(np.max(_of(data, "train_loss", name).values))
        fits.append(_in_time(exact(claim, loss, (0.0, 0.01), seeds=seeds, group=group), published))
    claim = "IP, relu, 4 hidden layers, one variable: the function stays where it starts: largest change"
    stays = exact(claim, change, (0.0, FLAT), seeds=seeds, group=group)
    return [_beside(stays, any(fit.ours < 0.1 for fit in fits), "muP or IP-LLR"), *fits]


def _limits(data: xr.Dataset) -> list[Verdict]:
    """IP-LLR, HP and HPZ come to one limit as n^-1/2; muP's networks stay away from it."""
    limit = data["predictions"].sel(parametrization="ip_llr", width=np.inf).isel(seed=0)
    widths = data["width"].values[np.isfinite(data["width"].values)]
    size = float(np.sqrt(np.mean(limit.values**2)))
    away, group = {}, "Thm 3, one limit"
    for name in map(str, data["parametrization"].values):
        f = data["predictions"].sel(parametrization=name, width=widths)
        square = ((f - limit) ** 2).mean(("step", "input", "output"))
        away[name] = np.sqrt(square.transpose("width", "seed").values.astype(float))
    verdicts = []
    for name in ("ip_llr", "hp", "hpz"):
        claim = f"{name}, relu: distance of its outputs from the limit of IP-LLR: power of the width"
        verdicts.append(of_slope(claim, fit_slope(widths, away[name]), (-0.7, -0.3), paper=-0.5, group=group))
    claim = "muP, relu: its widest networks stay away from that limit: distance over the size of the outputs"
    return [*verdicts, of_mean(claim, away["mup"][-1] / size, (0.2, math.inf), group=group)]


def _against_trials(claim: str, paper: float, values: np.ndarray, within: float, group: str) -> Verdict:
    """Compare the mean of our trials with that of the paper's, whose spread is taken to be ours in the error alone."""
    ours = mean_slope(values)
    half = ours.half_width * (1 + len(values) / TRIALS) ** 0.5
    interval = ours.slope - half, ours.slope + half
    more = {"paper": paper, "stderr": half / ours.half_width * ours.stderr if ours.half_width else 0.0}
    return decide(claim, ours.slope, interval, (paper - within, paper + within), seeds=len(values), group=group, **more)


def _in_time(verdict: Verdict, published: bool) -> Verdict:
    """Of other settings than the authors' nothing is claimed that takes steps."""
    if published or verdict.verdict != CONTRADICTED:
        return verdict
    return verdict._replace(verdict=UNDECIDED, needs="the authors' settings: these may have too few steps")


def _beside(verdict: Verdict, trains: bool, where: str) -> Verdict:
    """A network is stuck only where another one trains on the same task."""
    if trains or verdict.verdict != REPRODUCED:
        return verdict
    return verdict._replace(verdict=UNDECIDED, needs=f"a control that trains: {where}")


def _trains(data: xr.Dataset | None) -> bool:
    """Whether muP's loss falls by a tenth in a part of curves."""
    return data is not None and bool((_last_tenth(data, "mup") < 0.9 * _start(data)).all())


def _last_tenth(data: xr.Dataset, name: str) -> np.ndarray:
    """The mean loss of the last tenth of the steps, [seed]; infinite where a seed diverged."""
    losses = _of(data, "batch_loss", name).values.astype(float)[:, :-1]  # the last record has no batch
    last = losses[:, -max(1, losses.shape[1] // 10) :].mean(1)
    return np.where(np.isfinite(last), last, np.inf)


def _of(data: xr.Dataset, variable: str, name: str) -> xr.DataArray:
    """A variable of the one width that a part has, seeds first."""
    return data[variable].sel(parametrization=name).isel(width=0).transpose("seed", ...)


def _start(data: xr.Dataset) -> float:
    """The cross-entropy of outputs that are all the same."""
    return math.log(int(data.attrs["num_classes"]))
