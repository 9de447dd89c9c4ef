"""Presentation of studies of catapults: figures, tables and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mupjax.report.references import TERJEK
from mupjax.report.words import joined, read_html
from mupjax.results import Caption, Kind, Table
from mupjax.statistics.catapults import detect_catapults
from mupjax.studies.catapults.figures import draw
from mupjax.studies.catapults.tables import format_catapults
from mupjax.studies.catapults.variables import VARIABLES

if TYPE_CHECKING:
    import xarray as xr

CAPTIONS = {
    "catapults_constant.png": Caption(
        "Constant rates",
        "Medians over the seeds that did not diverge; the grey line is the edge of stability. Between 2 and about 4 "
        "the loss grows, then falls, and rate times sharpness comes to rest below 2 (Lewkowycz et al. 2020, "
        "arXiv:2003.02218). Below, sharpness may rise to the edge and hover there (Cohen et al. 2021, "
        "arXiv:2103.00065).",
    ),
    "catapults_following.png": Caption(
        "Rates that follow the sharpness",
        "The rate is c over the sharpness as it is measured: a c beyond 2 makes every step super-critical (a "
        f"reconstruction of {TERJEK}). Drawn is the rate of the last update times the sharpness after it.",
    ),
}
_RATES = {"constant": "constant rates", "following": "rates that follow the sharpness"}


def subject(dataset: xr.Dataset) -> str:
    """Return the activations and rates that were studied."""
    factors = joined(dataset["factor"].values)
    return f"{joined(dataset['activation'].values)} at rates of {factors} over the initial sharpness"


def tables(dataset: xr.Dataset) -> list[Table]:
    """Return losses and sharpness at each rate."""
    caption = (
        f"After {int(dataset['step'].values[-1])} steps, over {dataset.sizes['seed']} seeds: the largest loss over the "
        "first, the last over the first, and rate times sharpness at the end (medians of what is finite); runs that "
        "were catapulted, and that diverged."
    )
    return [Table("Summary", *format_catapults(dataset), caption, leading=2)]


def reading(dataset: xr.Dataset) -> str:
    """Return how to read the numbers."""
    return read_html("mupjax.studies.catapults")


def conclusion(dataset: xr.Dataset) -> str:
    """Return how many runs were catapulted, and how many diverged, under each schedule of the rates."""
    words = []
    for schedule in map(str, dataset["schedule"].values):
        one = dataset.sel(schedule=schedule).transpose("activation", "factor", "seed", ...)
        last = one.isel(observe_step=-1)
        found = detect_catapults(one["train_loss"], last["sharpness"], last["rate"])
        counts = f"{int(found.happened.sum())} of {found.happened.size} runs were catapulted"
        words.append(f"at {_RATES.get(schedule, schedule)}, {counts} and {int(found.diverged.sum())} diverged")
    sentence = "; ".join(words)
    return f"{sentence[0].upper()}{sentence[1:]}."


KIND = Kind(
    name="catapults",
    heading="Catapults and the edge of stability",
    variables=VARIABLES,
    needs=("train_loss", "sharpness", "rate", "cosine", "activation", "schedule", "factor", "step", "observe_step"),
    subject=subject,
    figures=draw,
    captions=CAPTIONS,
    tables=tables,
    reading=reading,
    conclusion=conclusion,
)
