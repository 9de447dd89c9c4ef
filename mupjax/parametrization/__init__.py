"""Parametrizations: exponents of width for initial sizes and learning rates, and presets from the literature."""

from mupjax.parametrization.integrable import hp as hp
from mupjax.parametrization.integrable import hpz as hpz
from mupjax.parametrization.integrable import ip as ip
from mupjax.parametrization.integrable import ip_bias as ip_bias
from mupjax.parametrization.integrable import ip_llr as ip_llr
from mupjax.parametrization.integrable import ip_non_centered as ip_non_centered
from mupjax.parametrization.normalized import nup as nup
from mupjax.parametrization.param_scaling import ParamScaling as ParamScaling
from mupjax.parametrization.presets import PRESETS as PRESETS
from mupjax.parametrization.presets import get as get
from mupjax.parametrization.presets import mup as mup
from mupjax.parametrization.presets import ntp as ntp
from mupjax.parametrization.presets import sp as sp
from mupjax.parametrization.roles import ONE as ONE
from mupjax.parametrization.roles import ZERO as ZERO
from mupjax.parametrization.roles import PerRole as PerRole
from mupjax.parametrization.roles import Role as Role
from mupjax.parametrization.scaling import Parametrization as Parametrization
from mupjax.parametrization.traits import Traits as Traits
from mupjax.parametrization.traits import traits_of as traits_of

__all__ = [
    "ONE",
    "PRESETS",
    "ZERO",
    "ParamScaling",
    "Parametrization",
    "PerRole",
    "Role",
    "Traits",
    "get",
    "hp",
    "hpz",
    "ip",
    "ip_bias",
    "ip_llr",
    "ip_non_centered",
    "mup",
    "ntp",
    "nup",
    "sp",
    "traits_of",
]
