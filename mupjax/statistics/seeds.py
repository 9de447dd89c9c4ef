"""Statistics over the seeds of a comparison: means, standard deviations, ranges, diverged runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

METRICS = {"feature_change": "feature_change", "diversity": "diversity", "space_time": "space_time_lambda_min"}


class OverSeeds(NamedTuple):
    """Statistics of a quantity over the seeds with finite values, in arrays without the seed axis.

    Attributes:
      mean: mean of max(value, resolution); NaN without seeds.
      std: sample standard deviation of the same; NaN for fewer than two seeds.
      low: minimum of the same; NaN without seeds.
      high: maximum of the same; NaN without seeds.
      resolution: largest resolution over the seeds, 0 if the quantity has none.
      seeds: number of seeds.
      unresolved: number of seeds whose value is at most its resolution.
    """

    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray
    resolution: np.ndarray
    seeds: np.ndarray
    unresolved: np.ndarray


def over_seeds(values: np.ndarray, resolution: np.ndarray | float = 0.0) -> OverSeeds:
    """Return statistics over the last axis of values [..., seed]; values that are not finite are left out.

    Args:
      values: [..., seed].
      resolution: smallest value that can be distinguished from zero, broadcast to the shape of `values`.

    Example:
      >>> found = over_seeds(np.array([1.0, 3.0, np.nan]))
      >>> float(found.mean), int(found.seeds)
      (2.0, 2)
    """
    values = np.asarray(values, np.float64)
    floor = np.broadcast_to(np.asarray(resolution, np.float64), values.shape)
    taken = np.isfinite(values)
    shown = np.where(floor > 0, np.maximum(values, floor), values)
    count = taken.sum(-1)
    some, several = np.where(count > 0, count, np.nan), np.where(count > 1, count - 1.0, np.nan)
    mean = np.where(taken, shown, 0.0).sum(-1) / some
    square = np.where(taken, shown - mean[..., None], 0.0) ** 2
    return OverSeeds(
        mean=mean,
        std=np.sqrt(square.sum(-1) / several),
        low=np.where(count > 0, np.where(taken, shown, np.inf).min(-1), np.nan),
        high=np.where(count > 0, np.where(taken, shown, -np.inf).max(-1), np.nan),
        resolution=np.where(taken, floor, 0.0).max(-1),
        seeds=count,
        unresolved=(taken & (values <= floor) & (floor > 0)).sum(-1),
    )


def metric_over_seeds(dataset: xr.Dataset, metric: str, *, features: str = "h", layer: int | None = None) -> OverSeeds:
    """Return statistics over seeds of one metric of one layer at the last Gram step, arrays [parametrization, width].

    Args:
      dataset: a result of `compare`.
      metric: feature_change, diversity or space_time.
      features: 'h' for preactivations, 'x' for activations.
      layer: 1..depth; defaults to the last.

    Raises:
      ValueError: if a name or the layer is unknown.
    """
    name = variable_name(metric, features)
    values, resolution = (
        dataset[n]
        .isel(gram_step=-1)
        .sel(layer=pick_layer(dataset, layer))
        .transpose("parametrization", "width", "seed")
        if n in dataset
        else np.zeros(())
        for n in (name, f"{name}_resolution")
    )
    return over_seeds(np.where(finite_seeds(dataset), values, np.nan), np.asarray(resolution))


def limit_stderr(dataset: xr.Dataset, name: str, *, features: str = "h", layer: int | None = None) -> np.ndarray:
    """Return the standard error of the infinite-width value of a metric or loss at the last step, [parametrization].

    It is NaN if the limit is exact, rests on one run, or was not computed.

    Args:
      dataset: a result of `compare`.
      name: a metric as in `metric_over_seeds`, or 'train_loss' or 'test_loss'.
      features: 'h' or 'x', for metrics.
      layer: 1..depth, for metrics; defaults to the last.

    Raises:
      ValueError: if a name or the layer is unknown.
    """
    metric = name in METRICS
    variable = f"{variable_name(name, features) if metric else name}_stderr"
    if variable not in dataset:
        return np.full(dataset.sizes["parametrization"], np.nan)
    if metric:
        return dataset[variable].isel(gram_step=-1).sel(layer=pick_layer(dataset, layer)).values
    return dataset[variable].isel(step=-1).values


def finite_seeds(dataset: xr.Dataset) -> np.ndarray:
    """Return whether each run ends with a finite training loss, bool [parametrization, width, seed].

    Example:
      >>> import xarray as xr
      >>> dims = ("parametrization", "width", "seed", "step")
      >>> finite_seeds(xr.Dataset({"train_loss": (dims, [[[[1.0, 0.5], [1.0, np.nan]]]])})).tolist()
      [[[True, False]]]
    """
    loss = dataset["train_loss"].isel(step=-1).transpose("parametrization", "width", "seed")
    return np.isfinite(loss.values)


def limit_words(dataset: xr.Dataset) -> list[str]:
    """Return a description of the infinite-width row of every parametrization, marked if the limit diverged."""
    words = [str(word) for word in dataset["limit"].values]
    for column in np.flatnonzero(np.isinf(dataset["width"].values)):
        loss = dataset["train_loss"].isel(width=column, seed=0).transpose("parametrization", "step").values
        diverged = np.isfinite(loss[:, 0]) & ~np.isfinite(loss[:, -1])
        words = [f"{word}: diverged" if bad else word for word, bad in zip(words, diverged, strict=True)]
    return words


def variable_name(metric: str, features: str) -> str:
    """Return the variable name of a metric of 'h' or 'x'.

    Raises:
      ValueError: if `metric` or `features` is unknown.

    Example:
      >>> variable_name("space_time", "x")
      'space_time_lambda_min_x'
    """
    if metric not in METRICS:
        raise ValueError(f"Expected `metric` to be one of {', '.join(METRICS)}, got metric={metric!r}.")
    return f"{METRICS[metric]}_{check_features(features)}"


def check_features(features: str) -> str:
    """Return `features`; raise ValueError if it is neither 'h' nor 'x'."""
    if features not in ("h", "x"):
        raise ValueError(f"Expected `features` to be 'h' or 'x', got features={features!r}.")
    return features


def pick_layer(dataset: xr.Dataset, layer: int | None) -> int:
    """Return the layer, the last one for None; raise ValueError if the dataset does not have it.

    Example:
      >>> import xarray as xr
      >>> pick_layer(xr.Dataset(coords={"layer": [1, 2, 3]}), None)
      3
    """
    layers = [int(number) for number in dataset["layer"].values]
    if layer is not None and layer not in layers:
        raise ValueError(f"Expected `layer` to be one of {layers}, got layer={layer!r}.")
    return layers[-1] if layer is None else layer
