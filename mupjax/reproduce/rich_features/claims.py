"""The claims of `rich_features`, each judged from the stored Datasets of its parts.

A claim of several layers is as good as its worst layer, whose number it shows. Preactivations of layer 1 are linear in
the inputs at step 0, and independent only where the inputs are: claims of independence leave them out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mupjax import metrics
from mupjax.reproduce.parts import MAIN, WIDE
from mupjax.reproduce.reading import across_widths, finite, infinite, limit_runs, run_of, task_without_inputs
from mupjax.reproduce.rich_features.width_limit import LEAST_FACTOR, convergence, widest_network
from mupjax.statistics import Slope, Verdict, control, decide, exact, fit_slope, of_estimate, of_slope, worst
from mupjax.studies.covariance import cases
from mupjax.theorems.covariance import summarize
from mupjax.theorems.global_convergence import ERROR, STILL, coming_to_rest, corollary_4_6, feature_floor, positive

if TYPE_CHECKING:
    import xarray as xr

# How far a fitted power's interval may reach from theory's. The sampling factor is a bound and no law, and leaves
# powers of its own in eigenvalues.
CHANGE, EIGENVALUE = 0.1, 0.25
NEAR_LIMIT = 0.1  # of eigenvalues over the limit's, beyond what sampling allows: room for their errors
TABLE, BEYOND = "Sec. 5, the table", "beyond the theorems"


def judge(found: Mapping[str, xr.Dataset]) -> list[Verdict]:
    """Return the verdicts on the claims of these parts, from their Datasets alone."""
    verdicts: list[Verdict] = []
    if MAIN in found:
        data = found[MAIN]
        verdicts += [*_feature_change(data), *_diversity(data), *_space_time(data), *_theorem(data), *_corollary(data)]
        verdicts += [*_absolute(data), *convergence(data)]
    if "updates" in found:
        verdicts += _own_updates(found["updates"])
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
    return control(verdicts)


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
            verdicts.append(_of_layers(claim, {layer: _power(claim, power, s, CHANGE) for layer, s in slopes.items()}))
    return verdicts


def _own_updates(data: xr.Dataset) -> list[Verdict]:
    """Every layer's own updates move its preactivations alike at every width, the readout's the outputs.

    A change of features does not show this: a layer that learns nothing moves with its input.
    """
    verdicts = []
    for part, step, words in (("first", 1, "first update"), ("later", int(data["step"].values[-1]), "later updates")):
        claim = f"mup: mean |(W_t - W_s) x| of every layer's {words}, step {step}: power of the width"
        one = data["contribution"].sel(parametrization="mup", part=part, step=step).transpose("kernel", "width", "seed")
        every = {}
        for kernel, values in zip(data["kernel"].values, one.values.astype(float), strict=True):
            if (values == 0).all():  # a layer that never learns
                every[int(kernel)] = exact(claim, -math.inf, (-CHANGE, CHANGE), seeds=values.shape[1], group=TABLE)
            else:
                every[int(kernel)] = _power(claim, 0.0, fit_slope(data["width"].values, values), CHANGE)
        verdicts.append(_of_layers(claim, every))
    return verdicts


def _diversity(data: xr.Dataset) -> list[Verdict]:
    """Smallest eigenvalues: of order one, but ip's, whose features have the size n^-(l-1)/2 at the start."""
    verdicts = []
    for features in ("h", "x"):
        chosen = _independent_layers(data, features)
        for name in ("mup", "ntp", "sp"):
            claim = f"{name}: {features} stay diverse in {_words(chosen)}"
            every = {layer: _kept(data, f"diversity_{features}", name, layer, claim) for layer in chosen}
            verdicts.append(_of_layers(claim, every))
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
        verdicts.append(_of_layers(claim, {layer: _kept(data, variable, "mup", layer, claim) for layer in chosen}))
        for name, layers in (("ntp", chosen), ("sp", deep)):
            claim = f"{name}: initial and last {features} become dependent in {_words(layers)} as 1/width: power of the"
            claim += " width in the joint smallest eigenvalue, sampling divided out"
            slopes = {layer: _slope(data, variable, name, layer) for layer in layers}
            powers = {layer: _power(claim, -1.0, slope, EIGENVALUE) for layer, slope in slopes.items()}
            verdicts.append(_of_layers(claim, powers))
    return verdicts


def _theorem(data: xr.Dataset) -> list[Verdict]:
    """Theorem 4.5 at infinite width, at the steps that are measured; initial with last features, layer by layer.

    At step 0 every parametrization with these initial variances has the Gram matrices of the kernel limit, which
    neural-tangents computes: an independent value of the same eigenvalue.
    """
    verdicts = []
    for features in ("h", "x"):
        chosen = _independent_layers(data, features)
        for step, number in enumerate(data["gram_step"].values):
            claim = (
                f"infinite width, {features} in {_words(chosen)}, step {number}: features are linearly independent: "
            )
            claim += "smallest eigenvalue"
            every = {layer: _positive(data, "diversity", features, layer, claim, step) for layer in chosen}
            verdicts.append(_of_layers(claim, every))
        if "ntp" in data["parametrization"].values:
            verdicts.append(_initial_eigenvalues(data, features, chosen))
    for features in ("h", "x"):
        for layer in _independent_layers(data, features):
            claim = f"infinite width, {features} of layer {layer}: initial and last features are linearly independent: "
            claim += "smallest eigenvalue"
            verdicts.append(_positive(data, "space_time_lambda_min", features, layer, claim))
    return verdicts


def _initial_eigenvalues(data: xr.Dataset, features: str, layers: list[int]) -> Verdict:
    claim = f"infinite width, {features} in {_words(layers)}, step 0: smallest eigenvalue over that of the NNGP kernel"
    every = {}
    for layer in layers:
        value, stderr = infinite(data, f"diversity_{features}", layer, 0)
        kernel, _ = infinite(data, f"diversity_{features}", layer, 0, name="ntp")
        ratio, error, runs = value / kernel, stderr / kernel, limit_runs(data)
        every[layer] = of_estimate(claim, ratio, error, (0.95, 1.05), seeds=runs, paper=1.0, group="Theorem 4.5")
    return _of_layers(claim, every)


def _absolute(data: xr.Dataset) -> list[Verdict]:
    """muP's widest networks against the infinite-width values themselves, not their powers of the width alone."""
    verdicts = []
    for features in ("h", "x"):
        layers = _layers(data)
        claim = f"mup: change of {features} in {_words(layers)} of the widest networks over its infinite-width value"
        every = {}
        for layer in layers:
            _, values = finite(data, f"feature_change_{features}", "mup", layer)
            limit, stderr = infinite(data, f"feature_change_{features}", layer)
            every[layer] = _over_limit(claim, values[-1], limit, stderr, (0.9, 1.1))
        verdicts.append(_of_layers(claim, every))
    return verdicts


def _corollary(data: xr.Dataset) -> list[Verdict]:
    """Corollary 4.6 for the limit, of which it speaks, and for the widest networks."""
    task, rate = task_without_inputs(data), float(data["learning_rate"].sel(parametrization="mup"))
    of_limit = corollary_4_6(task, run_of(data, "mup", np.inf), learning_rate=rate)
    widths = data["width"].values
    widest = float(widths[np.isfinite(widths)][-1])
    of_networks = corollary_4_6(task, run_of(data, "mup", widest), learning_rate=rate)
    return [
        *(verdict._replace(claim=f"infinite width: {verdict.claim}") for verdict in of_limit),
        *(verdict._replace(claim=f"width {widest:.0f}: {verdict.claim}") for verdict in of_networks),
    ]


def _errors_stay(data: xr.Dataset) -> Verdict:
    """An input and its negative with one target: no odd network fits both, though its weights stop."""
    rest = coming_to_rest(task_without_inputs(data), run_of(data, "mup", np.inf))
    left, targets = float(rest.left.min()), data["targets"].values
    stopped = bool((rest.moving <= STILL).all()) and np.array_equal(targets[0], targets[1])
    claim = "opposite: infinite width: errors stay where weights stop, as Assumption 4.1 fails: rms chi over its start"
    interval = (left, left) if stopped else (0.0, left)
    needs, group = "more steps, and one target for both inputs", "Assumption 4.1"
    return decide(claim, left, interval, (ERROR, math.inf), seeds=len(rest.left), needs=needs, group=group)


def _last_layer(data: xr.Dataset, part: str) -> Verdict:
    """Linear independence at infinite width in the last layer: expected where the assumptions hold."""
    layer = _layers(data)[-1]
    words = f"{part}: infinite width, x of layer {layer}, last step: features are"
    if part in ("duplicated", "opposite"):
        value, stderr = infinite(data, "diversity_x", layer, -1)
        floor = _floor(data, "x", layer, -1)
        claim = f"{words} not to be told from dependent ones, as Assumption 4.1 fails: smallest eigenvalue"
        return of_estimate(claim, value, stderr, (-floor, floor), seeds=limit_runs(data), group="Assumption 4.1")
    group = BEYOND if part == "relu" else "Theorem 4.5"
    claim = f"{words} linearly independent{' (beyond the theorem)' if part == 'relu' else ''}: smallest eigenvalue"
    return _positive(data, "diversity", "x", layer, claim)._replace(group=group)


def _covariance(data: xr.Dataset) -> list[Verdict]:
    """Equal at infinite width; off by n^-1/2 in one network."""
    found = cases(data)
    limit = list(found.values())[-1]
    short = summarize(limit)
    largest, error = float(np.max(short.max_z)), float(np.max(short.relative_stderr))
    claim = "infinite width: Gaussian parts keep the covariance of the queries of W: largest |z| of all pairs"
    bound, group = (0.0, float(short.bound)), "covariance preservation"
    # Where errors are large a small z says little: of what a better study would find, only that |z| is at least 0.
    coarse = error > 0.01 and largest <= short.bound
    interval = (largest, math.inf) if coarse else (largest, largest)
    needs = f"more runs: errors are {100 * error:.2g} % of the covariances, and 1 % is asked" if coarse else ""
    verdicts = [decide(claim, largest, interval, bound, seeds=limit.num_runs, needs=needs, group=group)]
    widths = data["width"].values[:-1]
    runs = min(one.num_runs for one in list(found.values())[:-1])
    for side in ("forward", "backward"):
        values = np.stack([getattr(one, side).deviation[:runs] for one in list(found.values())[:-1]])
        claim = f"one network: {side} covariances are off by width^-1/2: power of the width"
        verdicts.append(_power(claim, -0.5, fit_slope(widths, values), CHANGE, "covariance preservation"))
    return verdicts


def _positive(data: xr.Dataset, metric: str, features: str, layer: int, claim: str, step: int = -1) -> Verdict:
    """muP's infinite-width eigenvalue is positive beyond its error and beyond what rounding leaves."""
    value, stderr = infinite(data, f"{metric}_{features}", layer, step)
    return positive(claim, value, stderr, limit_runs(data), _floor(data, features, layer, step))


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
    least = float(metrics.sampling_factor(widths[-1], vectors))
    claim += f": smallest eigenvalue at width {widths[-1]:.0f} over its infinite-width value"
    found = _over_limit(claim, values[-1], limit, stderr, (least - NEAR_LIMIT, 1 + NEAR_LIMIT))
    if limit - 2 * stderr > _floor(data, variable[-1], layer, -1):
        return found
    needs, more = "a limit with smaller errors: its eigenvalue is not told from zero", {"paper": 1.0, "group": TABLE}
    return decide(claim, found.ours, (-math.inf, math.inf), found.bound, seeds=found.seeds, needs=needs, **more)


def _over_limit(claim: str, values: np.ndarray, limit: float, stderr: float, bound: tuple[float, float]) -> Verdict:
    """The mean over seeds, over the limit's value.

    Beyond the bound the limit's error counts as at the bound's end, where it is put to the test: a ratio of a hundred
    is not in doubt because a hundredth of it is.
    """
    ratio, count = float(values.mean() / limit), len(values)
    error = np.hypot(values.std(ddof=1) / count**0.5, stderr * np.clip(ratio, *bound)) / abs(limit)
    return of_estimate(claim, ratio, float(error), bound, seeds=count, paper=1.0, group=TABLE)


def _power(claim: str, expected: float, slope: Slope, within: float, group: str = TABLE) -> Verdict:
    """The fitted power lies within `within` of theory's."""
    return of_slope(claim, slope, (expected - within, expected + within), paper=expected, group=group)


def _of_layers(claim: str, by_layer: Mapping[int, Verdict]) -> Verdict:
    """The verdict of the layer that decides, with its number in the claim."""
    every = {layer: verdict._replace(claim=f"{claim} (worst: layer {layer})") for layer, verdict in by_layer.items()}
    return worst(list(every.values()))


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
