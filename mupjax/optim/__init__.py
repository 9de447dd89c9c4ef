"""Optax transforms and optimizers with the per-layer learning rates of a parametrization."""

from mupjax.optim.check import check_optimizer as check_optimizer
from mupjax.optim.keywords import SgdSettings as SgdSettings
from mupjax.optim.keywords import canonical as canonical
from mupjax.optim.keywords import is_sgd as is_sgd
from mupjax.optim.keywords import own_name as own_name
from mupjax.optim.keywords import sgd_settings as sgd_settings
from mupjax.optim.normalized import normalize_updates as normalize_updates
from mupjax.optim.optimizers import OPTIMIZERS as OPTIMIZERS
from mupjax.optim.optimizers import LearningRate as LearningRate
from mupjax.optim.optimizers import Optimizer as Optimizer
from mupjax.optim.optimizers import ScalingTree as ScalingTree
from mupjax.optim.optimizers import adam as adam
from mupjax.optim.optimizers import adamw as adamw
from mupjax.optim.optimizers import sgd as sgd
from mupjax.optim.sharpness import SharpnessSgd as SharpnessSgd
from mupjax.optim.sharpness import scale_by_sharpness as scale_by_sharpness
from mupjax.optim.tracking import UpdateCosines as UpdateCosines
from mupjax.optim.tracking import cosines as cosines
from mupjax.optim.tracking import track_cosines as track_cosines
from mupjax.optim.transforms import FirstStepState as FirstStepState
from mupjax.optim.transforms import Rule as Rule
from mupjax.optim.transforms import drop_initial_weights as drop_initial_weights
from mupjax.optim.transforms import is_switched as is_switched
from mupjax.optim.transforms import later_rates as later_rates
from mupjax.optim.transforms import map_scaling as map_scaling
from mupjax.optim.transforms import scale_by_parametrization as scale_by_parametrization
from mupjax.optim.transforms import with_first_factor as with_first_factor
from mupjax.optim.transforms import with_initial_rates as with_initial_rates

__all__ = [
    "OPTIMIZERS",
    "FirstStepState",
    "LearningRate",
    "Optimizer",
    "Rule",
    "ScalingTree",
    "SgdSettings",
    "SharpnessSgd",
    "UpdateCosines",
    "adam",
    "adamw",
    "canonical",
    "check_optimizer",
    "cosines",
    "drop_initial_weights",
    "is_sgd",
    "is_switched",
    "later_rates",
    "map_scaling",
    "normalize_updates",
    "own_name",
    "scale_by_parametrization",
    "scale_by_sharpness",
    "sgd",
    "sgd_settings",
    "track_cosines",
    "with_first_factor",
    "with_initial_rates",
]
