"""The variables of limits and their width studies."""

from __future__ import annotations

from mupjax.results.variables import Variable
from mupjax.studies.comparison.variables import VARIABLES as OF_COMPARISON

_ERRORS = {
    "error_run": "error of one network's outputs from the limit (root mean square)",
    "error_mean": "error of the mean over initialisations from the limit (root mean square)",
}
VARIABLES: dict[str, Variable] = {
    **OF_COMPARISON,
    **{name: Variable(("point",), words) for name, words in _ERRORS.items()},
    **{f"{name}_stderr": Variable(("point",), f"standard error of the {words}") for name, words in _ERRORS.items()},
    **{f"slope_{of}": Variable((), f"fitted power of the width of error_{of}") for of in ("run", "mean")},
    **{f"slope_{of}_stderr": Variable((), "its standard error") for of in ("run", "mean")},
    "point_width": Variable(("point",), "width", "hidden units"),
    "point_dynamics": Variable(("point",), units=""),
    "point_seeds": Variable(("point",), units=""),
}
