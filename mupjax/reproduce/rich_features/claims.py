"""The claims of `rich_features`, each judged from the stored Datasets of its parts.

A claim of several layers is as good as its worst layer, whose number it shows. Preactivations of layer 1 are linear in
the inputs at step 0, and independent only where the inputs are: claims of independence leave them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mupjax import metrics
from mupjax.reproduce.parts import MAIN, WIDE
from mupjax.reproduce.reading import across_widths, finite, infinite, limit_runs, run_of, task_without_inputs
from mupjax.reproduce.rich_features.width_limit import LEAST_FACTOR, convergence, widest_network
from mupjax.statistics import CONTRADICTED, NOT_SHOWN, REPRODUCED, Slope, Verdict, fit_slope, settle
from mupjax.studies.covariance import cases
from mupjax.theorems.covariance import summarize
from mupjax.theorems.global_convergence import ERROR, corollary_4_6, feature_floor

if TYPE_CHECKING:
    import xarray as xr

SIGMAS = 5.0
# How far a fitted power's interval may reach from theory's. The sampling factor is a bound and no law, and leaves
# powers of its own in eigenvalues.
CHANGE, EIGENVALUE = 0.1, 0.25


def judge(found: Mapping[str, xr.Dataset]) -> list[Verdict]:
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
        verdicts += [*_feature_change(both), *convergence(both)]
    if "covariance" in found:
        verdicts += _covariance(found["covariance"])
    for name, data in found.items():
        if name in ("relu", "minibatch", "correlated", "duplicated", "opposite") or name.startswith("depth-"):
            verdicts.append(_last_layer(data, name))
        if name == "opposite":
            verdicts.append(_errors_stay(data))
    return verdicts


def _feature_change(data: xr.Dataset) -> list[Verdict]:
    """Powers of the width that the parametrizations' exponents give, layer by layer.

    SP's first layer is left out: its rate is eta/n, and its change, n^-3/2, is less than float32 weights resolve.
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
            slopes = {layer: fit_slope(*finite(data, variable, name, layer)) for layer in chosen}
            verdicts.append(_worst({layer: _power(claim, power, slope, CHANGE) for layer, slope in slopes.items()}))
    return verdicts


def _diversity(data: xr.Dataset) -> list[Verdict]:
    """Smallest eigenvalues: of order one, but ip's, whose features have the size n^-(l-1)/2 at the start."""
    verdicts = []
    for features in ("h", "x"):
        chosen = _independent_layers(data, features)
        for name in ("mup", "ntp", "sp"):
            claim = f"{name}: {features} stay diverse in {_words(chosen)}"
            every = {layer: _kept(data, f"diversity_{features}", name, layer, claim) for layer in chosen}
            verdicts.append(_worst(every))
        for layer in _layers(data)[1:]:
            claim = f"ip: {features} of layer {layer} collapse as width^{1 - layer}: power of the width in the smallest"
            claim += " eigenvalue, sampling divided out"
            slope = _slope(data, f"diversity_{features}", "ip", layer)
            verdicts.append(_power(claim, 1.0 - layer, slope, EIGENVALUE))
    return verdicts


def _space_time(data: xr.Dataset) -> list[Verdict]:
    verdicts = []
    for features in ("h", "x"):
        chosen = _independent_layers(data, features)
        deep = [layer for layer in chosen if layer > 1]
        claim = f"mup: initial and last {features} stay independent in {_words(chosen)}"
        variable = f"space_time_lambda_min_{features}"
        verdicts.append(_worst({layer: _kept(data, variable, "mup", layer, claim) for layer in chosen}))
        for name, layers in (("ntp", chosen), ("sp", deep)):
            claim = f"{name}: initial and last {features} become dependent in {_words(layers)} as 1/width: power of the"
            claim += " width in the joint smallest eigenvalue, sampling divided out"
            slopes = {layer: _slope(data, variable, name, layer) for layer in layers}
            verdicts.append(_worst({layer: _power(claim, -1.0, slope, EIGENVALUE) for layer, slope in slopes.items()}))
    return verdicts


def _theorem(data: xr.Dataset) -> list[Verdict]:
    """Theorem 4.5 at infinite width, at the steps that are measured; initial with last features, layer by layer."""
    verdicts = []
    for features in ("h", "x"):
        chosen = _independent_layers(data, features)
        for step, number in enumerate(data["gram_step"].values):
            claim = f"infinite width, {features} in {_words(chosen)}, step {number}: features are linearly independent"
            every = {layer: _positive(data, "diversity", features, layer, claim, step) for layer in chosen}
            verdicts.append(_worst(every))
    for features in ("h", "x"):
        for layer in _independent_layers(data, features):
            claim = f"infinite width, {features} of layer {layer}: initial and last features are linearly independent"
            verdicts.append(_positive(data, "space_time_lambda_min", features, layer, claim))
    return verdicts


def _corollary(data: xr.Dataset) -> list[Verdict]:
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


def _errors_stay(data: xr.Dataset) -> Verdict:
    """An input and its negative with one target: no odd network fits both, though its weights stop."""
    weights, errors = corollary_4_6(task_without_inputs(data), run_of(data, "mup", np.inf))
    targets = data["targets"].values
    stopped = weights.verdict == REPRODUCED and np.array_equal(targets[0], targets[1])
    claim = "opposite: infinite width: errors stay where weights stop, as Assumption 4.1 fails: rms chi over its start"
    word = settle(stopped and errors.ours > ERROR, stopped and errors.ours <= ERROR)
    bound = f"> {ERROR:g} where the weights have stopped, and both have one target"
    return errors._replace(claim=claim, bound=bound, verdict=word)


def _last_layer(data: xr.Dataset, part: str) -> Verdict:
    """Linear independence at infinite width in the last layer: expected where the assumptions hold."""
    layer = _layers(data)[-1]
    beyond = " (beyond the theorem)" if part == "relu" else ""
    claim = f"{part}: infinite width, x of layer {layer}, last step: features are linearly independent{beyond}"
    verdict = _positive(data, "diversity", "x", layer, claim)
    if part not in ("duplicated", "opposite"):
        return verdict
    claim = claim.replace("linearly independent", "not to be told from dependent ones, as Assumption 4.1 fails")
    floor = _floor(data, "x", layer, -1)
    word = settle(abs(verdict.ours) <= floor, verdict.verdict == REPRODUCED)
    return verdict._replace(claim=claim, bound=f"at most {floor:.1e}, what rounding leaves", verdict=word)


def _covariance(data: xr.Dataset) -> list[Verdict]:
    """Equal at infinite width; off by n^-1/2 in one network."""
    found = cases(data)
    limit = list(found.values())[-1]
    short = summarize(limit)
    largest, relative = float(np.max(short.max_z)), float(np.max(short.relative_difference))
    equal, close = largest <= short.bound, relative < 0.01
    claim = "infinite width: Gaussian parts keep the covariance of the queries of W: largest |z| of all pairs"
    bound = f"<= {short.bound:.1f}, and differences below 1 % of the covariances"
    verdicts = [
        Verdict(claim, None, largest, None, limit.num_runs, bound, settle(equal and close, not (equal or close)))
    ]
    widths = data["width"].values[:-1]
    runs = min(one.num_runs for one in list(found.values())[:-1])
    for side in ("forward", "backward"):
        values = np.stack([getattr(one, side).deviation[:runs] for one in list(found.values())[:-1]])
        claim = f"one network: {side} covariances are off by width^-1/2: power of the width"
        verdicts.append(_power(claim, -0.5, fit_slope(widths, values), CHANGE))
    return verdicts


def _positive(data: xr.Dataset, metric: str, features: str, layer: int, claim: str, step: int = -1) -> Verdict:
    """muP's infinite-width eigenvalue exceeds 5 standard errors and what rounding leaves of dependent features."""
    value, stderr = infinite(data, f"{metric}_{features}", layer, step)
    floor = _floor(data, features, layer, step)
    bound = f"> {floor:.1e} and > {SIGMAS:g} standard errors"
    word = settle(value > max(floor, SIGMAS * stderr), False)
    return Verdict(claim, None, value, stderr, limit_runs(data), bound, word)


def _floor(data: xr.Dataset, features: str, layer: int, step: int) -> float:
    gram = data[f"{features}_gram"].sel(parametrization="mup", layer=layer, width=np.inf).isel(gram_step=step, seed=0)
    return float(feature_floor(gram.values, data["predictions"].dtype))


def _kept(data: xr.Dataset, variable: str, name: str, layer: int, claim: str) -> Verdict:
    """The limit's smallest eigenvalue is positive, and the widest network's is less by sampling alone.

    The expected smallest eigenvalue of a width is at most the limit's, as it is concave in the Gram matrix, and for
    Gaussian features at least the sampling factor's share of it.
    """
    widths, values = finite(data, variable, name, layer)
    limit, stderr = infinite(data, variable, layer, name=name)
    vectors = data["h_gram"].shape[-1] * (2 if variable.startswith("space") else 1)
    least, seeds = float(metrics.sampling_factor(widths[-1], vectors)), values.shape[1]
    ratio = float(values[-1].mean() / limit)
    error = float(np.hypot(values[-1].std(ddof=1) / seeds**0.5, stderr * ratio) / abs(limit))
    positive = limit > max(_floor(data, variable[-1], layer, -1), SIGMAS * stderr)
    claim += f": smallest eigenvalue at width {widths[-1]:.0f} over its infinite-width value"
    within = least - 3 * error <= ratio <= 1 + 3 * error
    word = settle(positive and within and 3 * error <= 0.1, positive and not within)
    bound = f"{least:.2f} to 1, and 3 standard errors, these at most 0.1; the limit positive by {SIGMAS:g}"
    return Verdict(claim, 1.0, ratio, error, seeds, bound, word)


def _power(claim: str, expected: float, slope: Slope, within: float) -> Verdict:
    """Reproduced where the 95 % interval of the fitted power lies within, contradicted where it lies wholly beyond."""
    away = abs(slope.slope - expected)
    word = settle(away + slope.half_width <= within, away - slope.half_width > within)
    bound = f"{expected:g} ± {within:g} with its 95 % interval"
    return Verdict(claim, expected, slope.slope, slope.stderr, slope.seeds, bound, word)


def _worst(by_layer: Mapping[int, Verdict]) -> Verdict:
    """The contradicted one, or what is not shown, or else the one that is farthest from theory or nearest to zero."""
    order = [CONTRADICTED, NOT_SHOWN, REPRODUCED]

    def rank(layer: int) -> tuple[int, float]:
        verdict = by_layer[layer]
        far = verdict.ours if verdict.paper is None else -abs(verdict.ours - verdict.paper)
        return order.index(verdict.verdict), far

    layer = min(by_layer, key=rank)
    return by_layer[layer]._replace(claim=f"{by_layer[layer].claim} (worst: layer {layer})")


def _slope(data: xr.Dataset, variable: str, name: str, layer: int) -> Slope:
    """The power of the width with the sampling factor divided out, from where that is not below LEAST_FACTOR on."""
    widths, values = finite(data, variable, name, layer)
    vectors = data["h_gram"].shape[-1] * (2 if variable.startswith("space") else 1)
    factor = np.asarray(metrics.sampling_factor(widths, vectors))
    taken = factor >= LEAST_FACTOR
    return fit_slope(widths[taken], values[taken] / factor[taken, None])


def _layers(data: xr.Dataset) -> list[int]:
    return [int(layer) for layer in data["layer"].values]


def _independent_layers(data: xr.Dataset, features: str) -> list[int]:
    return [layer for layer in _layers(data) if (features, layer) != ("h", 1)]


def _words(layers: list[int]) -> str:
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"
