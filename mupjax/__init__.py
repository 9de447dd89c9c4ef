"""Neural networks at finite width, their infinite-width limits, and how far apart they are."""

from importlib import import_module as _import_module
from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version
from typing import TYPE_CHECKING as _TYPE_CHECKING

from mupjax import activations as activations
from mupjax import datasets as datasets
from mupjax import dynamics as dynamics
from mupjax import metrics as metrics
from mupjax import parametrization as parametrization
from mupjax.activations import Activation as Activation
from mupjax.dynamics.infinite import infinite as infinite
from mupjax.network import MLP as MLP
from mupjax.network import Dense as Dense
from mupjax.network import scaling_tree as scaling_tree
from mupjax.optim import adam as adam
from mupjax.optim import adamw as adamw
from mupjax.optim import check_optimizer as check_optimizer
from mupjax.optim import scale_by_parametrization as scale_by_parametrization
from mupjax.optim import sgd as sgd
from mupjax.optim.initial_rates import InitialRates as InitialRates
from mupjax.optim.initial_rates import calibrate_initial_rates as calibrate_initial_rates
from mupjax.parametrization import Parametrization as Parametrization
from mupjax.parametrization import ParamScaling as ParamScaling
from mupjax.parametrization import hp as hp
from mupjax.parametrization import hpz as hpz
from mupjax.parametrization import ip as ip
from mupjax.parametrization import ip_bias as ip_bias
from mupjax.parametrization import ip_llr as ip_llr
from mupjax.parametrization import ip_non_centered as ip_non_centered
from mupjax.parametrization import mup as mup
from mupjax.parametrization import ntp as ntp
from mupjax.parametrization import nup as nup
from mupjax.parametrization import sp as sp
from mupjax.parametrization.classification import Classification as Classification
from mupjax.parametrization.classification import classify as classify
from mupjax.studies.comparison import compare as compare
from mupjax.studies.coordinates import coord_check as coord_check
from mupjax.studies.limit import limit as limit
from mupjax.studies.transfer import transfer as transfer
from mupjax.sweeps.sweep import sweep as sweep
from mupjax.task import Task as Task
from mupjax.task import batch_order as batch_order
from mupjax.trajectory import Trajectory as Trajectory
from mupjax.trajectory import TrajectorySpec as TrajectorySpec

if _TYPE_CHECKING:  # imported when they are first used
    from mupjax import devices as devices
    from mupjax import observers as observers
    from mupjax import optim as optim
    from mupjax import plots as plots
    from mupjax import report as report
    from mupjax import reproduce as reproduce
    from mupjax import results as results
    from mupjax import statistics as statistics
    from mupjax import studies as studies
    from mupjax import theorems as theorems

try:
    __version__ = _version("mupjax")
except _PackageNotFoundError:  # a checkout that is not installed, as `make bench-device` may find it
    __version__ = "0+not.installed"

__all__ = [
    "MLP",
    "Activation",
    "Classification",
    "Dense",
    "InitialRates",
    "ParamScaling",
    "Parametrization",
    "Task",
    "Trajectory",
    "TrajectorySpec",
    "activations",
    "adam",
    "adamw",
    "batch_order",
    "calibrate_initial_rates",
    "check_optimizer",
    "classify",
    "compare",
    "coord_check",
    "datasets",
    "devices",
    "dynamics",
    "hp",
    "hpz",
    "infinite",
    "ip",
    "ip_bias",
    "ip_llr",
    "ip_non_centered",
    "limit",
    "metrics",
    "mup",
    "ntp",
    "nup",
    "observers",
    "optim",
    "parametrization",
    "plots",
    "report",
    "reproduce",
    "results",
    "scale_by_parametrization",
    "scaling_tree",
    "sgd",
    "sp",
    "statistics",
    "studies",
    "sweep",
    "theorems",
    "transfer",
]


def __getattr__(name: str) -> object:
    """Import a part of the library when it is first used."""
    if name in __all__:  # and not there yet
        return _import_module(f"mupjax.{name}")
    raise AttributeError(f"module 'mupjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
