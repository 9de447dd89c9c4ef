"""Activation functions, (a, b)-ReLUs and the GOOD check of Theorem 4.5 of Chen et al. 2025."""

from mupjax.activations.functions import ACTIVATIONS as ACTIVATIONS
from mupjax.activations.functions import LEAKY_SLOPE as LEAKY_SLOPE
from mupjax.activations.functions import QUADRATURE_DEGREE as QUADRATURE_DEGREE
from mupjax.activations.functions import Activation as Activation
from mupjax.activations.functions import get as get
from mupjax.activations.good import GoodCheck as GoodCheck
from mupjax.activations.good import check_good as check_good
from mupjax.activations.homogeneous import ab_relu as ab_relu
from mupjax.activations.homogeneous import delta as delta
from mupjax.activations.homogeneous import gain as gain
from mupjax.activations.homogeneous import kappa as kappa
from mupjax.activations.homogeneous import slopes as slopes

__all__ = [
    "ACTIVATIONS",
    "LEAKY_SLOPE",
    "QUADRATURE_DEGREE",
    "Activation",
    "GoodCheck",
    "ab_relu",
    "check_good",
    "delta",
    "gain",
    "get",
    "kappa",
    "slopes",
]
