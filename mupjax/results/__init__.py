"""Results as labelled Datasets: their variables, and the stores that keep them."""

from mupjax.results.build import arguments_json as arguments_json
from mupjax.results.build import dataset as dataset
from mupjax.results.build import long_name as long_name
from mupjax.results.build import measure as measure
from mupjax.results.build import measure_limit as measure_limit
from mupjax.results.build import trailing_dims as trailing_dims
from mupjax.results.build import versions as versions
from mupjax.results.build import width_label as width_label
from mupjax.results.kinds import KINDS as KINDS
from mupjax.results.kinds import Caption as Caption
from mupjax.results.kinds import Kind as Kind
from mupjax.results.kinds import Table as Table
from mupjax.results.kinds import complete as complete
from mupjax.results.kinds import kind_of as kind_of
from mupjax.results.variables import Variable as Variable
