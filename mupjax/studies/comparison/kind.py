"""Presentation of comparisons: figures, tables and words."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from mupjax.report.numbers import number
from mupjax.report.references import CHEN, YANG
from mupjax.report.words import joined, read_html
from mupjax.results import Caption, Kind, Table
from mupjax.studies.comparison.conclusion import conclude
from mupjax.studies.comparison.figures import draw
from mupjax.studies.comparison.tables import format_table
from mupjax.studies.comparison.variables import VARIABLES

if TYPE_CHECKING:
    import xarray as xr

_LAYERS = (
    "Preactivations h above, activations x below; eigenvalues with the sampling factor divided out. Preactivations of "
    "layer 1 start linear in the inputs, and are independent only where these are."
)
CAPTIONS = {
    "loss.png": Caption(
        "Losses over SGD steps",
        "Lines are means over seeds and bands reach from the smallest to the largest seed; darker lines are wider "
        "networks, and the dashed black line is infinite width. Where there is a kernel limit, wider networks should "
        f"come closer to it ({YANG}).",
    ),
    "feature_change.png": Caption(
        "Feature change against width",
        "Where the line stays level, features are learned at every width; where it falls, about as 1/√n, networks "
        f"approach the kernel regime, whose features do not move ({CHEN}; {YANG}).",
    ),
    "diversity.png": Caption(
        "Feature diversity against width",
        "The smallest eigenvalue of the last Gram matrix: where it stays away from zero as the width grows, the "
        f"features of different inputs stay linearly independent ({CHEN}).",
    ),
    "space_time.png": Caption(
        "Space-time non-degeneracy against width",
        "The smallest eigenvalue of the joint Gram matrix of first and last features: zero in a kernel limit, where "
        "features do not move, and positive where they become new and remain diverse. Compare slopes with the "
        f"sampling factor divided out ({CHEN}).",
    ),
    "grams.png": Caption(
        "Gram matrices before and after training",
        "Each row has one colour scale. In the kernel regime the last matrix looks like the first and like the "
        f"infinite one; where features are learned, it does not ({CHEN}; {YANG}).",
    ),
    "feature_change_layers.png": Caption("Feature change, every layer", _LAYERS),
    "diversity_layers.png": Caption("Feature diversity, every layer", _LAYERS),
    "space_time_layers.png": Caption("Space-time non-degeneracy, every layer", _LAYERS),
}


def subject(dataset: xr.Dataset) -> str:
    """Return what was compared."""
    return f"{joined(dataset['parametrization'].values)} at widths {joined(dataset['width_label'].values)}"


def tables(dataset: xr.Dataset) -> list[Table]:
    """Return the summary: losses, and the last layer's features."""
    last = f"Losses after {int(dataset['step'].values[-1])} SGD steps; "
    if "gram_step" in dataset:
        layer, step = (int(dataset[name].values[-1]) for name in ("layer", "gram_step"))
        last += f"features are the preactivations h of layer {layer} at step {step}. "
    caption = (
        f"{last}Mean ± sample standard deviation over those of {dataset.sizes['seed']} seeds that did not diverge; at "
        "infinite width ± standard error, where the limit is not exact."
    )
    infinite = np.tile(np.isinf(dataset["width"].values), dataset.sizes["parametrization"])
    marked = np.flatnonzero(infinite).tolist()
    return [Table("Summary", *format_table(dataset), caption, marked=marked, words=("note",))]


def settings(dataset: xr.Dataset, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments, with the learning rate of each parametrization."""
    rates = zip(dataset["parametrization"].values, dataset["learning_rate"].values, strict=True)
    return arguments | {"learning_rate": ", ".join(f"{name} {rate:g}" for name, rate in rates)}


def reading(dataset: xr.Dataset) -> str:
    """Return how to read the numbers, with the sampling factor of every width."""
    names = [f"{metric}_sampling_factor" for metric in ("diversity", "space_time")]
    factors = [dataset[name].values for name in names if name in dataset]
    rows = [
        f'<tr><th scope="row">{escape(str(label))}</th>'
        + "".join(f"<td>{number(factor[column], 3)}</td>" for factor in factors)
        + "</tr>"
        for column, label in enumerate(dataset["width_label"].values)
    ]
    return read_html("mupjax.studies.comparison").format(sampling="".join(rows))


KIND = Kind(
    name="comparison",
    heading="Finite networks beside their infinite-width limits",
    variables=VARIABLES,
    needs=("train_loss", "parametrization", "learning_rate", "limit", "width", "width_label", "step"),
    subject=subject,
    figures=draw,
    captions=CAPTIONS,
    tables=tables,
    reading=reading,
    conclusion=conclude,
    settings=settings,
)
