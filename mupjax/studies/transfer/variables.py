"""The variables of sweeps with their best rates."""

from __future__ import annotations

from mupjax.results.variables import Variable
from mupjax.sweeps.variables import VARIABLES as OF_SWEEP

_NETWORKS = ("parametrization", "optimizer", "width", "seed")
_DRIFT = "octaves of rate per octave of width"
VARIABLES: dict[str, Variable] = {
    **OF_SWEEP,
    "best_rate": Variable(_NETWORKS, "best base learning rate"),
    "best_rate_resolution": Variable(_NETWORKS, "how well the grid resolves it", "octaves"),
    "drift": Variable(_NETWORKS[:2], "drift of the best rate", _DRIFT),
    "drift_stderr": Variable(_NETWORKS[:2], "its standard error over seeds", _DRIFT),
    "drift_half_width": Variable(_NETWORKS[:2], "half of its 95 % interval", _DRIFT),
}
