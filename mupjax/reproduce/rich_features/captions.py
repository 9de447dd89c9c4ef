"""Captions of the figures of `rich_features`."""

from mupjax.results import Caption

CAPTIONS = {
    "three_lines.png": Caption(
        "Networks, first-order models and limits",
        "Where solid and dash-dotted lines part, features moved; where dash-dotted and dashed ones do, the kernel at "
        "the start is not yet the limit's. A feature-learning limit is the network's, not its first-order model's.",
    ),
}
