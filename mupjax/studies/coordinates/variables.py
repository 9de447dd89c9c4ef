"""The variables of coordinate checks."""

from __future__ import annotations

from mupjax.results.variables import Variable, index

QUANTITIES = ("coordinate", "change", "update")
_RUNS = ("model", "layer", "width", "seed", "step")
VARIABLES: dict[str, Variable] = {
    "coordinate": Variable(_RUNS, "mean |coordinate| of the layer's output"),
    "change": Variable(_RUNS, "mean |change of a coordinate| since step 0"),
    "update": Variable(_RUNS, "mean |own update| of the layer"),
    **index("model"),
    **index("layer"),
    **index("width", "width", "hidden units"),
    **index("seed"),
    **index("step", units="steps"),
    "control": Variable(("model",), units=""),
    "measured": Variable(("model", "layer"), units=""),
    "updated": Variable(("model", "layer"), units=""),
    "owns": Variable(("model", "layer"), units=""),
    "fixed_size": Variable(("model", "layer"), units=""),
}
