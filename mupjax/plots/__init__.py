"""Figures: Datasets in, Matplotlib Axes out.

The figures computed here are means, spreads and ranges over seeds, nothing else. Matplotlib is imported when something
is drawn, and only its objects are used: no pyplot, no backend, no global state, so that the same lines work without a
display and off the main thread. In a notebook, pass `figure=plt.figure()` or `ax=` to see a figure.

`draw_all` and `save_all` draw a Dataset of any kind, as `attrs["kind"]` says. The functions that draw one figure stand
with their studies and are imported when they are first used.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

from mupjax.plots.saving import DPI as DPI
from mupjax.plots.saving import draw_all as draw_all
from mupjax.plots.saving import png as png
from mupjax.plots.saving import save as save
from mupjax.plots.saving import save_all as save_all

if TYPE_CHECKING:
    from mupjax.studies.catapults.figures import catapults_figure as catapults_figure
    from mupjax.studies.comparison.figures import gram_heatmaps as gram_heatmaps
    from mupjax.studies.comparison.figures import loss_curves as loss_curves
    from mupjax.studies.comparison.metric_figures import UNRESOLVED as UNRESOLVED
    from mupjax.studies.comparison.metric_figures import against_width as against_width
    from mupjax.studies.comparison.metric_figures import layers_figure as layers_figure
    from mupjax.studies.coordinates.figures import coordinate_check as coordinate_check
    from mupjax.studies.covariance.figures import covariance_preservation as covariance_preservation
    from mupjax.studies.limit.figures import distance_from_limit as distance_from_limit
    from mupjax.studies.training.figures import batch_losses as batch_losses
    from mupjax.studies.training.figures import contributions_figure as contributions_figure
    from mupjax.studies.training.figures import functions_figure as functions_figure
    from mupjax.studies.training.figures import kernels_figure as kernels_figure
    from mupjax.studies.training.figures import ranks_figure as ranks_figure
    from mupjax.studies.transfer.figures import transfer as transfer
    from mupjax.sweeps.figures import learning_rates as learning_rates

_ELSEWHERE = {
    "UNRESOLVED": "mupjax.studies.comparison.metric_figures",
    "against_width": "mupjax.studies.comparison.metric_figures",
    "batch_losses": "mupjax.studies.training.figures",
    "catapults_figure": "mupjax.studies.catapults.figures",
    "contributions_figure": "mupjax.studies.training.figures",
    "coordinate_check": "mupjax.studies.coordinates.figures",
    "covariance_preservation": "mupjax.studies.covariance.figures",
    "distance_from_limit": "mupjax.studies.limit.figures",
    "functions_figure": "mupjax.studies.training.figures",
    "gram_heatmaps": "mupjax.studies.comparison.figures",
    "kernels_figure": "mupjax.studies.training.figures",
    "layers_figure": "mupjax.studies.comparison.metric_figures",
    "learning_rates": "mupjax.sweeps.figures",
    "loss_curves": "mupjax.studies.comparison.figures",
    "ranks_figure": "mupjax.studies.training.figures",
    "transfer": "mupjax.studies.transfer.figures",
}


def __getattr__(name: str) -> object:
    """Import a study's drawing function when it is first used."""
    if name == "__all__":  # computed, so that a name stands once: pyright reads the imports above
        return __dir__()
    if name in _ELSEWHERE:
        return getattr(_import_module(_ELSEWHERE[name]), name)
    raise AttributeError(f"module 'mupjax.plots' has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["DPI", "draw_all", "png", "save", "save_all", *_ELSEWHERE]
