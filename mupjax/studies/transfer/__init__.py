"""Transfer of the best learning rate across widths."""

from mupjax.studies.transfer.best import CONTROL as CONTROL
from mupjax.studies.transfer.best import RESOLUTION as RESOLUTION
from mupjax.studies.transfer.best import best_rates as best_rates
from mupjax.studies.transfer.best import judge as judge
from mupjax.studies.transfer.study import transfer as transfer
