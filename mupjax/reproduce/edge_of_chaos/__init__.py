r"""MLPs at the edge of chaos (Terjek 2025, arXiv:2502.13110): depth, sharpness, catapults. Partly a RECONSTRUCTION.

The paper's abstract promises a parametrization whose preactivations evolve alike at every depth, explains feature
learning by the cosine of new and cumulative updates, and prolongs the catapult phase with a rate that follows the
geometry. The text was not at hand: `nup`, its constants and the schedule are reconstructions, and the settings here are
the library's own. So no published number stands beside a claim.
"""

from __future__ import annotations

from functools import partial

from mupjax.reproduce.edge_of_chaos import figures
from mupjax.reproduce.edge_of_chaos.captions import CAPTIONS
from mupjax.reproduce.edge_of_chaos.claims import judge as judge
from mupjax.reproduce.edge_of_chaos.settings import FACTORS as FACTORS
from mupjax.reproduce.edge_of_chaos.settings import RATES as RATES
from mupjax.reproduce.edge_of_chaos.settings import parts as parts
from mupjax.reproduce.edge_of_chaos.settings import presets as presets
from mupjax.reproduce.papers import Paper, run_paper

PAPER = Paper(
    name="edge-of-chaos",
    title="MLPs at the edge of chaos (Terjek 2025, partly reconstructed): catapults, sharpness, depth.",
    dataset="digits",
    datasets=(),
    dataset_help="digits, mnist, ...: whose images.",
    quick_help="Less of everything, no q = 1: under three minutes.",
    parts=lambda setting: parts(setting.quick),
    judge=lambda found, setting: judge(found),
    figures=figures.draw,
    captions=CAPTIONS,
    tables=lambda found: [],
    example="mupjax reproduce edge-of-chaos --quick --parts sharpening --out edge",
)
reproduce = partial(run_paper, PAPER)
