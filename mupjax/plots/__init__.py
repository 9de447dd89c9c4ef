"""Figures: Datasets in, Matplotlib Axes out.

Nothing is computed here but which values to show, and their mean, spread and range over seeds. Matplotlib is imported
when something is drawn, and only its objects are used: no pyplot, no backend, no global state, so that the same lines
work without a display and off the main thread. In a notebook, hand in `figure=plt.figure()` or `ax=` to see a figure.
"""

from mupjax.plots.catapults import catapults_figure as catapults_figure
from mupjax.plots.comparison import UNRESOLVED as UNRESOLVED
from mupjax.plots.comparison import against_width as against_width
from mupjax.plots.comparison import gram_heatmaps as gram_heatmaps
from mupjax.plots.comparison import loss_curves as loss_curves
from mupjax.plots.coord_check import coordinate_check as coordinate_check
from mupjax.plots.covariance import covariance_preservation as covariance_preservation
from mupjax.plots.depths import depths_figure as depths_figure
from mupjax.plots.depths import evolution_figure as evolution_figure
from mupjax.plots.depths import kernels_figure as kernels_figure
from mupjax.plots.gallery import DPI as DPI
from mupjax.plots.gallery import draw_all as draw_all
from mupjax.plots.gallery import kind_of as kind_of
from mupjax.plots.gallery import png as png
from mupjax.plots.gallery import save_all as save_all
from mupjax.plots.gallery import save_depths as save_depths
from mupjax.plots.gallery import save_integrable as save_integrable
from mupjax.plots.gallery import save_layers as save_layers
from mupjax.plots.gallery import save_three_lines as save_three_lines
from mupjax.plots.layers import layers_figure as layers_figure
from mupjax.plots.sweep import learning_rates as learning_rates
from mupjax.plots.three_lines import three_lines as three_lines
from mupjax.plots.training import batch_losses as batch_losses
from mupjax.plots.training import contributions_figure as contributions_figure
from mupjax.plots.training import functions_figure as functions_figure
from mupjax.plots.training import ranks_figure as ranks_figure
from mupjax.plots.transfer import transfer as transfer
from mupjax.plots.width_study import distance_from_limit as distance_from_limit
