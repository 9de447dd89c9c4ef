"""Captions of the figures of `integrable`."""

from mupjax.report.references import HAJJAR
from mupjax.results import Caption
from mupjax.studies.training.kind import CAPTIONS as TRAINING

CAPTIONS = {
    "vanishing.png": Caption(
        "Deep networks under IP",
        "With four or five hidden layers the loss stays at that of equal outputs, the grey line, at every width "
        f"({HAJJAR}).",
    ),
    "curves.png": Caption(
        "IP-LLR and muP",
        f"With calibrated large rates in its first step IP trains, at a pace of the order of muP's ({HAJJAR}).",
    ),
    "stuck.png": Caption(
        "Biases and non-centred weights",
        f"Neither lets deep networks under IP leave the loss of equal outputs, the grey line, for long ({HAJJAR}).",
    ),
    "ranks.png": TRAINING["ranks.png"],
}
