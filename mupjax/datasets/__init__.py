"""Data sets: digits (from scikit-learn), CIFAR-10 and MNIST (read from disk or downloaded), synthetic classes."""

from mupjax.datasets.loading import NAMES as NAMES
from mupjax.datasets.loading import load as load
from mupjax.datasets.loading import synthetic as synthetic

__all__ = [
    "NAMES",
    "load",
    "synthetic",
]
