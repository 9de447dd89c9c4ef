r"""Rich features and global convergence in muP (Chen, Yang, Zhao & Gu 2025, arXiv:2503.09565): settings and claims.

The paper's experiment (Sec. 5): a multilayer perceptron with three hidden layers on CIFAR-10 under SP, NTP, IP and muP;
feature change, feature diversity and space-time non-degeneracy against width. Here on 32 images of two classes, each
with the infinite-width value beside it, and beyond the paper other depths, ReLU, minibatches, inputs that break
Assumption 4.1, test errors and first-order models. The paper shows its results as figures; where it prints no number,
`Verdict.paper` holds what its theory says (a power of the width) or None.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mupjax import metrics
from mupjax.reproduce.parts import MAIN, Part, run_part
from mupjax.verdicts import CONTRADICTED, NOT_SHOWN, REPRODUCED, Slope, Verdict, feature_floor, fit_slope

WIDE_STEP = 6  # what width 10^6 can be trained for: every step asks every hidden matrix in 32 new directions
SIGMAS = 5.0
_DATA = {"classes": (0, 1), "train_size": 32, "test_size": None}
_WITH_TEST = {"classes": (0, 1), "train_size": 128, "test_size": 180}
_FULL = {"seeds": 5, "steps": 300, "centred": False, "particles": 4096, "limit_runs": 8, "max_directions": 512}
_QUICK = {"seeds": 3, "steps": 60, "centred": False, "particles": 512, "limit_runs": 4, "max_directions": 256}


def parts(quick: bool = False) -> list[Part]:
    """Return the study's parts. quick: the same questions with fewer widths, seeds and steps, in under three minutes.

    Example:
      >>> [part.name for part in parts()][:4]
      ['main', 'wide', 'widest', 'relu']
    """
    base: dict[str, Any] = _QUICK if quick else _FULL
    few = base if quick else base | {"particles": 2048, "limit_runs": 4}
    widths = (128, 512) if quick else (256, 1024)
    one = few | {"parametrizations": ("mup",), "widths": widths}
    steps = {"gram_steps": (0, WIDE_STEP, -1)}
    every = (128, 256, 512) if quick else (64, 128, 256, 512, 1024, 2048, 4096)
    wide = base | {"steps": WIDE_STEP, "matrix_free_from": 1, "widths": (4096,) if quick else (65536,)}
    widest = wide | {"parametrizations": ("mup",), "widths": (32768,) if quick else (1048576,)}
    depths = (1, 5) if quick else (1, 2, 4, 5, 6, 7, 8)
    test = few | {"widths": widths[-1:], "steps": 60 if quick else 100}
    return [
        Part(MAIN, "the paper's experiment", _DATA, base | steps | {"widths": every}),
        Part("wide", "networks without hidden matrices", _DATA, wide),
        Part("widest", "the widest networks", _DATA, widest | ({"seeds": 2} if quick else {})),
        Part("relu", "ReLU in place of tanh", _DATA, one | {"activation": "relu", "learning_rate": 0.3}),
        Part("minibatch", "batches of 8", _DATA, one | {"batch_size": 8}),
        *(Part(f"depth-{depth}", f"{depth} hidden layers", _DATA, one | {"depth": depth}) for depth in depths),
        Part("duplicated", "an input twice", _DATA, one, "duplicated"),
        Part("opposite", "an input and its negative", _DATA, one, "opposite"),
        Part("correlated", "an input and a near copy", _DATA, one, "correlated"),
        Part("test", "test errors", _WITH_TEST, test),
        Part("linearized", "test errors of first-order models", _WITH_TEST, test | {"linearize": True}),
    ]


def reproduce(
    dataset: str,
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
      dataset: 'cifar10', as in the paper, or another one.
      quick: see `parts`.
      names: of the parts to run; by default all.
      data_dir, out, memory_gb, progress: as in `parts.run_part`. Finished parts are kept: the same call goes on.

    Returns:
      {part: Dataset}, and the verdicts on the claims of these parts.

    Raises:
      ValueError: for an unknown part, and as `run_part`.
    """
    chosen = parts(quick)
    known = [part.name for part in chosen]
    if unknown := [name for name in names or () if name not in known]:
        raise ValueError(f"Expected `parts` to be drawn from {', '.join(known)}, got {unknown[0]!r}.")
    common: dict[str, Any] = {"data_dir": data_dir, "out": out, "memory_gb": memory_gb, "progress": progress}
    found = {part.name: run_part(part, dataset, **common) for part in chosen if names is None or part.name in names}
    return found, judge(found)


def judge(found: Mapping[str, Any]) -> list[Verdict]:
    """Return the verdicts on the claims of these parts, from their Datasets alone."""
    verdicts = []
    if MAIN in found:
        verdicts += [*_feature_change(found[MAIN]), *_diversity(found[MAIN]), *_space_time(found[MAIN])]
        verdicts += _convergence(found[MAIN])
    others = {"relu", "minibatch", "duplicated", "opposite", "correlated"}
    for name, data in found.items():
        if name in others or name.startswith("depth-"):
            verdicts += _independence(data, name)
        elif name in ("wide", "widest"):
            verdicts += _wide(data)
    return verdicts


def _feature_change(data: Any) -> list[Verdict]:
    claims = []
    for name, power in (("mup", 0.0), ("sp", -0.5), ("ntp", -0.5)):
        words = "stays as the width grows" if not power else "falls as width^-1/2"
        slope = _slope(data, "feature_change_h", name)
        claims.append(_power(f"{name}: feature change {words}: power of the width", power, slope, 0.1))
    return claims


def _diversity(data: Any) -> list[Verdict]:
    claims = []
    for name in ("sp", "ntp", "mup"):
        slope = _slope(data, "diversity_h", name, divide="diversity_sampling_factor")
        claim = f"{name}: features stay diverse: power of the width in the smallest eigenvalue, sampling divided out"
        claims.append(_power(claim, 0.0, slope, 0.2))
    slope = _slope(data, "diversity_h", "ip")
    word = _word(slope.slope + slope.half_width < -0.5, slope.slope - slope.half_width > -0.5)
    claim = "ip: features collapse: power of the width in the smallest eigenvalue"
    return [*claims, Verdict(claim, None, slope.slope, slope.stderr, slope.seeds, "< -0.5 with its interval", word)]


def _space_time(data: Any) -> list[Verdict]:
    claims = []
    for name, power, within in (("mup", 0.0, 0.25), ("sp", -1.0, 0.25), ("ntp", -1.0, 0.25)):
        words = "stays non-degenerate" if not power else "degenerates as 1/width"
        slope = _slope(data, "space_time_lambda_min_h", name, divide="space_time_sampling_factor")
        claim = f"{name}: space-time Gram {words}: power of the width in its smallest eigenvalue, sampling divided out"
        claims.append(_power(claim, power, slope, within))
    return claims + [
        _positive(data, "space_time_lambda_min", features, layer, f"infinite width, {features} of layer {layer}")
        for features in ("h", "x")
        for layer in map(int, data["layer"].values)
        if (features, layer) != ("h", 1)  # linear in the inputs at step 0: their rank decides
    ]


def _convergence(data: Any) -> list[Verdict]:
    """The fitted power of the width in the distance of muP's space-time eigenvalue from its infinite-width value."""
    widths, values = _finite(data, "space_time_lambda_min_h", "mup")
    limit = float(_last(data, "space_time_lambda_min_h", "mup").sel(width=np.inf).isel(seed=0))
    taken = widths >= 128
    gaps = limit - values[taken].mean(1)
    error = values[taken].std(1, ddof=1) / values.shape[1] ** 0.5
    clear = gaps > 2 * error
    claim = "mup: networks' space-time eigenvalue comes from below to the infinite-width value: power of the width"
    if clear.sum() < 2:
        return [Verdict(claim, None, float("nan"), None, values.shape[1], "< 0 with its interval", NOT_SHOWN)]
    x = np.log(widths[taken][clear])
    weight = (gaps / error)[clear]
    (slope, _), covariance = np.polyfit(x, np.log(gaps[clear]), 1, w=weight, cov="unscaled")
    stderr = float(covariance[0, 0] ** 0.5)
    word = _word(slope + 2 * stderr < 0, slope - 2 * stderr > 0)
    return [Verdict(claim, None, float(slope), stderr, values.shape[1], "< 0 with two standard errors", word)]


def _wide(data: Any) -> list[Verdict]:
    """The widest network against the limit, both after WIDE_STEP steps."""
    _, values = _finite(data, "space_time_lambda_min_h", "mup")
    last = _last(data, "space_time_lambda_min_h", "mup")
    limit = float(last.sel(width=np.inf).isel(seed=0))
    stderr = _limit_stderr(data, "space_time_lambda_min_h")
    count = values.shape[1]
    ratio = float(values[-1].mean() / limit)
    error = float(np.hypot(values[-1].std(ddof=1) / count**0.5, stderr) / limit)
    label = str(data["width_label"].values[-2])
    claim = f"mup, width {label}, step {WIDE_STEP}: space-time eigenvalue over its infinite-width value"
    within = abs(ratio - 1) <= 0.05 + 2 * error
    bound = "within 5 % of 1, and two standard errors"
    return [Verdict(claim, 1.0, ratio, error, count, bound, _word(within, not within))]


def _independence(data: Any, part: str) -> list[Verdict]:
    """Linear independence at infinite width in the last layer: expected where the assumptions hold."""
    last = int(data["layer"].values[-1])
    verdict = _positive(data, "diversity", "x", last, f"{part}: infinite width, x of layer {last}, last step")
    if part not in ("duplicated", "opposite"):
        return [verdict]
    claim = verdict.claim.replace("linearly independent", "linearly dependent, as Assumption 4.1 fails")
    word = {REPRODUCED: CONTRADICTED, NOT_SHOWN: REPRODUCED}[verdict.verdict]
    return [verdict._replace(claim=claim, bound="at most what rounding leaves", verdict=word)]


def test_errors(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return test errors as plain text, mean ± standard error over seeds; the paper claims nothing of them."""
    rows = []
    for part, kind in (("test", "network"), ("linearized", "first-order model")):
        if part not in found:
            continue
        data = found[part]
        for name in map(str, data["parametrization"].values):
            for width, label in zip(data["width"].values, data["width_label"].values, strict=True):
                errors = data["test_error"].sel(parametrization=name, width=width).values
                if np.isfinite(errors).all() and not (np.isinf(width) and part == "linearized"):
                    spread = f" ± {errors.std(ddof=1) / len(errors) ** 0.5:.3f}" if np.isfinite(width) else ""
                    rows.append(
                        [name, "limit" if np.isinf(width) else kind, str(label), f"{errors.mean():.3f}{spread}"]
                    )
    return ["parametrization", "what", "width", "test error"], rows


def _positive(data: Any, metric: str, features: str, layer: int, where: str) -> Verdict:
    """muP's infinite-width eigenvalue exceeds 5 standard errors and what rounding leaves of dependent features."""
    name = f"{metric}_{features}"
    value = float(_last(data, name, "mup", layer).sel(width=np.inf).isel(seed=0))
    stderr = _limit_stderr(data, name, layer)
    gram = data[f"{features}_gram"].sel(parametrization="mup", layer=layer, width=np.inf).isel(gram_step=-1, seed=0)
    floor = float(feature_floor(gram.values))
    joint = "initial and last features" if metric.startswith("space") else "features"
    claim = f"{where}: {joint} are linearly independent"
    bound = f"> {floor:.1e} and > {SIGMAS:g} standard errors"
    runs = int(json.loads(data.attrs["arguments"])["limit_runs"])
    return Verdict(claim, None, value, stderr, runs, bound, _word(value > max(floor, SIGMAS * stderr), False))


def _power(claim: str, expected: float, slope: Slope, within: float) -> Verdict:
    """Reproduced where the fitted power lies within, contradicted where its interval lies wholly beyond."""
    away = abs(slope.slope - expected)
    word = _word(away <= within and slope.half_width <= within, away - slope.half_width > within)
    bound = f"{expected:g} ± {within:g}, and the 95 % interval no wider"
    return Verdict(claim, expected, slope.slope, slope.stderr, slope.seeds, bound, word)


def _word(met: bool, refuted: bool) -> str:
    return REPRODUCED if met else CONTRADICTED if refuted else NOT_SHOWN


def _slope(data: Any, variable: str, name: str, divide: str | None = None) -> Slope:
    """The power of the width, from where the sampling factor is not below a tenth on."""
    widths, values = _finite(data, variable, name)
    if divide is None:
        return fit_slope(widths, values)
    vectors = data["h_gram"].shape[-1] * (2 if divide.startswith("space") else 1)
    factor = np.asarray(metrics.sampling_factor(widths, vectors))
    taken = factor >= 0.08
    return fit_slope(widths[taken], values[taken] / factor[taken, None])


def _finite(data: Any, variable: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Finite widths [W] and values [W, S] of the last layer at the last step, not below their resolution."""
    widths = data["width"].values
    values = _last(data, variable, name).transpose("width", "seed").values
    if f"{variable}_resolution" in data:
        values = np.maximum(values, _last(data, f"{variable}_resolution", name).transpose("width", "seed").values)
    return widths[np.isfinite(widths)], values[np.isfinite(widths)]


def _last(data: Any, variable: str, name: str, layer: int | None = None) -> Any:
    at_end = data[variable].isel(gram_step=-1).sel(parametrization=name)
    return at_end.isel(layer=-1) if layer is None else at_end.sel(layer=layer)


def _limit_stderr(data: Any, variable: str, layer: int | None = None) -> float:
    return float(_last(data, f"{variable}_stderr", "mup", layer))
