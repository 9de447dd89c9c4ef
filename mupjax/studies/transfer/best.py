r"""Learning-rate transfer: does the best learning rate move as the width grows?

The drift is the slope of :math:`\log_2` best rate against :math:`\log_2` width: octaves of rate per octave of width.
Under muP it is 0 (Yang et al. 2022, arXiv:2203.03466), with one rate for all widths of a standard network it is not.
Its interval is over initialisations: all of a sweep's runs see the same batches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mupjax.statistics import Verdict, decide, mean_slope

if TYPE_CHECKING:
    import xarray as xr

# A drift is taken for none where its whole interval lies within this of zero, in octaves of rate per octave of width.
RESOLUTION = 0.1
CONTROL = "sp"  # the name of the parametrization whose best rate must drift
WINDOW = 1.0  # octaves of rate on each side of the smallest loss that a parabola is fitted to
DIMS = ("parametrization", "optimizer", "width", "seed")
_ROUNDING = 1e-6  # of the logarithms of the rates


def best_rates(dataset: xr.Dataset, loss: str = "train_loss") -> xr.Dataset:
    r"""Return the best learning rate of every network, and its drift with the width.

    The best rate of a seed is the minimum of a parabola in :math:`\log_2` rate, fitted to the logarithms of the
    last-step losses within an octave of the smallest (its two neighbours at least): finer grids make it more precise.
    A run whose loss is not finite, or not below that of step 0 where step 0 was recorded, has diverged. Beside a
    diverged run no parabola is drawn across the cliff: the best rate is the grid's, known to one step of the grid
    (`best_rate_resolution`, 0 elsewhere), and the drift's interval is widened by the most that such errors can add up
    to. Where the smallest loss lies at the end of the rates the optimum is not bracketed: NaN, and no drift.

    Args:
      dataset: what `mupjax.sweep` returns, of one depth and at least two widths.
      loss: 'train_loss' or 'test_loss'.

    Returns:
      A Dataset: best_rate and best_rate_resolution (octaves), dims (parametrization, optimizer, width, seed); drift,
      drift_stderr and drift_half_width (of the 95 % interval, Student's over seeds), dims (parametrization, optimizer).

    Raises:
      ValueError: for several depths, one width, a loss that the sweep does not have.
    """
    import xarray as xr

    if loss not in dataset:
        raise ValueError(f"Expected `loss` to be a variable of the sweep, got loss={loss!r}.")
    depths = dataset.sizes.get("depth", 1)
    if depths != 1 or dataset.sizes["width"] < 2:
        raise ValueError(
            f"Expected `dataset` to have one depth and two widths or more, got {depths} and {dataset.sizes['width']}."
        )
    values = dataset[loss].isel(depth=0) if "depth" in dataset.dims else dataset[loss]
    values = values.transpose(*DIMS, "learning_rate", "step").astype(np.float64)
    last = values.isel(step=-1).values
    begun = values.values[..., 0] if values["step"].values[0] == 0 and values.sizes["step"] > 1 else np.inf
    last = np.where(np.isfinite(last) & (last < begun), last, np.inf)
    best, resolution = np.full((2, *last.shape[:-1]), np.nan)
    order = np.argsort(dataset["learning_rate"].values)
    rates = np.log2(dataset["learning_rate"].values)[order]
    was_run = dataset["was_run"].transpose("optimizer", "learning_rate").values[:, order]
    for place in np.ndindex(best.shape):
        chosen = was_run[place[1]]
        best[place], resolution[place] = _minimum(rates[chosen], last[place][order][chosen])
    octaves = np.log2(dataset["width"].values)
    weights = (octaves - octaves.mean()) / ((octaves - octaves.mean()) ** 2).sum()
    drift, stderr, half_width = np.full((3, *best.shape[:2]), np.nan)
    for place in np.ndindex(drift.shape):
        found = mean_slope(weights @ best[place])
        drift[place], stderr[place] = found.slope, found.stderr
        half_width[place] = found.half_width + np.abs(weights) @ np.nan_to_num(resolution[place]).mean(-1)
    of_drift = "octaves of rate per octave of width"
    variables = {
        "best_rate": (DIMS, 2.0**best, {"units": "1", "long_name": "best base learning rate"}),
        "best_rate_resolution": (DIMS, resolution, {"units": "octaves", "long_name": "how well the grid resolves it"}),
        "drift": (DIMS[:2], drift, {"units": of_drift, "long_name": "drift of the best rate"}),
        "drift_stderr": (DIMS[:2], stderr, {"units": of_drift, "long_name": "its standard error over seeds"}),
        "drift_half_width": (DIMS[:2], half_width, {"units": of_drift, "long_name": "half of its 95 % interval"}),
    }
    return xr.Dataset(variables, {name: dataset[name] for name in (*DIMS, "width_label") if name in dataset.coords})


def _minimum(rates: np.ndarray, losses: np.ndarray) -> tuple[float, float]:
    """Return where one network's losses are smallest, and to what that is known; NaN where it is not bracketed.

    Args:
      rates: [R] log2 of the rates, ascending.
      losses: [R], inf where the network diverged.
    """
    least = int(np.argmin(losses)) if len(losses) else 0
    if not 0 < least < len(rates) - 1:
        return np.nan, np.nan
    x = rates - rates[least]
    step = max(-x[least - 1], x[least + 1])
    lost = np.abs(x)[~np.isfinite(losses)].min(initial=np.inf)
    if lost <= step:
        return rates[least], step
    reach = max(step, min(WINDOW, -x[0], x[-1]))
    near = np.abs(x) <= min(reach * (1 + _ROUNDING), lost * (1 - _ROUNDING))
    curvature, slope, _ = np.polyfit(x[near], np.log(np.maximum(losses[near], np.finfo(np.float32).tiny)), 2)
    if not curvature * reach > abs(slope) / 2:  # no valley within reach
        return rates[least], reach
    return rates[least] - slope / (2 * curvature), 0.0


def judge(dataset: xr.Dataset, *, loss: str = "train_loss", control: str | None = CONTROL) -> list[Verdict]:
    """Return a verdict for each parametrization and optimizer: the control's best rate falls, all others' stay.

    A best rate stays where the whole 95 % interval of its drift lies within RESOLUTION of zero; the control's falls
    where it lies wholly below -RESOLUTION. A drift whose optima are not bracketed is not measured.

    Args:
      dataset: what `mupjax.sweep` returns, of one depth. Nothing else enters.
      loss: 'train_loss' or 'test_loss'.
      control: the parametrization that must drift, sp with learning_rate_exponent=0; None where there is none.
    """
    found, verdicts = best_rates(dataset, loss), []
    for parametrization in map(str, found["parametrization"].values):
        for optimizer in map(str, found["optimizer"].values):
            one = found.sel(parametrization=parametrization, optimizer=optimizer)
            drift, stderr, half_width = (float(one[name]) for name in ("drift", "drift_stderr", "drift_half_width"))
            falls = parametrization == control
            claim = (
                f"{parametrization} ({optimizer}): the best rate {'falls' if falls else 'stays'} as the width grows: "
            )
            claim += "octaves of rate per octave of width"
            bound = (-math.inf, -RESOLUTION) if falls else (-RESOLUTION, RESOLUTION)
            lost, coarse = int(np.isnan(one["best_rate"].values).sum()), float(one["best_rate_resolution"].max())
            needs = "a finer grid of rates: networks diverge beside the best one" if coarse > 0 else ""
            if lost:
                needs = f"not measured: {lost} of {one['best_rate'].size} optima are not bracketed by the rates"
            interval = drift - half_width, drift + half_width
            seeds = one.sizes["seed"]
            verdicts.append(decide(claim, drift, interval, bound, stderr=stderr, seeds=seeds, needs=needs))
    return verdicts
