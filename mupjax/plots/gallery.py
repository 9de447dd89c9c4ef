"""Every figure of a Dataset, by the name of its file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from mupjax.covariance_study import cases
from mupjax.files import write_whole
from mupjax.plots.comparison import gram_heatmaps, loss_curves, metric_figure
from mupjax.plots.coord_check import coordinate_check
from mupjax.plots.covariance import covariance_preservation
from mupjax.plots.layers import layers_figure
from mupjax.plots.style import finite_widths
from mupjax.plots.sweep import learning_rates
from mupjax.plots.three_lines import three_lines
from mupjax.plots.transfer import transfer
from mupjax.plots.width_study import distance_from_limit
from mupjax.seeds import METRICS

DPI = 150


def kind_of(dataset: Any) -> str:
    """Return what a Dataset is of: 'comparison', 'sweep', 'coordinate check' or 'covariance study'."""
    if "coordinate" in dataset:
        return "coordinate check"
    if "deviation" in dataset:
        return "covariance study"
    return "sweep" if "learning_rate" in dataset.dims else "comparison"


def draw_all(dataset: Any) -> dict[str, Any]:
    """Return every figure of a Dataset of any kind by the name of its file."""
    kinds = {"comparison": _comparison, "sweep": _sweep, "coordinate check": _coord_check, "covariance study": _study}
    return kinds[kind_of(dataset)](dataset)


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


def _study(dataset: Any) -> dict[str, Any]:
    return {"covariance.png": covariance_preservation(cases(dataset)).flat[0].figure}
