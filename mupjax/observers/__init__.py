"""Observers of dense training: curvature, ranks, and the named observers of sweeps."""

from mupjax.observers import curvature as curvature
from mupjax.observers import named as named
from mupjax.observers import ranks as ranks
from mupjax.observers import spectrum as spectrum

__all__ = [
    "curvature",
    "named",
    "ranks",
    "spectrum",
]
