"""The coordinate check."""

from mupjax.studies.coordinates.slopes import judge as judge
from mupjax.studies.coordinates.study import CONTROL as CONTROL
from mupjax.studies.coordinates.study import coord_check as coord_check
