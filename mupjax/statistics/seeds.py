"""What a comparison says over its seeds: means, spreads, ranges, and which runs diverged."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

METRICS = {"feature_change": "feature_change", "diversity": "diversity", "space_time": "space_time_lambda_min"}


class OverSeeds(NamedTuple):
    """A quantity over the seeds that did not diverge; all arrays have the quantity's shape without the seed axis.

    mean, low, high: mean and range of max(value, resolution); NaN where no seed is left.
    std: sample standard deviation of the same, NaN for fewer than two seeds.
    resolution: the largest over seeds; zero for quantities that have none.
    seeds: how many seeds were taken.
    unresolved: how many of them are at or below their resolution.
    """

    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray
    resolution: np.ndarray
    seeds: np.ndarray
    unresolved: np.ndarray


def over_seeds(values: np.ndarray, resolution: np.ndarray | float = 0.0) -> OverSeeds:
    """Return the statistics of values [..., seed] with their resolution; values that are not finite are left out."""
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


def metric_over_seeds(dataset: Any, metric: str, *, features: str = "h", layer: int | None = None) -> OverSeeds:
    """Return one metric of one layer at the last Gram step, over seeds: arrays [parametrization, width].

    Args:
      dataset: what `compare` returns.
      metric: feature_change, diversity or space_time.
      features: 'h' for preactivations, 'x' for activations.
      layer: 1..depth; by default the last.

    Raises:
      ValueError: for unknown names or layers.
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


def limit_stderr(dataset: Any, name: str, *, features: str = "h", layer: int | None = None) -> np.ndarray:
    """Return the standard error of the infinite-width value of a metric or loss at the last step, [parametrization].

    NaN where the limit is exact, was computed by one run, or was not computed.
    """
    metric = name in METRICS
    variable = f"{variable_name(name, features) if metric else name}_stderr"
    if variable not in dataset:
        return np.full(dataset.sizes["parametrization"], np.nan)
    if metric:
        return dataset[variable].isel(gram_step=-1).sel(layer=pick_layer(dataset, layer)).values
    return dataset[variable].isel(step=-1).values


def finite_seeds(dataset: Any) -> np.ndarray:
    """Return which runs end with a finite training loss, bool [parametrization, width, seed]."""
    loss = dataset["train_loss"].isel(step=-1).transpose("parametrization", "width", "seed")
    return np.isfinite(loss.values)


def limit_words(dataset: Any) -> list[str]:
    """Return what the infinite-width row of every parametrization is; a limit that diverged is said to."""
    words = [str(word) for word in dataset["limit"].values]
    for column in np.flatnonzero(np.isinf(dataset["width"].values)):
        loss = dataset["train_loss"].isel(width=column, seed=0).transpose("parametrization", "step").values
        diverged = np.isfinite(loss[:, 0]) & ~np.isfinite(loss[:, -1])
        words = [f"{word}: diverged" if bad else word for word, bad in zip(words, diverged, strict=True)]
    return words


def variable_name(metric: str, features: str) -> str:
    """Return the Dataset's name of a metric of h or x. ValueError for an unknown one."""
    if metric not in METRICS:
        raise ValueError(f"Expected `metric` to be one of {', '.join(METRICS)}, got metric={metric!r}.")
    return f"{METRICS[metric]}_{check_features(features)}"


def check_features(features: str) -> str:
    """Return `features` if it is 'h' or 'x'. ValueError otherwise."""
    if features not in ("h", "x"):
        raise ValueError(f"Expected `features` to be 'h' or 'x', got features={features!r}.")
    return features


def pick_layer(dataset: Any, layer: int | None) -> int:
    """Return the layer, the last one for None. ValueError for a layer that is not there."""
    layers = [int(number) for number in dataset["layer"].values]
    if layer is not None and layer not in layers:
        raise ValueError(f"Expected `layer` to be one of {layers}, got layer={layer!r}.")
    return layers[-1] if layer is None else layer
