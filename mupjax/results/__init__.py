"""Results as labelled Datasets: their variables, and the stores that keep them."""

from mupjax.results.build import coordinates as coordinates
from mupjax.results.build import layout_of as layout_of
from mupjax.results.build import measure as measure
from mupjax.results.build import measure_limit as measure_limit
from mupjax.results.build import run_variables as run_variables
from mupjax.results.build import width_label as width_label
from mupjax.results.identity import arguments_json as arguments_json
from mupjax.results.identity import attributes as attributes
from mupjax.results.identity import digest_of as digest_of
from mupjax.results.identity import versions as versions
from mupjax.results.kinds import KINDS as KINDS
from mupjax.results.kinds import Caption as Caption
from mupjax.results.kinds import Kind as Kind
from mupjax.results.kinds import Table as Table
from mupjax.results.kinds import complete as complete
from mupjax.results.kinds import kind_of as kind_of
from mupjax.results.layout import Layout as Layout
from mupjax.results.layout import filled as filled
from mupjax.results.store import read as read
from mupjax.results.variables import Variable as Variable
