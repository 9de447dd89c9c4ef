r"""Smallest eigenvalues of finite networks and their approach to the infinite-width values.

.. math:: \lambda(n) = \lambda_\infty - b\, n^{-p}

is fitted to networks of finite width alone, and its limit held against the solver's. One eigenvalue fluctuates by
:math:`\kappa n^{-1/2}` relative to itself; kappa is pooled over widths, since a few seeds of one width say little of
their spread. The form is a description: theory gives no rate.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mupjax.reproduce.reading import finite, infinite
from mupjax.statistics import Verdict, decide, not_measured, of_estimate

if TYPE_CHECKING:
    import xarray as xr

FEWEST = 5  # widths that a fit rests on
LEAST_FACTOR = 0.25  # widths whose sampling factor is smaller have no part in a fit
WITHIN = 0.1  # of the infinite-width value
GROUP = "convergence in width"


class Approach(NamedTuple):
    """A fitted limit and power of the width.

    Attributes:
      limit: at infinite width.
      limit_stderr: its standard error.
      power: p.
      power_stderr: its standard error.
      stderr: [W] standard errors of the means that were fitted.
    """

    limit: float
    limit_stderr: float
    power: float
    power_stderr: float
    stderr: np.ndarray


def fit_approach(widths: ArrayLike, values: ArrayLike) -> Approach:
    """Fit a limit and a power of the width to values [width, seed] that come to the limit from below.

    Errors are scaled up by the root of chi squared per degree of freedom where that exceeds 1: where the form does not
    hold to the values' own errors.

    Returns:
      An Approach; NaN and infinite errors where no fit is found.

    Example:
      >>> widths = 4.0 ** np.arange(3, 9)
      >>> noise = 1 + 0.01 * np.random.default_rng(0).standard_normal((6, 8)) / widths[:, None] ** 0.5
      >>> found = fit_approach(widths, noise * (2 - 3 / widths[:, None] ** 0.5))
      >>> round(found.limit, 3), round(found.power, 2)
      (2.0, 0.5)
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    widths, values = np.asarray(widths, np.float64), np.asarray(values, np.float64)
    mean, seeds = values.mean(1), values.shape[1]
    relative = values.std(1, ddof=1) / mean * widths**0.5
    stderr = np.sqrt(np.mean(relative**2)) * mean / (seeds * widths) ** 0.5
    middle = np.exp(np.mean(np.log(widths)))

    def form(n: np.ndarray, limit: float, log_gap: float, power: float) -> np.ndarray:
        return limit - np.exp(log_gap) * (n / middle) ** -power

    start = mean[-1], np.log(max(mean[-1] - mean[len(mean) // 2], 0.01 * abs(mean[-1]))), 0.7
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", OptimizeWarning)
            best, covariance = curve_fit(form, widths, mean, start, stderr, absolute_sigma=True, maxfev=20000)
    except (RuntimeError, OptimizeWarning):
        return Approach(np.nan, np.inf, np.nan, np.inf, stderr)
    free = len(widths) - 3
    chi_squared = float(np.sum(((mean - form(widths, *best)) / stderr) ** 2))
    errors = np.sqrt(np.diag(covariance) * max(1.0, chi_squared / free if free else 1.0))
    return Approach(float(best[0]), float(errors[0]), float(best[2]), float(errors[2]), stderr)


def convergence(data: xr.Dataset) -> list[Verdict]:
    """Return verdicts on muP's joint smallest eigenvalue of the last layer at the last Gram step: rate and limit."""
    layer, step = (int(data[name].values[-1]) for name in ("layer", "gram_step"))
    verdicts = []
    for features in ("h", "x"):
        variable = f"space_time_lambda_min_{features}"
        widths, values = finite(data, variable, "mup", layer)
        taken = data["space_time_sampling_factor"].values[np.isfinite(data["width"].values)] >= LEAST_FACTOR
        where, limit = f"{features} of layer {layer}, step {step}", infinite(data, variable, layer)
        if taken.sum() >= FEWEST:
            verdicts += _verdicts(widths[taken], values[taken], limit, where)
        else:
            claim = f"mup: joint smallest eigenvalue comes to a limit from below as width^-p: p, {where}"
            why = f"not measured: {taken.sum()} of {FEWEST} widths have a sampling factor of {LEAST_FACTOR:g} or more"
            verdicts.append(not_measured(claim, (0.0, math.inf), why, seeds=values.shape[1], group=GROUP))
    return verdicts


def widest_network(data: xr.Dataset) -> Verdict:
    """Return the verdict on muP's widest network: its joint smallest eigenvalue against the limit's."""
    layer, step = (int(data[name].values[-1]) for name in ("layer", "gram_step"))
    widths, values = finite(data, "space_time_lambda_min_h", "mup", layer)
    limit, stderr = infinite(data, "space_time_lambda_min_h", layer)
    seeds = values.shape[1]
    ratio = float(values[-1].mean() / limit)
    error = float(np.hypot(values[-1].std(ddof=1) / seeds**0.5, stderr * ratio) / limit)
    claim = f"mup, width {widths[-1]:.0f}, step {step}: joint smallest eigenvalue over its infinite-width value"
    return of_estimate(claim, ratio, error, (1 - WITHIN, 1 + WITHIN), seeds=seeds, paper=1.0, group=GROUP)


def _verdicts(widths: np.ndarray, values: np.ndarray, limit: tuple[float, float], where: str) -> list[Verdict]:
    from scipy import stats

    fit, seeds = fit_approach(widths, values), values.shape[1]
    span = f"widths {widths[0]:.0f} to {widths[-1]:.0f}, {where}"
    claim = f"mup: joint smallest eigenvalue comes to a limit from below as width^-p: p of {span}"
    degrees = len(widths) - 3
    t = float(stats.t.ppf(0.975, degrees)) if degrees else np.inf
    more = {"seeds": seeds, "group": GROUP}
    rate = _of_fit(claim, fit.power, t * fit.power_stderr, (0.0, np.inf), stderr=fit.power_stderr, **more)
    ratio = fit.limit / limit[0]
    error = float(np.hypot(fit.limit_stderr, limit[1] * ratio) / limit[0])
    claim = f"mup: this limit over the infinite-width value: {span}"
    bound = (1 - WITHIN, 1 + WITHIN)
    return [rate, _of_fit(claim, ratio, t * error, bound, stderr=error, paper=1.0, **more)]


def _of_fit(claim: str, value: float, half_width: float, bound: tuple[float, float], **more: Any) -> Verdict:
    """The verdict on a fitted number, whose interval is Student's with the fit's degrees of freedom."""
    return decide(claim, value, (value - half_width, value + half_width), bound, **more)
