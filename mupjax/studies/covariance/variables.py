"""The variables of covariance studies."""

from __future__ import annotations

from mupjax.results.variables import WIDTH, Variable, index

_PAIRS = ("width", "direction", "gram_step", "gram_step_2", "matrix", "gram_input", "gram_input_2")
VARIABLES: dict[str, Variable] = {
    "predicted": Variable(_PAIRS, "covariance that theory predicts"),
    "empirical": Variable(_PAIRS, "covariance of Gaussian parts"),
    "difference": Variable(_PAIRS, "measured less predicted covariance"),
    "stderr": Variable(_PAIRS, "standard error of the mean difference"),
    "deviation": Variable(
        ("width", "direction", "run"),
        "relative rms difference of one network's covariances from those that theory predicts",
    ),
    **WIDTH,
    "num_runs": Variable(("width",), units=""),
    **index("direction"),
    **index("gram_step", units="steps"),
    **index("matrix"),
}
