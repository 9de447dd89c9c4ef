"""Observers of real weights along training: curvature, ranks, and the named ones that sweeps take."""

from mupjax.observers import curvature as curvature
from mupjax.observers import named as named
from mupjax.observers import ranks as ranks
from mupjax.observers import spectrum as spectrum
