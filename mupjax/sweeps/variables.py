"""The variables of sweeps."""

from __future__ import annotations

from mupjax.observers import named
from mupjax.results.variables import TRAJECTORY, WIDTH, Variable, along, index

_RUNS = ("parametrization", "depth", "optimizer", "width", "learning_rate", "seed")
_OBSERVED = {name: Variable(dims, words) for name, (dims, words) in named.variables(named.OF_FEATURES).items()}
VARIABLES: dict[str, Variable] = {
    **along(_RUNS, TRAJECTORY | _OBSERVED),
    "was_run": Variable(("optimizer", "learning_rate"), "whether the optimizer was run with the rate", units=""),
    **index("parametrization"),
    **index("depth", "depth", "hidden layers"),
    **index("optimizer"),
    **WIDTH,
    **index("learning_rate", "base learning rate", "1"),
    **index("seed"),
    **index("step", units="steps"),
    **index("gram_step", units="steps"),
    **index("observe_step", "observed step", "steps"),
    **index("kernel"),
    **index("layer"),
}
