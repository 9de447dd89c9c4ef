"""Neural networks at finite width, their infinite-width limits, and how far apart they are."""

from importlib.metadata import version as _version

from mupjax import activations as activations
from mupjax import curvature as curvature
from mupjax import datasets as datasets
from mupjax import dynamics as dynamics
from mupjax import metrics as metrics
from mupjax import parametrization as parametrization
from mupjax import transfer as transfer
from mupjax import verdicts as verdicts
from mupjax.activations import Activation as Activation
from mupjax.calibration import InitialRates as InitialRates
from mupjax.calibration import calibrate_initial_rates as calibrate_initial_rates
from mupjax.classification import Classification as Classification
from mupjax.classification import classify as classify
from mupjax.compare import compare as compare
from mupjax.coord_check import coord_check as coord_check
from mupjax.infinite import infinite as infinite
from mupjax.limit import limit as limit
from mupjax.network import MLP as MLP
from mupjax.network import Dense as Dense
from mupjax.network import scaling_tree as scaling_tree
from mupjax.optim import adam as adam
from mupjax.optim import adamw as adamw
from mupjax.optim import check_optimizer as check_optimizer
from mupjax.optim import scale_by_parametrization as scale_by_parametrization
from mupjax.optim import sgd as sgd
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
from mupjax.sweep import sweep as sweep
from mupjax.task import Task as Task
from mupjax.task import batch_order as batch_order
from mupjax.trajectory import Trajectory as Trajectory
from mupjax.trajectory import TrajectorySpec as TrajectorySpec

__version__ = _version("mupjax")
