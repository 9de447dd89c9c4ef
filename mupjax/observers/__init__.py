"""Observers of dense training: curvature, updates, ranks, and the named observers of sweeps."""

from mupjax.observers import curvature as curvature
from mupjax.observers import named as named
from mupjax.observers import ranks as ranks
from mupjax.observers import spectrum as spectrum
from mupjax.observers import updates as updates

__all__ = [
    "curvature",
    "named",
    "ranks",
    "spectrum",
    "updates",
]
