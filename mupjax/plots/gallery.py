"""Every figure of a Dataset, by the name of its file."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mupjax._files import write_whole
from mupjax.plots.catapults import catapults_figure
from mupjax.plots.comparison import gram_heatmaps, loss_curves, metric_figure
from mupjax.plots.coord_check import coordinate_check
from mupjax.plots.covariance import covariance_preservation
from mupjax.plots.depths import Rows, depths_figure, evolution_figure, kernels_figure
from mupjax.plots.layers import layers_figure
from mupjax.plots.style import finite_widths
from mupjax.plots.sweep import learning_rates
from mupjax.plots.three_lines import three_lines
from mupjax.plots.training import batch_losses, contributions_figure, functions_figure, ranks_figure
from mupjax.plots.transfer import transfer
from mupjax.plots.width_study import distance_from_limit
from mupjax.statistics.seeds import METRICS
from mupjax.studies.covariance import cases

DPI = 150


def kind_of(dataset: Any) -> str:
    """Return what a Dataset is of: 'comparison', 'sweep', 'coordinate check', 'covariance study', 'training', ..."""
    if "coordinate" in dataset:
        return "coordinate check"
    if "deviation" in dataset:
        return "covariance study"
    if "batch_loss" in dataset:
        return "training"
    if "factor" in dataset.dims:
        return "catapults"
    return "sweep" if "learning_rate" in dataset.dims else "comparison"


def draw_all(dataset: Any) -> dict[str, Any]:
    """Return every figure of a Dataset of any kind by the name of its file."""
    kinds = {"comparison": _comparison, "sweep": _sweep, "coordinate check": _coord_check, "covariance study": _study}
    return (kinds | {"training": _training, "catapults": _catapults})[kind_of(dataset)](dataset)


def save_all(dataset: Any, out: str | os.PathLike[str]) -> list[Path]:
    """Write every figure of `draw_all` to the directory `out`.

    All are drawn before the first is written, and each is put in place whole.
    """
    return _save(draw_all(dataset), out)


def save_layers(dataset: Any, out: str | os.PathLike[str]) -> list[Path]:
    """Write a comparison's figures of every layer to the directory `out`, as `save_all` does."""
    return _save({f"{metric}_layers.png": layers_figure(dataset, metric) for metric in METRICS}, out)


def png(figure: Any) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def save_three_lines(networks: Any, linearized: Any, out: str | os.PathLike[str]) -> Path:
    """Write the figure of networks, first-order models and limits to the directory `out`."""
    return _save({"three_lines.png": three_lines(networks, linearized).flat[0].figure}, out)[0]


def save_integrable(found: Mapping[str, Any], out: str | os.PathLike[str]) -> list[Path]:
    """Write the figures of several parts of the study of integrable parametrizations to the directory `out`."""

    def of(start: str) -> dict[str, Any]:
        return {name.removeprefix(start): data for name, data in found.items() if name.startswith(start)}

    figures = {}
    if panels := of("vanishing-"):
        titled = {_title(name): data for name, data in panels.items()}
        figures["vanishing.png"] = batch_losses(titled).flat[0].figure
    if panels := of("curves-"):
        figures["curves.png"] = batch_losses(panels).flat[0].figure
    if panels := of("stuck-"):
        figures["stuck.png"] = batch_losses(panels).flat[0].figure
    if panels := of("ranks-"):
        figures["ranks.png"] = ranks_figure(panels).flat[0].figure
    return _save(figures, out)


def save_depths(steps: Rows, trained: Rows, widths: Rows, out: str | os.PathLike[str]) -> list[Path]:
    """Write the figures of changes and test errors over depth to the directory `out`: those whose rows are there."""
    figures = {"depths.png": depths_figure(steps, trained).flat[0].figure} if steps and trained else {}
    if steps:
        figures["evolution.png"] = evolution_figure(steps, trained, widths).flat[0].figure
    return _save(figures, out)


def _title(name: str) -> str:
    activation, depth = name.split("-")
    return f"{activation}, {depth} hidden layers"


def _save(figures: dict[str, Any], out: str | os.PathLike[str]) -> list[Path]:
    pictures = {name: png(figure) for name, figure in figures.items()}
    return [write_whole(Path(out) / name, picture) for name, picture in pictures.items()]


def _sweep(dataset: Any) -> dict[str, Any]:
    names = {"train_loss": "learning_rates.png", "test_loss": "learning_rates_test.png"}
    figures = {name: learning_rates(dataset, loss).flat[0].figure for loss, name in names.items() if loss in dataset}
    return figures | ({"transfer.png": transfer(dataset).figure} if "best_rate" in dataset else {})


def _comparison(dataset: Any) -> dict[str, Any]:
    figures = {"loss.png": loss_curves(dataset).flat[0].figure}
    if len(finite_widths(dataset)):
        figures |= {f"{metric}.png": metric_figure(dataset, metric) for metric in METRICS}
    if "error_run" in dataset:
        figures["width_study.png"] = distance_from_limit(dataset).figure
    if "h_gram" in dataset:
        figures["grams.png"] = gram_heatmaps(dataset).flat[0].figure
    return figures


def _coord_check(dataset: Any) -> dict[str, Any]:
    return {"coord_check.png": coordinate_check(dataset).flat[0].figure}


def _training(dataset: Any) -> dict[str, Any]:
    figures = {"batch_loss.png": batch_losses({"": dataset}).flat[0].figure}
    if "rank_h" in dataset:
        figures["ranks.png"] = ranks_figure({"after the last step": dataset}).flat[0].figure
    if "contribution" in dataset:
        figures["contributions.png"] = contributions_figure(dataset).flat[0].figure
    if "predictions" in dataset and dataset.sizes["input_dim"] == 1:
        figures["functions.png"] = functions_figure(dataset).flat[0].figure
    if "ntk_change" in dataset:
        figures["kernels.png"] = kernels_figure(dataset).figure
    return figures


def _catapults(dataset: Any) -> dict[str, Any]:
    names = map(str, dataset["schedule"].values)
    return {f"catapults_{name}.png": catapults_figure(dataset, name).flat[0].figure for name in names}


def _study(dataset: Any) -> dict[str, Any]:
    return {"covariance.png": covariance_preservation(cases(dataset)).flat[0].figure}
