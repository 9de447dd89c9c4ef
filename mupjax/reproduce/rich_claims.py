"""The claims of `rich_features`, each judged from the stored Datasets of its parts.

A claim of several layers is as good as its worst layer, whose number it shows. Preactivations of layer 1 are linear in
the inputs at step 0, and independent only where the inputs are: claims of independence leave them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mupjax import metrics
from mupjax.covariance import summarize
from mupjax.covariance_study import cases
from mupjax.reproduce.parts import MAIN, WIDE
from mupjax.reproduce.reading import across_widths, finite, infinite, limit_runs, run_of, task_without_inputs
from mupjax.reproduce.width_limit import LEAST_FACTOR, convergence, widest_network
from mupjax.verdicts import (
    CONTRADICTED,
    NOT_SHOWN,
    REPRODUCED,
    Slope,
    Verdict,
    corollary_4_6,
    feature_floor,
    fit_slope,
)

SIGMAS = 5.0
CHANGE, EIGENVALUE = 0.1, 0.25  # how far a fitted power may be from theory's
OPPOSITE = {REPRODUCED: CONTRADICTED, CONTRADICTED: REPRODUCED, NOT_SHOWN: NOT_SHOWN}


def judge(found: Mapping[str, Any]) -> list[Verdict]:
    """Return the verdicts on the claims of these parts, from their Datasets alone."""
    verdicts: list[Verdict] = []
    if MAIN in found:
        data = found[MAIN]
        verdicts += [*_feature_change(data), *_diversity(data), *_space_time(data), *_theorem(data), *_corollary(data)]
        verdicts += convergence(data)
    if WIDE in found:
        verdicts.append(widest_network(found[WIDE]))
    if MAIN in found and WIDE in found:
        both = across_widths(found[MAIN], found[WIDE])
        verdicts += [*_feature_change(both, first_of_sp=False), *convergence(both)]
    if "covariance" in found:
        verdicts += _covariance(found["covariance"])
    for name, data in found.items():
        if name in ("relu", "minibatch", "correlated", "duplicated", "opposite") or name.startswith("depth-"):
            verdicts.append(_last_layer(data, name))
        if name == "opposite":
            verdicts.append(_errors_stay(data))
    return verdicts


def _feature_change(data: Any, first_of_sp: bool = True) -> list[Verdict]:
    """Powers of the width that the parametrizations' exponents give, layer by layer.

    SP's input layer has the rate eta/n, so that its change falls as n^-3/2 until float32 rounds the updates away: it is
    only claimed to fall faster, and at great widths (`first_of_sp` False) nothing.
    """
    layers = _layers(data)
    deep = layers[1:]
    verdicts = []
    at = f"step {int(data['gram_step'].values[-1])}: power of the width"
    for features in ("h", "x"):
        variable = f"feature_change_{features}"
        for name, power, chosen in (("mup", 0.0, layers), ("ntp", -0.5, layers), ("sp", -0.5, deep)):
            words = "stays as the width grows" if not power else "falls as width^-1/2"
            claim = f"{name}: change of {features} in {_words(chosen)} {words}, {at}"
            slopes = [fit_slope(*finite(data, variable, name, layer)) for layer in chosen]
            verdicts.append(_worst(_power(claim, power, slope, CHANGE) for slope in slopes))
        if first_of_sp:
            slope = fit_slope(*finite(data, variable, "sp", layers[0]))
            claim = f"sp: change of {features} in layer 1 falls faster than width^-1/2, {at}"
            verdicts.append(_below(claim, slope, -0.5))
    return verdicts


def _diversity(data: Any) -> list[Verdict]:
    """Smallest eigenvalues: of order one, but ip's, whose features have the size n^-(l-1)/2 at the start."""
    verdicts = []
    for features in ("h", "x"):
        chosen = _independent_layers(data, features)
        for name in ("mup", "ntp", "sp"):
            claim = f"{name}: {features} stay diverse in {_words(chosen)}"
            verdicts.append(_worst(_kept(data, f"diversity_{features}", name, layer, claim) for layer in chosen))
        for layer in _layers(data)[1:]:
            claim = f"ip: {features} of layer {layer} collapse as width^{1 - layer}: power of the width in the smallest"
            claim += " eigenvalue, sampling divided out"
            slope = _slope(data, f"diversity_{features}", "ip", layer)
            verdicts.append(_power(claim, 1.0 - layer, slope, EIGENVALUE))
    return verdicts


def _space_time(data: Any) -> list[Verdict]:
    verdicts = []
    for features in ("h", "x"):
        chosen = _independent_layers(data, features)
        deep = [layer for layer in chosen if layer > 1]
        claim = f"mup: initial and last {features} stay independent in {_words(chosen)}"
        variable = f"space_time_lambda_min_{features}"
        verdicts.append(_worst(_kept(data, variable, "mup", layer, claim) for layer in chosen))
        for name, layers in (("ntp", chosen), ("sp", deep)):
            claim = f"{name}: initial and last {features} become dependent in {_words(layers)} as 1/width: power of the"
            claim += " width in the joint smallest eigenvalue, sampling divided out"
            slopes = [_slope(data, variable, name, layer) for layer in layers]
            verdicts.append(_worst(_power(claim, -1.0, slope, EIGENVALUE) for slope in slopes))
    return verdicts


def _theorem(data: Any) -> list[Verdict]:
    """Theorem 4.5 at infinite width, at every Gram step; and initial with last features, layer by layer."""
    verdicts = []
    for features in ("h", "x"):
        chosen = _independent_layers(data, features)
        steps = range(data.sizes["gram_step"])
        claim = f"infinite width, {features} in {_words(chosen)}, every Gram step: features are linearly independent"
        every = [_positive(data, "diversity", features, layer, claim, step) for layer in chosen for step in steps]
        verdicts.append(_worst(every))
    for features in ("h", "x"):
        for layer in _independent_layers(data, features):
            claim = f"infinite width, {features} of layer {layer}: initial and last features are linearly independent"
            verdicts.append(_positive(data, "space_time_lambda_min", features, layer, claim))
    return verdicts


def _corollary(data: Any) -> list[Verdict]:
    """Corollary 4.6 for the limit, of which it speaks, and for the widest networks."""
    task = task_without_inputs(data)
    of_limit = corollary_4_6(task, run_of(data, "mup", np.inf))
    widths = data["width"].values
    widest = float(widths[np.isfinite(widths)][-1])
    of_networks = corollary_4_6(task, run_of(data, "mup", widest))
    return [
        *(verdict._replace(claim=f"infinite width: {verdict.claim}") for verdict in of_limit),
        *(verdict._replace(claim=f"width {widest:.0f}: {verdict.claim}") for verdict in of_networks),
    ]


def _errors_stay(data: Any) -> Verdict:
    """An input and its negative with one target: no odd network fits both, though its weights stop."""
    _, errors = corollary_4_6(task_without_inputs(data), run_of(data, "mup", np.inf))
    claim = "opposite: infinite width: errors stay where weights stop, as Assumption 4.1 fails: rms chi over its start"
    return errors._replace(claim=claim, bound="> 0.05 where the weights have stopped", verdict=OPPOSITE[errors.verdict])


def _last_layer(data: Any, part: str) -> Verdict:
    """Linear independence at infinite width in the last layer: expected where the assumptions hold."""
    layer = _layers(data)[-1]
    claim = f"{part}: infinite width, x of layer {layer}, last step: features are linearly independent"
    verdict = _positive(data, "diversity", "x", layer, claim)
    if part not in ("duplicated", "opposite"):
        return verdict
    claim = claim.replace("linearly independent", "linearly dependent, as Assumption 4.1 fails")
    word = {REPRODUCED: CONTRADICTED, NOT_SHOWN: REPRODUCED}[verdict.verdict]
    return verdict._replace(claim=claim, bound="at most what rounding leaves", verdict=word)


def _covariance(data: Any) -> list[Verdict]:
    """Equal at infinite width; off by n^-1/2 in one network."""
    found = cases(data)
    limit = list(found.values())[-1]
    short = summarize(limit)
    largest, relative = float(np.max(short.max_z)), float(np.max(short.relative_difference))
    equal, close = largest <= short.bound, relative < 0.01
    claim = "infinite width: Gaussian parts keep the covariance of what W was asked: largest |z| of all pairs"
    bound = f"<= {short.bound:.1f}, and differences below 1 % of the covariances"
    verdicts = [
        Verdict(claim, None, largest, None, limit.num_runs, bound, _word(equal and close, not (equal or close)))
    ]
    widths = data["width"].values[:-1]
    runs = min(one.num_runs for one in list(found.values())[:-1])
    for side in ("forward", "backward"):
        values = np.stack([getattr(one, side).deviation[:runs] for one in list(found.values())[:-1]])
        claim = f"one network: {side} covariances are off by width^-1/2: power of the width"
        verdicts.append(_power(claim, -0.5, fit_slope(widths, values), CHANGE))
    return verdicts


def _positive(data: Any, metric: str, features: str, layer: int, claim: str, step: int = -1) -> Verdict:
    """muP's infinite-width eigenvalue exceeds 5 standard errors and what rounding leaves of dependent features."""
    value, stderr = infinite(data, f"{metric}_{features}", layer, step)
    gram = data[f"{features}_gram"].sel(parametrization="mup", layer=layer, width=np.inf).isel(gram_step=step, seed=0)
    floor = float(feature_floor(gram.values))
    bound = f"> {floor:.1e} and > {SIGMAS:g} standard errors"
    return Verdict(
        claim, None, value, stderr, limit_runs(data), bound, _word(value > max(floor, SIGMAS * stderr), False)
    )


def _kept(data: Any, variable: str, name: str, layer: int, claim: str) -> Verdict:
    """The widest network's smallest eigenvalue is less than the infinite one by sampling alone.

    The expected smallest eigenvalue of a width is at most the limit's, as it is concave in the Gram matrix, and for
    Gaussian features at least the sampling factor's share of it.
    """
    widths, values = finite(data, variable, name, layer)
    limit, stderr = infinite(data, variable, layer, name=name)
    vectors = data["h_gram"].shape[-1] * (2 if variable.startswith("space") else 1)
    least = float(metrics.sampling_factor(widths[-1], vectors))
    seeds = values.shape[1]
    ratio = float(values[-1].mean() / limit)
    error = float(np.hypot(values[-1].std(ddof=1) / seeds**0.5, stderr * ratio) / limit)
    claim += f": smallest eigenvalue at width {widths[-1]:.0f} over its infinite-width value"
    met = least - 3 * error <= ratio <= 1 + 3 * error and 10 * error < 1
    word = _word(met, ratio < least - 3 * error or ratio > 1 + 3 * error)
    bound = f"{least:.2f} to 1, and 3 standard errors; these at most 0.1"
    return Verdict(claim, 1.0, ratio, error, seeds, bound, word)


def _power(claim: str, expected: float, slope: Slope, within: float) -> Verdict:
    """Reproduced where the fitted power lies within, contradicted where its interval lies wholly beyond."""
    away = abs(slope.slope - expected)
    word = _word(away <= within and slope.half_width <= within, away - slope.half_width > within)
    bound = f"{expected:g} ± {within:g}, and the 95 % interval no wider"
    return Verdict(claim, expected, slope.slope, slope.stderr, slope.seeds, bound, word)


def _below(claim: str, slope: Slope, most: float) -> Verdict:
    word = _word(slope.slope + slope.half_width < most, slope.slope - slope.half_width > most)
    return Verdict(claim, None, slope.slope, slope.stderr, slope.seeds, f"< {most:g} with its interval", word)


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The contradicted one, or what is not shown, or else the one that is farthest from theory or nearest to zero."""
    order = [CONTRADICTED, NOT_SHOWN, REPRODUCED]

    def rank(verdict: Verdict) -> tuple[int, float]:
        if verdict.paper is not None:
            return order.index(verdict.verdict), -abs(verdict.ours - verdict.paper)
        return order.index(verdict.verdict), verdict.ours

    return min(verdicts, key=rank)


def _word(met: bool, refuted: bool) -> str:
    return REPRODUCED if met else CONTRADICTED if refuted else NOT_SHOWN


def _slope(data: Any, variable: str, name: str, layer: int) -> Slope:
    """The power of the width with the sampling factor divided out, from where that is not below LEAST_FACTOR on."""
    widths, values = finite(data, variable, name, layer)
    vectors = data["h_gram"].shape[-1] * (2 if variable.startswith("space") else 1)
    factor = np.asarray(metrics.sampling_factor(widths, vectors))
    taken = factor >= LEAST_FACTOR
    return fit_slope(widths[taken], values[taken] / factor[taken, None])


def _layers(data: Any) -> list[int]:
    return [int(layer) for layer in data["layer"].values]


def _independent_layers(data: Any, features: str) -> list[int]:
    return [layer for layer in _layers(data) if (features, layer) != ("h", 1)]


def _words(layers: list[int]) -> str:
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"
