"""Data sets: digits are embedded, CIFAR-10 and MNIST are found or downloaded, synthetic ones are drawn."""

from mupjax.datasets.loading import NAMES as NAMES
from mupjax.datasets.loading import load as load
from mupjax.datasets.loading import synthetic as synthetic
