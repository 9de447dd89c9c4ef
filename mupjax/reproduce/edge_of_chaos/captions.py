"""Captions of the figures of `edge_of_chaos`."""

from mupjax.report.references import TERJEK
from mupjax.results import Caption

CAPTIONS = {
    "depths.png": Caption(
        "Depth",
        "Left: how much a small first step moves the last hidden layer. Right: test error after training. Means over "
        f"seeds, bars from the smallest to the largest; nup is a reconstruction ({TERJEK}).",
    ),
    "evolution.png": Caption(
        "What a step moves, layer by layer",
        "Means over seeds. Above: a small first step, at a hundredth of the rates of training, at each depth. "
        "Middle: the mean over the steps of training. Below: a small first step at each width of the first layer; "
        f"lines that coincide do not depend on it. nup is a reconstruction ({TERJEK}).",
    ),
}
