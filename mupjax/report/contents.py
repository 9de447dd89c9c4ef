"""What a page says of each kind of Dataset: heading, tables, how to read the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from mupjax import plots
from mupjax.report.catapult_tables import format_catapults
from mupjax.report.sweep_tables import format_coord_check, format_sweep, format_verdicts
from mupjax.report.tables import format_covariance, format_table, number
from mupjax.report.training_tables import format_training
from mupjax.statistics import Verdict


class Table(NamedTuple):
    """A table of the page; all text is plain.

    leading: how many of the first columns name a group of rows. marked: the rows that stand out.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str
    leading: int = 1
    marked: Sequence[int] = ()


class Content(NamedTuple):
    """heading and what (was run), plain text; tables; reading, the HTML list of how to read the numbers."""

    heading: str
    what: str
    tables: list[Table]
    reading: str


def content(dataset: Any) -> Content:
    """Return what the page says of a Dataset of any kind."""
    kinds = {"comparison": _comparison, "sweep": _sweep, "coordinate check": _coord_check, "covariance study": _study}
    return (kinds | {"training": _training, "catapults": _catapults})[plots.kind_of(dataset)](dataset)


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Return the table of verdicts on claims."""
    caption = (
        "What was found, ± its standard error, and what it must meet. A claim is “reproduced” or “contradicted” where "
        "the error leaves no doubt, and else “not shown”."
    )
    return Table("Verdicts", *format_verdicts(verdicts), caption, leading=0)


def _comparison(dataset: Any) -> Content:
    layer, step, last = (int(dataset[name].values[-1]) for name in ("layer", "gram_step", "step"))
    caption = (
        f"Losses after {last} SGD steps; features are the preactivations h of layer {layer} at step {step}. "
        f"Mean ± sample standard deviation over those of {dataset.sizes['seed']} seeds that did not diverge; at "
        "infinite width ± standard error, where the limit is not exact."
    )
    columns, rows = format_table(dataset)
    infinite = np.tile(np.isinf(dataset["width"].values), dataset.sizes["parametrization"])
    table = Table("Summary", columns, rows, caption, marked=np.flatnonzero(infinite).tolist())
    heading = "Finite networks beside their infinite-width limits"
    what = f"{_joined(dataset['parametrization'])} at widths {_joined(dataset['width_label'])}"
    return Content(heading, what, [table], _read("comparison.html").format(sampling=_sampling(dataset)))


def _sweep(dataset: Any) -> Content:
    caption = (
        f"Losses after {int(dataset['step'].values[-1])} steps at the best rate: mean ± sample standard deviation over "
        f"{dataset.sizes['seed']} seeds."
    )
    names, optimizers = _joined(dataset["parametrization"]), _joined(dataset["optimizer"])
    what = f"{names} with {optimizers} at widths {_joined(dataset['width_label'])}"
    table = Table("Summary", *format_sweep(dataset), caption, leading=3)
    return Content("Learning rates against width", what, [table], _read("sweep.html"))


def _coord_check(dataset: Any) -> Content:
    caption = (
        f"Powers of the width in the mean |coordinate| and the mean |change| of every layer's output after "
        f"{int(dataset['step'].values[-1])} steps, with 95 % intervals over {dataset.sizes['seed']} seeds."
    )
    what = f"{_joined(dataset['model'])} at widths {', '.join(f'{width:.0f}' for width in dataset['width'].values)}"
    table = Table("Summary", *format_coord_check(dataset), caption)
    return Content("Coordinate check", what, [table], _read("coord_check.html"))


def _study(dataset: Any) -> Content:
    caption = (
        "Root mean square over pairs of (step, input): of one network's difference from the prediction, mean over "
        "networks; of the difference of means over networks, and of its standard error. Relative to the prediction."
    )
    what = f"widths {_joined(dataset['width_label'])}"
    last = [len(format_covariance(dataset)[1]) - 1 - k for k in range(dataset.sizes["direction"])]
    table = Table("Summary", *format_covariance(dataset), caption, marked=last)
    return Content("Covariance preservation of Gaussian parts", what, [table], _read("covariance.html"))


def _training(dataset: Any) -> Content:
    caption = (
        f"After {int(dataset['step'].values[-1])} steps: mean ± sample standard deviation over "
        f"{dataset.sizes['seed']} seeds. The first step's base rates are means over seeds, from layer 1 to the readout."
    )
    what = f"{_joined(dataset['parametrization'])} at widths {', '.join(f'{n:g}' for n in dataset['width'].values)}"
    table = Table("Summary", *format_training(dataset), caption)
    return Content("Networks trained by minibatches", what, [table], _read("training.html"))


def _catapults(dataset: Any) -> Content:
    caption = (
        f"After {int(dataset['step'].values[-1])} steps, over {dataset.sizes['seed']} seeds: the largest loss over the "
        "first, the last over the first, and rate times sharpness at the end (medians of what is finite); runs that "
        "were catapulted, and that diverged."
    )
    table = Table("Summary", *format_catapults(dataset), caption, leading=2)
    what = f"{_joined(dataset['activation'])} at rates of {_joined(dataset['factor'])} over the initial sharpness"
    return Content("Catapults and the edge of stability", what, [table], _read("catapults.html"))


def _joined(names: Any) -> str:
    return ", ".join(map(str, names.values))


def _read(name: str) -> str:
    return resources.files("mupjax.report").joinpath(name).read_text(encoding="utf-8")


def _sampling(dataset: Any) -> str:
    factors = [dataset[f"{name}_sampling_factor"].values for name in ("diversity", "space_time")]
    lines = [
        f'<tr><th scope="row">{escape(str(label))}</th>'
        + "".join(f"<td>{number(f[i], 3)}</td>" for f in factors)
        + "</tr>"
        for i, label in enumerate(dataset["width_label"].values)
    ]
    return "".join(lines)
