"""Transfer of the best learning rate across widths."""

from mupjax.studies.transfer.study import RESOLUTION as RESOLUTION
from mupjax.studies.transfer.study import best_rates as best_rates
from mupjax.studies.transfer.study import judge as judge
