r"""Distance of finite networks from their limit at each width: of one network, and of the mean over initialisations.

A network's outputs fluctuate around the limit by :math:`n^{-1/2}`; their mean over initialisations is off by
:math:`n^{-1}`. Widths up to 4,096 train real weights (`dynamics.dense`), from 1,024 on `dynamics.matrix_free` trains
without them: where both do, they must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from mupjax.parametrization import Parametrization
from mupjax.studies.cells import DENSE, MATRIX_FREE, Settings, train_seeds
from mupjax.studies.limit.variables import VARIABLES
from mupjax.sweeps.runner import Arrays
from mupjax.task import Task

if TYPE_CHECKING:
    import xarray as xr

WIDTHS = tuple(4**k for k in range(3, 11))  # 64 .. 1,048,576
DENSE_UP_TO, MATRIX_FREE_FROM = 4096, 1024
FULL_SEEDS_UP_TO, FEWEST_SEEDS = 256, 4
_GROUPS = 16  # of seeds, left out in turn


class Point(NamedTuple):
    """Networks of one width, trained one way. Errors are root mean squares over the recorded outputs.

    Attributes:
      width: hidden units.
      dynamics: 'dense' or 'matrix-free'.
      seeds: number of networks.
      error_run: distance of one network from the limit, the limit's own scatter subtracted; 0 where that explains all
        of it.
      error_run_stderr: its standard error.
      error_mean: likewise of the mean over seeds, their scatter subtracted too; NaN for fewer than 16 seeds.
      error_mean_stderr: its standard error.
    """

    width: int
    dynamics: str
    seeds: int
    error_run: float
    error_run_stderr: float
    error_mean: float
    error_mean_stderr: float


class Slope(NamedTuple):
    """A fitted power of the width.

    Attributes:
      value: the power.
      stderr: its standard error.
      points: number of widths behind it.
    """

    value: float
    stderr: float
    points: int


def plan(widths: Sequence[int], seeds: int) -> list[tuple[int, str, int]]:
    """Return (width, dynamics, seeds) for every point: seeds fall as 1/n beyond width 256 (1/n^2 with
    real weights), to four.

    Raises:
      ValueError: for widths that are not ascending positive ints, or fewer than four seeds.
    """
    if list(widths) != sorted(set(widths)) or any(not isinstance(n, int) or n < 1 for n in widths):
        raise ValueError(f"Expected `widths` to be ascending positive ints, got widths={tuple(widths)!r}.")
    if seeds < FEWEST_SEEDS:
        raise ValueError(f"Expected `seeds` to be at least {FEWEST_SEEDS}, got seeds={seeds}.")
    points = []
    for width in widths:
        count = max(FEWEST_SEEDS, min(seeds, seeds * FULL_SEEDS_UP_TO // width))
        if width <= DENSE_UP_TO:  # the work grows with the square of the width
            points.append((width, DENSE, max(FEWEST_SEEDS, min(count, seeds * FULL_SEEDS_UP_TO**2 // width**2))))
        if width >= MATRIX_FREE_FROM:
            points.append((width, MATRIX_FREE, count))
    return points


def compute(
    task: Task,
    preset: Parametrization,
    point: tuple[int, str, int],
    rate: float,
    settings: Settings,
    *,
    so_far: xr.Dataset,
) -> Arrays:
    """Train one point's seeds and compare their predictions with the limit's in `so_far`; a cell's function."""
    limit = so_far.isel(parametrization=0, width=0)
    width, name, seeds = point
    # Keys of their own for each dynamics, so that overlapping widths are independent measurements.
    key = jax.random.fold_in(settings.key, name == DENSE)
    runs = train_seeds(task, preset, name, width, rate, seeds, of_outputs(settings), key)
    f, reference = (np.asarray(one, np.float64)[..., 1:, :, :] for one in (runs.predictions, limit["predictions"][0]))
    found = _errors(f, reference, np.nan_to_num(limit["predictions_stderr"].values[1:]))
    return {name: np.array([value]) for name, value in zip(ERRORS, found, strict=True)}


def of_outputs(settings: Settings) -> Settings:
    """Return the settings without features."""
    return settings._replace(spec=settings.spec.without_grams())


def _errors(f: np.ndarray, reference: np.ndarray, reference_stderr: np.ndarray) -> tuple[float, float, float, float]:
    """Errors of runs [S, R, P, C], with standard errors from leaving out groups of seeds in turn."""

    def of(kept: np.ndarray) -> np.ndarray:
        chosen = f[kept]
        scatter = chosen.var(axis=0, ddof=1) / len(chosen)
        of_run, of_mean = np.mean((chosen - reference) ** 2), np.mean((chosen.mean(0) - reference) ** 2 - scatter)
        return np.array([of_run, of_mean]) - np.mean(reference_stderr**2)

    seeds = np.arange(len(f))
    groups = min(_GROUPS, len(f) if len(f) > 2 else 1)
    squares = of(seeds)
    left_out = np.array([of(seeds[seeds % groups != group]) for group in range(groups)])
    stderr = (groups - 1) ** 0.5 * left_out.std(0)
    roots = np.sqrt(np.maximum(squares, 0))
    # The reference's error enters the square as twice the bias times it, the same for all seeds.
    stderr = np.hypot(stderr, 2 * roots[1] * np.sqrt(np.mean(reference_stderr**2)))
    # The root's error where the square is resolved, else the root of the square's error: a bound.
    errors = np.where(squares > stderr, stderr / (2 * np.where(roots > 0, roots, 1)), np.sqrt(stderr))
    if len(f) < _GROUPS:
        roots[1] = errors[1] = np.nan
    return float(roots[0]), float(errors[0]), float(roots[1]), float(errors[1])


def fit(points: Sequence[Point], kind: str) -> Slope:
    """Fit log error = slope log n + c by weighted least squares, from the narrowest width up to the last resolved one.

    Points after the first one that is not resolved to three standard errors are excluded: keeping only the resolved
    ones would bias the slope.

    Args:
      points: errors of single widths, narrowest first.
      kind: 'run' or 'mean'.
    """
    chosen = [(p.width, getattr(p, f"error_{kind}"), getattr(p, f"error_{kind}_stderr")) for p in points]
    ends = [i for i, (_, e, s) in enumerate(chosen) if not e > 3 * s > 0]
    chosen = chosen[: min(ends, default=len(chosen))]
    if len({n for n, _, _ in chosen}) < 2:
        return Slope(float("nan"), float("nan"), len(chosen))
    n, error, stderr = np.array(chosen).T
    design, weight = np.stack([np.log(n), np.ones_like(n)], axis=1), error / stderr
    covariance = np.linalg.inv((design * weight[:, None] ** 2).T @ design)
    slope = (covariance @ (design.T @ (weight**2 * np.log(error))))[0]
    return Slope(float(slope), float(covariance[0, 0] ** 0.5), len(chosen))


ERRORS = ("error_run", "error_run_stderr", "error_mean", "error_mean_stderr")


def known(points: Sequence[tuple[int, str, int]]) -> dict[str, tuple]:
    """Return what is known of the points before they are trained."""
    sizes, dynamics, seeds = zip(*points, strict=True)
    return {
        "point_width": ("point", [float(size) for size in sizes], VARIABLES["point_width"].attrs),
        "point_dynamics": ("point", list(dynamics)),
        "point_seeds": ("point", list(seeds)),
    }


def points_of(data: xr.Dataset) -> list[Point]:
    """Return the points of a finished study."""
    names = ("point_width", "point_dynamics", "point_seeds", *ERRORS)
    return [
        Point(int(width), str(name), *rest) for width, name, *rest in zip(*(data[n].values for n in names), strict=True)
    ]


def with_slopes(data: xr.Dataset) -> xr.Dataset:
    """Return the study with the fitted powers of the width, `slope_run` and `slope_mean`."""
    points, found = points_of(data), {}
    for kind in ("run", "mean"):
        slope = fit(points, kind)
        name = f"slope_{kind}"
        found[name] = ((), slope.value, VARIABLES[name].attrs | {"points": slope.points})
        found[f"{name}_stderr"] = ((), slope.stderr, VARIABLES[f"{name}_stderr"].attrs)
    return data.assign(found)
