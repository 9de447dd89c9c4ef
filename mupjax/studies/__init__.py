"""Studies: cells of runs, and the Datasets that they become."""

from mupjax.studies import catapults as catapults
from mupjax.studies import comparison as comparison
from mupjax.studies import coordinates as coordinates
from mupjax.studies import covariance as covariance
from mupjax.studies import limit as limit
from mupjax.studies import training as training
from mupjax.studies import transfer as transfer
